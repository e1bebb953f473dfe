"""Populations and samples for the checks, and what single rules are allowed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from streamil.learners import create, implicit_sgd, learner_class

LAYERS = [6, 9, 8, 4]


class Allowance(NamedTuple):
    """What a rule is allowed that others are not.

    Attributes
    ----------
    patches
        (module, name, value) that hold while the rule is checked.
    plain
        Hyperparameters of a member that is the module it is turned into.
    quick
        Hyperparameters of a member that learns from 300 samples.
    shared
        State that goes on with the samples whatever becomes of a member.
    """

    patches: tuple[tuple[Any, str, Any], ...] = ()
    plain: dict[str, Any] = {}  # noqa: RUF012
    quick: dict[str, Any] = {}  # noqa: RUF012
    shared: tuple[str, ...] = ()


_KFAC = Allowance(plain={"adaptive": False},  # adaptive members predict by a mixture, and only one part is a module
                  shared=("counts", "input.covariance", "input.rows"))
ALLOWED = {
    "implicit-sgd": Allowance(patches=((implicit_sgd.ImplicitSGD, "evaluations", 4),)),  # slow; checked wherever its solver stops
    "il-prox-adam": Allowance(quick={"learning_rate": 1e-3}),
    "il-kfac": _KFAC,
    "bp-kfac": _KFAC,
}


def allowance(algorithm):
    return ALLOWED.get(algorithm, Allowance())


def rate_of(algorithm):
    fields = learner_class(algorithm).Hyperparameters.model_fields
    return "alpha" if "alpha" in fields else "learning_rate"


def members(algorithm, count=3):
    rate = rate_of(algorithm)
    default = learner_class(algorithm).Hyperparameters.model_fields[rate].default
    return [{rate: default * 3.0**place, "seed": place} for place in range(count)]


def plain_members(algorithm, count=3):
    return [{**member, **allowance(algorithm).plain} for member in members(algorithm, count)]


def build(algorithm, given=None, **options):
    options = {"batch_size": 2, "dtype": "float64", "seed": 7} | options
    return create(algorithm, options.pop("layers", LAYERS), given or members(algorithm), **options)


def samples(count, seed=0, classes=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, LAYERS[0])), rng.integers(0, classes, count)


def assert_same_state(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
