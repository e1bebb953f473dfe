"""Topics that others fill, with JSON of their own shape or a codec of the user's own, on a real broker."""

from __future__ import annotations

import csv
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer
from processes import streamil
from streamil_consumer import consume
from streamil_producer import publish
from test_consumer import ONE, Consumer, chain, consuming, plain, send
from test_consumer import an_experiment as published

from streamil.direct import run
from streamil.experiment import Experiment, Kafka, load_experiment
from streamil.kafka import ensure_topic

pytestmark = pytest.mark.kafka

DATA = Path(__file__).parent / "data"
FLAT = {"label": "is_fraud", "id": "id", "time": "at"}
ENVELOPE = {"label": "payload.after.is_fraud", "time": "payload.ts_ms", "time_unit": "ms"}
ARMS = {"il": {"algorithm": "il-prox", "batch_size": [1, 4]}, "bp": {"algorithm": "bp-sgd", "batch_size": [1, 4]}}


def an_experiment(kafka: Kafka, topic: str, source: dict[str, Any], **stream: Any) -> Experiment:
    return published(kafka, topic, ARMS, **{"limit": None, "source": {"kind": "topic", **source}, **stream})


def values_of(name: str) -> list[bytes | None]:
    lines = [json.loads(line) for line in (DATA / name).read_text().splitlines()]
    return [None if line["value"] is None else line["value"].encode() for line in lines]


def file_of(experiment: Experiment, folder: Path) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(experiment.model_dump_json())
    return path


def as_json(*documents: Any) -> list[tuple[bytes | None, dict[str, bytes]]]:
    return plain(*(json.dumps(one).encode() for one in documents))


def said(one: Consumer) -> str:
    return "\n".join(one.said)


def test_flat_records_with_boolean_labels(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    """memiiso/debezium-server-iceberg#339 and others: 60 samples, 2 classes, 2 inputs, and the race of the same CSV."""
    experiment = an_experiment(kafka_settings, topic, FLAT)
    rows = values_of("w08_flat_booleans.jsonl")
    send(experiment, *plain(*rows))
    with consuming(experiment, until=60, stay=True) as one:
        one.wait(state="done")
        figures = one.status()
        assert {key: figures[key] for key in ("samples", "rejected", "unlabelled", "inputs", "features", "lag")} == {
            "samples": 60, "rejected": 0, "unlabelled": 0, "inputs": 2, "features": ["age", "amount"], "lag": 0}
        assert "inputs: 2: age, amount" in one.said
        assert "id=\"inputs\"" in one.get("")
        result = one.end()
    documents = [json.loads(str(row, "utf-8")) for row in rows if row]
    labels = [str(one["is_fraud"]).lower() for one in documents]
    assert set(labels) == {"true", "false"}
    assert result["learned_hash"] == chain(list(enumerate(labels)))

    with (tmp_path / "same.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["amount", "age", "is_fraud"])
        table.writerows([one["amount"], one["age"], str(one["is_fraud"]).lower()] for one in documents)
    same = run(published(kafka_settings, topic, ARMS, limit=None, source={
        "kind": "csv", "path": str(tmp_path / "same.csv"), "label": "is_fraud"}))
    assert result == same


def test_boolean_labels_have_the_names_that_the_file_gives_them(kafka_settings: Kafka, topic: str) -> None:
    names = {"classes": ["ok", "fraud"], "label_map": {"true": "fraud", "false": "ok"}}
    experiment = an_experiment(kafka_settings, topic, {**FLAT, "features": ["age", "amount"]}, **names)
    send(experiment, *plain(*values_of("w08_flat_booleans.jsonl")))
    assert consume(experiment, until=60)["samples"] == 60
    unnamed = an_experiment(kafka_settings, topic, FLAT, classes=["ok", "fraud"])
    with consuming(unnamed) as one:
        one.wait(rejected=60, lag=0)
        assert one.rejected() == {"unknown-label": 60}
        assert "rejected (unknown-label): label 'true' is none of the classes" in said(one)
        assert sum("rejected" in line for line in one.said) == 5


@pytest.mark.parametrize("features", [None, ["payload.after.age", ["payload", "after", "amount"]]])
def test_fields_of_an_envelope(kafka_settings: Kafka, topic: str, features: list[Any] | None) -> None:
    """12 samples; the deletion has no object, the tombstone no value."""
    experiment = an_experiment(kafka_settings, topic, {**ENVELOPE, "features": features})
    send(experiment, *plain(*values_of("w08_envelope.jsonl")))
    with consuming(experiment) as one:
        one.wait(samples=12, rejected=2, lag=0, offset=14)
        assert one.rejected() == {"no-features": 1, "null": 1}
        assert one.status()["features"] == ["payload.after.age", "payload.after.amount"]
        assert "offset 12: rejected (no-features): " in said(one)
        assert "offset 13: rejected (null): " in said(one)


def test_lists_nested_paths_and_records_without_a_label(kafka_settings: Kafka, topic: str) -> None:
    experiment = an_experiment(kafka_settings, topic, {
        "samples": "batch", "label": "out.kind", "x": ["in.put", "x"], "id": "n"})
    rows = [{"n": n, "in.put": {"x": [n, n % 3]}, "out": {"kind": n % 2} if n % 5 else {}} for n in range(20)]
    rows[7]["in.put"] = {"x": [1, None]}
    send(experiment, *as_json({"batch": rows[:8]}, {"batch": rows[8]}, {"batch": []}, {"batch": rows[9:]}))
    with consuming(experiment) as one:
        one.wait(samples=19, rejected=2, lag=0)
        assert one.rejected() == {"not-finite": 1, "no-samples": 1}
        figures = one.status()
        assert (figures["unlabelled"], figures["inputs"], figures["features"]) == (4, 2, [])
        result = one.end()
    assert {arm: rows["members"][0]["samples"] for arm, rows in result["arms"].items()} == {
        "il@1": 15, "il@4": 12, "bp@1": 15, "bp@4": 12}


def test_records_of_streamil_on_such_a_topic_are_read_as_they_are(kafka_settings: Kafka, topic: str) -> None:
    publish(published(kafka_settings, topic, ONE, limit=40))
    experiment = an_experiment(kafka_settings, topic, {"label": "class"})
    send(experiment, *as_json({"nswprice": 0.5, "class": 1}))
    result = consume(experiment, until=41)
    assert result["samples"] == 41


def test_a_transaction_marker_at_the_end(kafka_settings: Kafka, topic: str) -> None:
    experiment = an_experiment(kafka_settings, topic, FLAT)
    ensure_topic(kafka_settings, topic)
    producer = KafkaProducer(bootstrap_servers=kafka_settings.bootstrap_servers, transactional_id=topic)
    producer.init_transactions()
    for end in (producer.commit_transaction, producer.abort_transaction):
        producer.begin_transaction()
        for value in values_of("w08_flat_booleans.jsonl"):
            producer.send(topic, value).get(20)
        end()
    producer.close()
    with consuming(experiment) as one:
        one.wait(samples=60, lag=0, rejected=0, state="learning")


def test_a_codec_of_the_users_own_that_fails_does_not_end_the_consumer(
        kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    (tmp_path / "orders.py").write_text(
        "import struct\n\ndef decode(value):\n    if value == b'bug':\n        return {}['amount']\n"
        "    amount, fraud = struct.unpack('<f?', value)\n    return {'amount': amount, 'is_fraud': fraud}\n")
    experiment = an_experiment(kafka_settings, topic, {"label": "is_fraud", "codec": "orders:decode"})
    good = [struct.pack("<f?", n, n % 2) for n in range(6)]
    send(experiment, *plain(*good[:3], b"bug", b"xx", None, *good[3:]))
    with consuming(load_experiment(file_of(experiment, tmp_path))) as one:
        one.wait(samples=6, rejected=3, lag=0)
        assert one.rejected() == {"undecodable": 2, "null": 1}
        assert "offset 3: rejected (undecodable): KeyError: 'amount'" in one.said
        assert "offset 4: rejected (undecodable): error: unpack requires" in said(one)
        assert not any("Traceback" in line for line in one.said)


def test_check_looks_at_the_first_records(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    late = kafka_settings.model_copy(update={"start": "latest"})  # where a consumer starts is not what is looked at
    experiment = an_experiment(late, topic, ENVELOPE, limit=7)
    path = file_of(experiment, tmp_path)
    absent = streamil("check", path)
    assert absent.returncode == 0, absent.stderr
    assert f"could not look at the topic: topic '{topic}' does not exist" in absent.stdout

    send(experiment, *plain(*values_of("w08_envelope.jsonl")))
    checked = streamil("check", path)
    assert checked.returncode == 0, checked.stderr
    lines = checked.stdout.splitlines()
    assert "inputs: 2: payload.after.age, payload.after.amount" in lines
    assert "classes: true, false (met in the first 12 samples; more may come)" in lines
    assert any(line.startswith("first records: 14 with 12 samples, 0 of them without a label; rejected: no-features 1, "
                               "null 1 (the first, offset 12: payload.after") for line in lines)
    assert "of no use here, since others fill the topic: stream.limit" in lines
    assert any(line.startswith("memory of all arms") for line in lines)

    wrong = an_experiment(kafka_settings, topic, {**ENVELOPE, "label": "payload.after.is_frad"})
    checked = streamil("check", file_of(wrong, tmp_path))
    assert "warning: no sample has the label payload.after.is_frad (nearest known: payload.after.is_fraud)" in checked.stdout


def test_check_takes_late_labels_for_what_they_are(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = an_experiment(kafka_settings, topic, {"kind": "topic", "label": "fraud", "id": "key"})
    send(experiment, *plain(b'{"key": 1, "amount": 2}', b'{"key": 1, "fraud": true}', b'{"key": 2, "amount": 3}'))
    lines = streamil("check", file_of(experiment, tmp_path)).stdout.splitlines()
    assert "first records: 3 with 2 samples, 2 of them without a label; rejected: none" in lines
    assert "classes: true (met in the first 2 samples; more may come)" in lines


def test_check_without_a_broker_says_so_and_what_does_not_depend_on_it(tmp_path: Path) -> None:
    experiment = an_experiment(Kafka(bootstrap_servers="127.0.0.1:1"), "nobody", FLAT)
    checked = streamil("check", file_of(experiment, tmp_path))
    assert checked.returncode == 0, checked.stderr
    lines = checked.stdout.splitlines()
    assert sum("could not look at the topic: no Kafka broker answers at 127.0.0.1:1" in line for line in lines) == 1
    assert "inputs: fixed by the first good record; parameters and memory follow from them" in lines
    assert "classes: met as they come" in lines
    assert "arm il@4: il-prox, mini-batches of 4, 1 member" in lines


@pytest.mark.parametrize("command", ["run", "produce"])
def test_what_others_fill_is_neither_run_nor_published(tmp_path: Path, command: str) -> None:
    experiment = an_experiment(Kafka(bootstrap_servers="127.0.0.1:1"), "theirs", FLAT)
    done = streamil(command, file_of(experiment, tmp_path))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "others fill the topic theirs" in line and "`streamil consume`" in line
