"""Diagnostics: against values worked out by hand and by autograd, and harmless to what is learned."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from streamil.diagnostics import Diagnostics, _joined
from streamil.experiment.race import Diagnostics as Settings
from streamil.learners import create
from streamil.learners.outcome import Outcome
from streamil.samples import Batch

LUCK = np.random.default_rng(4)
X = LUCK.normal(size=(240, 5)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 1)


def looked(algorithm: str, members: list[dict], *, every: int = 10, size: int = 4, alpha: float = 1.0, hidden=(8, 6)):
    population = create(algorithm, [5, *hidden, 3], members, batch_size=size)
    diagnostics = Diagnostics(Settings(every=every, alpha=alpha), len(members), len(hidden) + 1, list(range(len(members))))
    return population, diagnostics


def learn(population, diagnostics, first=0, last=240, step=240):
    parts = []
    for begin in range(first, last, step):
        rows = np.arange(begin, min(begin + step, last))
        parts.append(diagnostics.learn(population, Batch(X[rows], Y[rows], rows, np.zeros(len(rows), np.int64)), begin))
    return parts


@pytest.mark.parametrize("algorithm", ["il-prox", "bp-adam", "il-kfac", "torch", "river"])
def test_looking_changes_nothing_that_is_learned(algorithm, tmp_path):
    if algorithm == "torch":
        (tmp_path / "own_look.py").write_text("import torch\ndef net(inputs, outputs):\n    m = torch.nn.Linear(inputs, outputs)\n    return m, torch.optim.SGD(m.parameters(), lr=0.1)\n")
        rule, more = "torch:own_look:net", {"folder": tmp_path}
    else:
        rule, more = ("river:naive_bayes.GaussianNB", {}) if algorithm == "river" else (algorithm, {})
    plain, seen = (create(rule, [5, 8, 3], [{}], batch_size=4, **more) for _ in range(2))
    diagnostics = Diagnostics(Settings(every=7), 1, 2, [0])
    outcome = plain.learn(X, Y)
    found = learn(seen, diagnostics)[0]
    assert torch.equal(found.logits, outcome.logits) and torch.equal(found.loss, outcome.loss)
    assert torch.equal(plain.predict(X), seen.predict(X)) and diagnostics.looks == 8
    known = {name for name, values in diagnostics.last.items() if not np.isnan(values).any()}
    foreign = {"loss_before", "loss_after", "output_way", "output_alignment", "interference"}
    assert known == (foreign if algorithm in ("torch", "river") else set(diagnostics.measures))


def test_measures_of_one_update_are_what_they_say():
    """bp-sgd on one layer: the update is -rate times the gradient, so everything follows from softmax."""
    population = create("bp-sgd", [5, 3], [{"learning_rate": 0.1}], batch_size=4, dtype="float32")
    diagnostics = Diagnostics(Settings(every=1), 1, 1, [0])
    weight, bias = (part[0].double().numpy() for part in population.weights[0])
    x, y = X[:4].astype(float), Y[:4]

    def said(w, b):
        z = np.exp(x @ w.T + b)
        return z / z.sum(1, keepdims=True)

    q = said(weight, bias)
    error = np.eye(3)[y] - q
    step, bias_step = 0.1 * error.T @ x / 4, 0.1 * error.mean(0)
    after = said(weight + step, bias + bias_step)
    learn(population, diagnostics, last=4)
    found = {name: float(values[0]) for name, values in diagnostics.last.items()}
    moved = after - q
    assert found["loss_before"] == pytest.approx(-np.log(q[range(4), y]).mean(), rel=1e-5)
    assert found["loss_after"] == pytest.approx(-np.log(after[range(4), y]).mean(), rel=1e-5)
    assert found["output_way"] == pytest.approx((moved * error).sum() / (error**2).sum(), rel=1e-3)
    assert found["output_alignment"] == pytest.approx((moved * error).sum() / math.sqrt((moved**2).sum() * (error**2).sum()), rel=1e-3)
    assert found["update_norm"] == pytest.approx(math.sqrt((step**2).sum() + (bias_step**2).sum()), rel=1e-4)
    assert math.isnan(found["interference"])  # nothing to replay yet


def test_a_small_explicit_step_points_where_the_implicit_one_does_and_the_reference_itself_exactly():
    population, diagnostics = looked("bp-sgd", [{"learning_rate": 1e-3}], alpha=1e-3, every=1)
    learn(population, diagnostics, last=40)
    assert all(float(diagnostics.mean[f"implicit_cosine_{layer}"][0]) > 0.999 for layer in (1, 2, 3))
    population, diagnostics = looked("implicit-sgd", [{"alpha": 2.0}], alpha=2.0, every=5)
    learn(population, diagnostics, last=40)
    assert all(float(diagnostics.mean[f"implicit_cosine_{layer}"][0]) > 0.995 for layer in (1, 2, 3))
    assert float(diagnostics.mean["output_way"][0]) > 0.2


def test_interference_is_the_rise_of_the_loss_on_samples_of_earlier_looks():
    population, diagnostics = looked("bp-sgd", [{"learning_rate": 0.5}], every=10)
    learn(population, diagnostics, last=36)  # nine updates: no look yet
    learn(population, diagnostics, first=36, last=40)
    replay = diagnostics._replay.rows
    assert sorted(replay.x[:, 0].tolist()) == sorted(X[36:40, 0].tolist())
    learn(population, diagnostics, first=40, last=76)
    before = population.predict(replay.x).double()
    learn(population, diagnostics, first=76, last=80)
    after, labels = population.predict(replay.x).double(), torch.from_numpy(replay.y)
    rise = [torch.nn.functional.cross_entropy(one[0], labels).item() for one in (before, after)]
    assert float(diagnostics.last["interference"][0]) == pytest.approx(rise[1] - rise[0], abs=1e-6)


def test_a_mini_batch_with_a_class_not_met_before_is_passed_over():
    population = create("bp-sgd", [5, 4, 1], [{}], batch_size=1, growing=True)
    diagnostics = Diagnostics(Settings(every=1), 1, 2, [0])
    order = np.array([0, 0, 1, 2, 0, 1])
    diagnostics.learn(population, Batch(X[:6], order, np.arange(6), np.zeros(6, np.int64)), 0)
    assert diagnostics.looks == 2  # of the six updates those with two classes known, theirs among them
    assert diagnostics.points()[0].tolist() == [5, 6]


def test_only_the_first_seed_of_a_candidate_is_compared_with_implicit_sgd():
    population = create("bp-sgd", [5, 4, 3], [{"seed": 0}, {"seed": 1}], batch_size=4)
    diagnostics = Diagnostics(Settings(every=5), 2, 2, [0])
    learn(population, diagnostics)
    cosine = diagnostics.mean["implicit_cosine_1"]
    assert 0 < cosine[0] < 1 and np.isnan(cosine[1])


def test_outcomes_are_joined_where_the_output_grew():
    logits = [torch.zeros(1, 2, 2), torch.ones(1, 1, 3)]
    joined = _joined([Outcome(one, torch.zeros(one.shape[:2])) for one in logits])
    assert joined.logits[0].tolist() == [[0, 0, -math.inf], [0, 0, -math.inf], [1, 1, 1]] and joined.loss.shape == (1, 3)


def test_classes_that_are_not_live_take_no_part():
    """Of a closed set of three the middle one is never met: rows of the others are found by their own place."""
    population = create("bp-sgd", [5, 4, 3], [{"learning_rate": 0.5}], batch_size=1, growing=True)
    diagnostics = Diagnostics(Settings(every=4), 1, 2, [0])
    y = np.where(X[:8, 0] > 0, 2, 0)
    y[:4] = [0, 2, 0, 2]

    def feed(rows):
        diagnostics.learn(population, Batch(X[rows], y[rows], rows, np.zeros(len(rows), np.int64)), int(rows[0]))

    def loss(x, labels):
        return torch.nn.functional.cross_entropy(population.predict(x)[0].double(), torch.from_numpy(labels)).item()

    feed(np.arange(4))
    feed(np.arange(4, 7))
    replay = diagnostics._replay.rows
    assert replay.y.tolist() == [2]
    before = loss(X[7:8], y[7:8]), loss(replay.x, replay.y)
    feed(np.arange(7, 8))
    last = {name: float(values[0]) for name, values in diagnostics.last.items()}
    assert last["loss_before"] == pytest.approx(before[0], rel=1e-5) and last["loss_after"] == pytest.approx(loss(X[7:8], y[7:8]), rel=1e-5)
    assert last["interference"] == pytest.approx(loss(replay.x, replay.y) - before[1], abs=1e-6)
    assert 0 < last["implicit_cosine_2"] <= 1
