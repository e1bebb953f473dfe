"""The explicit rules against torch's own optimizers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streamil.learners import create

SETTINGS = [
    ("bp-sgd", {"learning_rate": 0.2}, lambda p: torch.optim.SGD(p, lr=0.2)),
    ("bp-adam", {}, lambda p: torch.optim.Adam(p, lr=0.001, betas=(0.9, 0.999), eps=1e-8)),
    ("bp-adam", {"learning_rate": 0.02, "betas": (0.5, 0.9), "eps": 1e-3},
     lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.5, 0.9), eps=1e-3)),
]


@pytest.mark.parametrize("activation", ["relu", "tanh", "leaky-relu", "identity"])
@pytest.mark.parametrize("size", [1, 8])
@pytest.mark.parametrize(("algorithm", "member", "optimizer"), SETTINGS)
def test_numbers_are_those_of_torch(algorithm, member, optimizer, size, activation):
    population = create(algorithm, [6, 9, 8, 4], [{}, member], batch_size=size, dtype="float64", activation=activation)
    module = population.to_module(1)
    moves = optimizer(module.parameters())
    rng = np.random.default_rng(0)
    for _ in range(100):
        x, y = rng.normal(size=(size, 6)), rng.integers(0, 4, size)
        logits = module(torch.from_numpy(x))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y), reduction="none")
        outcome = population.step(x, y)
        torch.testing.assert_close(outcome.logits[1], logits.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(outcome.loss[1], loss.detach(), rtol=1e-12, atol=1e-12)
        moves.zero_grad()
        loss.mean().backward()
        moves.step()
    for ours, theirs in zip(population.parameters.flat, module.parameters(), strict=True):
        torch.testing.assert_close(ours[1].view_as(theirs), theirs.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rate", [1e3, 1e20, 3e38])
def test_steps_that_are_too_long_end_at_finite_weights(rate):
    population = create("bp-sgd", [3, 8, 8, 2], [{"learning_rate": rate}, {}])
    rng = np.random.default_rng(0)
    population.learn(rng.normal(size=(300, 3)) * 100, rng.integers(0, 2, 300))
    assert population.diverged.tolist() == [True, False]
    assert all(bool(torch.isfinite(tensor).all()) for pair in population.weights for tensor in pair)
