"""Labels that others put on a topic of their own: joined by identifier, each sample learned once, whatever stops."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from attached import LIMIT_SECONDS, Crash, Sent, experiment_of, learn, messages, send

from streamil.attachment import Attachment
from streamil.errors import StateError, TooManyRejects, TopicMismatch, TopicMissing
from streamil.experiment import Experiment, Kafka
from streamil.race import Race

COUNT = 300


def experiment_with_labels(kafka: Kafka, topic: str, folder: Path, **more: Any) -> Experiment:
    source = {"kind": "topic", "id": "id", "features": ["a", "b"], **more.pop("source", {}),
              "labels": {"topic": f"{topic}-labels", "id": "ref.id", "label": "fraud", **more.pop("labels", {})}}
    return experiment_of(kafka, topic, folder, stream={"source": source, "limit": None}, **more)


def samples_and_labels() -> tuple[Sent, Sent]:
    pick = random.Random(3)
    samples = [{"id": n, "a": pick.random(), "b": pick.choice(["x", "y"])} for n in range(COUNT)]
    labels = [{"ref": {"id": n}, "fraud": n % 3 == 0} for n in range(COUNT)]
    pick.shuffle(labels)
    return ([(json.dumps(one).encode(), {}) for one in samples],
            [(json.dumps(labels[first:first + 4]).encode(), {}) for first in range(0, COUNT, 4)])


def until_labelled(experiment: Experiment, count: int = COUNT, *, crash_at: int | None = None) -> Race:
    """Learn until so many labels have been joined, or crash once there are `crash_at`."""
    race, late = Race(experiment), threading.Event()
    limit = threading.Timer(LIMIT_SECONDS, late.set)
    limit.start()
    try:
        with Attachment(race, stop=late) as attachment:
            for arrived in attachment if race.late.counts["joined"] < count else ():
                arrived.feed(race)
                attachment.commit()
                if crash_at is not None and race.late.counts["joined"] >= crash_at:
                    raise Crash
                if race.late.counts["joined"] >= count:
                    break
    except Crash:
        return race
    finally:
        limit.cancel()
    assert crash_at is None and not late.is_set(), (race.samples, race.late.counts)
    return race


@pytest.mark.kafka
@pytest.mark.parametrize("labels_first", [True, False])
def test_each_sample_is_learned_once_through_crashes(
        labels_first: bool, kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_with_labels(kafka_settings, topic, tmp_path)
    samples, labels = samples_and_labels()
    both = [(topic, samples), (f"{topic}-labels", labels)]
    for name, sent in reversed(both) if labels_first else both:
        send(kafka_settings, name, sent[:len(sent) // 2])
    for name, sent in both:
        send(kafka_settings, name, sent[len(sent) // 2:])
    for at in (40, 90, 150, 220):
        until_labelled(experiment, crash_at=at)
    race = until_labelled(experiment)
    assert race.samples == COUNT and race.late.counts["joined"] == COUNT and len(race.late) == 0
    send(kafka_settings, topic, [(b'{"id": 1000, "a": 0.5, "b": "x"}', {})])
    send(kafka_settings, f"{topic}-labels", [(b'{"ref": {"id": 1000}, "fraud": true}', {})])
    race = until_labelled(experiment, COUNT + 1)
    assert race.late.counts["unknown"] == race.late.counts["second"] == race.late.counts["repeated"] == 0
    assert all(arm.figures.samples == (COUNT + 1) // arm.plan.batch_size * arm.plan.batch_size
               for arm in race.arms.values())
    assert race.featurizer.names == ["a", "b"] and set(race.featurizer.labels.names) == {"true", "false"}


@pytest.mark.kafka
def test_bad_labels_are_rejected_with_their_topic_and_place(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_with_labels(kafka_settings, topic, tmp_path)
    samples, labels = samples_and_labels()
    bad = [(b"junk", {}), (b'[{"ref": {"id": 1}}, {"ref": {"id": 2}, "fraud": null}, {"fraud": true}]', {}),
           (b'{"ref": {"id": 5}, "fraud": [1]}', {}), (None, {})]
    send(kafka_settings, topic, samples)
    send(kafka_settings, f"{topic}-labels", [*labels[:3], *bad, *labels[3:]])
    race = until_labelled(experiment)
    assert {reason: count for reason, count in race.rejected.items() if count} == {
        "not-json": 1, "no-label": 1, "bad-label": 1, "null": 1}
    dead = messages(kafka_settings, f"{topic}.dead")
    assert [one.headers["streamil-topic"].decode() for one in dead] == [f"{topic}-labels"] * 4
    assert [one.headers["streamil-offset"] for one in dead] == [b"3", b"4", b"5", b"6"]


@pytest.mark.kafka
def test_early_and_contradicting_labels_are_counted(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_with_labels(kafka_settings, topic, tmp_path)
    samples, labels = samples_and_labels()
    one = json.loads(labels[0][0])[0]
    other = {**one, "fraud": not one["fraud"]}
    send(kafka_settings, topic, [])
    send(kafka_settings, f"{topic}-labels", [*labels, (json.dumps([one, other]).encode(), {})])
    race = Race(experiment)
    with Attachment(race) as attachment:
        for arrived in attachment:
            arrived.feed(race)
            if attachment.lag == 0 or race.late.counts["contradicting"]:
                attachment.stop()
    assert race.late.counts["early"] == COUNT
    assert race.late.counts["second"] == race.late.counts["contradicting"] == 1, "the first one stands"
    send(kafka_settings, topic, samples)
    race = until_labelled(experiment)
    assert race.samples == COUNT and race.late.counts["early"] == COUNT
    index = race.featurizer.labels.names.index
    assert race.arms["bp@1"].figures.samples == COUNT and index("true") >= 0


@pytest.mark.kafka
def test_a_labels_topic_that_does_not_fit_is_one_line(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_with_labels(kafka_settings, topic, tmp_path)
    samples, labels = samples_and_labels()
    send(kafka_settings, topic, samples)
    with pytest.raises(TopicMissing, match=f"{topic}-labels"):
        until_labelled(experiment)
    with pytest.raises(TopicMismatch, match="is the topic of the samples; late labels on it need no `labels`"):
        experiment_with_labels(kafka_settings, topic, tmp_path, labels={"topic": topic}).require_topic_names()
    send(kafka_settings, f"{topic}-labels", labels)
    until_labelled(experiment)
    with pytest.raises(StateError, match="label"):
        until_labelled(experiment_with_labels(kafka_settings, topic, tmp_path, labels={"label": "other"}))
    flooded = experiment_with_labels(kafka_settings, topic, tmp_path, service={"max_consecutive_rejects": 5})
    send(kafka_settings, f"{topic}-labels", [(b"junk", {})] * 20)
    with pytest.raises(TooManyRejects, match=f"topic '{topic}-labels': 6 rejects in a row"):
        learn(flooded, COUNT + 1)
