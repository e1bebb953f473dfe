"""IL-prox: its batch rules, target and sweeps; the reference's numbers stand in tests/conformance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streamil.errors import LearnerError
from streamil.learners import create
from streamil.learners.il_prox import ILProx

LAYERS = [6, 9, 8, 4]


def build(size=1, layers=LAYERS, **member):
    return create("il-prox", layers, [member], batch_size=size, dtype="float64")


def samples(count, seed=0, width=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)), rng.integers(0, 4, count)


def final(h, population):
    """What feeds the output layer, and its bias: [r, 1]."""
    return torch.cat([torch.relu(h[-2][0]), torch.ones(len(h[-2][0]), 1, dtype=torch.float64)], 1)


def test_batch_rules_agree_on_one_sample():
    x, y = samples(60)
    ours, theirs = (build(batch_rule=rule).learn(x, y).logits for rule in ("affine-projection", "nlms-mean"))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("epsilon", [0.25, 1e-3])
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("size", [2, 5, 9, 12])  # inputs of the layers: 6, 9, 8; the rule turns to its dual beyond
def test_affine_projection_solves_the_regularised_regression(size, biases, epsilon):
    population = build(size, epsilon=epsilon, train_biases=biases)
    x, y = samples(size)
    h = population.infer(x, y)
    before = population.weights
    population.step(x, y)
    for layer, (old, new) in enumerate(zip(before, population.weights, strict=True)):
        r = h[layer][0] if layer == 0 else torch.relu(h[layer][0])
        r = torch.cat([r, torch.full((size, 1), float(biases), dtype=r.dtype)], 1)
        p = r[:, :-1] @ old[0][0].T + old[1][0]
        e = h[layer + 1][0] - (torch.softmax(p, 1) if layer == 2 else p)
        dual = e.T @ r @ torch.linalg.inv(r.T @ r + epsilon * torch.eye(r.shape[1]).double())
        moved = torch.cat([new[0][0] - old[0][0], (new[1][0] - old[1][0]).unsqueeze(1)], 1)
        dual[:, -1] *= biases
        torch.testing.assert_close(moved, dual, rtol=1e-9, atol=1e-11)


def test_four_copies_of_a_sample_move_the_output_as_one_with_a_quarter_of_epsilon():
    epsilon = 0.25
    x, y = samples(1)
    one, four = build(1, epsilon=epsilon), build(4, epsilon=epsilon)
    h, before = one.infer(x, y), one.weights[-1]
    r = final(h, one)
    e = h[-1][0] - torch.softmax(r[:, :-1] @ before[0][0].T + before[1][0], 1)
    one.step(x, y), four.step(np.repeat(x, 4, 0), np.repeat(y, 4))
    for population, copies in ((one, 1), (four, 4)):
        expected = e.T @ r / (r.square().sum() + epsilon / copies)
        weight, bias = population.weights[-1]
        torch.testing.assert_close(weight[0] - before[0][0], expected[:, :-1], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(bias[0] - before[1][0], expected[:, -1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [4, 12])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_copies_without_epsilon_stay_finite(size, dtype):
    population = create("il-prox", LAYERS, [{"epsilon": 0.0, "train_biases": False}], batch_size=size, dtype=dtype)
    x, y = samples(1)
    for inputs in (x, 0 * x):
        population.step(np.repeat(inputs, size, 0), np.repeat(y, size))
    assert not population.diverged.any()
    assert population.predict(x).argmax() == y[0]


@pytest.mark.parametrize("alpha", [0.01, 1.0, 100.0])
def test_one_layer_moves_the_share_of_the_way_that_a_proximal_step_reaches(alpha):
    population = build(layers=[6, 4], alpha=alpha, target="fresh", epsilon=0.25)
    x, y = samples(1)
    q = torch.softmax(population.predict(x)[0], -1)
    n = (x**2).sum() + 1.25
    target = q + alpha * n / (1 + alpha * n) * (torch.eye(4)[y] - q)
    torch.testing.assert_close(population.infer(x, y)[-1][0], target, rtol=1e-12, atol=1e-12)
    before = population.predict(x)
    population.step(x, y)
    moved = (population.predict(x) - before)[0]
    torch.testing.assert_close(moved, (target - q) * (n - 0.25) / n, rtol=1e-10, atol=1e-12)


def test_lagged_and_fresh_targets_differ():
    x, y = samples(40)
    lagged, fresh = (build(target=target, gamma_bottom=0.1).learn(x, y).logits for target in ("lagged", "fresh"))
    assert (lagged - fresh).abs().max() > 1e-4


def test_simultaneous_step_takes_all_layers_at_once_and_a_sweep_the_error_just_renewed():
    x, y = samples(1)
    start = [h[0] for h in build(inference_steps=0).infer(x, y)]
    at_once = [h[0] for h in build(inference_steps=1, gamma_bottom=0.1).infer(x, y)]
    population = build(inference_steps=1, gamma_bottom=0.1, sweep="sequential")
    swept = [h[0] for h in population.infer(x, y)]
    assert torch.equal(at_once[2], swept[2]) and not torch.equal(swept[2], start[2])  # both took the output's error
    assert torch.equal(at_once[1], start[1])  # at once: the layer above had no error yet
    feedback = (swept[2] - start[2]) @ population.weights[1][0][0]
    torch.testing.assert_close(swept[1], start[1] + 0.1 * (start[1] > 0).double() * feedback, rtol=1e-12, atol=1e-14)


def test_without_inference_only_the_output_layer_learns():
    population = build(inference_steps=0)
    before = population.weights
    population.learn(*samples(5))
    changed = [not torch.equal(old[0], new[0]) for old, new in zip(before, population.weights, strict=True)]
    assert changed == [False, False, True]


def test_inference_changes_nothing():
    population = build()
    x, y = samples(3)
    before = population.state_dict()
    activities = population.infer(x, y)
    assert [tuple(h.shape) for h in activities] == [(1, 3, 6), (1, 3, 9), (1, 3, 8), (1, 3, 4)]
    assert all(torch.equal(tensor, population.state_dict()[name]) for name, tensor in before.items())


def test_presets_fill_what_is_not_set():
    paper, fast = build(preset="paper").members[0], build(preset="paper-fast", gamma_bottom=0.1).members[0]
    assert (paper.inference_steps, paper.gamma_bottom, paper.gamma_top) == (25, 0.015, 0.015)
    assert (fast.inference_steps, fast.gamma_bottom, fast.gamma_top) == (12, 0.1, 0.0)
    for wrong in ("papre", ["paper"], 3):
        with pytest.raises(LearnerError, match="preset"):
            build(preset=wrong)


@pytest.mark.parametrize("gamma", ["gamma_bottom", "gamma_top", "gamma_decay"])
def test_rates_of_members_are_their_own(gamma):
    x, y = samples(30)
    given = [{gamma: rate} for rate in (0.0, 0.05, 0.1)]
    together = create("il-prox", LAYERS, given, dtype="float64")
    assert type(together) is ILProx
    outcome = together.learn(x, y)
    for place, member in enumerate(given):
        torch.testing.assert_close(outcome.logits[place], build(**member).learn(x, y).logits[0], rtol=1e-12, atol=1e-12)
    assert (outcome.logits[0] - outcome.logits[2]).abs().max() > 1e-4
