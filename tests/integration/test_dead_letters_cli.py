"""`streamil dead-letters`, and a consumer among bad records: what was rejected is found again, and learned once when put back."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attached import Sent, experiment_of, learn, made_anew, messages, records_of, send
from kafka import KafkaConsumer, TopicPartition
from processes import streamil
from streamil_producer import publish

from streamil.attachment import Attachment
from streamil.codec import encode
from streamil.dead_letters import DeadTopic, Wanted, replay
from streamil.dead_letters.letter import DeadLetter
from streamil.experiment import Experiment, Kafka
from streamil.kafka import TopicWriter, ensure_topic
from streamil.samples import Records
from streamil.streams import open_stream

pytestmark = pytest.mark.kafka

DATA = Path(__file__).parent / "data"
ALL = Wanted()


def file_of(experiment: Experiment, folder: Path) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(experiment.model_dump_json(exclude_unset=True))
    return path


def good(*numbers: int) -> Sent:
    return [(json.dumps({"x": [number], "y": number % 2}).encode(), {}) for number in numbers]


def letters(experiment: Experiment) -> list[DeadLetter]:
    return list(DeadTopic(experiment, ALL))


def chain(samples: list[tuple[int, str]]) -> str:
    """The documented hash of what was taken in."""
    found = bytes(32)
    for ordinal, label in samples:
        found = hashlib.sha256(found + ordinal.to_bytes(8, "big") + b"+" + label.encode()).digest()
    return found.hex()


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done.stdout


def test_nulls_and_empty_values_are_rejected_and_kept(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    """K02: a tombstone, "", "null" and "[]" among 30 good records."""
    experiment = experiment_of(kafka_settings, topic, tmp_path, stream={"limit": None})
    ensure_topic(kafka_settings, topic)
    with TopicWriter(kafka_settings, topic) as writer:
        for text in (DATA / "k02_nulls.jsonl").read_text().splitlines():
            one = json.loads(text)
            writer.send(None if one["value"] is None else one["value"].encode(), key=one["key"].encode() if "key" in one else None)
        assert writer.flush(20)
    file = file_of(experiment, tmp_path)
    ok(streamil("consume", file, "--until", 30, "--out", tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["samples"] == 30
    reader = KafkaConsumer(bootstrap_servers=kafka_settings.bootstrap_servers, group_id=topic)
    place = TopicPartition(topic, 0)
    assert reader.committed(place) == reader.end_offsets([place])[place] == 34, "lag 0"
    reader.close()
    assert [(one.reason, one.key, one.value) for one in letters(experiment)] == [
        ("null", b"gone", None), ("empty", None, b""), ("null", None, b"null"), ("no-samples", None, b"[]")]


def test_a_flood_of_bad_records_stops_it_at_each_start_until_they_are_accepted(
        kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    """K08: 10 good, 5,000 undecodable, 10 good."""
    experiment = experiment_of(kafka_settings, topic, tmp_path, stream={"limit": None})
    send(kafka_settings, topic, [*good(*range(10)), *[(b"\xff", {})] * 5000, *good(*range(10, 20))])
    file, dead = file_of(experiment, tmp_path), f"{topic}.dead"
    for _ in range(4):
        done = streamil("consume", file, "--until", 20)
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert "1001 rejects in a row" in line and "offset 10: rejected (not-json)" in line and "--accept-rejects" in line
        assert len(messages(kafka_settings, dead)) == 1001
    ok(streamil("consume", file, "--until", 20, "--accept-rejects", "--out", tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["samples"] == 20
    assert [int(one.headers["streamil-offset"]) for one in messages(kafka_settings, dead)] == list(range(10, 5010))
    found = json.loads(ok(streamil("dead-letters", "list", file, "--json", "--limit", 2)))
    assert found["letters"] == found["reasons"]["not-json"]["count"] == 5000 and [one["offset"] for one in found["rows"]] == [5008, 5009]


def test_what_was_rejected_is_listed(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_of(kafka_settings, topic, tmp_path, stream={"limit": None, "classes": ["0", "1"]})
    file = file_of(experiment, tmp_path)
    refused = streamil("dead-letters", "list", file)
    assert refused.returncode == 1 and refused.stderr.startswith(f"error: topic '{topic}' does not exist")
    evil = b'{"x": [1], "y": "\\u001b[2J"}\x1b[2J'
    send(kafka_settings, topic, [*good(*range(5)), (b'[{"x": [1], "y": 1}, {"x": ["a"], "y": 1}, {"x": [2], "y": 7}]', {}), (evil, {}), *good(5)])
    nothing = streamil("dead-letters", "list", file)
    assert (nothing.returncode, nothing.stdout) == (0, "") and nothing.stderr == f"nothing was rejected: topic {topic}.dead does not exist\n"
    learn(experiment, 7)
    shown = streamil("dead-letters", "list", file)
    assert not shown.stderr and "\x1b" not in ok(shown)
    head, *rows = [line.split() for line in shown.stdout.splitlines()]
    assert head == ["reason", "letters", "first", "last"]
    assert {(row[0], row[1]) for row in rows[:3]} == {("bad-number", "1"), ("unknown-label", "1"), ("trailing-data", "1")}
    assert [row[:3] for row in rows[-3:]] == [["5", "2", "unknown-label"], ["5", "1", "bad-number"], ["6", "-", "trailing-data"]]

    # written again by a crash, of another experiment, and no letter at all: each is left out, and counted
    kept = messages(kafka_settings, f"{topic}.dead")
    send(kafka_settings, f"{topic}.dead", [(kept[0].value, kept[0].headers), (b"", kept[1].headers | {"streamil-experiment": b"x"}), (b"?", {})])
    found = json.loads(ok(streamil("dead-letters", "list", file, "--json")))
    assert [found[name] for name in ("letters", "repeats", "others", "strange")] == [3, 1, 1, 1]
    assert [row["offset"] for row in found["rows"]] == [5, 6, 5], "the newest letter of a sample counts"
    one = streamil("dead-letters", "list", file, "--reason", "bad-number")
    assert len(ok(one).splitlines()) == 6 and "left out 1 of other experiments" in one.stderr
    assert "all of them" not in ok(streamil("dead-letters", "list", file, "--limit", 0))
    none = streamil("dead-letters", "list", file, "--partition", 3)
    assert not ok(none) and "no letters of those that are wanted" in none.stderr
    wrong = streamil("dead-letters", "list", file, "--reason", "bad-numbr")
    assert wrong.returncode == 2 and "nearest known: bad-number" in wrong.stderr


def test_what_was_corrected_is_learned_once(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    """Of a numbered stream: a sample put back has the ordinal that it had, and the producer goes on where it was."""
    experiment = experiment_of(kafka_settings, topic, tmp_path, stream={"codec": "json", "limit": 80})
    sent = records_of(experiment)[:7]
    broken = json.loads(sent[1][0] or b"")
    whole = json.dumps(broken[3])
    broken[3]["features"]["nswprice"] = "expensive"
    send(kafka_settings, topic, [sent[0], (json.dumps(broken).encode(), sent[1][1] | {"own": b"\xff"}), *sent[2:5], (b"{" + (sent[5][0] or b""), sent[5][1]), sent[6]])
    learn(experiment, 41)
    file, out = file_of(experiment, tmp_path), tmp_path / "letters.jsonl"
    ok(streamil("dead-letters", "export", file, "--out", out))
    again = streamil("dead-letters", "export", file, "--out", out)
    assert again.returncode == 2 and "--force" in again.stderr
    ok(streamil("dead-letters", "export", file, "--out", tmp_path / "folder"))
    assert (tmp_path / "folder" / f"{topic}.dead.jsonl").read_bytes() == out.read_bytes()
    one, two = (json.loads(line) for line in out.read_text().splitlines())
    assert json.loads(one["value"]) == broken[3] and one["reason"] == "bad-number" and one["headers"]["own"] == {"base64": "/w=="}
    one["value"], two["value"] = whole, two["value"][1:]
    out.write_text(f"{json.dumps(one)}\n{json.dumps(two)}\n")
    said = streamil("dead-letters", "replay", file, "--from", out, "--dry-run")
    assert said.stderr == f"would put back 2 samples and records on topic {topic}\n" and len(messages(kafka_settings, topic)) == 7
    for _ in range(2):  # and once more: the second copies are told from other samples
        assert ok(streamil("dead-letters", "replay", file, "--from", out)) == ""
    back = messages(kafka_settings, topic)[7:]
    assert [sorted(message.headers) for message in back] == [
        ["own", "streamil-origin", "streamil-stream"], ["streamil-origin", "streamil-stream"]] * 2, "and no numbers"
    last: list[Attachment] = []
    assert learn(experiment, 49, each=last.append)["samples"] == 49
    done = publish(experiment)
    assert (done.first, done.samples) == (49, 80 - 49), "it found its own last record among those that were put back"
    found = learn(experiment, 80, each=last.append)
    labels = [str(label) for records in open_stream(experiment.stream, experiment.folder) for label in records.y]
    later = [10, *range(5 * 7, 6 * 7)]
    order = [n for n in range(49) if n not in later] + later + list(range(49, 80))
    assert found["learned_hash"] == chain([(n, labels[n]) for n in order])
    assert last[-1].lag == 0


def test_what_is_put_back_twice_by_the_command_stands_there_once(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_of(kafka_settings, topic, tmp_path, stream={"limit": None, "classes": ["0", "1"]})
    send(kafka_settings, topic, [*good(*range(5)), (b'{"x": [1], "y": 7}', {}), *good(5)])
    learn(experiment, 6)
    assert replay(experiment, DeadTopic(experiment, ALL)) == {"back": 1}
    assert replay(experiment, DeadTopic(experiment, ALL)) == {"there": 1, "back": 0}
    send(kafka_settings, topic, good(6))
    learn(experiment, 7)  # it is rejected again: once more, then
    assert [one.reason for one in letters(experiment)] == ["unknown-label"] and len(messages(kafka_settings, f"{topic}.dead")) == 2
    assert replay(experiment, DeadTopic(experiment, ALL)) == {"back": 1}
    assert replay(experiment, DeadTopic(experiment, ALL)) == {"there": 1, "back": 0}


def test_what_cannot_be_put_back_is_left_out_and_told(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_of(kafka_settings, topic, tmp_path, stream={"limit": None})
    send(kafka_settings, topic, [*good(*range(5)), (b"bad", {}), *good(5)])
    learn(experiment, 6)
    (one,) = messages(kafka_settings, f"{topic}.dead")
    other = one.headers["streamil-origin"].replace(b"/5/", b"/4/")
    third = one.headers["streamil-origin"].replace(b"/5/", b"/3/")
    send(kafka_settings, f"{topic}.dead", [
        (b"ba", one.headers | {"streamil-origin": other, "streamil-shortened": b"5000000"}),
        (b"x" * 1_048_480, one.headers | {"streamil-origin": third}),
        (b"x", one.headers | {"streamil-origin": third[:-2] + b"7", "streamil-topic": b"elsewhere"})])
    file = file_of(experiment, tmp_path)
    said = streamil("dead-letters", "replay", file, "--dry-run")
    assert said.returncode == 0 and "would put back 1 samples" in said.stderr
    for what in ("shortened", "larger than the topic takes", "of a topic that is not the experiment's"):
        assert f"left out 1, {what}" in said.stderr
    made_anew(kafka_settings, topic)
    assert replay(experiment, DeadTopic(experiment, ALL)) == {"made anew": 3, "elsewhere": 1, "back": 0}
    assert messages(kafka_settings, topic) == []


def test_letters_of_a_topic_of_labels_go_back_to_it(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    source: dict[str, Any] = {"kind": "topic", "id": "id", "features": ["a"], "labels": {"topic": f"{topic}-labels", "id": "ref", "label": "y"}}
    experiment = experiment_of(kafka_settings, topic, tmp_path, stream={"source": source, "limit": None})
    send(kafka_settings, f"{topic}-labels", [(b'{"ref": 1}', {})])
    send(kafka_settings, topic, [(b'{"id": 0, "a": 2}', {})])
    more = iter(range(1, 20))  # the labels are looked at between two looks for samples
    learn(experiment, 20, each=lambda attachment: send(kafka_settings, topic, [(b'{"id": %d, "a": 2}' % n, {}) for n in [next(more, 0)] if n]))
    assert [(one.topic, one.reason) for one in letters(experiment)] == [(f"{topic}-labels", "no-label")]
    assert replay(experiment, DeadTopic(experiment, ALL)) == {"back": 1}
    assert "streamil-origin" in messages(kafka_settings, f"{topic}-labels")[1].headers


def test_a_sample_of_an_arrow_record_is_put_back_alone(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    """Its neighbours in the record were learned, and are not learned again."""
    experiment = experiment_of(kafka_settings, topic, tmp_path, stream={
        "codec": "arrow", "classes": ["a", "b"], "limit": None})
    file = file_of(experiment, tmp_path)
    record = encode(Records(y=["a", "z", "b"], x=np.array([[1.0, 2], [3, 4], [5, 6]])), "arrow")
    send(kafka_settings, topic, [(record, {})] * 2)
    assert learn(experiment, 4)["samples"] == 4
    assert [(one.reason, one.origin.place) for one in letters(experiment)] == [("unknown-label", 1)] * 2
    ok(streamil("dead-letters", "replay", file))
    send(kafka_settings, topic, [(encode(Records(y=["b"], x=np.array([[7.0, 8]])), "arrow"), {})])
    assert learn(experiment, 5)["samples"] == 5, "the neighbours, once, and what came behind"
    assert len(letters(experiment)) == 2 and len(messages(kafka_settings, f"{topic}.dead")) == 4
