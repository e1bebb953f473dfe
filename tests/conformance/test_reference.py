"""Every rule against the numbers of reference implementations: the folder $STREAMIL_REFERENCE, else tests/reference."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamil.learners import learner_class
from streamil.learners.bp_prox import BPProx
from streamil.learners.composite import assemble
from streamil.learners.il_prox import ILProx
from streamil.learners.implicit_sgd import ImplicitSGD

torch.set_num_threads(1)  # nets this small only lose by threads
FOLDER = Path(os.environ.get("STREAMIL_REFERENCE") or Path(__file__).parents[1] / "reference")
REFERENCE = json.loads((FOLDER / "cases.json").read_text())
NAMES = {  # the files' names of hyperparameters -> ours
    "n_iter": "inference_steps", "bot_gamma": "gamma_bottom", "top_gamma": "gamma_top", "dec_gamma": "gamma_decay",
    "eps": "epsilon", "n": "clamp", "c": "epsilon", "delta": "damping", "rho": "metric_rate",
    "rho_unit": "precision_rate", "unit_damping": "precision_damping",
}
SAY_IT_AGAIN = {"model", "steps", "batch", "t_type", "adam", "implicit", "joint"}
AUTHORS: dict[str, dict[str, Any]] = {  # what the files' implementations do without a name for it
    "il-prox": {"batch_rule": "nlms-mean"}, "bp-sgd": {"train_biases": False},
    "bp-prox": {"batch_rule": "nlms-mean", "train_biases": False},
    "implicit-sgd": {"alpha": 1.0, "train_biases": False},  # whatever the file's lr says
}


class AuthorsProx(ILProx):
    """One norm for the whole mini-batch: the mean in the first target, the sum in the later ones."""

    def _norm(self, presynaptic: torch.Tensor, first: bool) -> torch.Tensor:
        squares = presynaptic.square().sum(-1, keepdim=True)
        return squares.mean(1, True) + self._epsilon if first else squares.sum(1, True) + self._padding


class AuthorsBPProx(BPProx):
    """One norm for the whole mini-batch, the mean."""

    def _norm(self, presynaptic: torch.Tensor, first: bool) -> torch.Tensor:
        return presynaptic.square().sum(-1, keepdim=True).mean(1, True) + self._padding


class AuthorsImplicit(ImplicitSGD):
    """500 plain steps of .005, which do not reach the minimum: their gradient norm is up to .35 where they end."""

    def _minimise(self, move: torch.Tensor, objective: Callable[[], torch.Tensor]) -> None:
        for _ in range(500):
            objective()
            move -= 0.005 * move.grad


QUIRKS = {"il-prox": AuthorsProx, "bp-prox": AuthorsBPProx}  # of mini-batches; at batch 1 the rules stand as they are


def algorithm_of(case: dict[str, Any]) -> str:
    if case["model"] == "KFac":
        return "bp-kfac" if case["inference"] == "none" else "il-kfac"
    if case["model"] == "Prox":
        return {1: "implicit-sgd", 2: "il-prox", 3: "bp-prox"}[case.get("t_type", 2)]
    return ("il-" if case["t_type"] == 2 else "bp-") + ("adam" if case["adam"] else "sgd")


def hyperparameters_of(case: dict[str, Any], algorithm: str) -> dict[str, Any]:
    known = learner_class(algorithm).Hyperparameters.model_fields
    rate = "alpha" if "alpha" in known else "learning_rate"
    given = {NAMES.get(name, name): value for name, value in case.items() if name not in SAY_IT_AGAIN}
    given = {rate if name == "lr" else name: value for name, value in given.items()}
    if not algorithm.startswith("il-"):  # such a rule has nothing to clamp, relax or average
        given = {name: value for name, value in given.items() if name in known}
    return given | AUTHORS.get(algorithm, {})


def numbers(arrays: Any, name: str, count: int) -> list[np.ndarray]:
    return [arrays[f"{name}{layer}"] for layer in range(count)]


@pytest.mark.parametrize("name", sorted(REFERENCE["cases"]))
def test_rule_repeats_the_reference(name: str) -> None:
    case, layers = REFERENCE["cases"][name], REFERENCE["layer_sizes"]
    algorithm, size = algorithm_of(case), case["batch"]
    plain = learner_class(algorithm)
    quirk = AuthorsImplicit if algorithm == "implicit-sgd" else QUIRKS.get(algorithm, plain) if size > 1 else plain
    population = assemble(
        quirk, layers, [hyperparameters_of(case, algorithm)],
        batch_size=size, seed=0, device="cpu", dtype=REFERENCE["dtype"], activation="relu", growing=False,
    )
    depth = len(layers) - 1
    with np.load(FOLDER / f"{name}.npz") as arrays:
        first = zip(numbers(arrays, "init_w", depth), numbers(arrays, "init_b", depth), strict=True)
        population.weights = [(weight[None], bias[None]) for weight, bias in first]
        if "step0_target0" in arrays:
            relaxed = population.infer(arrays["x"][0], arrays["y"][0])
            compare([h[0] for h in relaxed], numbers(arrays, "step0_target", depth + 1))
        for step in range(case["steps"]):
            outcome = population.step(arrays["x"][step], arrays["y"][step])
            compare([outcome.logits[0]], [arrays["logits"][step]])
            if "alpha" in arrays:
                np.testing.assert_allclose(population.alpha.item(), arrays["alpha"][step], rtol=1e-9)
            for moment in [*["step0"] * (step == 0), *["final"] * (step == case["steps"] - 1)]:
                compare([w[0] for w, _ in population.weights], numbers(arrays, f"{moment}_w", depth))
                compare([b[0] for _, b in population.weights], numbers(arrays, f"{moment}_b", depth))


def compare(ours: list[torch.Tensor], theirs: list[np.ndarray]) -> None:
    for own, reference in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(own.numpy(), reference, rtol=1e-9, atol=1e-14)
