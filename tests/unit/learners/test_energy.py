"""The energy that inference leaves: what the equations say, recomputed from the activities and the weights before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streamil.learners import create
from streamil.learners.ray import gain

torch.set_num_threads(1)
LAYERS = [5, 7, 6, 3]


def samples(count):
    rng = np.random.default_rng(1)
    return rng.normal(size=(count, 5)), rng.integers(0, 3, count)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("algorithm", ["il-prox", "il-prox-adam", "il-sgd", "il-adam"])
def test_it_is_half_the_squared_errors_of_all_layers(algorithm, size):
    population = create(algorithm, LAYERS, [{"seed": 1}, {"seed": 2}], batch_size=size, dtype="float64")
    assert population.energy is None, "nothing is learned yet"
    x, y = samples(3 * size)
    population.learn(x[:-size], y[:-size])
    *activities, target = population.infer(x[-size:], y[-size:])
    weights = population.weights
    population.learn(x[-size:], y[-size:])
    after = algorithm in ("il-sgd", "il-adam")  # activities after the nonlinearity, or before it
    expected = torch.zeros(2, size, dtype=torch.float64)
    for layer, (weight, bias) in enumerate(weights):
        h = activities[layer] if layer == 0 or after else activities[layer].relu()
        p = h @ weight.mT + bias.unsqueeze(1)
        if layer + 1 < len(weights):
            error = activities[layer + 1] - (p.relu() if after else p)
        else:
            error = target - p.softmax(-1)
        expected += 0.5 * error.square().sum(-1)
    torch.testing.assert_close(population.energy, expected.mean(-1), rtol=1e-10, atol=0)


def test_it_counts_the_errors_of_il_kfac_in_units_of_their_step_sizes():
    alpha, damping, x = 0.01, 0.5, np.array([[0.3, -1.0]])
    population = create("il-kfac", [2, 2], [{"alpha": alpha, "adaptive": False, "damping": damping, "precision_damping": 1.0}],
                        dtype="float64")
    epsilon = population.members[0].epsilon
    logits = population.predict(x)[0].numpy()
    population.learn(x, [1])
    g = np.array([0.0, 1.0]) - np.exp(logits[0]) / np.exp(logits[0]).sum()
    a = alpha * (epsilon + (np.square(x).sum() + 1) / damping) / np.square(g).mean()  # the metric is empty at first
    tau = gain(logits[None], (a * g)[None, None], np.array([[0.0, 1.0]])).item()
    assert population.energy.tolist() == pytest.approx([np.square(tau * a * g).sum() / (2 * a)], rel=1e-9)


def test_backpropagation_has_none_and_a_mixed_population_has_that_of_its_members():
    x, y = samples(4)
    assert create("bp-sgd", LAYERS).learn(x, y) and create("bp-sgd", LAYERS).energy is None
    mixed = create("il-prox", LAYERS, [{"inference_steps": steps} for steps in (3, 5, 3)])
    alone = create("il-prox", LAYERS, [{"inference_steps": 5}], seed=0)
    assert mixed.energy is None
    mixed.learn(x, y), alone.learn(x, y)
    assert mixed.energy.shape == (3,) and mixed.energy[1] == alone.energy[0]
    assert mixed.energy[0] == mixed.energy[2] != mixed.energy[1]
