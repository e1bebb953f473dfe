"""One member of a race, taken out of a snapshot: a torch program, its numbers, and what its inputs and outputs mean."""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor

from streamil.errors import EvaluationError, ExperimentError, LearnerError, SnapshotError
from streamil.evaluation import Prequential
from streamil.experiment import Stream
from streamil.experiment_file import nearest
from streamil.features import Featurizer, Scaling
from streamil.learners import create
from streamil.learners.population import Population
from streamil.results import strict
from streamil.snapshot.folder import read_snapshot

PROGRAM, NUMBERS, MEANING = "model.pt2", "model.safetensors", "model.json"
SAMPLES = 64
"""Random samples on which the program has to say what the learner says."""
TOLERANCE = 1e-6


class Exported(NamedTuple):
    """What was written, and what it is: `meaning` is what `model.json` holds."""

    files: tuple[Path, ...]
    meaning: dict[str, Any]


class ScaledPredictor(torch.nn.Module):
    """Scales raw inputs, then predicts.

    Parameters
    ----------
    scaling
        What to do to each input.
    predictor
        Scaled inputs [N, F] -> logits [N, C].
    """

    shift: Tensor
    centre: Tensor
    deviation: Tensor
    clip: Tensor

    def __init__(self, scaling: Scaling, predictor: torch.nn.Module) -> None:
        super().__init__()
        self.predictor = predictor
        for name, values in scaling._asdict().items():
            self.register_buffer(name, torch.from_numpy(values.copy()))

    def scaled(self, x: Tensor) -> Tensor:
        """Return inputs [N, F] float32 of raw ones, float64, nan where missing."""
        z = torch.nan_to_num(((x - self.shift) - self.centre) / self.deviation, nan=0.0)
        return torch.clamp(z, -self.clip, self.clip).float()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, C] float32 of raw inputs [N, F] float64, nan where missing."""
        logits: Tensor = self.predictor(self.scaled(x))
        return logits


def export_member(snapshot: Path, out: Path, *, arm: str | None = None, member: int | None = None, force: bool = False,
                  code: Path | None = None) -> Exported:
    """Write one member of a snapshot as `model.pt2`, `model.safetensors` and `model.json`.

    Parameters
    ----------
    snapshot
        The file; it is only read.
    out
        Folder for the three files; it is made.
    arm, member
        Which; None: the only arm, and the member with the best accuracy over the whole stream.
    force
        Whether files that are there are replaced.
    code
        Folder of the module of a `torch:` arm.

    Raises
    ------
    SnapshotError
        For a snapshot that is damaged or holds no such arm, an arm that is no torch program, and a folder that
        cannot be written.
    """
    state, meta = read_snapshot(snapshot)
    there = [str(out / name) for name in (PROGRAM, NUMBERS, MEANING) if (out / name).exists()]
    if there and not force:
        raise SnapshotError(f"{there[0]}: is there already; to replace it --force")
    try:
        race = state["race"]
        name = _arm(race["configuration"]["arms"], arm)
        found = _Member.of(race, name, member, code)
        meaning = {"streamil": importlib.metadata.version("streamil"),
                   "snapshot": {key: meta[key] for key in sorted(meta)}, **found.meaning}
    except (KeyError, TypeError, ValueError, ValidationError, EvaluationError) as error:
        reason = error if isinstance(error, LearnerError) else f"is no snapshot of a race of this version: {error!r}"
        raise SnapshotError(f"{snapshot}: {reason}") from None
    except ExperimentError as error:
        raise SnapshotError(f"{snapshot}: {error}") from None
    model = ScaledPredictor(found.featurizer.frozen(), found.population.predictor(found.number))
    model.eval().requires_grad_(False)
    program = _program(model, found)
    files = tuple(out / file for file in (PROGRAM, NUMBERS, MEANING))
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=out) as aside:
            drafts = [Path(aside) / file.name for file in files]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.export.save(program, drafts[0])
            drafts[1].write_bytes(save({key: tensor.contiguous() for key, tensor in model.state_dict().items()}))
            drafts[2].write_text(json.dumps(meaning, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
            for draft, file in zip(drafts, files, strict=True):
                draft.replace(file)
    except OSError as error:
        raise SnapshotError(f"{out}: cannot be written: {error.strerror or error}") from None
    return Exported(files, meaning)


class _Member(NamedTuple):
    """A member, found again in the state of a race."""

    population: Population
    featurizer: Featurizer
    number: int
    meaning: dict[str, Any]

    @classmethod
    def of(cls, race: Mapping[str, Any], name: str, member: int | None, code: Path | None) -> _Member:
        configured, state = race["configuration"], race["arms"][name]
        plan, stream = configured["arms"][name], Stream.model_validate(configured["stream"])
        featurizer = Featurizer(stream)
        featurizer.load_state_dict(race["featurizer"])
        if state["population"] is None or featurizer.inputs is None:
            raise LearnerError(f"arm {name!r} has learned nothing yet")
        if plan["algorithm"].startswith("torch:") and code is None:  # a snapshot alone does not say what code runs
            raise LearnerError(f"arm {name!r} is code of its user's: name the folder of its module with --code")
        network = configured["network"]
        population = create(
            plan["algorithm"], [featurizer.inputs, *network["hidden"], max(len(stream.classes or ()), 1)],
            plan["members"], batch_size=plan["batch_size"], activation=network["activation"], growing=True, folder=code)
        population.load_state_dict(state["population"])
        evaluation = configured["evaluation"]
        figures = Prequential(len(plan["members"]), window=evaluation["window"], fading=evaluation["fading"])
        figures.load_state_dict(state["figures"])
        number = int(np.argmax(figures.correct)) if member is None else member
        if not 0 <= number < len(plan["members"]):
            raise LearnerError(f"arm {name!r} has members 0 to {len(plan['members']) - 1}, found {number}")
        live = population.live.tolist()
        hyperparameters = {key: value for key, value in plan["members"][number].items() if key != "seed"}
        scaling = featurizer.frozen()
        inputs = [
            {**column, "mean": float(shift + centre), "deviation": float(deviation), "clip": float(clip)}
            for column, shift, centre, deviation, clip in zip(featurizer.columns(), *scaling, strict=True)]
        return cls(population, featurizer, number, strict({
            "arm": name, "member": number, "of_members": len(plan["members"]), "algorithm": plan["algorithm"],
            "hyperparameters": hyperparameters, "seed": plan["members"][number]["seed"],
            "accuracy": float(figures.cumulative[number]), "samples": figures.samples,
            "diverged": bool(population.diverged[number]), "hidden": network["hidden"],
            "activation": network["activation"],
            "classes": [label for label, takes_part in zip(featurizer.labels.names, live, strict=False) if takes_part],
            "inputs": inputs}))


def _arm(arms: Mapping[str, Any], wanted: str | None) -> str:
    known = list(arms)
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted is None:
        raise LearnerError(f"holds several arms: name one of {', '.join(known)} with --arm")
    if wanted not in known:
        raise LearnerError(f"has no arm {wanted!r}{nearest(wanted, known)}; arms: {', '.join(known)}")
    return wanted


def _program(model: ScaledPredictor, found: _Member) -> torch.export.ExportedProgram:
    """Return the model as a program for any number of samples, after seeing it say what the learner says."""
    spread = torch.where(torch.isfinite(model.deviation), model.deviation, 1.0)
    noise = torch.randn((SAMPLES, len(spread)), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = model.shift + model.centre + noise * spread
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("samples", min=1)},))
            said = torch.softmax(program.module()(x), 1)
    except Exception as error:  # whatever a module of the user's own does
        raise SnapshotError(f"arm {found.meaning['arm']!r} cannot be made a torch program: "
                            f"{' '.join(str(error).split())[:300]}") from None
    wanted = found.population.predict(model.scaled(x))[found.number][:, found.population.live]
    off = float((said - torch.softmax(wanted, 1)).abs().max())
    if not off <= TOLERANCE:
        raise SnapshotError(f"arm {found.meaning['arm']!r}: the program says other than the learner, by {off:.1e}")
    return program
