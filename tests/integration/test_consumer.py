"""The consumer: the same numbers as in one process, whatever else stands on the topic."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaAdminClient, KafkaProducer
from processes import running, until
from prometheus_client.parser import text_string_to_metric_families
from streamil_consumer import consume
from streamil_producer import Position, headers, publish

from streamil.attachment.tap import Tap
from streamil.codec import encode
from streamil.direct import run
from streamil.errors import (
    BrokerUnavailable,
    ExperimentError,
    StreamilError,
    StreamMismatch,
    TelemetryError,
    TopicMissing,
)
from streamil.experiment import Experiment, Kafka
from streamil.kafka import TopicWriter, ensure_topic
from streamil.race import Race
from streamil.results import summary
from streamil.samples import Records
from streamil.streams import open_stream, pack

pytestmark = pytest.mark.kafka

ARMS = {"il-prox": {"algorithm": "il-prox", "batch_size": [1, 8], "alpha": [0.3, 3.0]},
        "bp-sgd": {"algorithm": "bp-sgd", "batch_size": [1, 8], "learning_rate": [0.01, 0.1]}}
ONE = {"bp": {"algorithm": "bp-sgd"}}
LOOPBACK = "127.0.0.1:0"


def an_experiment(kafka: Kafka, topic: str, arms: dict[str, Any] = ONE, **stream: Any) -> Experiment:
    return Experiment.model_validate({
        "name": topic, "stream": {"source": {"kind": "elec"}, "limit": 200, **stream}, "arms": arms,
        "network": {"hidden": [16]}, "kafka": kafka.model_dump(), "service": {"metrics": LOOPBACK, "device": "cpu", "snapshots": None}})


def records_of(experiment: Experiment) -> list[tuple[bytes, dict[str, bytes]]]:
    """What the producer would send: values and headers."""
    sent, ordinal = [], 0
    for records in pack(open_stream(experiment.stream, experiment.folder), experiment.stream.samples_per_record):
        sent.append((encode(records, experiment.stream.codec), headers(experiment, records, Position(ordinal))))
        ordinal += len(records)
    return sent


def send(experiment: Experiment, *sent: tuple[bytes | None, dict[str, bytes]]) -> None:
    ensure_topic(experiment.kafka, experiment.topic)
    with TopicWriter(experiment.kafka, experiment.topic) as writer:
        for value, found in sent:
            writer.send(value, found, key=b"gone" if value is None else None)
        assert writer.flush(20)


def plain(*values: bytes | None) -> list[tuple[bytes | None, dict[str, bytes]]]:
    return [(value, {}) for value in values]


def chain(samples: list[tuple[int, str]]) -> str:
    """The documented hash of what was taken in."""
    found = bytes(32)
    for ordinal, label in samples:
        found = hashlib.sha256(found + ordinal.to_bytes(8, "big") + b"+" + label.encode()).digest()
    return found.hex()


def labels(experiment: Experiment) -> list[str | None]:
    return [label for records in open_stream(experiment.stream, experiment.folder) for label in records.y]


class Consumer:
    """A consumer in a thread, seen from outside."""

    def __init__(self, experiment: Experiment, **options: Any) -> None:
        self.stop = threading.Event()
        self.said: list[str] = []
        self.result: dict[str, Any] = {}
        self.error: StreamilError | None = None
        self.thread = threading.Thread(target=self._run, args=(experiment, options))
        self.thread.start()
        self.url = until(lambda: self.error or next((line.split()[-1] for line in self.said), None))

    def _run(self, experiment: Experiment, options: dict[str, Any]) -> None:
        try:
            self.result = consume(experiment, stop=self.stop, tell=self.said.append, **options)
        except StreamilError as error:
            self.error = error

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return str(answer.read().decode())

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("status.json"))
        return found

    def wait(self, **figures: Any) -> None:
        """Wait until the status shows these figures."""
        until(lambda: figures.items() <= self.status().items(), 30)

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {(one.name, frozenset(one.labels.items())): one.value
                for family in text_string_to_metric_families(self.get("metrics")) for one in family.samples}

    def rejected(self) -> dict[str, int]:
        return {dict(found)["reason"]: int(value) for (name, found), value in self.metrics().items()
                if name == "streamil_records_rejected_total" and value}

    def end(self) -> dict[str, Any]:
        self.stop.set()
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.result


@contextlib.contextmanager
def consuming(experiment: Experiment, **options: Any) -> Iterator[Consumer]:
    one = Consumer(experiment, **options)
    try:
        yield one
    finally:
        one.end()


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    """A CSV source with categories, missing values, a missing label, and a class that comes late."""
    rows = ["size,colour,price,kind"]
    for number in range(150):
        colour = ("red", "green", "", "blue é")[number % 4]
        price = "?" if number % 7 == 3 else str(0.1 * number)
        kind = "" if number % 50 == 20 else "late" if number > 100 and number % 3 else ("a", "b")[number % 2]
        rows.append(f"{(number * 37) % 101},{colour},{price},{kind}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return {"kind": "csv", "path": str(path), "label": "kind"}


@pytest.mark.parametrize(("source", "codec", "packed"), [
    ("mnist", "arrow", 8), ("mnist", "json", 3), ("elec", "arrow", 64), ("table", "json", 1), ("table", "arrow", 7)])
def test_run_and_consume_leave_the_same_bytes(kafka_settings: Kafka, topic: str, tmp_path: Path, table: dict[str, Any],
                                              source: str, codec: str, packed: int) -> None:
    experiment = an_experiment(
        kafka_settings, topic, ARMS, codec=codec, samples_per_record=packed, limit=150, seed=3,
        source=table if source == "table" else {"kind": source}, regimes=[{"kind": "single-pass"}])
    publish(experiment)
    result = consume(experiment, until=150, out=tmp_path / "consume")
    assert result == run(experiment, out=tmp_path / "run") and result["samples"] == 150
    for name in ("summary.json", "curve.parquet"):
        assert (tmp_path / "consume" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    scored = [arm["members"][0]["samples"] for arm in result["arms"].values()]
    unlabelled = 3 if source == "table" else 0
    assert scored == [150 - unlabelled, (150 - unlabelled) // 8 * 8] * 2


def test_until_counts_exactly_in_the_middle_of_a_record(kafka_settings: Kafka, topic: str) -> None:
    experiment = an_experiment(kafka_settings, topic, ARMS, samples_per_record=64)
    publish(experiment)
    for wanted in (1, 64, 77):
        result = consume(experiment, until=wanted)
        assert result["samples"] == wanted and result == run(experiment, limit=wanted)


def test_stop_ends_it_in_the_middle_of_a_record(kafka_settings: Kafka, topic: str) -> None:
    slow = {"il": {"algorithm": "il-prox", "seeds": 8, "inference_steps": 25}}
    experiment = an_experiment(kafka_settings, topic, slow, samples_per_record=4096, limit=4096)
    publish(experiment)
    with consuming(experiment) as one:
        until(lambda: one.status()["samples"])
        result = one.end()
    assert 0 < result["samples"] < 4096 and result == run(experiment, limit=result["samples"])


def test_bad_records_are_counted_by_reason_and_skipped(kafka_settings: Kafka, topic: str) -> None:
    experiment = an_experiment(kafka_settings, topic, limit=64)
    sent = records_of(experiment)
    bad = {1: b"\xff\xfe nonsense", 2: None, 3: gzip.compress(sent[3][0]), 4: sent[4][0][:200], 5: b"[]"}
    broken = json.loads(encode(next(pack(open_stream(experiment.stream, experiment.folder), 8)), "json"))
    broken[3]["features"]["nswprice"] = "expensive"
    sent[0] = (json.dumps(broken).encode(), sent[0][1])  # one bad sample in a good record
    everything: list[tuple[bytes | None, dict[str, bytes]]] = [
        (bad.get(place, value), found) for place, (value, found) in enumerate(sent)]
    send(experiment, *everything[:6], (sent[6][0], {}), (b"{}", {**sent[6][1], "streamil-seq": b"-1"}), *everything[6:])
    good = [place for place in range(64) if place // 8 not in bad and place != 3]
    with consuming(experiment) as one:
        one.wait(samples=len(good), lag=0)
        assert one.rejected() == {"not-json": 1, "null": 1, "gzip": 1, "arrow-damaged": 1, "no-samples": 1,
                                  "bad-number": 1, "foreign": 2}
        result = one.end()
    known = labels(experiment)
    assert result["learned_hash"] == chain([(place, str(known[place])) for place in good])


def test_repeats_are_skipped_and_counted(kafka_settings: Kafka, topic: str) -> None:
    experiment = an_experiment(kafka_settings, topic, ARMS, limit=40)
    sent = records_of(experiment)
    records = next(pack(open_stream(experiment.stream, experiment.folder), 20))[12:20]
    across = (encode(records, "arrow"), headers(experiment, records, Position(12)))  # four of its samples are new
    send(experiment, sent[0], sent[1], sent[1], sent[0], across, *sent[2:], sent[4])
    with consuming(experiment, until=40, stay=True) as one:
        one.wait(state="done")
        assert one.status()["repeats"] == 8 + 8 + 4 + 4
        assert one.metrics()["streamil_repeats_total", frozenset()] == 24
        assert one.end() == run(experiment)


def test_a_gap_is_one_clear_error(kafka_settings: Kafka, topic: str) -> None:
    experiment = an_experiment(kafka_settings, topic, limit=40)
    sent = records_of(experiment)
    send(experiment, sent[0], sent[1], sent[3])
    with pytest.raises(StreamMismatch, match=rf"^topic {topic}, offset 2: sample 24 follows sample 15: 8 .*missing[^\n]*$"):
        consume(experiment, until=40)


def test_another_stream_is_one_clear_error(kafka_settings: Kafka, topic: str) -> None:
    publish(an_experiment(kafka_settings, topic))
    with pytest.raises(StreamMismatch, match=rf"^topic {topic}, offset 0: .*another stream[^\n]*stream\.topic[^\n]*$"):
        consume(an_experiment(kafka_settings, topic, seed=9), until=10)


def test_a_topic_of_others_is_learned_and_counted_as_it_arrives(kafka_settings: Kafka, topic: str) -> None:
    """Null and empty records among them are rejected; cases of confluent-kafka-python#189 and others."""
    experiment = an_experiment(kafka_settings, topic)
    good = [json.dumps({"x": [number, number % 3], "y": number % 2}).encode() for number in range(30)]
    send(experiment, *plain(*good[:20], None, b"", b"null", b"[]", *good[20:]))
    numbered = records_of(experiment)[0]
    send(experiment, numbered)  # and a numbered record is foreign there
    with consuming(experiment) as one:
        one.wait(samples=30, rejected=5, lag=0, offset=35)
        assert one.rejected() == {"null": 2, "empty": 1, "no-samples": 1, "foreign": 1}
        result = one.end()
    places = [*range(20), *range(24, 34)]  # a record that cannot be read counts as one sample
    assert result["learned_hash"] == chain([(place, str(index % 2)) for index, place in enumerate(places)])
    assert consume(experiment, until=30) == result


def test_a_log_that_ends_in_a_transaction_marker_is_caught_up(kafka_settings: Kafka, topic: str) -> None:
    experiment = an_experiment(kafka_settings, topic)
    ensure_topic(kafka_settings, topic)
    producer = KafkaProducer(bootstrap_servers=kafka_settings.bootstrap_servers, transactional_id=topic)
    producer.init_transactions()
    for end in (producer.commit_transaction, producer.abort_transaction):
        producer.begin_transaction()
        for number in range(10):
            producer.send(topic, json.dumps({"x": [number], "y": number % 2}).encode()).get(20)
        end()
    producer.close()
    assert consume(experiment, until=10)["samples"] == 10
    with consuming(experiment) as one:
        one.wait(samples=10, lag=0, state="learning")
        assert one.metrics()["streamil_consumer_lag_records", frozenset()] == 0
        assert one.end()["samples"] == 10


def test_a_broker_that_goes_away_before_the_topic_is_opened_is_waited_for(
        kafka_settings: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = an_experiment(kafka_settings, topic)
    publish(experiment, limit=50)
    opened, tries, told = Tap.open, [], []

    def at_the_second_try(tap: Tap) -> None:
        tries.append(tap)
        if len(tries) == 1:
            raise BrokerUnavailable("gone")
        opened(tap)

    monkeypatch.setattr(Tap, "open", at_the_second_try)
    assert consume(experiment, until=50, wait=20, tell=told.append, metrics="127.0.0.1:0")["samples"] == 50
    assert len(tries) == 2 and sum("does not answer: waiting for it" in line for line in told) == 1
    tries.clear()
    with pytest.raises(BrokerUnavailable):
        consume(experiment, until=50, metrics="127.0.0.1:0")


SEEN = 12_000
"""Samples that take long enough to be looked at on the way."""


def test_a_topic_deleted_while_it_is_read_is_told_from_a_broker_that_is_away(kafka_settings: Kafka, topic: str) -> None:
    experiment = an_experiment(kafka_settings, topic)
    send(experiment, *plain(b'{"x": [1], "y": 0}'))
    with consuming(experiment) as consumer:
        consumer.wait(samples=1)
        client = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
        client.delete_topics([topic])
        client.close()
        error = until(lambda: consumer.error, 30)
    assert isinstance(error, TopicMissing) and str(error).startswith(f"topic {topic!r} does not exist")
    assert not any("does not answer" in line for line in consumer.said)


@pytest.mark.parametrize("count", [20, 120])
def test_samples_none_of_which_has_a_label_are_told_once(kafka_settings: Kafka, topic: str, count: int) -> None:
    experiment = an_experiment(kafka_settings, topic, source={"kind": "topic", "label": "Label"})
    send(experiment, *plain(*[b'{"a": 1, "label": 1}'] * count))
    said: list[str] = []
    consume(experiment, until=count, tell=said.append)
    (line,) = [line for line in said if "has a label" in line]
    assert line.startswith("none of the first ") and line.endswith(" has a label (Label), so nothing is learned")


def test_metrics_show_what_the_summary_says(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = an_experiment(kafka_settings, topic, ARMS, limit=SEEN)
    publish(experiment)
    with consuming(experiment, until=SEEN, stay=True, out=tmp_path) as one:
        scrapes = []
        while one.status()["state"] != "done":
            scrapes.append(one.metrics())
        total = ("streamil_learned_samples", frozenset({"experiment": topic}.items()))
        figures = until(lambda: (found := one.metrics())[total] == SEEN and found)  # an answer may be a moment old
        assert "<!doctype html" in one.get("").lower()
        status = one.status()
        result = one.end()
    base = {"experiment": topic}
    learned = [found["streamil_learned_samples", frozenset(base.items())] for found in [*scrapes, figures]]
    assert learned == sorted(learned) and learned[-1] == SEEN and any(0 < found < SEEN for found in learned)
    for name, arm in result["arms"].items():
        for place, member in enumerate(arm["members"]):
            series = {**base, "arm": name, "member": str(place)}
            assert figures["streamil_samples_total", frozenset(series.items())] == member["samples"]
            assert figures["streamil_correct_total", frozenset(series.items())] == member["correct"]
            accuracy = frozenset({**series, "window": "cumulative"}.items())
            assert figures["streamil_prequential_accuracy_ratio", accuracy] == member["accuracy"]
    assert {arm["arm"]: arm["best"]["accuracy"] for arm in status["arms"]} == {
        name: max(member["accuracy"] for member in arm["members"]) for name, arm in result["arms"].items()}
    assert json.loads((tmp_path / "summary.json").read_text()) == result


def test_readiness_follows_the_state(kafka_settings: Kafka, topic: str) -> None:
    experiment = an_experiment(kafka_settings, topic)
    publish(experiment, limit=50)
    with consuming(experiment, until=50, stay=True) as one:
        one.wait(state="done")
        with pytest.raises(urllib.error.HTTPError, match="503"):
            one.get("readyz")
        assert one.get("livez") == "ok\n"
    with consuming(experiment) as one:
        one.wait(state="learning", samples=50)
        assert one.get("readyz") == "ok\n"


def test_a_taken_port_is_an_error_before_anything_else(kafka_settings: Kafka, topic: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(TelemetryError, match=rf"^[^\n]*{address}[^\n]*in use[^\n]*$"):
            consume(an_experiment(Kafka(bootstrap_servers="127.0.0.1:1"), topic), metrics=address)
    with pytest.raises(TopicMissing, match=topic):
        consume(an_experiment(kafka_settings, topic))


def test_a_killed_consumer_starts_again_on_its_port(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = an_experiment(kafka_settings, topic)
    publish(experiment)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    file = tmp_path / "experiment.yaml"
    file.write_text(experiment.model_dump_json())
    with running("consume", file, "--metrics", address) as one:
        one.wait_for("learning from topic")
        with urllib.request.urlopen(f"http://{address}/metrics") as open_connection:
            one.process.send_signal(signal.SIGKILL)
            one.process.wait()
            assert open_connection.status == 200
    with running("consume", file, "--metrics", address, "--until", 200, "--stay") as one:
        assert address in one.wait_for("metrics and page at")
        one.wait_for("still serving")
        with urllib.request.urlopen(f"http://{address}/status.json") as answer:
            assert json.load(answer)["samples"] == 200


def test_late_labels_are_joined_once_and_repeats_of_them_skipped(kafka_settings: Kafka, topic: str) -> None:
    experiment = an_experiment(kafka_settings, topic)
    (whole,) = pack(open_stream(experiment.stream.model_copy(update={"limit": 24}), experiment.folder), 24)
    ids = [str(place) for place in range(24)]
    bare = replace(whole, y=[None] * 24, ids=ids)
    late = Records(y=list(whole.y), ids=ids)
    race, at, sent = Race(experiment), Position(), []
    for first in range(0, 24, 8):
        entries = [bare[first:first + 8]]
        if first:
            entries.insert(0, late[first - 8:first - 4])  # four of eight labels, eight samples later
        for entry in entries:
            race.feed(entry, np.arange(at.samples, at.samples + len(entry)))
            sent.append((encode(entry, "arrow"), headers(experiment, entry, at)))
            at = at.after(entry)
    send(experiment, *sent[:3], *sent[1:3], *sent[3:])  # a killed producer's last batch came twice
    with consuming(experiment) as one:
        one.wait(samples=24, waiting_for_labels=16)
        assert one.metrics()["streamil_late_labels_total", frozenset({("result", "joined")})] == 8
        assert one.metrics()["streamil_repeats_total", frozenset()] == 12
        assert one.end() == summary(race)
    assert one.result["arms"]["bp"]["members"][0]["samples"] == 8
    with consuming(experiment, until=24) as two:
        two.thread.join(20)
        assert two.result == summary(race)


@pytest.mark.parametrize("codec", ["arrow", "json"])
def test_delayed_labels_give_the_numbers_of_run_and_a_producer_goes_on_between_them(
        kafka_settings: Kafka, topic: str, codec: str) -> None:
    experiment = an_experiment(kafka_settings, topic, ARMS, codec=codec, regimes=[
        {"kind": "delayed-labels", "samples": 30, "together": 12}])
    for limit in (50, 53, 120, 200):  # each call reads back where the one before ended
        publish(experiment, limit=limit)
    result = consume(experiment, until=200)
    assert result == run(experiment)
    assert 150 < result["arms"]["bp-sgd@1"]["members"][0]["samples"] < 170


def test_missing_late_labels_end_the_consumer(kafka_settings: Kafka, topic: str) -> None:
    experiment = an_experiment(kafka_settings, topic)
    late = Records(y=["1"] * 4, ids=list("abcd"))
    send(experiment, *[(encode(late[n:n + 1], "json"), headers(experiment, late[n:n + 1], Position(0, n))) for n in (0, 1, 3)])
    one = Consumer(experiment)
    one.thread.join(20)
    assert "late label 3 follows late label 1: 1 of them are missing" in str(one.error)


def test_a_kind_that_is_guessed_is_told_once_and_a_wrong_declaration_ends_with_one_line(
        kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("n,m,label\n" + "".join(f"{number or ''},1,{number % 2}\n" for number in range(300)))
    source = {"kind": "csv", "path": str(tmp_path / "t.csv"), "label": "label"}
    experiment = an_experiment(kafka_settings, topic, source=source)
    publish(experiment)
    told: list[str] = []
    consume(experiment, until=200, tell=told.append)
    assert [line for line in told if line.startswith("feature 'n' counts as a number")] == [
        line for line in told if "stream.features: {n: number}" in line]
    assert sum("feature 'n'" in line for line in told) == 1
    elsewhere = an_experiment(kafka_settings, f"{topic}-2", features={"nn": "category"})
    send(elsewhere, (b'{"features": {"n": 1}, "y": "a"}', {}))
    with pytest.raises(ExperimentError, match=r"^stream\.features: found 'nn', [^\n]*nearest known: n\)[^\n]*$"):
        consume(elsewhere, until=1)


def test_record_times_of_1970_and_of_the_future_do_not_spoil_the_latency(kafka_settings: Kafka, topic: str) -> None:
    """Cases of opensearch-project/data-prepper#5108 and others: negative latencies, and such of 55 years."""
    client = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    client.create_topics({topic: {"num_partitions": 1, "replication_factor": 1, "configs": {"retention.ms": "-1"}}})
    client.close()
    experiment = an_experiment(kafka_settings, topic)
    now = int(time.time() * 1000)
    with TopicWriter(kafka_settings, topic) as writer:
        for sent in (0, now + 59 * 60_000, now):
            writer.send(b'{"x": [1, 2], "y": "up"}', timestamp_ms=sent)
        assert writer.flush(20)
    with consuming(experiment) as one:
        one.wait(samples=3, lag=0)
        found = one.metrics()
        assert 0 <= found["streamil_end_to_end_latency_seconds_sum", frozenset()] < 4000
        assert found["streamil_end_to_end_latency_seconds_count", frozenset()] == 2
        assert found["streamil_latency_skipped_total", frozenset()] == 1
