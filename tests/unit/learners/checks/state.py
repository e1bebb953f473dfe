"""The state of rules: it can be saved, shown as a module, and stays finite."""

from __future__ import annotations

import pytest
import torch

from checks.rules import LAYERS, allowance, assert_same_state, build, members, plain_members, samples
from streamil.errors import LearnerError
from streamil.learners import learner_class


def state_round_trip_repeats_the_next_outcomes(algorithm, mixed):
    given = members(algorithm) + [{"train_biases": False}] * mixed
    one, other = (build(algorithm, given, growing=True, layers=[*LAYERS[:-1], 0], dtype="float32") for _ in range(2))
    one.learn(*samples(40, classes=3))
    other.learn(*samples(10, seed=5, classes=2))
    other.load_state_dict(one.state_dict())
    for step in range(50):
        x, y = samples(2, seed=100 + step)
        ours, theirs = one.step(x, y), other.step(x, y)
        assert torch.equal(ours.logits, theirs.logits) and torch.equal(ours.loss, theirs.loss)
    assert_same_state(one.state_dict(), other.state_dict())


def state_is_copied_and_wrong_states_change_nothing(algorithm):
    population = build(algorithm)
    state = population.state_dict()
    population.learn(*samples(20))
    assert not torch.equal(state["weight.0"], population.state_dict()["weight.0"])
    for wrong in ({}, state | {"more": state["live"]}, state | {"weight.1": state["weight.0"]}, state | {"bias.0": 1}):
        before = population.state_dict()
        with pytest.raises(LearnerError, match="state"):
            population.load_state_dict(wrong)
        assert_same_state(before, population.state_dict())


def module_gives_the_same_logits(algorithm, activation):
    population = build(algorithm, plain_members(algorithm), activation=activation)
    population.learn(*samples(20))
    x, _ = samples(5, seed=1)
    for member in range(3):
        module = population.to_module(member)
        torch.testing.assert_close(module(torch.from_numpy(x)), population.predict(x)[member], rtol=1e-12, atol=1e-12)
        assert all(parameter.requires_grad for parameter in module.parameters())


def a_diverging_member_stops_alone_at_its_last_finite_weights(algorithm, dtype):
    x, y = samples(60)
    sick, well = build(algorithm, dtype=dtype), build(algorithm, dtype=dtype)
    for population in (sick, well):
        population.learn(x[:20], y[:20])
    weights = sick.weights
    huge = torch.finfo(weights[0][0].dtype).max / 4
    for weight, _ in weights:
        weight[1] = torch.sign(weight[1]) * huge
    sick.weights = weights
    shared = ("live", "steps", "diverged", *allowance(algorithm).shared)  # what the samples alone change
    stopped = {name: tensor[1] for name, tensor in sick.state_dict().items() if name not in shared}
    ours, theirs = sick.learn(x[20:], y[20:]), well.learn(x[20:], y[20:])
    assert sick.diverged.tolist() == [False, True, False]
    assert torch.equal(ours.logits[[0, 2]], theirs.logits[[0, 2]])
    assert bool((ours.predicted >= -1).all())
    assert_same_state(stopped, {name: sick.state_dict()[name][1] for name in stopped})
    resumed = build(algorithm, dtype=dtype)
    resumed.load_state_dict(sick.state_dict())
    resumed.learn(x, y), well.learn(x, y)
    assert resumed.diverged.tolist() == [False, True, False]
    assert torch.equal(resumed.weights[0][0][[0, 2]], well.weights[0][0][[0, 2]])
    assert_same_state(stopped, {name: resumed.state_dict()[name][1] for name in stopped})


def checking_every_element_gives_the_same_numbers(algorithm):
    x, y = samples(40)
    quick, thorough = build(algorithm, dtype="float32"), build(algorithm, dtype="float32")
    thorough._limit = 0.0
    assert torch.equal(quick.learn(x, y).logits, thorough.learn(x, y).logits)
    assert_same_state(quick.state_dict(), thorough.state_dict())


def no_move_is_longer_than_the_rule_says(algorithm):
    population = build(algorithm, batch_size=4)
    for seed in range(20):
        population.step(*samples(4, seed))
        largest = max(tensor.abs().max().item() for tensor in population.parameters.named().values())
        assert largest <= population._bound


def numbers_held_are_those_of_weights_and_slots(algorithm):
    population = build(algorithm)
    held = sum(tensor.numel() for tensor in population.parameters.named().values())
    assert learner_class(algorithm).numbers_held(LAYERS, population.members, population.batch_size) == held
