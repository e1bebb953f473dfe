"""Faults around what is rejected: bad samples, letters that cannot be written, samples put back in every wrong way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attached import LIMIT_SECONDS, Sent, experiment_of, learn, messages, send
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from kafka.serializer import Serializer
from processes import until

from streamil import load_experiment
from streamil.attachment import Attachment, outbox, rejects
from streamil.codec import decode, encode
from streamil.dead_letters import DeadTopic, Wanted, replay
from streamil.errors import TooManyRejects, TopicMismatch, TopicMissing
from streamil.experiment import Experiment, Kafka
from streamil.kafka import describe_topic, writer
from streamil.local_kafka import LocalKafka
from streamil.race import Race
from streamil.samples import Records
from streamil.telemetry.metrics import RaceMetrics

pytestmark = pytest.mark.kafka

Lines = list[str]


class NoKey(Serializer):
    """Lets a record without key and value through, as other clients do."""

    def serialize(self, topic: str, headers: Any, data: Any) -> None: ...


def an_experiment(kafka: Kafka, topic: str, folder: Path, **more: Any) -> Experiment:
    return experiment_of(kafka, topic, folder, **{"stream": {"limit": None, **more.pop("stream", {})}, **more})


def good(*numbers: int) -> Sent:
    return [(json.dumps({"x": [number], "y": number % 2}).encode(), {}) for number in numbers]


def dead(experiment: Experiment) -> list[Any]:
    return messages(experiment.kafka, f"{experiment.topic}.dead")


def put_back(experiment: Experiment) -> dict[str, int]:
    return {word: count for word, count in replay(experiment, DeadTopic(experiment, Wanted())).items() if count}


def caught_up(experiment: Experiment, **options: Any) -> tuple[Race, Lines]:
    """Learn all that is on the topic, and return the race and what was told."""
    race, stop, told = Race(experiment), threading.Event(), list[str]()
    limit = threading.Timer(LIMIT_SECONDS, stop.set)
    limit.start()
    try:
        with Attachment(race, stop=stop, tell=told.append, **options) as attachment:
            idle = attachment._look_around

            def look() -> None:
                idle()
                if attachment._opened and attachment.lag == 0:
                    attachment.stop()

            attachment._look_around = look  # type: ignore[method-assign]
            for arrived in attachment:
                arrived.feed(race)
                attachment.commit()
        assert limit.is_alive(), f"not caught up after {LIMIT_SECONDS} s: {told}"
    finally:
        limit.cancel()
    return race, told


# -- what a letter holds


def test_a_bad_sample_is_a_letter_of_its_own(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = an_experiment(kafka_settings, topic, tmp_path, stream={"classes": ["a", "b"]})
    listed = b'[{"x": [1.50, 2], "y": "a"}, {"x": ["bad", 2.0], "y": "a"}, {"x": [3, 4], "y": "z"}]'
    arrow = encode(Records(y=["a", "z", "b"], x=np.array([[1.0, 2], [3, 4], [5, 6]])), "arrow")
    send(kafka_settings, topic, [(listed, {"own": b"1"}), (b"\xef\xbb\xbf" + listed, {}), (arrow, {})])
    race, _ = caught_up(experiment)
    assert race.samples == 4 and race.rejected["unknown-label"] == 3 and race.rejected["bad-number"] == 2
    found = dead(experiment)
    values = [one.value for one in found]
    assert values.count(b'{"x": [3, 4], "y": "z"}') == values.count(b'{"x": ["bad", 2.0], "y": "a"}') == 2 and len(values) == 5
    sample = decode(values[-1])
    assert sample.x is not None and sample.x.tolist() == [[3.0, 4.0]] and sample.y == ["z"]
    assert [one.headers["streamil-index"] for one in found] == [b"2", b"1"] * 2 + [b"1"] and found[0].headers["own"] == b"1"
    assert not any("streamil-row" in one.headers for one in found)


def test_a_record_that_cannot_be_cut_is_kept_whole_with_its_row(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    """Nested samples, and a codec of the user's own: the sample that is meant is put back, and no neighbour."""
    (tmp_path / "semicolons.py").write_text("def read(value):\n    return [dict(zip(('a', 'y'), one.split(','))) for one in value.decode().split(';')]\n")
    sources = {"nested": ({"samples": "rows"}, b'{"rows": [{"a": 1, "y": 0}, {"a": 2, "y": 7}, {"a": 3, "y": 1}]}'),
               "foreign": ({"codec": "semicolons:read"}, b"1,0;2,7;3,1")}
    for name, (source, value) in sources.items():
        file = tmp_path / f"{name}.json"
        experiment = an_experiment(kafka_settings, f"{topic}-{name}", tmp_path / name, stream={
            "source": {"kind": "topic", "label": "y", **source}, "classes": ["0", "1"]})
        file.write_text(experiment.model_dump_json(exclude_unset=True))
        experiment = load_experiment(file)
        send(kafka_settings, experiment.topic, [(value, {})])
        assert caught_up(experiment)[0].samples == 2
        (one,) = dead(experiment)
        assert one.value == value and one.headers["streamil-row"] == one.headers["streamil-index"] == b"1"
        assert put_back(experiment) == {"back": 1}
        race, _ = caught_up(experiment)  # rejected again, and its neighbours not learned again
        assert race.samples == 2 and [one.headers["streamil-row"] for one in dead(experiment)] == [b"1", b"1"]
        corrected = value.replace(b"7", b"1")
        send(kafka_settings, experiment.topic, [(corrected, {"streamil-origin": one.headers["streamil-origin"], "streamil-row": b"1"})] * 2)
        assert caught_up(experiment)[0].samples == 3


def test_one_record_does_not_become_gigabytes_of_letters(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = an_experiment(kafka_settings, topic, tmp_path, service={"max_consecutive_rejects": None}, stream={
        "source": {"kind": "topic", "label": "y", "samples": "rows"}, "classes": ["0"]})
    value = json.dumps({"rows": [{"a": 1, "y": 0}] + [{"a": 1, "y": 7, "more": "x" * 100}] * 500}).encode()
    send(kafka_settings, topic, [(value, {})])
    assert caught_up(experiment)[0].samples == 1
    found = dead(experiment)
    whole = [one for one in found if "streamil-shortened" not in one.headers]
    assert len(found) == 500 and len({one.headers["streamil-origin"] for one in found}) == 500
    assert 10 <= len(whole) <= 16 and all(one.value == value for one in whole)
    assert all(len(one.value) < 1024 and one.headers["streamil-shortened"] == b"%d" % len(value) for one in found[16:])
    assert put_back(experiment) == {"back": len(whole), "shortened": 500 - len(whole)}


def test_a_record_that_no_letter_can_hold_is_shortened_and_marked(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    """Many small headers take more room in a letter than in their record; a tombstone may have no key."""
    experiment = an_experiment(kafka_settings, topic, tmp_path)
    send(kafka_settings, topic, good(0))
    producer = KafkaProducer(bootstrap_servers=kafka_settings.bootstrap_servers, max_request_size=2**30, key_serializer=NoKey())
    many = [(f"{number:x}", b"") for number in range(120_000)]
    producer.send(topic, b"bad", headers=many, partition=0)
    producer.send(topic, None, key="taken away", partition=0)
    producer.flush(20)
    producer.close()
    send(kafka_settings, topic, good(1))
    assert learn(experiment, 2)["samples"] == 2
    large, null = dead(experiment)
    assert large.value == b"bad" and large.headers["streamil-shortened"] == b"3" and len(large.headers) < 12
    assert null.value is None and not null.key and null.headers["streamil-reason"] == b"null"
    assert put_back(experiment) == {"back": 1, "shortened": 1}


def test_a_header_without_a_value_is_an_empty_one(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    if shutil.which("kcat") is None:  # kafka-python sends no such header
        if os.environ.get("STREAMIL_REQUIRE_KCAT") == "1":
            pytest.fail("kcat is not installed")
        pytest.skip("kcat is not installed")
    experiment = an_experiment(kafka_settings, topic, tmp_path)
    send(kafka_settings, topic, good(0))
    subprocess.run(["kcat", "-P", "-b", kafka_settings.bootstrap_servers, "-t", topic, "-p", "0", "-H", "nothing"],
                   input=b"bad", check=True, timeout=20)
    send(kafka_settings, topic, good(1))
    assert learn(experiment, 2)["samples"] == 2
    (one,) = dead(experiment)
    assert one.headers["nothing"] == b"" and one.value == b"bad"


def test_a_letter_has_the_time_of_its_record_in_a_header(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    """Its own time is when it was written: a topic keeps its records for a week, whatever they tell of."""
    experiment = an_experiment(kafka_settings, topic, tmp_path)
    producer = KafkaProducer(bootstrap_servers=kafka_settings.bootstrap_servers)
    send(kafka_settings, topic, good(0))
    producer.send(topic, b"bad", timestamp_ms=1_500_000_000_000, partition=0).get(20)
    producer.close()
    send(kafka_settings, topic, good(1))
    learn(experiment, 2)
    (one,) = dead(experiment)
    assert one.headers["streamil-time"] == b"1500000000000" and one.timestamp_ms > 1_700_000_000_000


def test_what_is_counted_in_a_row_are_rejects_without_a_good_sample_between(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = an_experiment(kafka_settings, topic, tmp_path, stream={"classes": ["0", "1"]}, service={"max_consecutive_rejects": 3})
    by_turns = [{"x": [1], "y": 0}, {"x": ["bad"], "y": 0}, {"x": [1], "y": 1}, {"x": [1], "y": 7}] * 10
    send(kafka_settings, topic, [(json.dumps(by_turns).encode(), {}), *good(0), *[(b"bad", {})] * 3, *good(1, 2)])
    assert caught_up(experiment)[0].samples == 23
    send(kafka_settings, topic, [(json.dumps([{"x": [1], "y": 0}] + [{"x": [1], "y": 7}] * 4).encode(), {})])
    with pytest.raises(TooManyRejects, match="4 rejects in a row"):
        learn(experiment, 30)


# -- letters that cannot be written


def test_a_dead_topic_that_takes_too_little_is_one_clear_line(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    client = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    client.create_topics([NewTopic(f"{topic}.dead", 1, 1, topic_configs={"max.message.bytes": "2000"})])
    client.close()
    experiment = an_experiment(kafka_settings, topic, tmp_path)
    send(kafka_settings, topic, [*good(0), (b"bad", {}), *good(1)])
    with pytest.raises(TopicMismatch, match=rf"^topic '{topic}.dead' takes records up to 2000 bytes[^\n]*max\.message\.bytes[^\n]*$"):
        learn(experiment, 2)


def test_a_dead_topic_that_is_deleted_is_made_anew_by_the_next_start(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = an_experiment(kafka_settings, topic, tmp_path)
    send(kafka_settings, topic, [*good(0), (b"bad", {}), *good(1)])
    learn(experiment, 2)
    client = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    client.delete_topics([f"{topic}.dead"])
    client.close()
    send(kafka_settings, topic, [(b"worse", {}), *good(2)])
    learn(experiment, 3)
    assert [one.value for one in dead(experiment)] == [b"worse"]


def test_a_dead_topic_that_is_deleted_while_it_is_written_ends_it_and_loses_no_letter_of_then(
        kafka_settings: Kafka, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "QUIET_SECONDS", 1.0)
    experiment = an_experiment(kafka_settings, topic, tmp_path, snapshots={"every_samples": 2})
    send(kafka_settings, topic, [*good(0), (b"bad", {}), *good(1)])

    def delete(attachment: Attachment) -> None:
        if attachment._race.samples == 2:
            while not attachment._outboxes["dead_letters"].pump(1):
                pass
            client = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
            client.delete_topics([f"{topic}.dead"])
            client.close()
            until(lambda: absent(kafka_settings, f"{topic}.dead"))
            send(kafka_settings, topic, [(b"worse", {}), *good(2)])

    with pytest.raises(TopicMissing, match=rf"^topic '{topic}.dead' [^\n]*was deleted while it was written: start again[^\n]*$"):
        learn(experiment, 30, each=delete)
    assert learn(experiment, 3)["samples"] == 3
    assert [one.value for one in dead(experiment)][-1] == b"worse"


def absent(kafka: Kafka, topic: str) -> bool:
    try:
        describe_topic(kafka, topic)
    except TopicMissing:
        return True
    return False


def test_learning_waits_for_a_broker_that_is_away_while_letters_wait(
        installed_kafka: None, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched is rejected until the room is full; then it waits, and every letter comes, once and in order."""
    monkeypatch.setattr(outbox, "ROOM", 30_000)
    with LocalKafka(tmp_path / "kafka") as kafka:
        experiment = an_experiment(Kafka(bootstrap_servers=kafka.address), topic, tmp_path, service={"max_consecutive_rejects": None})
        one_in_two = [one for number in range(200) for one in (*good(number), (b"bad %d " % number + b"x" * 300, {}))]
        send(experiment.kafka, topic, one_in_two)
        full, told, race, stop = threading.Event(), list[str](), Race(experiment), threading.Event()
        limit = threading.Timer(120, stop.set)
        limit.start()

        def bring_back() -> None:
            full.wait(60)
            until(lambda: any("does not answer" in line for line in told) or stop.is_set())
            kafka.start()

        helper = threading.Thread(target=bring_back)
        helper.start()
        seen: list[int] = []
        with Attachment(race, until=200, stop=stop, tell=told.append) as attachment:
            letters = attachment._outboxes["dead_letters"]
            for arrived in attachment:
                if race.samples == 1:
                    kafka.stop()
                arrived.feed(race)
                attachment.commit()
                seen.append(letters._bytes)
                if letters.full:
                    full.set()
                elif full.is_set():
                    time.sleep(0.03)  # it looks at the broker once a second: not to be through before it is seen to be back
        helper.join()
        limit.cancel()
        assert full.is_set() and max(seen) < 30_000 + 2_000 * 5 and race.samples == 200, (max(seen), race.samples, told)
        assert any("does not answer" in line for line in told) and any("answers again" in line for line in told)
        origins = [int(one.headers["streamil-offset"]) for one in dead(experiment)]
        assert sorted(set(origins)) == list(range(1, 399, 2)) and list(dict.fromkeys(origins)) == sorted(set(origins))


# -- put back


def origin_of(experiment: Experiment, offset: int, place: int = -1) -> dict[str, bytes]:
    return {"streamil-origin": f"{describe_topic(experiment.kafka, experiment.topic).id}/0/{offset}/{place}".encode()}


HOSTILE: dict[str, Callable[[Experiment], dict[str, bytes]]] = {
    "garbage": lambda experiment: {"streamil-origin": b"\xff\x00"},
    "empty": lambda experiment: {"streamil-origin": b""},
    "huge": lambda experiment: {"streamil-origin": b"9" * 100_000},
    "huge numbers": lambda experiment: {"streamil-origin": b"a/0/" + b"9" * 30 + b"/0"},
    "another topic": lambda experiment: {"streamil-origin": b"AAAAAAAAAAAAAAAAAAAAAA/0/1/-1"},
    "never rejected": lambda experiment: origin_of(experiment, 0),
    "another partition": lambda experiment: {"streamil-origin": origin_of(experiment, 1)["streamil-origin"].replace(b"/0/", b"/1/")},
    "a sample of a record that was rejected whole": lambda experiment: origin_of(experiment, 1, 0),
    "row out of range": lambda experiment: origin_of(experiment, 2, 1) | {"streamil-row": b"7"},
    "another row": lambda experiment: origin_of(experiment, 2, 1) | {"streamil-row": b"0"},
    "row of a whole record": lambda experiment: origin_of(experiment, 1) | {"streamil-row": b"0"},
    "row that is no number": lambda experiment: origin_of(experiment, 2, 1) | {"streamil-row": b"1e9"},
    "huge row": lambda experiment: origin_of(experiment, 2, 1) | {"streamil-row": b"9" * 18},
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_headers_are_rejected_or_passed_over(kafka_settings: Kafka, topic: str, tmp_path: Path, hostile: str) -> None:
    experiment = an_experiment(kafka_settings, topic, tmp_path)
    two = b'[{"x": [1], "y": 0}, {"x": ["bad"], "y": 0}]'
    send(kafka_settings, topic, [*good(0), (b"bad", {}), (two, {})])
    assert caught_up(experiment)[0].samples == 2
    send(kafka_settings, topic, [(b'{"x": [5], "y": 0}', HOSTILE[hostile](experiment))])
    race, told = caught_up(experiment)
    assert race.samples == 2 and all(line.isprintable() and len(line) < 400 for line in told)
    # and what was rejected is still learned once, when it is put back as it should be
    send(kafka_settings, topic, [(b'{"x": [5], "y": 0}', origin_of(experiment, 1)), (b'{"x": [6], "y": 0}', origin_of(experiment, 2, 1))] * 2)
    assert caught_up(experiment)[0].samples == 4


def test_a_record_of_several_is_not_taken_for_one_sample(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = an_experiment(kafka_settings, topic, tmp_path)
    send(kafka_settings, topic, [*good(0), (b'[{"x": [1], "y": 0}, {"x": ["bad"], "y": 0}]', {})])
    caught_up(experiment)
    send(kafka_settings, topic, [(b'[{"x": [1], "y": 0}, {"x": [2], "y": 0}]', origin_of(experiment, 1, 1))])
    race, told = caught_up(experiment)
    assert race.samples == 2 and race.rejected["wrong-shape"] == 1 and any("one sample was put back" in line for line in told)
    assert dead(experiment)[-1].headers["streamil-origin"] == origin_of(experiment, 1, 1)["streamil-origin"]
    send(kafka_settings, topic, [(b'[{"x": [2], "y": 0}]', origin_of(experiment, 1, 1))])
    assert caught_up(experiment)[0].samples == 3


def test_a_whole_record_that_can_be_read_now_is_learned_but_for_its_bad_sample(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    """And the bad sample is a letter of its own, which is put back and learned as such; a stop within it does no harm."""
    experiment = an_experiment(kafka_settings, topic, tmp_path, stream={"classes": ["0", "1"]}, snapshots={"every_samples": 1})
    rows = [{"x": [number], "y": number % 2} for number in range(150)]
    rows[70]["y"] = 7
    whole = json.dumps(rows).encode()
    send(kafka_settings, topic, [*good(0), (whole[:-1], {}), *good(1)])
    assert caught_up(experiment)[0].samples == 2
    send(kafka_settings, topic, [(whole, origin_of(experiment, 1)), (whole, origin_of(experiment, 1))])
    learn(experiment, 100, crash_at=66)
    learn(experiment, 100)
    assert caught_up(experiment)[0].samples == 2 + 149
    (first, bad) = {one.headers["streamil-origin"]: one for one in dead(experiment)}.values()
    assert bad.headers["streamil-index"] == b"70" and json.loads(bad.value) == rows[70] and first.value == whole[:-1]
    send(kafka_settings, topic, [(b'{"x": [70], "y": 0}', {"streamil-origin": bad.headers["streamil-origin"]})] * 2)
    race, _ = caught_up(experiment)
    assert race.samples == 2 + 150


def test_what_is_past_what_is_remembered_is_refused_and_counted(
        kafka_settings: Kafka, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejects, "REMEMBERED", 3)
    experiment = an_experiment(kafka_settings, topic, tmp_path)
    send(kafka_settings, topic, [*good(0), *[(b"bad", {})] * 5, *good(1)])
    caught_up(experiment)
    back = [(b'{"x": [5], "y": 0}', origin_of(experiment, offset)) for offset in range(1, 6)]
    send(kafka_settings, topic, back)
    metrics = RaceMetrics()
    race, told = caught_up(experiment, metrics=metrics)
    assert race.samples == 5 and metrics.repeats == 2
    assert sum("none of the 3 rejects that are remembered" in line for line in told) == 2


def test_late_labels_are_put_back_like_samples(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = an_experiment(kafka_settings, topic, tmp_path, stream={"classes": ["0", "1"]})
    send(kafka_settings, topic, [*good(0, 1), (b'[{"x": [1], "id": "a"}, {"x": [2], "id": "b"}]', {}), (b'[{"id": "a", "y": 7}, {"id": "b", "y": 1}]', {})])
    race, _ = caught_up(experiment)
    assert race.rejected["unknown-label"] == 1 and race.late.counts["joined"] == 1
    (one,) = dead(experiment)
    assert one.value == b'{"id": "a", "y": 7}' and one.headers["streamil-index"] == b"0"
    send(kafka_settings, topic, [(b'{"id": "a", "y": 0}', {"streamil-origin": one.headers["streamil-origin"]})] * 2)
    race, told = caught_up(experiment)
    assert race.late.counts["joined"] == 2 and race.late.counts["second"] == 0 and len(race.late) == 0
    assert any("passed over" in line for line in told)


def test_without_dead_letters_rejects_are_counted_and_no_topic_is_made(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = an_experiment(kafka_settings, topic, tmp_path, service={"dead_letters": False})
    send(kafka_settings, topic, [*good(0), (b"bad", {}), *good(1)])
    race, _ = caught_up(experiment)
    assert race.rejected["not-json"] == 1
    assert absent(kafka_settings, f"{topic}.dead")
