"""A learner taken out of a snapshot says what it said in the race, without streamil."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pages import ROOT, blocks
from processes import streamil
from safetensors.torch import load_file

from streamil.errors import SnapshotError
from streamil.experiment import Experiment
from streamil.member_export import export_member
from streamil.race import Race
from streamil.samples import Records
from streamil.snapshot import FolderStore, pack

ARMS = {
    "kfac": {"algorithm": "il-kfac"}, "fixed": {"algorithm": "il-kfac", "adaptive": False}, "twin": {"algorithm": "bp-kfac", "batch_size": 3},
    "prox": {"algorithm": "il-prox", "alpha": [1.0, 5.0], "seeds": 2}, "mixed": {"algorithm": "il-kfac", "adaptive": [True, False]},
    "adam": {"algorithm": "bp-adam", "batch_size": 2}}


def race_of(folder: Path, records: Records, arms: dict[str, Any] = ARMS, **stream: Any) -> tuple[Race, Path]:
    """A race that has learned, and its snapshot."""
    experiment = Experiment.model_validate({
        "name": "t", "stream": {"source": {"kind": "topic", "label": "y", "id": "i"}, **stream}, "network": {"hidden": [9, 5], "activation": "tanh"},
        "arms": arms, "service": {"device": "cpu"}})
    race = Race(experiment)
    race.feed(records, np.arange(len(records)))
    with FolderStore(folder / "snapshots", keep=1, tell=print) as store:
        store.save(pack({"race": race.state_dict()}, {"experiment": "t", "samples": race.samples}))
    return race, next((folder / "snapshots").glob("*.snapshot"))


def named(count: int, *, seed: int = 0) -> Records:
    """Numbers far from 0, a constant, a time, a category with many texts, missing values."""
    rng = np.random.default_rng(seed)
    hot = rng.normal(1e6, 3.0, count)
    return Records(y=["warm" if value > 1e6 else "cold" for value in hot.tolist()], columns={
        "hot": [None if n % 7 == 3 else value for n, value in enumerate(hot.tolist())], "same": [4.5] * count,
        "at": [1_700_000_000 + 60 * n for n in range(count)], "where": [f"place {n % 5}" for n in range(count)]})


def raw_inputs(meaning: dict[str, Any], records: Records) -> torch.Tensor:
    """The matrix that `model.json` describes, made of nothing else."""
    def value(one: dict[str, Any], row: int) -> float:
        given = records.columns[one["feature"]][row]
        seconds = {"day": 86_400.0, "week": 604_800.0}
        if one["is"] == "1 where missing":
            return float(given is None)
        if given is None:
            return 0.0 if one["is"].startswith(("1 for", "sine", "cosine")) else np.nan
        if one["is"].startswith("1 for"):
            return float(one.get("category") == given)
        if one["is"].startswith(("sine", "cosine")):
            function, _, cycle = one["is"].partition(" of the ")
            start = 345_600.0 if cycle == "week" else 0.0
            return float(getattr(np, function.replace("sine", "sin") if function == "sine" else "cos")(2 * np.pi * (given - start) / seconds[cycle]))
        return float(given)

    return torch.tensor([[value(one, row) for one in meaning["inputs"]] for row in range(len(records.y))], dtype=torch.float64)


def probabilities_in_the_race(race: Race, arm: str, member: int, records: Records) -> torch.Tensor:
    population = race.arms[arm].population
    assert population is not None
    batch, rejected = copy.deepcopy(race.featurizer).transform(records, np.arange(len(records)))
    assert not rejected
    return torch.softmax(population.predict(batch.x)[member][:, population.live], 1)


@pytest.mark.parametrize("arm", ARMS)
def test_a_program_of_named_features_says_what_the_learner_says(tmp_path: Path, arm: str) -> None:
    race, snapshot = race_of(tmp_path, named(90), features={
        "at": {"kind": "time", "unit": "s", "cycles": ["day", "week"]}, "where": {"kind": "category", "slots": 8}}, missing_indicators=True)
    for member in range(len(race.arms[arm].plan.members)):
        exported = export_member(snapshot, tmp_path / f"{member}", arm=arm, member=member)
        meaning = json.loads((tmp_path / f"{member}" / "model.json").read_text())
        assert meaning == exported.meaning and meaning["classes"] == race.featurizer.labels.names
        one = named(1, seed=1)  # a value is scaled by those before it, so each is asked alone
        said = torch.softmax(torch.export.load(exported.files[0]).module()(raw_inputs(meaning, one)), 1)
        assert float((said - probabilities_in_the_race(race, arm, member, one)).abs().max()) <= 1e-6
        assert meaning["hyperparameters"].items() >= {key: value for key, value in race.arms[arm].plan.members[member].items() if key != "seed"}.items()


@pytest.mark.parametrize(("x", "scale"), [
    (np.arange(200, dtype=np.uint8).reshape(40, 5), "auto"), (np.arange(200, dtype=np.float32).reshape(40, 5) ** 2, "auto"),
    (np.arange(200, dtype=np.float32).reshape(40, 5) / 100, "none")])
def test_dense_inputs_are_scaled_by_the_program(tmp_path: Path, x: np.ndarray, scale: str) -> None:
    records = Records(y=["a", "b"] * 20, x=x)
    race, snapshot = race_of(tmp_path, records, {"adam": {"algorithm": "bp-adam"}}, scale=scale)
    exported = export_member(snapshot, tmp_path / "out")
    predict = torch.export.load(exported.files[0]).module()
    one = Records(y=["a"], x=x[7:8])
    assert float((torch.softmax(predict(torch.tensor(one.x, dtype=torch.float64)), 1) - probabilities_in_the_race(race, "adam", 0, one)).abs().max()) <= 1e-6
    many = predict(torch.tensor(x, dtype=torch.float64))
    assert many.shape == (40, 2) and torch.allclose(many[7:8], predict(torch.tensor(one.x, dtype=torch.float64)), atol=1e-5)
    assert [one["is"] for one in exported.meaning["inputs"]] == ["number"] * 5 and "feature" not in exported.meaning["inputs"][0]


def test_classes_that_were_not_met_are_left_out_and_the_best_is_taken(tmp_path: Path) -> None:
    race, snapshot = race_of(tmp_path, named(60), {"adam": {"algorithm": "bp-adam", "learning_rate": [1e-9, 0.01]}}, classes=["hotter", "warm", "cold"])
    exported = export_member(snapshot, tmp_path / "out")
    assert exported.meaning["classes"] == ["warm", "cold"] and exported.meaning["of_members"] == 2
    assert exported.meaning["member"] == int(np.argmax(race.arms["adam"].figures.correct))
    numbers = load_file(exported.files[1])
    assert numbers["predictor.network.0.weight"].shape == (9, len(exported.meaning["inputs"])) and numbers["predictor.live"].tolist() == [1, 2]


def test_what_is_written_needs_no_streamil(tmp_path: Path) -> None:
    """The block of docs/snapshots.md, in a process of its own that must not import streamil."""
    file = tmp_path / "race.yaml"
    file.write_text("stream: {source: {kind: elec}, limit: 300}\narms: {il: {algorithm: il-kfac}}\nservice: {device: cpu}\n")
    from streamil.experiment import load_experiment
    from streamil.streams import open_stream

    race = Race(load_experiment(file))
    for piece in open_stream(race.experiment.stream, tmp_path):
        race.feed(piece, np.arange(len(piece)) + race.samples)
        if race.samples >= 300:
            break
    with FolderStore(tmp_path / "snapshots", keep=1, tell=print) as store:
        store.save(pack({"race": race.state_dict()}, {"experiment": "streamil"}))
    done = streamil("snapshot", "export", next((tmp_path / "snapshots").glob("*.snapshot")), "--arm", "il", "--out", tmp_path / "model")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert done.stdout.startswith("arm il (il-kfac), member 0, accuracy 0.") and "6 inputs, 2 classes: " in done.stdout
    (block,) = [block for block in blocks(ROOT / "docs" / "snapshots.md", "python") if "model.pt2" in block.text]
    ran = subprocess.run([sys.executable, "-c", f"{block.text}\nimport sys\nassert not any('streamil' in name for name in sys.modules)"],
                         cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    said = eval(ran.stdout)
    assert set(said) == {"0", "1"} and abs(sum(said.values()) - 1) < 1e-6


def test_a_torch_arm_is_taken_out_with_its_code(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import torch\n\n\ndef net(inputs, outputs):\n    module = torch.nn.Sequential(torch.nn.Linear(inputs, 4), torch.nn.ReLU(), torch.nn.Linear(4, outputs))\n"
                                      "    return module, torch.optim.SGD(module.parameters(), 0.1)\n")
    experiment = {"own": {"algorithm": "torch:mine:net"}}
    (tmp_path / "race.yaml").write_text(json.dumps({"stream": {"source": {"kind": "elec"}, "limit": 50, "classes": ["0", "1"]}, "arms": experiment, "service": {"device": "cpu"}}))
    from streamil.experiment import load_experiment

    race = Race(load_experiment(tmp_path / "race.yaml"))
    race.feed(Records(y=["0", "1"] * 5, columns={"a": list(range(10))}), np.arange(10))
    with FolderStore(tmp_path / "s", keep=1, tell=print) as store:
        store.save(pack({"race": race.state_dict()}, {"experiment": "streamil"}))
    snapshot = next((tmp_path / "s").glob("*.snapshot"))
    with pytest.raises(SnapshotError, match="is code of its user's: name the folder of its module with --code"):
        export_member(snapshot, tmp_path / "none")
    exported = export_member(snapshot, tmp_path / "out", code=tmp_path)
    assert torch.export.load(exported.files[0]).module()(torch.zeros((3, 1), dtype=torch.float64)).shape == (3, 2)


def test_what_cannot_be_taken_out_is_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    _, snapshot = race_of(tmp_path, named(30), {"a": {"algorithm": "bp-sgd"}, "b": {"algorithm": "bp-sgd"}})
    out = tmp_path / "out"
    for given, tells in (({}, "holds several arms: name one of a, b with --arm"), ({"arm": "aa"}, r"has no arm 'aa' .nearest known: a.; arms: a, b"),
                         ({"arm": "a", "member": 1}, "arm 'a' has members 0 to 0, found 1")):
        with pytest.raises(SnapshotError, match=tells) as caught:
            export_member(snapshot, out, **given)
        assert str(snapshot) in str(caught.value) and not out.exists()
    export_member(snapshot, out, arm="a")
    with pytest.raises(SnapshotError, match="is there already; to replace it --force"):
        export_member(snapshot, out, arm="b")
    assert export_member(snapshot, out, arm="b", force=True).meaning["arm"] == "b"
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "model.pt2", "model.safetensors"]
    with pytest.raises(SnapshotError, match="cannot be written: Not a directory"):
        export_member(snapshot, snapshot / "out", arm="a")
    damaged = tmp_path / "damaged.snapshot"
    damaged.write_bytes(snapshot.read_bytes()[:-1])
    with pytest.raises(SnapshotError):
        export_member(damaged, out, arm="a", force=True)
    with FolderStore(tmp_path / "others", keep=1, tell=print) as store:
        store.save(pack({"w": torch.zeros(2)}, {"experiment": "demo"}))
    with pytest.raises(SnapshotError, match=r"is no snapshot of a race of this version: KeyError.'race'"):
        export_member(next((tmp_path / "others").glob("*.snapshot")), out, force=True)


def test_an_arm_that_has_learned_nothing_is_told(tmp_path: Path) -> None:
    _, snapshot = race_of(tmp_path, Records(y=[], columns={"a": []}), {"a": {"algorithm": "bp-sgd"}})
    with pytest.raises(SnapshotError, match="arm 'a' has learned nothing yet"):
        export_member(snapshot, tmp_path / "out")


def test_river_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("river")
    experiment = Experiment.model_validate({"stream": {"source": {"kind": "topic", "label": "y"}}, "arms": {"r": {"algorithm": "river:naive_bayes.GaussianNB"}}})
    race = Race(experiment, allow_pickle=True)
    race.feed(named(20), np.arange(20))
    with FolderStore(tmp_path / "s", keep=1, tell=print) as store:
        store.save(pack({"race": race.state_dict()}, {"experiment": "t"}))
    with pytest.raises(SnapshotError, match=r"river|allow_pickle"):
        export_member(next((tmp_path / "s").glob("*.snapshot")), tmp_path / "out")
