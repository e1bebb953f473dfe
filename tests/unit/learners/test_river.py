"""River arms: river's own numbers, and its rule on pickles."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from river import linear_model, multiclass

from streamil import run
from streamil.arms import plan_arms
from streamil.errors import ExperimentError, LearnerError
from streamil.experiment import Experiment
from streamil.explain import explain
from streamil.features import Featurizer
from streamil.learners import create, learner_class
from streamil.learners.river_pickle import load
from streamil.streams import open_stream

SAVED = ["linear_model.PAClassifier", "linear_model.LogisticRegression", "linear_model.SoftmaxRegression",
         "naive_bayes.GaussianNB", "neighbors.KNNClassifier", "forest.ARFClassifier", "forest.AMFClassifier",
         "tree.HoeffdingTreeClassifier", "dummy.PriorClassifier"]


def samples(count, seed=0, classes=3):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, count)
    return rng.normal(size=(count, 4)) + y[:, None], y


def build(name, classes=3, members=None, **options):
    return create(f"river:{name}", [4, classes], members, **{"growing": True, "dtype": "float64"} | options)


def experiment(arms, limit=300):
    return Experiment.model_validate({"stream": {"source": {"kind": "elec"}, "limit": limit}, "arms": arms})


@pytest.mark.parametrize(("name", "made"), [
    ("linear_model.PAClassifier", linear_model.PAClassifier), ("linear_model.ALMAClassifier", linear_model.ALMAClassifier),
    ("linear_model.LogisticRegression", linear_model.LogisticRegression),
])
def test_two_classes_have_rivers_own_numbers_on_elec2(name, made):
    file = experiment({"a": {"algorithm": "bp-sgd"}}, 2000)
    featurizer, model = Featurizer(file.stream), made()
    population = None
    seen = 0
    for records in open_stream(file.stream, Path()):
        batch, _ = featurizer.transform(records, np.arange(seen, seen + len(records)))
        seen += len(records)
        population = population or create(f"river:{name}", [batch.x.shape[1], 2])
        outcome = population.learn(batch.x, batch.y)
        for place, (row, label) in enumerate(zip(batch.x.tolist(), batch.y.tolist(), strict=True)):
            x = dict(enumerate(row))
            said = model.predict_proba_one(x)
            assert outcome.predicted[0, place] == int(model.predict_one(x))
            expected = [math.log(said[k]) if said[k] > 0 else -math.inf for k in (False, True)]
            np.testing.assert_allclose(outcome.logits[0, place], expected, rtol=1e-12, atol=1e-15)
            model.learn_one(x, bool(label))
    assert seen == 2000


def test_a_third_class_goes_on_from_what_two_have_learned():
    x, y = samples(300)
    y[:100] = np.minimum(y[:100], 1)
    ours, theirs = build("linear_model.PAClassifier"), multiclass.OneVsRestClassifier(linear_model.PAClassifier())
    outcome = ours.learn(x, y)
    agreed = 0
    for place in range(300):
        row = dict(enumerate(x[place].tolist()))
        agreed += int(outcome.predicted[0, place]) == theirs.predict_one(row)
        theirs.learn_one(row, int(y[place]))
    assert agreed >= 298  # all but the first, which river calls None, and ties


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("size", [1, 5])
def test_learning_in_any_cuts_and_again_gives_the_same(name, size):
    x, y = samples(120)
    y = np.minimum(y, np.arange(120) // 30)
    members = [{"seed": 1}, {"seed": 2}]
    whole, again, parts = (build(name, members=members, batch_size=size) for _ in range(3))
    outcome = whole.learn(x, y)
    repeated = again.learn(x, y)
    assert torch.equal(outcome.logits, repeated.logits) and torch.equal(outcome.loss, repeated.loss)
    assert bool(torch.isfinite(outcome.loss).all()) and bool((outcome.loss >= 0).all())
    for first, last in pairwise([0, 5, 40, 45, 120]):
        piece = slice(first, last)
        learned = parts.learn(x[piece], y[piece])
        assert torch.equal(learned.loss, outcome.loss[:, piece])
        assert torch.equal(learned.predicted, outcome.predicted[:, piece])


@pytest.mark.parametrize("name", SAVED)
def test_state_round_trip_repeats_the_next_outcomes(name):
    one, other = (build(name, members=[{}, {"seed": 3}], allow_pickle=True) for _ in range(2))
    one.learn(*samples(60))
    other.learn(*samples(10, seed=9))
    other.load_state_dict(one.state_dict())
    x, y = samples(50, seed=1)
    before = one.predict(x)
    assert torch.equal(before, one.predict(x)) and torch.equal(before, other.predict(x))
    ours, theirs = one.learn(x, y), other.learn(x, y)
    assert torch.equal(ours.logits, theirs.logits) and torch.equal(ours.loss, theirs.loss)


def test_seeds_are_passed_on():
    x, y = samples(200)
    outcome = build("forest.ARFClassifier", members=[{"seed": 1}, {"seed": 2}, {"seed": 1}]).learn(x, y)
    assert torch.equal(outcome.logits[0], outcome.logits[2])
    assert not torch.equal(outcome.logits[0], outcome.logits[1])


@pytest.mark.parametrize("growing", [True, False])
def test_an_empty_prediction_is_wrong_and_its_loss_finite(growing):
    population = build("naive_bayes.GaussianNB", growing=growing)
    first = population.learn(np.ones((1, 4)), [2])
    assert first.predicted.tolist() == [[-1]]
    np.testing.assert_allclose(first.loss, [[0.0 if growing else math.log(4)]])
    newcomer = population.learn(-np.ones((1, 4)), [0])
    assert newcomer.predicted.tolist() == [[2]]
    np.testing.assert_allclose(newcomer.loss, [[math.log(2) if growing else -math.log(1e-15)]])


def test_a_mini_batch_is_predicted_before_any_of_it_is_learned():
    x, y = samples(40)
    population = build("naive_bayes.GaussianNB", batch_size=8)
    population.learn(x[:32], y[:32])
    assert torch.equal(population.predict(x[32:])[0], population.learn(x[32:], y[32:]).logits[0])


def test_state_needs_permission():
    population = build("naive_bayes.GaussianNB")
    with pytest.raises(LearnerError, match="allow_pickle=True"):
        population.state_dict()
    allowed = build("naive_bayes.GaussianNB", allow_pickle=True)
    with pytest.raises(LearnerError, match="allow_pickle=True"):
        population.load_state_dict(allowed.state_dict())


class Reduces:
    def __init__(self, *how):
        self.how = how

    def __reduce__(self):
        return self.how


def forged(module, name):
    """A pickle that names `name` of a module, dots and all, and calls it."""
    return (b"\x80\x04" + b"\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)]) + name.encode()
            + b"\x93)R.")


@pytest.mark.parametrize("data", [
    forged("river.datasets.base", "os.getpid"), forged("river.utils.rolling", "os.getpid"),
    forged("river.linear_model.pa", "collections.OrderedDict"), forged("river.forest.adaptive_random_forest", "math.exp"),
    forged("river.linear_model.pa", "PAClassifier.learn_one"), pickle.dumps(random.Random(1).seed),
    pickle.dumps(Reduces(getattr, (linear_model.PAClassifier(), "__init__"))),
    pickle.dumps(Reduces(getattr, (linear_model.PAClassifier, "learn_one"))), forged("os", "getpid"), forged("builtins", "getattr"),
    forged("river.datasets", "Elec2"), forged("river.stream", "iter_csv"), forged("river.utils.pretty", "print_table"),
    pickle.dumps(Reduces(eval, ("1",))), pickle.dumps(os.system), b"", b"nonsense",
])
def test_a_pickle_of_anything_else_is_refused(data):
    with pytest.raises(LearnerError, match="pickle"):
        load(data, "river:any")


def test_a_forged_state_is_refused_and_changes_nothing():
    population = build("linear_model.PAClassifier", allow_pickle=True)
    x, y = samples(30)
    population.learn(x, y)
    state, before = population.state_dict(), population.predict(x)
    damaged = state | {"pickle": state["pickle"].clone()}
    damaged["pickle"][20] ^= 1
    evil = np.frombuffer(forged("os", "getpid"), dtype=np.uint8).copy()
    signed = np.frombuffer(hashlib.sha256(evil.tobytes()).digest(), dtype=np.uint8).copy()
    other = pickle.dumps([random.Random(1)])
    wrong = [damaged, state | {"pickle": torch.from_numpy(evil), "checksum": torch.from_numpy(signed)}, {},
             state | {"pickle": torch.zeros(3)}, state | {"more": state["live"]}, state | {"diverged": state["live"]},
             state | {"pickle": torch.frombuffer(bytearray(other), dtype=torch.uint8),
                      "checksum": torch.frombuffer(bytearray(hashlib.sha256(other).digest()), dtype=torch.uint8)}]
    for one in wrong:
        with pytest.raises(LearnerError, match="state"):
            population.load_state_dict(one)
        assert torch.equal(before, population.predict(x))


@pytest.mark.parametrize(("name", "member", "words"), [
    ("linear_model.PAClasifier", {}, "did you mean 'river:linear_model.PAClassifier'"),
    ("datasets.Elec2", {}, "did you mean"), ("linear_model.LinearRegression", {}, "did you mean"), ("os.getpid", {}, "did"),
    ("ensemble.BaggingClassifier", {}, "needs model"), ("linear_model.PAClassifier", {"mod": 1}, "did you mean mode"),
    ("linear_model.PAClassifier", {"C": math.nan}, "finite"), ("linear_model.PAClassifier", {"C": object()}, "object"),
    ("neighbors.KNNClassifier", {"cleanup_every": 1, "n_neighbours": 3}, "did you mean n_neighbors"),
])
def test_wrong_names_are_told(name, member, words):
    with pytest.raises(LearnerError, match=words):
        build(name, members=[member])


def test_what_it_has_not_is_told():
    population = build("naive_bayes.GaussianNB")
    assert population.family == "river" and population.parameters_per_member == 0
    for ask in (lambda: population.weights, lambda: population.to_module(0)):
        with pytest.raises(LearnerError, match=r"river:naive_bayes\.GaussianNB"):
            ask()
    for x, y in ((np.ones((2, 3)), [0, 1]), (np.full((2, 4), np.nan), [0, 1]), (np.ones((2, 4)), [0, -1])):
        with pytest.raises(LearnerError, match="got"):
            population.learn(x, y)


def test_a_race_has_river_arms_and_repeats_itself():
    arms = {"pa": {"algorithm": "river:linear_model.PAClassifier", "C": [0.1, 1.0]},
            "arf": {"algorithm": "river:forest.ARFClassifier", "n_models": 3, "seeds": 2},
            "knn@8": {"algorithm": "river:neighbors.KNNClassifier", "batch_size": 8}, "il": {"algorithm": "il-prox"}}
    first, second = (run(experiment(arms)) for _ in range(2))
    assert first == second
    assert [m["hyperparameters"]["C"] for m in first["arms"]["pa"]["members"]] == [0.1, 1.0]
    assert first["comparisons"][0]["baseline"] == "pa"
    assert all(m["accuracy"] > 0.5 for m in first["arms"]["pa"]["members"])
    assert any("one sample after another in Python" in line for line in explain(experiment(arms)))


def test_wrong_river_arms_are_told_with_their_place():
    for arm, words in (({"algorithm": "river:forest.ARF"}, "arms.a.algorithm.*ARFClassifier"),
                       ({"algorithm": "river:forest.ARFClassifier", "n_model": 3}, "n_models")):
        with pytest.raises(ExperimentError, match=words):
            plan_arms(experiment({"a": arm}))
    assert learner_class("river:forest.ARFClassifier").family == "river"
