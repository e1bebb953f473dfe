"""How rules learn: members apart from each other, mini-batch after mini-batch, classes as they come."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch

from checks.rules import LAYERS, allowance, assert_same_state, build, members, plain_members, samples
from streamil.learners import learner_class


def members_do_not_know_of_each_other(algorithm):
    x, y = samples(60)
    given = members(algorithm)
    together = build(algorithm, given).learn(x, y)
    for place, member in enumerate(given):
        alone = build(algorithm, [member]).learn(x, y)
        torch.testing.assert_close(together.logits[place], alone.logits[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(together.loss[place], alone.loss[0], rtol=1e-12, atol=1e-12)


def predict_is_feedforward_and_changes_nothing(algorithm, growing):
    population = build(algorithm, growing=growing)
    population.learn(*samples(20, classes=3))
    before = population.state_dict()
    x, y = samples(2, seed=3, classes=3)
    logits = population.predict(x)
    assert_same_state(before, population.state_dict())
    torch.testing.assert_close(logits, population.step(x, y).logits, rtol=1e-12, atol=1e-12)
    assert bool(logits[..., 3].isneginf().all()) is growing


def learn_does_not_depend_on_how_samples_are_cut_into_calls(algorithm, size):
    rng = np.random.default_rng(size)
    count = 40 * size
    x, y = samples(count, classes=7)
    y = np.minimum(y, np.arange(count) // (5 * size))  # classes arrive midway
    options = {"batch_size": size, "growing": True, "layers": [*LAYERS[:-1], 1], "dtype": "float32"}
    whole, parts, steps = (build(algorithm, **options) for _ in range(3))
    outcome = whole.learn(x, y)
    cuts = [0, *sorted(rng.choice(np.arange(1, 40), 6, replace=False) * size), count]
    pieces = [(parts, slice(a, b)) for a, b in pairwise(cuts)]
    pieces += [(steps, slice(a, a + size)) for a in range(0, count, size)]
    for population, piece in pieces:
        learned = population.learn(x[piece], y[piece])
        classes = learned.logits.shape[-1]
        assert torch.equal(learned.logits, outcome.logits[:, piece, :classes])
        assert bool(outcome.logits[:, piece, classes:].isneginf().all())
        assert torch.equal(learned.loss, outcome.loss[:, piece])
    assert_same_state(whole.state_dict(), parts.state_dict())
    assert_same_state(whole.state_dict(), steps.state_dict())


def classes_met_midway_equal_rows_there_from_the_start(algorithm):
    x, y = samples(80)
    y = np.minimum(y, np.arange(80) // 15)
    grown = build(algorithm, growing=True, layers=[*LAYERS[:-1], 0])
    ready = build(algorithm, growing=True)
    ours, theirs = grown.learn(x, y), ready.learn(x, y)
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=1e-12, atol=1e-12)
    assert torch.equal(ours.predicted, theirs.predicted)
    assert grown.layers == LAYERS and bool(grown.live.all())


def unmet_classes_take_no_part(algorithm):
    x, y = samples(30, classes=2)
    two = build(algorithm, layers=[*LAYERS[:-1], 2])
    four = build(algorithm, growing=True)
    four.step(x[:2], [0, 1])
    two.step(x[:2], [0, 1])
    two.weights = [*four.weights[:-1], tuple(tensor[:, :2] for tensor in four.weights[-1])]
    ours, theirs = two.learn(x, y), four.learn(x, y)
    torch.testing.assert_close(ours.logits, theirs.logits[..., :2], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=1e-11, atol=1e-11)


def nothing_moves_before_two_classes_are_live(algorithm):
    population = build(algorithm, growing=True, layers=[*LAYERS[:-1], 0], batch_size=1)
    before, state = population.weights, population.state_dict()
    x, _ = samples(4)
    assert population.predict(x).shape == (3, 4, 0)
    first = population.step(x[:1], [0])
    later = population.learn(x[1:3], [0, 0])
    assert first.predicted.tolist() == [[-1]] * 3 and first.loss.tolist() == [[0.0]] * 3
    assert later.predicted.tolist() == [[0, 0]] * 3 and later.loss.abs().max() == 0
    assert all(torch.equal(state[name], population.state_dict()[name]) for name in ("steps", "weight.0", "bias.0"))
    newcomer = population.step(x[3:], [2])
    assert newcomer.predicted.tolist() == [[0]] * 3
    np.testing.assert_allclose(newcomer.loss, math.log(2))
    assert population.live.tolist() == [True, False, True]
    assert not torch.equal(before[0][0], population.weights[0][0])


def composite_keeps_the_order_of_its_members(algorithm):
    given = [{**member, "train_biases": place != 1} for place, member in enumerate(plain_members(algorithm, 4))]
    mixed = build(algorithm, given)
    assert type(mixed).__name__ == "Composite" and mixed.seeds == [0, 1, 2, 3]
    assert [member.train_biases for member in mixed.members] == [True, False, True, True]
    assert mixed.algorithm == algorithm and mixed.family == learner_class(algorithm).family and mixed.layers == LAYERS
    x, y = samples(40)
    outcome = mixed.learn(x, y)
    for place, member in enumerate(given):
        alone = build(algorithm, [member])
        torch.testing.assert_close(outcome.logits[place], alone.learn(x, y).logits[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(mixed.weights[1][1][place], alone.weights[1][1][0], rtol=1e-12, atol=1e-12)
        module = mixed.to_module(place)
        torch.testing.assert_close(module(torch.from_numpy(x)), alone.predict(x)[0], rtol=1e-12, atol=1e-12)
    weights = [(w + 1, b + 2) for w, b in mixed.weights]
    mixed.weights = weights
    pairs = zip(mixed.weights, weights, strict=True)
    assert all(torch.equal(ours[0], given[0]) and torch.equal(ours[1], given[1]) for ours, given in pairs)


def one_layer_and_ten_learn(algorithm, layers):
    population = build(algorithm, [allowance(algorithm).quick], layers=layers, batch_size=1)
    assert population.parameters_per_member == sum((a + 1) * b for a, b in pairwise(layers))
    x, _ = samples(1)
    losses = population.learn(np.repeat(x, 300, 0), np.full(300, 1)).loss[0]
    assert losses[-1] < 0.9 * losses[0]


def biases_can_stay(algorithm):
    population = build(algorithm, [{"train_biases": False}])
    before = population.weights
    population.learn(*samples(10))
    for (old, old_bias), (new, new_bias) in zip(before, population.weights, strict=True):
        assert torch.equal(old_bias, new_bias) and not torch.equal(old, new)
