"""The producer: the whole stream once and in order, however often it is killed."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import until
from streamil_producer import publish

from streamil.cli import main
from streamil.codec import decode
from streamil.errors import SourceError, StreamMismatch, TopicMismatch
from streamil.experiment import Experiment, Kafka
from streamil.kafka import Message, TopicReader, TopicWriter, ensure_topic
from streamil.local_kafka import LocalKafka
from streamil.streams import open_stream

pytestmark = pytest.mark.kafka

PROCESS = """
import json, sys
from streamil.experiment import Experiment
from streamil_producer import publish
publish(Experiment.model_validate(json.loads(sys.argv[1])))
"""


def an_experiment(kafka: Kafka, topic: str, **stream: Any) -> Experiment:
    return Experiment.model_validate({
        "stream": {"source": {"kind": "elec"}, "topic": topic, "limit": 1000, **stream},
        "arms": {"bp": {"algorithm": "bp-sgd"}}, "kafka": kafka.model_dump()})


def everything(kafka: Kafka, topic: str) -> list[Message]:
    with TopicReader(kafka, topic) as reader:
        return list(reader.up_to(reader.end()))


def assert_whole(experiment: Experiment, count: int) -> None:
    """The topic holds the stream's first `count` samples, each once, in order, with the right headers."""
    ordinal = 0
    labels: list[str | None] = []
    for message in everything(experiment.kafka, experiment.topic):
        records = decode(message.value)
        assert message.headers["streamil-stream"].decode() == experiment.stream_hash
        assert (message.headers["streamil-seq"], message.headers["streamil-count"]) == (
            b"%d" % ordinal, b"%d" % len(records))
        ordinal += len(records)
        labels += records.y
    expected = [label for records in open_stream(experiment.stream, experiment.folder) for label in records.y]
    assert ordinal == count and labels == expected[:count]


@pytest.mark.parametrize("codec", ["arrow", "json"])
def test_the_whole_stream_is_published_once(kafka_settings: Kafka, topic: str, codec: str) -> None:
    experiment = an_experiment(kafka_settings, topic, codec=codec)
    seen: list[int] = []
    done = publish(experiment, on_progress=lambda samples, lag: seen.append(samples))
    assert (done.samples, done.first) == (1000, 0) and seen[-1] == 1000 and seen == sorted(seen)
    assert_whole(experiment, 1000)
    again = publish(experiment)
    assert (again.samples, again.first) == (0, 1000)


def test_limit_counts_from_the_first_sample_and_records_may_change_size(kafka_settings: Kafka, topic: str) -> None:
    assert publish(an_experiment(kafka_settings, topic), limit=100).samples == 100
    larger = an_experiment(kafka_settings, topic, samples_per_record=64)
    assert publish(larger, limit=90).samples == 0
    done = publish(larger, limit=5000)  # the file's own limit holds too
    assert (done.samples, done.first) == (900, 100)
    assert_whole(larger, 1000)


def test_a_killed_producer_goes_on_where_it_was(kafka_settings: Kafka, topic: str) -> None:
    experiment = an_experiment(kafka_settings, topic, rate=300, limit=4000, samples_per_record=3)
    command = [sys.executable, "-c", PROCESS, experiment.model_dump_json()]
    ends = []
    for seconds in (0.3, 0.7):
        with subprocess.Popen(command) as process:
            ensure_topic(kafka_settings, topic)
            start = len(everything(kafka_settings, topic))
            deadline = time.monotonic() + 30
            while len(everything(kafka_settings, topic)) == start and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(seconds)
            process.kill()
        ends.append(len(everything(kafka_settings, topic)) * 3)
    assert 0 < ends[0] < ends[1] < 4000
    done = publish(experiment.model_copy(update={"stream": experiment.stream.model_copy(update={"rate": None})}))
    assert done.first >= ends[1] and done.first + done.samples == 4000
    assert_whole(experiment, 4000)


def test_another_stream_on_the_topic_is_refused(kafka_settings: Kafka, topic: str) -> None:
    publish(an_experiment(kafka_settings, topic), limit=10)
    for other in ({"seed": 5}, {"source": {"kind": "weather"}}, {"regimes": [{"kind": "single-pass"}]}):
        with pytest.raises(StreamMismatch, match=r"another stream.*stream\.topic"):
            publish(an_experiment(kafka_settings, topic, **other))


def test_records_of_others_are_refused(kafka_settings: Kafka, topic: str) -> None:
    ensure_topic(kafka_settings, topic)
    with TopicWriter(kafka_settings, topic) as writer:
        writer.send(b'{"x": [1], "y": "a"}')
        assert writer.flush(10)
    with pytest.raises(StreamMismatch, match="did not write"):
        publish(an_experiment(kafka_settings, topic))
    assert len(everything(kafka_settings, topic)) == 1


def test_the_rate_is_kept_by_the_clock(kafka_settings: Kafka, topic: str) -> None:
    done = publish(an_experiment(kafka_settings, topic, rate=200), limit=400)
    assert done.samples == 400 and 2.0 <= done.seconds < 4
    times = [one.timestamp_ms for one in everything(kafka_settings, topic)]
    assert abs(times[-1] - times[0] - 49 * 40) < 100 and np.median(np.diff(times)) == pytest.approx(40, abs=4)


def test_a_terminal_shows_rate_and_delay(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(an_experiment(kafka_settings, topic, rate=1e6, limit=None).model_dump_json(exclude_none=True))
    terminal, end = pty.openpty()
    with subprocess.Popen([sys.executable, "-m", "streamil", "produce", str(file), "--metrics", "127.0.0.1:0"],
                          stdin=subprocess.DEVNULL, stdout=end, stderr=end) as process:
        os.close(end)
        said = b""
        with contextlib.suppress(OSError):  # a terminal without a process is one
            while piece := os.read(terminal, 10_000):
                said += piece
    os.close(terminal)
    assert process.returncode == 0, said
    said = re.sub(rb"\x1b\[[\d;?]*[a-zA-Z]", b"", said)
    assert re.search(rb"[\d,]+ samples published [\d,]+ a second [\d:]+ \d\.\d s behind schedule", said), said
    assert b"published 45312 samples in" in said


def test_stop_ends_it_at_once_and_loses_nothing(kafka_settings: Kafka, topic: str) -> None:
    experiment = an_experiment(kafka_settings, topic, rate=100)
    stop = threading.Event()
    stopper = threading.Timer(1.5, stop.set)
    stopper.start()
    done = publish(experiment, stop=stop)
    assert 0 < done.samples <= 150 and done.seconds < 3.5
    assert_whole(experiment, done.samples)
    assert publish(experiment, limit=done.samples + 16).first == done.samples


@pytest.mark.slow
def test_a_stop_while_the_broker_is_away_takes_three_seconds(installed_kafka: None, tmp_path: Path) -> None:
    with LocalKafka(tmp_path) as broker:
        experiment = an_experiment(Kafka(bootstrap_servers=broker.address), "t", rate=1000, limit=40_000)
        stop = threading.Event()
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(publish(experiment, stop=stop)))
        thread.start()
        time.sleep(2)
        broker.kill()
        time.sleep(1)
        stop.set()
        started = time.monotonic()
        thread.join(20)
        assert time.monotonic() - started < 3
        broker.start()
        done, rest = results[0], publish(experiment, limit=4000)
        assert done.samples <= rest.first  # what was acknowledged is there
        assert_whole(experiment, 4000)


def test_a_record_larger_than_the_topic_takes_names_the_way_out(kafka_settings: Kafka, topic: str) -> None:
    ensure_topic(kafka_settings, topic, max_message_bytes=20_000)
    with pytest.raises(TopicMismatch, match=r"20000 bytes.*samples 0 to 63 .*samples_per_record"):
        publish(an_experiment(kafka_settings, topic, source={"kind": "mnist"}, samples_per_record=64))
    assert everything(kafka_settings, topic) == []


FEED = """
import threading
from pathlib import Path

def numbers(file, silent_after=None):
    for n in range(int(Path(file).read_text()), 1000):
        if n == silent_after:
            threading.Event().wait()
        yield [float(n)], n % 2

def breaks(file):
    yield from list(numbers(file))[:5]
    raise RuntimeError("unplugged")
"""


def a_live_experiment(kafka: Kafka, topic: str, folder: Path, function: str = "numbers", **options: Any) -> Experiment:
    (folder / f"feed_{topic[-6:]}.py").write_text(FEED)
    (folder / "next").write_text("0")
    experiment = an_experiment(kafka, topic, samples_per_record=4, source={
        "kind": "python", "callable": f"feed_{topic[-6:]}:{function}", "live": True,
        "options": {"file": str(folder / "next"), **options}})
    experiment._path = folder / "experiment.yaml"
    return experiment


def inputs(experiment: Experiment) -> list[float]:
    """The inputs on the topic, after a look at their numbers."""
    found: list[float] = []
    for message in everything(experiment.kafka, experiment.topic):
        assert int(message.headers["streamil-seq"]) == len(found)
        x = decode(message.value).x
        assert x is not None
        found += x[:, 0].tolist()
    return found


def test_a_live_source_goes_on_with_its_numbering_and_says_what_is_lost(kafka_settings: Kafka, topic: str,
                                                                        tmp_path: Path) -> None:
    experiment, said = a_live_experiment(kafka_settings, topic, tmp_path), list[str]()
    assert publish(experiment, limit=10, tell=said.append).samples == 10 and not said
    (tmp_path / "next").write_text("100")
    done = publish(experiment, limit=20, tell=said.append)
    assert (done.samples, done.first) == (10, 10)
    assert len(said) == 1 and "sample 10 is the next one" in said[0] and "lost" in said[0]
    assert inputs(experiment) == [*range(10), *range(100, 110)]
    assert publish(experiment, limit=20).samples == 0


def test_a_live_source_that_is_silent_can_be_stopped_and_what_came_is_sent(kafka_settings: Kafka, topic: str,
                                                                           tmp_path: Path) -> None:
    experiment = a_live_experiment(kafka_settings, topic, tmp_path, silent_after=6)
    ensure_topic(kafka_settings, topic)
    stop = threading.Event()
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(publish(experiment, stop=stop)))
    thread.start()
    until(lambda: len(everything(kafka_settings, topic)) == 1)
    stop.set()
    thread.join(30)
    assert results[0].samples == 6 and inputs(experiment) == [*range(6)]


def test_a_live_source_that_fails_is_an_error(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="failed after 5 samples: RuntimeError: unplugged"):
        publish(a_live_experiment(kafka_settings, topic, tmp_path, "breaks"))


def test_a_stream_that_never_ends_goes_on_as_others_do(kafka_settings: Kafka, topic: str) -> None:
    source = {"kind": "river", "name": "synth.SEA"}
    experiment = an_experiment(kafka_settings, topic, source=source, limit=None)
    assert publish(experiment, limit=1001).samples == 1001
    assert publish(experiment, limit=2000).first == 1001
    assert_whole(an_experiment(kafka_settings, topic, source=source, limit=2000), 2000)


def test_event_times_set_the_pace_where_the_stream_says_so(kafka_settings: Kafka, topic: str) -> None:
    experiment = an_experiment(kafka_settings, topic, samples_per_record=1, limit=7, seed=1, regimes=[
        {"kind": "bursty", "rate": 2, "burst": 3}])
    due = [float(t) for records in open_stream(experiment.stream, Path()) for t in records.t]
    assert due[0] == 0 and due[-1] > 1
    assert publish(experiment).samples == 7
    messages = everything(kafka_settings, topic)
    sent = [(one.timestamp_ms - messages[0].timestamp_ms) / 1000 for one in messages]
    assert all(there >= then - 0.5 for there, then in zip(sent, due, strict=True))  # the first one may come late
    assert [decode(one.value).t for one in messages] == due


def test_json_keeps_the_type_of_dense_inputs_in_a_header(kafka_settings: Kafka, topic: str) -> None:
    publish(an_experiment(kafka_settings, topic, source={"kind": "mnist"}, codec="json"), limit=8)
    assert everything(kafka_settings, topic)[0].headers["streamil-dtype"] == b"uint8"


def test_a_damaged_source_is_named_before_anything_is_sent(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "broken.npz", x=np.zeros((3, 2)), y=np.zeros(4))
    with pytest.raises(SourceError, match=r"broken\.npz"):
        publish(an_experiment(kafka_settings, topic, source={"kind": "npz", "path": str(tmp_path / "broken.npz")}))
    assert everything(kafka_settings, topic) == []


def test_bad_rows_are_skipped_counted_and_told(
        kafka_settings: Kafka, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("n,label\n" + "".join(f"{'x' if n % 10 == 3 else n},{n % 2}\n" for n in range(100)))
    source = {"kind": "csv", "path": str(tmp_path / "t.csv"), "label": "label", "on_bad_row": "skip"}
    experiment = an_experiment(kafka_settings, topic, source=source, features={"n": "number"})
    done = publish(experiment)
    assert (done.samples, done.skipped.count) == (90, 10)
    (line,) = done.skipped.told()
    assert line.startswith(f"10 bad rows skipped, the first: {tmp_path / 't.csv'}: line 5: column 'n': 'x'")
    assert_whole(experiment, 90)
    (tmp_path / "race.yaml").write_text(json.dumps(experiment.model_dump(mode="json")))
    monkeypatch.setattr(sys, "argv", ["streamil", "produce", str(tmp_path / "race.yaml"), "--metrics", "127.0.0.1:0"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert line in capsys.readouterr().err
