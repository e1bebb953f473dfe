"""What arms predict, on a topic: a row for each sample and arm, whatever stops on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from attached import experiment_of, learn, messages, records_of, send

from streamil.attachment.outbox import Outbox
from streamil.attachment.prediction_rows import PredictionRows
from streamil.errors import TopicMismatch
from streamil.experiment import Experiment, Kafka
from streamil.experiment.race import PredictionsTopic
from streamil.kafka import TopicReader, describe_topic, ensure_topic
from streamil.log import nobody
from streamil.origin import Origin
from streamil.predictions import Predictions
from streamil.race import Race
from streamil.samples import Batch, Records

Row = dict[str, Any]


def rows_of(kafka: Kafka, experiment: Experiment) -> dict[str, list[Row]]:
    """Return the rows on the topic by arm, in the order of its partition."""
    found: dict[str, list[Row]] = {}
    topic = f"{experiment.name}.predictions"
    for partition in range(describe_topic(kafka, topic).partitions):
        with TopicReader(kafka, topic, partition=partition) as reader:
            while reader.position < reader.end():
                for message in reader.poll(1000):
                    assert message.value is not None and message.key is not None
                    json_form = message.value.startswith(b"[")
                    rows = (json.loads(message.value) if json_form
                            else pa.ipc.open_stream(message.value).read_all().to_pylist())
                    assert {row["arm"] for row in rows} == {message.key.decode()}
                    found.setdefault(message.key.decode(), []).extend(rows)
    return found


def once(rows: list[Row]) -> list[Row]:
    """Return the first of the rows with one origin; later ones have to say the same."""
    first: dict[str, Row] = {}
    for row in rows:
        assert first.setdefault(row["origin"], row) == row
    return list(first.values())


@pytest.mark.kafka
@pytest.mark.parametrize("form", ["json", "arrow"])
def test_rows_agree_with_the_figures_and_repeat_by_origin_after_crashes(
        form: str, kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_of(kafka_settings, topic, tmp_path, service={"predictions": {"format": form}}, arms={
        "bp": {"algorithm": "bp-adam", "batch_size": [1, 5], "learning_rate": [0.001, 0.01]}})
    send(kafka_settings, topic, records_of(experiment))
    for at in (50, 133, 260):
        learn(experiment, at, crash_at=at)
    summary = learn(experiment, 400)
    found = rows_of(kafka_settings, experiment)
    assert list(found) == ["bp@1", "bp@5"], "a partition for each arm"
    assert len(found["bp@1"]) > 400, "what came after the last snapshot was learned and told again"
    topic_id = describe_topic(kafka_settings, topic).id
    for arm, rows in found.items():
        rows = once(rows)
        assert [row["ordinal"] for row in rows] == list(range(400))
        assert [row["origin"] for row in rows] == [str(Origin(topic_id, 0, n // 7, n % 7)) for n in range(400)]
        for member, figures in enumerate(summary["arms"][arm]["members"]):
            assert sum(row["predicted"][member] == row["label"] for row in rows) == figures["correct"]
            assert all(0 <= row["probability"][member] <= 1 for row in rows)


@pytest.mark.kafka
def test_a_sample_without_a_label_is_told_at_once_and_once(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_of(kafka_settings, topic, tmp_path, stream={"limit": None, "classes": ["a", "b"]},
                               service={"predictions": {"probabilities": True}})
    samples = [{"x": [float(n)], "id": str(n), **({"y": "ab"[n % 2]} if n < 10 else {})} for n in range(12)]
    send(kafka_settings, topic, [(json.dumps(samples[:11]).encode(), {}), (b'{"x": [1.5]}', {}),
                                 (b'{"id": "10", "y": "a"}', {}), (json.dumps(samples[11]).encode(), {})])
    summary = learn(experiment, 13)
    rows = once(rows_of(kafka_settings, experiment)["bp@1"])
    assert [row["id"] for row in rows] == [*map(str, range(11)), None, "11"]
    assert [row["label"] for row in rows[9:]] == ["b", None, None, None]
    assert summary["arms"]["bp@1"]["members"][0]["samples"] == 11, "one label came late"
    for row in rows[2:]:
        (of_all,) = row["probabilities"]
        assert set(of_all) == {"a", "b"} and sum(of_all.values()) == pytest.approx(1, abs=1e-5)
        assert row["probability"] == [max(of_all.values())] and of_all[row["predicted"][0]] == row["probability"][0]


@pytest.mark.kafka
def test_an_added_arm_gets_a_partition(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    more = {"service": {"predictions": {}}}
    experiment = experiment_of(kafka_settings, topic, tmp_path, **more)
    send(kafka_settings, topic, records_of(experiment))
    learn(experiment, 100)
    added = experiment_of(kafka_settings, topic, tmp_path, service={"predictions": {}}, arms={
        **experiment.model_dump()["arms"], "new": {"algorithm": "bp-sgd"}})
    learn(added, 400)
    found = rows_of(kafka_settings, added)
    assert [row["ordinal"] for row in once(found["new"])] == list(range(100, 400))
    assert [row["ordinal"] for row in once(found["bp@1"])] == list(range(400))


@pytest.mark.kafka
def test_switched_off_nothing_is_written(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_of(kafka_settings, topic, tmp_path)
    send(kafka_settings, topic, records_of(experiment))
    learn(experiment, 100)
    ensure_topic(kafka_settings, f"{topic}.predictions")
    assert messages(kafka_settings, f"{topic}.predictions") == []


def rows_for(settings: PredictionsTopic, logits: torch.Tensor, labels: list[str]) -> Outbox:
    outbox = Outbox(Kafka(), "p", nobody, partitions=2)
    count = logits.shape[1]
    batch = Batch(np.zeros((count, 1), np.float32), np.zeros(count, np.int64), np.arange(count),
                  np.zeros(count, np.int64))
    PredictionRows(settings, ["other", "il"], outbox)(Predictions("il", batch, logits, labels))
    return outbox


def test_records_stay_below_the_limit_of_a_topic() -> None:
    outbox = rows_for(PredictionsTopic(probabilities=True), torch.randn(2, 40, 3000), [f"class-{n}" for n in range(3000)])
    letters = outbox.state_dict()["letters"]
    assert len(letters) > 1 and all(len(one["value"]) <= 900_000 and one["partition"] == 1 for one in letters)
    assert [row["ordinal"] for one in letters for row in json.loads(one["value"])] == list(range(40))
    with pytest.raises(TopicMismatch, match=r"arm 'il' says of one sample takes \d+ bytes.*probabilities: false"):
        rows_for(PredictionsTopic(probabilities=True), torch.randn(40, 1, 3000), [f"class-{n}" for n in range(3000)])


@pytest.mark.parametrize("form", ["json", "arrow"])
def test_before_a_class_is_known_nothing_is_predicted(form: str) -> None:
    for logits, labels in ((torch.zeros(2, 1, 0), []), (torch.full((2, 1, 1), -torch.inf), ["a"])):
        (letter,) = rows_for(PredictionsTopic(format=form), logits, ["a"] if labels else ["a", "later"]).state_dict()["letters"]
        (row,) = (json.loads(letter["value"]) if form == "json"
                  else pa.ipc.open_stream(letter["value"]).read_all().to_pylist())
        assert row["predicted"] == [None, None] and row["probability"] == [0.0, 0.0]


def test_a_race_tells_each_sample_of_each_arm_once_whatever_the_cut() -> None:
    def told(cuts: list[int]) -> list[tuple[str, int, list[list[str | None]], list[float]]]:
        said: list[tuple[str, int, list[list[str | None]], list[float]]] = []

        def tell(one: Predictions) -> None:
            said.extend((one.arm, int(one.batch.ordinals[row]), [member[row:row + 1] for member in one.predicted],
                         [value for value in one.logits[:, row].flatten().tolist() if value > -np.inf])
                        for row in range(len(one.batch)))

        experiment = Experiment.model_validate({
            "stream": {"source": {"kind": "elec"}}, "network": {"hidden": [4]},
            "arms": {"bp": {"algorithm": "bp-sgd", "batch_size": [1, 3], "learning_rate": [0.1, 1.0]}}})
        race = Race(experiment, told=tell)
        random = np.random.default_rng(0)
        x = random.normal(size=(30, 2))
        y = [None if n % 5 == 4 else "abc"[n % 3] for n in range(30)]
        for first, last in zip([0, *cuts], [*cuts, 30], strict=True):
            race.feed(Records(y=y[first:last], x=x[first:last]), np.arange(first, last))
        return sorted(said)

    one, many = told([]), told([1, 2, 9, 16, 17])
    assert [name[:2] for name in one if name[0] == "bp@1"] == [("bp@1", n) for n in range(30)]
    assert one == many
