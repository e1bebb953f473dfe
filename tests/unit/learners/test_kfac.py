"""il-kfac and bp-kfac: inference, metric, precision, adaptive step; the reference's numbers stand in tests/conformance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streamil.errors import LearnerError
from streamil.learners import create, il_kfac, learner_class
from streamil.learners.metric import Metric
from streamil.learners.ray import gain

torch.set_num_threads(1)  # nets this small only lose by threads
LAYERS = [6, 9, 8, 4]
both = pytest.mark.parametrize("algorithm", ["il-kfac", "bp-kfac"])
batch_rules = pytest.mark.parametrize("rule", ["sequential", "affine-projection", "mean"])


def build(algorithm="il-kfac", layers=LAYERS, size=1, *, dtype="float64", activation="relu", growing=False, **member):
    options = {"batch_size": size, "dtype": dtype, "activation": activation, "growing": growing}
    return create(algorithm, layers, [member], **options)


def samples(count, classes=4, seed=0, width=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)), rng.integers(0, classes, count)


def same_weights(one, other, **tolerance):
    for ours, theirs in zip(one.weights, other.weights, strict=True):
        for mine, yours in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, yours, **tolerance)


@pytest.mark.parametrize("classes", [2, 4])
def test_with_two_classes_the_ray_is_the_equilibrium(classes):
    # Without nonlinearity the network is its own linearisation, which the sweeps then relax to the end.
    shared = {"layers": [6, 9, 8, classes], "activation": "identity", "adaptive": False, "alpha": 0.01}
    ray, relaxed = build(**shared), build(**shared, inference="sweeps", inference_steps=400, gamma=0.2)
    x, y = samples(20, classes)
    ray.learn(x, y), relaxed.learn(x, y)
    if classes == 2:
        same_weights(ray, relaxed, rtol=1e-9, atol=1e-11)
    else:
        assert (ray.weights[0][0] - relaxed.weights[0][0]).abs().max() > 1e-6


@both
def test_one_layer_is_implicit_sgd_of_a_generalised_linear_model(algorithm):
    # At the first step P = I / damping = I, and both units have v = g^2; c = 0 makes p + e the new prediction.
    population = build(algorithm, [6, 2], damping=1.0, epsilon=1e-13, alpha=0.3, adaptive=False)
    x, y = samples(1, 2)
    (weight, bias), inputs = population.weights[0], torch.from_numpy(x)
    error = torch.nn.functional.one_hot(torch.from_numpy(y), 2) - torch.softmax(population.predict(x)[0], -1)
    step = 0.3 / error[0, 0] ** 2
    population.step(x, y)
    after = torch.nn.functional.one_hot(torch.from_numpy(y), 2) - torch.softmax(population.predict(x)[0], -1)
    implicit = algorithm == "il-kfac"  # the gradient where the step ends, not where it starts
    expected = step * (after if implicit else error)
    torch.testing.assert_close(population.weights[0][0][0] - weight[0], expected.T @ inputs, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(population.weights[0][1][0] - bias[0], expected[0], rtol=1e-9, atol=1e-9)


@batch_rules
@pytest.mark.parametrize("adaptive", [True, False])
def test_the_whole_way_along_the_ray_is_the_twin(monkeypatch, rule, adaptive):
    member = {"alpha": 1e-3, "alpha_min": 1e-5, "alpha_max": 1e-2, "batch_rule": rule, "adaptive": adaptive}
    implicit, explicit, whole = build(size=4, **member), build("bp-kfac", size=4, **member), build(size=4, **member)
    x, y = samples(80)
    implicit.learn(x, y), explicit.learn(x, y)
    monkeypatch.setattr(il_kfac, "gain", lambda logits, k, labels: np.ones((*logits.shape[:2], 1)))
    whole.learn(x, y)
    same_weights(whole, explicit, rtol=0, atol=0)
    assert (implicit.weights[0][0] - explicit.weights[0][0]).abs().max() > 1e-4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 300.0])
def test_gain_is_the_root_in_its_bracket_and_knows_no_neighbour(dtype, spread):
    rng = np.random.default_rng(0)
    p = (rng.normal(size=(5, 40, 4)) * spread).astype(dtype)
    y = np.eye(4, dtype=dtype)[rng.integers(0, 4, 40)]
    q = np.exp(p - p.max(-1, keepdims=True)).astype("f8")
    g = y - q / q.sum(-1, keepdims=True)
    k = (g * rng.exponential(size=g.shape) * 30).astype(dtype)
    tau, alone = gain(p, k, y), gain(p[2:3, 7:8], k[2:3, 7:8], y[7:8])
    assert ((tau >= 0) & (tau <= 1)).all() and tau.min() < 0.9
    p, k, close = p.astype("f8"), k.astype("f8"), 4 * np.finfo(dtype).eps
    for side in (-1, 1):
        there = tau * (1 + side * close)
        z = np.exp(p + there * k - (p + there * k).max(-1, keepdims=True))
        residual = (k * (y - z / z.sum(-1, keepdims=True))).sum(-1) - there[..., 0] * (k * g).sum(-1)
        assert (side * residual <= close * (k * g).sum(-1) + 1e-14 * np.abs(k).sum(-1)).all()
    np.testing.assert_array_equal(tau[2:3, 7:8], alone)


def reference_covariance(rows, rate):
    covariance = np.zeros((rows.shape[1],) * 2)
    for number, row in enumerate(rows, start=1):
        covariance += max(rate, 1 / number) * (np.outer(row, row) - covariance)
    return covariance


@pytest.mark.parametrize("rule", ["sequential", "affine-projection"])
def test_metric_is_the_recursion_sample_by_sample_at_its_renewals(rule):
    population = build(size=3, refresh=8, metric_rate=0.05, batch_rule=rule)
    x, y = samples(120)
    renewals, expected, due = [], [], 1
    for count in range(3, 121, 3):
        population.step(x[count - 3 : count], y[count - 3 : count])
        for t in range(count - 2, count + 1) if rule == "sequential" else [count]:
            if t >= due:
                expected.append(t)
                due = t + max(1, min(8, t // 4))
        renewed = population.state_dict()["counts"].tolist()[1]
        renewals += [renewed] * (renewed not in renewals)
        rows = np.pad(x[:renewed], ((0, 0), (0, 1)), constant_values=1)
        ours = population.state_dict()["input.covariance"][0]
        np.testing.assert_allclose(ours, reference_covariance(rows, 0.05), rtol=1e-12, atol=1e-14)
    assert renewals == [t for t in expected if t in renewals] and renewals[-1] == expected[-1]


def test_metric_without_a_factor_keeps_the_last_that_has_one():
    metric = Metric(3, [0.0, 0.0], [0.3, 0.3], [0, 1], shared=False, capacity=4, bias=1.0, scratch=torch.empty(96))
    metric.add(torch.randn(2, 4, 3), 0)
    metric.renew(1, 4)
    before, product = metric.covariance.clone(), metric.times(torch.ones(2, 1, 3))[0]
    metric.add(torch.stack([torch.full((4, 3), 1e30), torch.ones(4, 3)]), 0)
    metric.renew(5, 4)
    after = metric.times(torch.ones(2, 1, 3))[0]
    assert torch.equal(metric.covariance[0], before[0]) and torch.equal(after[0], product[0])
    assert not torch.equal(metric.covariance[1], before[1]) and not torch.equal(after[1], product[1])


def long_run(count):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 6)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    x[:, 2], x[:, 3], x[:, 4] = 0, 1, -5
    x[: count // 50] = 0  # the first rows of a standardised stream
    population = build(layers=[6, 16, 8, 2], size=8, dtype="float32", batch_rule="affine-projection")
    outcome = population.learn(x, y)
    for name, tensor in population.state_dict().items():
        assert bool(torch.isfinite(tensor.double()).all()), name
        if "covariance" in name:
            assert torch.allclose(tensor, tensor.mT, rtol=1e-5, atol=1e-6 * tensor.abs().max().item())
            assert torch.linalg.eigvalsh(tensor.double()).min() > -1e-5 * tensor.abs().max()
    assert not population.diverged.any()
    assert (outcome.predicted[0, -1000:].numpy() == y[-1000:]).mean() > 0.95


def test_metric_stays_symmetric_and_finite_over_20_000_samples():
    long_run(20_000)


@pytest.mark.slow
def test_metric_stays_symmetric_and_finite_over_200_000_samples():
    long_run(200_000)


@both
@batch_rules
def test_a_second_class_after_500_samples_of_the_first(algorithm, rule):
    population = build(algorithm, [6, 9, 8, 0], 2, dtype="float32", growing=True, batch_rule=rule)
    x, _ = samples(1000)
    before = population.weights[0]
    population.learn(x[:500], np.zeros(500, dtype=int))
    state = population.state_dict()
    assert state["counts"].tolist()[0] == 500 and state["counts"].tolist()[2] == 0
    assert torch.equal(before[0], population.weights[0][0]) and not state["square.0"].any()
    assert state["input.covariance"].any() and state["covariance.1"].any()
    y = (x[500:, 0] > 0).astype(int)
    outcome = population.learn(x[500:], y)
    assert not population.diverged.any() and bool(torch.isfinite(outcome.loss).all())
    late = slice(-200, None)
    assert (outcome.predicted[0, late].numpy() == y[late]).mean() > 0.85


@both
def test_samples_of_a_class_alone_do_not_dilute_the_precision(algorithm):
    population = build(algorithm, [6, 9, 0], growing=True)
    x, _ = samples(101)
    population.learn(x[:100], np.zeros(100, dtype=int))
    population.step(x[100:], [1])
    error = 1 - build(algorithm, [6, 9, 2]).predict(x[100:])[0, 0, 1].exp()  # weights that have not moved yet
    torch.testing.assert_close(population.state_dict()["square.1"][0, 0], (error**2).expand(2), rtol=1e-9, atol=0)


@both
def test_a_class_met_later_starts_with_the_mean_precision_of_the_live_ones(algorithm):
    population = build(algorithm, [6, 9, 3], growing=True, precision_rate=0.01)
    x, y = samples(200, 2)
    population.learn(x, y)
    square = population.state_dict()["square.1"][0, 0]
    one_by_one = build(algorithm, [6, 9, 3], growing=True, precision_rate=0.01)
    one_by_one.load_state_dict(population.state_dict())
    one_by_one._admit(np.array([4]))
    grown = one_by_one.state_dict()["square.1"][0, 0]
    torch.testing.assert_close(grown[[0, 1, 4]], torch.stack([*square[:2], square[:2].mean()]))
    assert square[2] == 0 and not grown[2:4].any()


def test_members_share_the_input_metric_where_it_is_the_same():
    given = [{}, {"alpha": 1e-3, "epsilon": 0.5}, {"damping": 0.1, "average_rate": 0.1}, {"metric_rate": 0.1, "seed": 3}]
    given += [{"precision_rate": 0.5, "precision_damping": 0.9, "share": 0.3, "forget": 0.5, "alpha_gain": 0.2}]
    given += [{"alpha_min": 4e-4, "alpha_max": 6e-4, "damping": 0.1}]
    x, y = samples(90)
    together = create("il-kfac", LAYERS, given, batch_size=3, dtype="float64")
    outcome = together.learn(x, y)
    state = together.state_dict()
    assert state["input.covariance"].shape == (3, 7, 7) and state["covariance.1"].shape == (6, 10, 10)
    logits = []
    for place, member in enumerate(given):
        alone = create("il-kfac", LAYERS, [member], batch_size=3, dtype="float64")
        logits.append(alone.learn(x, y).logits[0])
        torch.testing.assert_close(outcome.logits[place], logits[-1], rtol=1e-12, atol=1e-12)
    assert all((logits[0] - other).abs().max() > 1e-5 for other in logits[1:])  # each of these settings does something


@both
def test_untrained_biases_stay_and_take_no_part_in_the_metric(algorithm):
    population = build(algorithm, train_biases=False)
    before = population.weights
    population.learn(*samples(100))
    for (old, old_bias), (new, new_bias) in zip(before, population.weights, strict=True):
        assert torch.equal(old_bias, new_bias) and not torch.equal(old, new)
    assert not population.state_dict()["covariance.1"][:, -1].any()


@both
def test_adaptive_members_say_the_mixture_and_export_the_fast_weights(algorithm):
    population = build(algorithm, size=2, average_rate=0.01)
    x, y = samples(60)
    population.learn(x[:40], y[:40])
    state, inputs = population.state_dict(), torch.from_numpy(x[40:])
    module = population.to_module(0)
    fast = torch.softmax(module(inputs), -1)
    named = zip(module.parameters(), (f"lag.{kind}.{layer}" for layer in range(3) for kind in ("weight", "bias")), strict=True)
    with torch.no_grad():
        for parameter, name in named:
            parameter.add_(state[name].view_as(parameter))
    slow = torch.softmax(module(inputs), -1)
    u = 0.01 + 0.98 * torch.sigmoid(state["lead"].item() * torch.ones(()).double())
    mixed = u * fast + (1 - u) * slow
    torch.testing.assert_close(population.predict(x[40:])[0].exp(), mixed, rtol=1e-9, atol=1e-11)
    assert (fast - slow).abs().max() > 1e-3 and population.alpha.item() != population.members[0].alpha


def test_a_member_that_overflows_before_the_second_class_leaves_its_metric_finite():
    population = create("il-kfac", [6, 9, 8, 0], [{}, {"seed": 1}], growing=True)
    twin = create("il-kfac", [6, 9, 8, 0], [{}, {"seed": 1}], growing=True)
    weights = population.weights
    weights[0][0][1] = weights[0][0][1].sign() * 1e38
    population.weights = weights
    x, _ = samples(60)
    y = np.arange(60) // 30
    ours, theirs = population.learn(x, y), twin.learn(x, y)
    assert population.diverged.tolist() == [False, True]
    assert torch.equal(ours.logits[0], theirs.logits[0])
    assert bool(torch.isfinite(population.state_dict()["covariance.1"]).all())


@both
def test_too_wide_layers_are_refused_with_the_bytes_they_need(algorithm):
    with pytest.raises(LearnerError, match=rf"2048 inputs.*{algorithm}.*here {2 * 4 * (2050**2 + 11**2)} bytes"):
        create(algorithm, [2049, 10, 2])
    assert create(algorithm, [4, 2500], growing=True).layers == [4, 2500]  # no layer reads the output


@both
def test_numbers_held_are_those_of_weights_averages_metrics_and_their_rows(algorithm):
    given = [{}, {"alpha": 1e-3}, {"damping": 0.1}, {"adaptive": False}, {"adaptive": False, "seed": 1}, {"refresh": 8}]
    population = create(algorithm, LAYERS, given)
    times = {"weight": 1, "bias": 1, "covariance": 2, "rows": 1}  # M, and P that is found from it
    held = sum(tensor.numel() * times[kind] for name, tensor in population.state_dict().items()
               for kind in name.split(".") if kind in times)
    assert learner_class(algorithm).numbers_held(LAYERS, population.members, 1) == held


@both
def test_settings_that_cannot_be_are_named(algorithm):
    with pytest.raises(LearnerError, match=r"alpha_min = 0.01 must not exceed alpha_max"):
        build(algorithm, alpha_min=0.01, alpha_max=0.001)
    for name, value in {"epsilon": 0, "damping": 0, "refresh": 0, "share": 0.6, "batch_rule": "joint"}.items():
        with pytest.raises(LearnerError, match=rf"members\[0\]\.{name}"):
            build(algorithm, **{name: value})
    with pytest.raises(LearnerError, match="inference"):
        build(algorithm, inference="none")


def test_a_member_whose_inputs_explode_keeps_its_last_metric_and_harms_no_neighbour():
    # Activities of 1e12 swallow the damping in float32: what is left is singular, which torch answers with an error.
    def metric():
        return Metric(3, [2e-4, 2e-4], [0.3, 0.3], [0, 1], shared=False, capacity=4, bias=1.0, scratch=torch.empty(96))

    one, other = metric(), metric()
    rows = torch.tensor([[[1.0, 2.0, 3.0]], [[1e12, 1e12, 1e12]]])
    one.add(rows, 0)
    one.renew(1, 1)
    other.add(rows[:1].expand(2, -1, -1), 0)
    other.renew(1, 1)
    assert torch.equal(one.covariance[0], other.covariance[0])
    assert not one.covariance[1].any()
    r = torch.ones(2, 1, 3)
    assert torch.equal(one.times(r)[0][0], other.times(r)[0][0])
    assert torch.allclose(one.times(r)[0][1], torch.full((1, 4), 1 / 0.3))
