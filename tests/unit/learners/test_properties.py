"""What holds for every rule, and what rules have in common."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from checks import apply, name_of, yield_checks
from checks.rules import LAYERS, build

from streamil.errors import LearnerError
from streamil.learners import ALGORITHMS, create
from streamil.learners.initial import initial_rows

torch.set_num_threads(1)  # nets this small only lose by threads


@pytest.mark.parametrize(("algorithm", "check"), [
    pytest.param(algorithm, check, id=f"{algorithm}-{name_of(check)}")
    for algorithm in sorted(ALGORITHMS) for check in yield_checks(algorithm)])
def test_rule_passes(algorithm, check):
    apply(check, algorithm)


def test_equal_seeds_start_equal_in_every_rule():
    weights = [build(algorithm, [{"seed": 1}, {"seed": 2}, {"seed": 1}]).weights for algorithm in sorted(ALGORITHMS)]
    for first, other in zip(weights[0], weights[-1], strict=True):
        assert torch.equal(first[0], other[0]) and torch.equal(first[1], other[1])
        assert torch.equal(first[0][0], first[0][2]) and not torch.equal(first[0][0], first[0][1])
    single = build("bp-sgd", [{"seed": 1}], dtype="float32").weights
    assert torch.equal(single[0][0], weights[0][0][0][:1].float())


def test_first_weights_are_uniform_and_rows_differ():
    rows = initial_rows(3, 0, 1, range(500), 16)
    assert abs(rows).max() <= 0.25 and abs(rows.mean()) < 0.005 and abs(rows.std() - 0.25 / math.sqrt(3)) < 0.003
    assert len(np.unique(rows)) == rows.size
    assert not np.isin(initial_rows(0, 3, 1, range(500), 16), rows).any()
    assert not np.isin(initial_rows(3, 0, 0, range(500), 16), rows).any()


def test_unknown_rule_names_the_nearest():
    with pytest.raises(LearnerError, match="did you mean 'il-prox'"):
        create("il-porx", LAYERS)


def test_names_are_known_without_torch():
    code = "import sys, streamil.learners as l; assert l.ALGORITHMS; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_losses_are_the_same_bits_however_many_samples_a_call_has(batch_size):
    # Vectorised logarithms treat the last few of many values apart, which shows in the last bit.
    random = np.random.default_rng(0)
    x, y = random.normal(size=(1024, 6)).astype(np.float32), random.integers(10, size=1024)
    whole = create("bp-sgd", [6, 10], batch_size=batch_size).learn(x, y).loss
    population = create("bp-sgd", [6, 10], batch_size=batch_size)
    pieces = [population.learn(x[first : first + 8], y[first : first + 8]).loss for first in range(0, 1024, 8)]
    assert torch.equal(whole, torch.cat(pieces, dim=1))
