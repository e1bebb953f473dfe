"""What rules refuse, and what they take."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from checks.rules import LAYERS, assert_same_state, build, rate_of, samples
from streamil.errors import LearnerError
from streamil.learners import create


def wrong_arguments_are_named_and_change_nothing(algorithm):
    population = build(algorithm)
    x, y = samples(4)
    before = population.state_dict()
    wrong = [
        (x[:3], y[:3], "batch_size"), (x[:, :5], y, "x: got shape"), (x[0], y[:1], "x: got shape"),
        (x * np.nan, y, "finite"),
        (x * np.array([1, 1, 1, 1, 1, np.inf]), y, "finite"), (x.astype(str), y, "type"), (x, y[:2], "y: got shape"),
        (x, y - 4, "unlabelled"), (x, y + 4, "classes"), (x, y * 1.0, "type"),
        ([[1, 2, 3, 4, 5, 6], [1]], [0, 1], "x: got rows of several lengths"),
    ]
    for bad_x, bad_y, words in wrong:
        with pytest.raises(LearnerError, match=words):
            population.learn(bad_x, bad_y)
    with pytest.raises(LearnerError, match="step takes"):
        population.step(x, y)
    with pytest.raises(LearnerError, match="unlabelled"):
        build(algorithm, growing=True).learn(x, [0, 1, -1, 0])
    with pytest.raises(LearnerError, match="weights"):
        population.weights = population.weights[:-1]
    with pytest.raises(LearnerError, match="member"):
        population.to_module(3)
    assert_same_state(before, population.state_dict())


def wrong_settings_are_named(algorithm):
    wrong = [
        ({"members": [{"alhpa": 1}]}, "alhpa.*did you mean"), ({"members": [{"seed": -1}]}, "seed"),
        ({"members": []}, "members"), ({"members": [{}, {"train_biases": "no"}]}, r"members\[1\].train_biases"),
        ({"layers": [4]}, "layers"), ({"layers": 4}, "layers: got 4"), ({"layers": None}, "layers: got None"),
        ({"layers": [10**15, 2]}, "layers: got"), ({"members": 3}, "members: got 3"),
        ({"layers": [4, 0, 2]}, "layers"), ({"layers": [4, 2, 0]}, "layers"), ({"batch_size": 0}, "batch_size"),
        ({"dtype": "float16"}, "dtype"), ({"device": "nowhere"}, "device"), ({"activation": "step"}, "activation"),
        ({"seed": 1.5}, "seed"),
    ]
    for options, words in wrong:
        with pytest.raises(LearnerError, match=words):
            create(**{"algorithm": algorithm, "layers": LAYERS} | options)


def rates_are_positive_numbers(algorithm):
    rate = rate_of(algorithm)
    for value in (0.0, -1.0, math.nan, math.inf, "1", True, None):
        with pytest.raises(LearnerError, match=rf"members\[0\]\.{rate}"):
            build(algorithm, [{rate: value}])


def inputs_of_any_kind_give_the_same(algorithm):
    x, y = np.round(samples(4)[0]), np.array([0, 1, 2, 3])
    frozen = x.copy()
    frozen.flags.writeable = False
    kinds = [(x, y), (torch.from_numpy(x), torch.from_numpy(y)), (x.tolist(), y.tolist()), (frozen, y.astype(np.uint8))]
    kinds += [(x.astype(np.int8), y), (x.astype(">f4"), y), (np.asfortranarray(x), y), (x[::-1][::-1], y)]
    logits = [build(algorithm).learn(*kind).logits for kind in kinds]
    assert all(torch.equal(logits[0], other) for other in logits[1:])


def empty_call_changes_nothing(algorithm):
    population = build(algorithm)
    before = population.state_dict()
    outcome = population.learn(np.zeros((0, 6)), np.zeros(0, dtype=int))
    assert outcome.logits.shape == (3, 0, 4) and outcome.predicted.shape == outcome.loss.shape == (3, 0)
    assert_same_state(before, population.state_dict())
