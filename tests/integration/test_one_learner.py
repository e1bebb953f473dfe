"""One learner beside a topic that others fill: by the command, and by the ten lines of `attach`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from attached import Crash, Sent, send
from pages import ROOT, blocks, run_block
from processes import running, streamil, until

import streamil as package
from streamil import Learner, attach
from streamil.errors import ExperimentError, LearnerError, StateError
from streamil.experiment import Kafka
from streamil.snapshot.folder import read_snapshot
from streamil.telemetry.client import fetch_status

DATA = Path(__file__).parent / "data"
pytestmark = pytest.mark.kafka


def records(name: str) -> Sent:
    values = [json.loads(line)["value"] for line in (DATA / name).read_text().splitlines()]
    return [(None if value is None else value.encode(), {}) for value in values]


def learn_command(kafka: Kafka, topic: str, *more: object, label: str = "is_fraud") -> tuple[object, ...]:
    return ("learn", "--topic", topic, "--label", label, "--bootstrap-servers", kafka.bootstrap_servers, "--metrics",
            "127.0.0.1:0", *more)


def test_flat_booleans_are_learned_without_id_and_time(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    send(kafka_settings, topic, records("w08_flat_booleans.jsonl"))
    done = streamil(*learn_command(kafka_settings, topic, "--until", 60, "--out", tmp_path / "out", "--snapshots",
                                   tmp_path / "s"))
    assert done.returncode == 0, done.stderr
    assert "features, from the first 60 samples: age, amount\n" in done.stderr
    assert "left out: at, which looks like times in s; to keep it name the features\n" in done.stderr
    assert "left out: id, which looks like row numbers or an id (whole numbers that rise); to keep" in done.stderr
    assert "inputs: 2: age, amount" in done.stderr and "rejected" not in done.stderr
    (arm,) = json.loads((tmp_path / "out" / "summary.json").read_text())["arms"].values()
    assert arm["members"][0]["samples"] == 60
    state, meta = read_snapshot(max((tmp_path / "s").glob("*.snapshot")))
    assert meta["samples"] == 60 and state["race"]["configuration"]["arms"]["learner"]["algorithm"] == "il-kfac"
    assert sum(state["race"]["counts"]["rejected"].values()) == 0


def test_snapshots_of_a_race_are_not_taken_for_those_of_a_learner(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    """The folder that is taken where none is named is that of a race on a topic of that name, too."""
    send(kafka_settings, topic, records("w08_flat_booleans.jsonl"))
    (tmp_path / "race.yaml").write_text(json.dumps({
        "name": topic, "stream": {"source": {"kind": "topic", "label": "is_fraud", "features": ["age"]}}, "arms": {"bp": {"algorithm": "bp-sgd"}},
        "kafka": {"bootstrap_servers": kafka_settings.bootstrap_servers}, "service": {"metrics": "127.0.0.1:0", "device": "cpu"}}))
    assert streamil("consume", tmp_path / "race.yaml", "--until", 20).returncode == 0
    done = streamil(*learn_command(kafka_settings, topic, "--until", 60, "--snapshots", tmp_path / "snapshots" / topic))
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "holds those of another race, not of one learner on a topic: name another folder" in done.stderr


def test_an_envelope_is_learned_by_a_path(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    send(kafka_settings, topic, records("w08_envelope.jsonl"))
    done = streamil(*learn_command(kafka_settings, topic, "--until", 12, "--out", tmp_path / "out", "--snapshots",
                                   tmp_path / "s", label="payload.after.is_fraud"))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["samples"] == 12
    state, _ = read_snapshot(max((tmp_path / "s").glob("*.snapshot")))
    rejected = {reason: count for reason, count in state["race"]["counts"]["rejected"].items() if count}
    assert sum(rejected.values()) <= 2 and set(rejected) <= {"no-features", "null"}, "a deletion, and a tombstone"


def test_what_cannot_work_is_one_line_before_anything_is_learned(
        kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    send(kafka_settings, topic, records("w08_flat_booleans.jsonl"))
    for arguments, label, words in (
            ((), "is_frau", ["none of the first 60 samples", "'is_frau' (nearest known: is_fraud)"]),
            (("--classes", "ok,fraud"), "is_fraud", ["none of the labels of the first 60 samples (true, false)", "label_map"]),
            (("--algorithm", "il-kfca"), "is_fraud", ["il-kfca", "il-kfac"]),
            (("--hidden", "a"), "is_fraud", ["--hidden"]), (("--set", "alpha"), "is_fraud", ["--set"]),
            (("--set", "alhpa=3"), "is_fraud", ["alhpa", "alpha"])):
        done = streamil(*learn_command(kafka_settings, topic, "--snapshots", tmp_path / "s", "--until", 5, *arguments, label=label))
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("error: ") and all(word in last for word in words), last
    done = streamil(*learn_command(kafka_settings, f"{topic}-absent", "--snapshots", tmp_path / "s"))
    assert done.returncode == 1 and "does not exist" in done.stderr
    assert not list(tmp_path.rglob("*.snapshot"))


def test_killed_and_started_again_it_ends_as_one_left_alone(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    flat = records("w08_flat_booleans.jsonl")
    send(kafka_settings, topic, flat[:40])
    for name, kills in (("killed", 3), ("alone", 0)):
        command = learn_command(kafka_settings, topic, "--until", 60, "--out", tmp_path / name, "--snapshots", tmp_path / f"s-{name}",
                                "--set", "alpha=0.001")
        for _ in range(kills):
            with running(*command, "--until", 10**6) as one:  # the last --until counts
                url = re.search(r"http://[\d.:]+", one.wait_for("metrics and page at"))[0]
                until(lambda url=url: (fetch_status(url) or {}).get("samples", 0) > 0, 60, one)
                one.process.kill()
                one.process.wait()
        if kills:
            send(kafka_settings, topic, flat[40:])
        done = streamil(*command)
        assert done.returncode == 0, done.stderr
    alone, killed = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("alone", "killed"))
    assert alone == killed


def test_the_ten_lines_learn_commit_and_go_on(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    send(kafka_settings, topic, records("w08_flat_booleans.jsonl"))

    def attached(until: int, crash_at: int | None = None) -> tuple[Learner, list[int]]:
        learner = Learner("il-prox", hidden=[16, 16], features=["amount", "age"], classes=["false", "true"])
        said: list[int] = []
        try:
            with attach(learner, topic=topic, label="is_fraud", bootstrap_servers=kafka_settings.bootstrap_servers,
                        snapshots=tmp_path / "state", until=until) as stream:
                for batch in stream:
                    for outcome in learner.learn(batch):
                        said += outcome.batch.ordinals.tolist()
                        assert set(outcome.predicted[0]) <= {"false", "true", None}
                    stream.commit()
                    if crash_at is not None and learner.race.samples >= crash_at:
                        raise Crash
        except Crash:
            pass
        return learner, said

    _, first = attached(20)
    _, lost = attached(35, crash_at=35)
    learner, last = attached(60)
    assert first == list(range(20)) and lost == list(range(20, 35)) and last == list(range(20, 60))
    whole = Learner("il-prox", hidden=[16, 16], features=["amount", "age"], classes=["false", "true"])
    with attach(whole, topic=topic, label="is_fraud", kafka=kafka_settings, until=60) as stream:
        for batch in stream:
            whole.learn(batch)
    assert whole.race.learned_hash == learner.race.learned_hash and whole.accuracy == learner.accuracy
    one = {"amount": 3.0, "age": 40}
    before = learner.race.featurizer.state_dict()
    said, again = learner.predict([one, {"amount": None, "age": 41}]), whole.predict([one, {"amount": None, "age": 41}])
    assert np.array_equal(said.logits, again.logits) and said.predicted[0][0] in ("false", "true")
    assert str(before) == str(learner.race.featurizer.state_dict()), "predict changes nothing"
    with pytest.raises(LearnerError, match="sample 0: bad-number"):
        learner.predict([{"amount": "much", "age": 3}])
    assert [tuple(p.shape) for p in learner.to_module().parameters()][-1] == (2,)


def test_the_page_learns(kafka_settings: Kafka, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ten lines of the documentation, which would go on for ever, until there are 60 samples."""
    send(kafka_settings, topic, records("w08_flat_booleans.jsonl"))
    (block,) = blocks(ROOT / "docs" / "one-learner.md", "python")
    monkeypatch.chdir(tmp_path)
    run_block(block.text.replace("127.0.0.1:9092", kafka_settings.bootstrap_servers).replace('"payments"', f'"{topic}", until=60'),
              tmp_path)
    assert read_snapshot(max((tmp_path / "state").glob("*.snapshot")))[1]["samples"] == 60


def test_a_guess_stays_when_the_first_records_are_others(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    flat = records("w08_flat_booleans.jsonl")
    send(kafka_settings, topic, flat)
    told: list[str] = []
    for until_ in (30, 60):
        learner = Learner(hidden=[8])
        with attach(learner, topic=topic, label="is_fraud", kafka=kafka_settings, snapshots=tmp_path / "s", until=until_,
                    tell=told.append) as stream:
            for batch in stream:
                learner.learn(batch)
    assert learner.race.featurizer.names == ["age", "amount"] and sum("features, from" in line for line in told) == 1
    with pytest.raises(StateError, match="features"):
        attach(Learner("il-kfac", hidden=[8], features=["age"]), topic=topic, label="is_fraud", kafka=kafka_settings,
               snapshots=tmp_path / "s")


def test_above_2048_inputs_il_prox_is_taken(kafka_settings: Kafka, topic: str) -> None:
    wide = [(json.dumps({"v": [float(n % 7)] * 2100, "y": n % 2}).encode(), {}) for n in range(4)]
    named = [(json.dumps({**{f"a{place}": n for place in range(2100)}, "y": n % 2}).encode(), {}) for n in range(4)]
    narrow = [(json.dumps({"v": [n, n], "y": n % 2}).encode(), {}) for n in range(4)]
    for number, (sent, x, algorithm) in enumerate(((wide, "v", "il-prox"), (named, None, "il-prox"), (narrow, "v", "il-kfac"))):
        name = f"{topic}-{number}"
        send(kafka_settings, name, sent)
        told: list[str] = []
        learner = Learner(hidden=[4])
        with attach(learner, topic=name, label="y", x=x, kafka=kafka_settings, until=4, tell=told.append) as stream:
            for batch in stream:
                learner.learn(batch)
        assert learner.race.arms["learner"].plan.algorithm == algorithm and learner.race.samples == 4
        assert ("2100 inputs: il-prox is taken, il-kfac's metric is for up to 2048" in told) == (algorithm == "il-prox")


def test_what_is_not_attached_says_so() -> None:
    learner = Learner()
    for use in (lambda: learner.accuracy, lambda: learner.population, lambda: learner.predict([{"a": 1}]), learner.to_module):
        with pytest.raises(LearnerError, match="not attached"):
            use()
    with pytest.raises(ExperimentError, match="label"):
        attach(learner, topic="t", bootstrap_servers="127.0.0.1:1")


def test_exported_names() -> None:
    assert package.__all__ == ["Learner", "attach", "load_experiment", "run"]
    assert all(callable(getattr(package, name)) for name in package.__all__)
