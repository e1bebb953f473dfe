"""The consumer killed at random moments learns each sample once: the same numbers as undisturbed."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from processes import running, streamil, until
from streamil_consumer import consume
from streamil_producer import publish

from streamil.direct import run
from streamil.errors import SnapshotError, StateError, TopicMismatch
from streamil.experiment import Experiment, Kafka
from streamil.snapshot import FolderStore

pytestmark = pytest.mark.kafka

ARMS = {"il-prox": {"algorithm": "il-prox", "batch_size": [1, 8], "alpha": [0.3, 3.0]},
        "bp-adam": {"algorithm": "bp-adam", "batch_size": [1, 5]}, "il-kfac": {"algorithm": "il-kfac"}}


def written(kafka: Kafka, topic: str, folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "name": topic, "stream": {"source": {"kind": "elec"}, "limit": 3000, "samples_per_record": 7, **more.pop("stream", {})},
        "arms": more.pop("arms", ARMS), "network": more.pop("network", {"hidden": [16]}), "kafka": kafka.model_dump(),
        "service": {"metrics": "127.0.0.1:0", "device": "cpu", "snapshots": {
            "folder": str(folder / "snapshots"), "every_samples": 100, **more.pop("snapshots", {})}}, **more}


def experiment_of(kafka: Kafka, topic: str, folder: Path, **more: Any) -> Experiment:
    return Experiment.model_validate(written(kafka, topic, folder, **more))


def killed(kafka: Kafka, topic: str, folder: Path, times: int, **more: Any) -> None:
    """Kill a consumer at random moments of its learning, and hold what the last one leaves to an undisturbed run."""
    settings = written(kafka, topic, folder, **more)
    file = folder / "race.yaml"
    file.write_text(json.dumps(settings))
    experiment = Experiment.model_validate(settings)
    publish(experiment)
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    resumed = 0
    for _ in range(times):
        with running("consume", file, "--until", 3000, "--out", folder / "out") as one:
            line = one.wait_for("learning from topic")
            resumed += "of the snapshot" in line
            if not list((folder / "snapshots").glob("*.snapshot")):  # the first is killed once there is one to go on from
                until(lambda: list((folder / "snapshots").glob("*.snapshot")), 60, one)
            time.sleep(moments.uniform(0, 1.5 if times < 50 else 0.5))
            one.process.kill()
            one.process.wait()
    done = streamil("consume", file, "--until", 3000, "--out", folder / "out", timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "out" / "summary.json").read_text()) == run(experiment), f"moments of seed {seed}"
    assert resumed == times - 1


def test_a_consumer_killed_ten_times_learns_each_sample_once(
        kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    killed(kafka_settings, topic, tmp_path, 10)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_consumer_killed_a_hundred_times_learns_each_sample_once(
        kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    killed(kafka_settings, topic, tmp_path, 100, stream={"regimes": [
        {"kind": "delayed-labels", "samples": 40, "together": 10}]})


def test_any_stop_within_a_record_is_gone_on_from(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_of(kafka_settings, topic, tmp_path, stream={"limit": 400, "regimes": [
        {"kind": "delayed-labels", "samples": 20, "together": 10}]})
    publish(experiment)
    told: list[str] = []
    for wanted in (3, 64, 65, 150, 151, 400, 400):
        result = consume(experiment, until=wanted, tell=told.append)
        assert result["samples"] == wanted
    assert result == run(experiment)
    assert any("after 3 samples of the snapshot" in line for line in told)


def test_a_topic_of_others_is_gone_on_from_within_a_record(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    from streamil.kafka import TopicWriter, ensure_topic

    experiment = experiment_of(kafka_settings, topic, tmp_path, stream={"limit": None})
    ensure_topic(kafka_settings, topic)
    with TopicWriter(kafka_settings, topic) as writer:
        for first in range(0, 60, 6):
            rows = [{"x": [n, n % 4], "y": n % 2} for n in range(first, first + 6)]
            rows[4] = {"x": ["bad"], "y": 1}
            writer.send(json.dumps(rows).encode())
            writer.send(b"not json")
        assert writer.flush(20)
    whole = consume(experiment_of(kafka_settings, topic, tmp_path / "whole", stream={"limit": None}), until=50)
    for wanted in (1, 4, 5, 9, 31, 50):
        result = consume(experiment, until=wanted)
    assert result == whole


def test_what_does_not_fit_a_snapshot_is_refused_by_name(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_of(kafka_settings, topic, tmp_path, stream={"limit": 50})
    publish(experiment)
    consume(experiment, until=50)
    with pytest.raises(StateError, match="network") as told:
        consume(experiment_of(kafka_settings, topic, tmp_path, stream={"limit": 50}, network={"hidden": [4]}), until=50)
    with FolderStore(tmp_path / "snapshots"):  # let go, though the error and its frames are still here
        assert told.value is not None
    for path in (tmp_path / "snapshots").glob("*.snapshot"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SnapshotError):
        consume(experiment, until=50)


def test_a_topic_made_anew_is_no_place_to_go_on(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    from kafka import KafkaAdminClient

    experiment = experiment_of(kafka_settings, topic, tmp_path, stream={"limit": 50})
    publish(experiment)
    consume(experiment, until=50)
    client = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    client.delete_topics([topic])
    client.close()
    time.sleep(1)
    publish(experiment_of(kafka_settings, topic, tmp_path, stream={"limit": 100}))
    with pytest.raises(TopicMismatch, match="was made anew: the snapshot is of topic id"):
        consume(experiment, until=60)
