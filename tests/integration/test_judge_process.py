"""The judge on a real broker: arms in processes of their own, one of them killed, judged as in one process."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from attached import experiment_of, learn, records_of, send
from kafka import KafkaAdminClient
from processes import running, streamil, until
from streamil_consumer import judge

from streamil.direct import run
from streamil.errors import ExperimentError, PositionLost, TopicMismatch, TopicMissing
from streamil.experiment import Experiment, Kafka
from streamil.kafka import TopicWriter, ensure_topic
from streamil.local_kafka import LocalKafka
from streamil.telemetry.client import fetch_status

pytestmark = pytest.mark.kafka

ARMS = {"il": {"algorithm": "il-prox", "batch_size": [1, 8], "alpha": [0.1, 1.0]}, "bp": {"algorithm": "bp-sgd", "batch_size": [1, 8], "seeds": 2}}
DRIFT = {"limit": 900, "regimes": [{"kind": "drift", "what": "labels", "how": "abrupt", "every": 400}]}


def experiment_here(kafka: Kafka, topic: str, folder: Path, form: str = "json", **more: Any) -> Experiment:
    return experiment_of(kafka, topic, folder, arms=ARMS, stream=DRIFT, service={"predictions": {"format": form}}, evaluation={"window": 100},
                         verdict={"controls": ["bp@1"]}, **more)


def known(result: dict[str, Any]) -> dict[str, Any]:
    """What a judge can know of a summary: all but what needs weights or probabilities."""
    arms = {name: {"drift": arm["drift"], "members": [
        {key: member[key] for key in ("samples", "correct", "accuracy", "windowed", "kappa", "kappa_temporal", "macro_f1", "area_under_curve", "samples_to", "recall")}
        for member in arm["members"]]} for name, arm in result["arms"].items()}
    return {"arms": arms, "comparisons": result["comparisons"], "controls": result["controls"]}


@pytest.mark.parametrize("form", ["json", "arrow"])
def test_arms_that_learn_apart_get_the_verdicts_of_one_process(form: str, kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_here(kafka_settings, topic, tmp_path, form)
    send(kafka_settings, topic, records_of(experiment))
    one = run(experiment)
    parts = [experiment.only(["il@1", "bp@8"]), experiment.only(["il@8", "bp@1", "bp@1 (control)"])]
    learn(parts[0], 333, crash_at=333)  # it repeats what came after its last snapshot
    for part in parts:
        found = learn(part, 900)
        assert set(found["arms"]) == set(part.learned_here)
    judged = judge(experiment, until=900, metrics="127.0.0.1:0", out=tmp_path / "judged")
    assert known(judged) == known(one)
    assert {(row["challenger"], row["baseline"]) for row in judged["comparisons"]} == {("il@1", "bp@1"), ("il@8", "bp@8")}
    assert all(row["samples"] > 890 for row in judged["comparisons"])
    assert json.loads((tmp_path / "judged" / "summary.json").read_text())["comparisons"] == judged["comparisons"]


def test_a_judge_of_running_consumers_on_the_command_line(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    """Three processes; the one that learns backprop is killed on the way, and the judge waits for what it says again."""
    (tmp_path / "race.yaml").write_text(json.dumps({
        "name": topic, "stream": {"source": {"kind": "elec"}, **DRIFT}, "arms": ARMS, "network": {"hidden": [8]}, "kafka": {"bootstrap_servers": kafka_settings.bootstrap_servers},
        "service": {"metrics": "127.0.0.1:0", "producer_metrics": "127.0.0.1:0", "predictions": {}, "snapshots": {"every_samples": 50}}, "evaluation": {"window": 100}}))
    file = tmp_path / "race.yaml"
    assert streamil("run", file, "--out", tmp_path / "one").returncode == 0
    with running("judge", file, "--until", 900, "--wait", 30, "--out", tmp_path / "judged") as judging:
        url = judging.wait_for("metrics and page at").split()[-1].rstrip("/")
        with running("produce", file) as producer, running("consume", file, "--arm", "il@1", "--arm", "il@8", "--wait", 30, "--until", 900):
            with running("consume", file, "--arm", "bp@1", "--arm", "bp@8", "--wait", 30) as killed:
                until(lambda: (status := fetch_status(url)) and status["comparisons"][0]["samples"] > 100, 60, judging)
                killed.process.send_signal(signal.SIGKILL)
                killed.process.wait()
            until(lambda: producer.process.poll() is not None, 60, producer)
            assert judging.process.poll() is None
            assert streamil("consume", file, "--arm", "bp@1", "--arm", "bp@8", "--until", 900).returncode == 0
        until(lambda: judging.process.poll() is not None, 60, judging)
    assert judging.process.returncode == 0, judging.lines
    assert any(line.startswith("done after 900 samples") for line in judging.lines)
    one, judged = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "judged"))
    assert known(judged) == known(one)
    assert streamil("report", tmp_path / "judged").returncode == 0


def test_bad_records_are_told_counted_and_passed_over(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_here(kafka_settings, topic, tmp_path)
    ensure_topic(kafka_settings, f"{topic}.predictions", partitions=5)
    with TopicWriter(kafka_settings, f"{topic}.predictions") as writer:
        for partition, arm in enumerate(["il@1", "il@8", "bp@1", "bp@8", "bp@1 (control)"]):
            good = [{"arm": arm, "ordinal": at, "label": "a", "predicted": ["a"] * 2} for at in range(8)]
            for value in (b"nonsense", json.dumps(good[:3]).encode(), json.dumps([good[3] | {"arm": "else"}]).encode(), json.dumps(good[3:]).encode()):
                writer.send(value, {}, partition=partition)
        assert writer.flush(20)
    lines: list[str] = []
    judged = judge(experiment, until=8, metrics="127.0.0.1:0", tell=lambda line: lines.append(str(line)))
    assert all(member["samples"] == 8 for arm in judged["arms"].values() for member in arm["members"])
    assert sum("rejected (not-json)" in line for line in lines) + sum("rejected (foreign)" in line for line in lines) == 5  # then only counted


def test_what_cannot_be_judged_is_one_line(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_here(kafka_settings, topic, tmp_path)
    with pytest.raises(TopicMissing, match=r"service\.predictions"):
        judge(experiment, metrics="127.0.0.1:0")
    ensure_topic(kafka_settings, f"{topic}.predictions", partitions=2)
    with pytest.raises(TopicMismatch, match=r"2 partitions.*5 arms"):
        judge(experiment, metrics="127.0.0.1:0")
    with pytest.raises(ExperimentError, match="il@8"):
        experiment.only(["il@7"])


def test_an_outage_of_the_broker_is_waited_out(installed_kafka: None, tmp_path: Path) -> None:
    with LocalKafka(tmp_path / "kafka") as own:
        kafka = Kafka(bootstrap_servers=own.address)
        experiment = experiment_here(kafka, "away", tmp_path)
        send(kafka, "away", records_of(experiment))
        learn(experiment, 400)
        lines: list[str] = []
        found: list[dict[str, Any]] = []
        judging = threading.Thread(target=lambda: found.append(judge(
            experiment, until=900, metrics="127.0.0.1:0", tell=lambda line: lines.append(str(line)))))
        judging.start()
        until(lambda: any("judging 5 arms" in line for line in lines), 30)
        own.kill()
        until(lambda: any("does not answer" in line for line in lines), 30)
        own.start()
        learn(experiment, 900)
        judging.join(60)
    assert found and known(found[0]) == known(run(experiment))
    assert any("answers again" in line for line in lines)


def test_a_topic_deleted_while_it_is_judged_ends_the_judge(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_here(kafka_settings, topic, tmp_path)
    send(kafka_settings, topic, records_of(experiment))
    learn(experiment, 50)

    def told(line: str) -> None:
        if "judging" in line:
            client = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
            client.delete_topics([experiment.predictions_topic])
            client.close()

    stop = threading.Event()
    limit = threading.Timer(30, stop.set)
    limit.start()
    with pytest.raises(TopicMissing, match=experiment.predictions_topic):
        judge(experiment, metrics="127.0.0.1:0", stop=stop, tell=told)
    limit.cancel()


def test_an_arm_that_learns_alone_without_a_predictions_topic_is_told(tmp_path: Path) -> None:
    file = tmp_path / "race.yaml"
    file.write_text(json.dumps({"stream": {"source": {"kind": "elec"}}, "arms": ARMS, "kafka": {"bootstrap_servers": "127.0.0.1:1"}}))
    found = streamil("consume", file, "--arm", "il@1")
    assert found.returncode == 1 and "service.predictions is not set" in found.stderr
    found = streamil("consume", file, "--arm", "il@3")
    assert found.returncode == 2 and "--arm: found 'il@3'" in found.stderr and "il@1" in found.stderr


def test_a_log_without_its_beginning_is_no_fresh_start(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    from kafka import KafkaAdminClient, TopicPartition

    experiment = experiment_here(kafka_settings, topic, tmp_path)
    ensure_topic(kafka_settings, f"{topic}.predictions", partitions=5)
    with TopicWriter(kafka_settings, f"{topic}.predictions") as writer:
        for partition, arm in enumerate(["il@1", "il@8", "bp@1", "bp@8", "bp@1 (control)"]):
            for first in (0, 8):
                writer.send(json.dumps([{"arm": arm, "ordinal": at, "label": "a", "predicted": ["a"] * 2} for at in range(first, first + 8)]).encode(), {}, partition=partition)
        assert writer.flush(20)
    client = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    client.delete_records({TopicPartition(f"{topic}.predictions", 0): 1})
    client.close()
    with pytest.raises(PositionLost, match="--on-trimmed earliest"):
        judge(experiment, until=16, metrics="127.0.0.1:0")
    lines: list[str] = []
    stop = threading.Event()
    threading.Timer(4, stop.set).start()
    judged = judge(experiment, metrics="127.0.0.1:0", on_trimmed="earliest", stop=stop, tell=lambda line: lines.append(str(line)))
    assert [row["samples"] for row in judged["comparisons"]] == [8, 16]
    assert any("il@1: the first 1 records are no longer in the log" in line for line in lines)
    assert any("8 of one arm alone" in line for line in lines)
