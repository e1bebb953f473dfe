"""What happens is said in lines: text for people, or JSON for machines, a line an event, nothing else between."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attached import experiment_of, send
from processes import running, streamil

from streamil.experiment import Kafka

RACE = "stream: {source: {kind: elec}, limit: 200}\narms: {bp: {algorithm: bp-sgd}}\nservice: {device: cpu}\n"


def events_of(said: str) -> list[dict[str, Any]]:
    """The events, each a line that begins with the same three keys."""
    events = [json.loads(line) for line in said.splitlines()]
    for event in events:
        assert [*event][:3] == ["timestamp", "level", "event"] and "\n" not in event["event"]
        assert abs(datetime.now(UTC) - datetime.fromisoformat(event["timestamp"])) < timedelta(minutes=10)
        assert event["level"] in ("info", "warning", "error")
    return events


@pytest.mark.kafka
def test_a_consumer_says_events_with_their_facts(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_of(kafka_settings, topic, tmp_path)
    file = tmp_path / "race.yaml"
    file.write_text(json.dumps(experiment.model_dump(mode="json", exclude={"stream": {"source": {"part"}}})))
    published = streamil("produce", file, "--log", "json", "--metrics", "127.0.0.1:0")
    done = {event["event"].split()[0]: event for event in events_of(published.stderr)}["published"]
    assert published.stdout == "" and done["samples"] == 400 and done["first"] == 0
    send(kafka_settings, topic, [(b"no record", {})])
    with running("consume", file, "--metrics", "127.0.0.1:0", STREAMIL_LOG="json") as one:
        one.wait_for("rejected")
        assert one.end()[0] == 130
        said = {event["event"].partition(" at ")[0].partition(" after ")[0]: event for event in events_of("\n".join(one.lines))}
    assert said["metrics and page"]["url"].startswith("http://127.0.0.1:")
    assert said[f"learning from topic {topic}"] | {"timestamp": "", "event": ""} == {
        "timestamp": "", "level": "info", "event": "", "offset": 0, "samples": 0}
    rejected = next(event for text, event in said.items() if "rejected" in text)
    assert rejected["level"] == "warning" and rejected["reason"] == "foreign" and rejected["index"] == -1, rejected
    assert said["stopped"]["samples"] == 400 and said["stopped"]["state"] == "stopped"


def test_a_run_and_its_result_are_events_too(tmp_path: Path) -> None:
    file = tmp_path / "race.yaml"
    file.write_text(RACE)
    as_text, as_json = streamil("run", file), streamil("run", file, "--log", "json")
    assert as_json.stdout == "" and [event["event"] for event in events_of(as_json.stderr)] == (as_text.stderr + as_text.stdout).splitlines()
    assert streamil("run", file, "--log", "text", STREAMIL_LOG="json").stdout == as_text.stdout, "an option goes before the environment"
    assert streamil("run", file, STREAMIL_LOG="json").stdout == ""
    refused = streamil("run", file, "--log", "xml")
    assert refused.returncode == 2 and "text" in refused.stderr and "json" in refused.stderr


def test_errors_are_events_with_their_level(tmp_path: Path) -> None:
    file = tmp_path / "race.yaml"
    file.write_text(RACE.replace("bp-sgd", "bp-sgdd").replace("limit", "limits"))
    for command in (("check", file), ("run", file), ("run", file, "--log", "json")):
        done = streamil(*command, STREAMIL_LOG="json")
        events = events_of(done.stderr)
        assert done.returncode == 2 and events and all(event["level"] == "error" for event in events)
    for command in (("run", "--log", "json"), ("runn",), ("run", file, "--what", "--log", "json")):
        done = streamil(*command, STREAMIL_LOG="json")
        assert done.returncode == 2 and all(event["level"] == "error" for event in events_of(done.stderr)), done.stderr


def test_warnings_of_libraries_and_crashes_are_events(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import logging, warnings\nimport numpy as np\n\n\ndef samples():\n    logging.getLogger('others').warning('of a library')\n"
        "    logging.getLogger('others').info('chatter')\n    warnings.warn('old\\nthing', stacklevel=1)\n    yield np.zeros(2), 'a'\n    raise SystemError('a\\nbug')\n")
    file = tmp_path / "race.yaml"
    file.write_text("stream: {source: {kind: python, callable: mine:samples}}\narms: {bp: {algorithm: bp-sgd}}\nservice: {device: cpu}\n")
    done = streamil("run", file, "--log", "json")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert {"of a library", "old thing"} <= {" ".join(event["event"].split()) for event in events if event["level"] == "warning"}
    assert "SystemError: a" in events[-1]["event"] and events[-1]["level"] == "error" and "chatter" not in done.stderr


def test_a_bug_of_ours_is_one_event_with_its_trace(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import streamil.direct\ndef run(*_, **__):\n    return 1 / 0\nstreamil.direct.run = run\n")
    file = tmp_path / "race.yaml"
    file.write_text(RACE)
    done = streamil("run", file, "--log", "json", PYTHONPATH=str(tmp_path))
    event = json.loads(done.stderr)
    assert done.returncode == 1 and event["event"] == "ZeroDivisionError: division by zero" and "in run" in event["exception"]


def test_what_a_thread_or_a_library_says_of_an_error_is_one_event(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import logging, threading\nimport numpy as np\n\n\ndef fail():\n    raise ValueError('in a\\nthread')\n\n\ndef samples():\n"
        "    try:\n        fail()\n    except ValueError:\n        logging.getLogger('others').exception('it failed')\n"
        "    thread = threading.Thread(target=fail)\n    thread.start()\n    thread.join()\n    yield np.zeros(2), 'a'\n")
    file = tmp_path / "race.yaml"
    file.write_text("stream: {source: {kind: python, callable: mine:samples}}\narms: {bp: {algorithm: bp-sgd}}\nservice: {device: cpu}\n")
    done = streamil("run", file, "--log", "json")
    logged, crashed = [event for event in events_of(done.stderr) if event["level"] == "error"]
    assert logged["event"] == "it failed: ValueError: in a thread" and logged["logger"] == "others" and "in fail" in logged["exception"]
    assert crashed["event"] == "ValueError: in a thread" and "in fail" in crashed["exception"]
    as_text = streamil("run", file)
    assert "it failed: ValueError: in a thread" in as_text.stderr.splitlines() and "Traceback" in as_text.stderr
