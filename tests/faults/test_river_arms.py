"""River arms through a consumer that stops and goes on: seeded, predicting before they know anything, and saved."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from attached import learn
from streamil_producer import publish

from streamil.direct import run
from streamil.errors import ExperimentError
from streamil.experiment import Experiment, Kafka

BASE = Path(__file__).parents[1] / "unit" / "streams" / "data" / "base.csv"
ARMS = {"forest": {"algorithm": "river:forest.ARFClassifier", "n_models": 3, "seeds": 2},
        "neighbours": {"algorithm": "river:neighbors.KNNClassifier"},
        "bayes": {"algorithm": "river:naive_bayes.GaussianNB"}}


def experiment_of(kafka: Kafka, topic: str, folder: Path, **snapshots: Any) -> Experiment:
    return Experiment.model_validate({
        "name": topic, "stream": {"source": {"kind": "csv", "path": str(BASE), "label": "label"}}, "arms": ARMS,
        "kafka": kafka.model_dump(), "service": {"metrics": "127.0.0.1:0", "device": "cpu", "snapshots": {
            "folder": str(folder / "snapshots"), "every_samples": 10, **snapshots}}})


@pytest.mark.kafka
def test_two_runs_and_a_resumed_consumer_are_equal(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_of(kafka_settings, topic, tmp_path, allow_pickle=True)
    once = run(experiment)
    assert once == run(experiment)
    publish(experiment)
    for at in (30, 71):
        learn(experiment, at, crash_at=at)
    assert learn(experiment, 120) == once
    for arm in once["arms"].values():
        for member in arm["members"]:
            assert member["samples"] == 120 and math.isfinite(member["log_loss"])
    assert once["arms"]["forest"]["members"][0] != once["arms"]["forest"]["members"][1], "seeds differ"


def test_without_leave_to_pickle_it_is_refused_with_the_key(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"service\.snapshots\.allow_pickle: true") as told:
        learn(experiment_of(Kafka(bootstrap_servers="127.0.0.1:1"), "t", tmp_path), 1)
    assert len(told.value.problems) == len(ARMS)
