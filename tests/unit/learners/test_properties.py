"""What holds for every rule; each check is a function of the rule's name alone."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from streamil.errors import LearnerError
from streamil.learners import ALGORITHMS, create, implicit_sgd, learner_class
from streamil.learners.activations import ACTIVATIONS
from streamil.learners.initial import initial_rows

torch.set_num_threads(1)  # nets this small only lose by threads
LAYERS = [6, 9, 8, 4]
every_rule = pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """What is checked here holds wherever the solver of implicit-sgd stops."""
    monkeypatch.setattr(implicit_sgd, "EVALUATIONS", 4)


def members(algorithm, count=3):
    fields = learner_class(algorithm).Hyperparameters.model_fields
    rate = "alpha" if "alpha" in fields else "learning_rate"
    return [{rate: fields[rate].default * 3.0**place, "seed": place} for place in range(count)]


def without_average(algorithm, given):
    """What adaptive members say is of a mixture, and only the fast weights are a module."""
    adaptive = "adaptive" in learner_class(algorithm).Hyperparameters.model_fields
    return [{**member, "adaptive": False} if adaptive else member for member in given]


def build(algorithm, given=None, **options):
    options = {"batch_size": 2, "dtype": "float64", "seed": 7} | options
    return create(algorithm, options.pop("layers", LAYERS), given or members(algorithm), **options)


def samples(count, seed=0, classes=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, LAYERS[0])), rng.integers(0, classes, count)


def assert_same_state(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


@every_rule
def test_members_do_not_know_of_each_other(algorithm):
    x, y = samples(60)
    given = members(algorithm)
    together = build(algorithm, given).learn(x, y)
    for place, member in enumerate(given):
        alone = build(algorithm, [member]).learn(x, y)
        torch.testing.assert_close(together.logits[place], alone.logits[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(together.loss[place], alone.loss[0], rtol=1e-12, atol=1e-12)


@every_rule
@pytest.mark.parametrize("mixed", [False, True])
def test_state_round_trip_repeats_the_next_outcomes(algorithm, mixed):
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


@every_rule
def test_state_is_copied_and_wrong_states_change_nothing(algorithm):
    population = build(algorithm)
    state = population.state_dict()
    population.learn(*samples(20))
    assert not torch.equal(state["weight.0"], population.state_dict()["weight.0"])
    for wrong in ({}, state | {"more": state["live"]}, state | {"weight.1": state["weight.0"]}, state | {"bias.0": 1}):
        before = population.state_dict()
        with pytest.raises(LearnerError, match="state"):
            population.load_state_dict(wrong)
        assert_same_state(before, population.state_dict())


@every_rule
@pytest.mark.parametrize("growing", [False, True])
def test_predict_is_feedforward_and_changes_nothing(algorithm, growing):
    population = build(algorithm, growing=growing)
    population.learn(*samples(20, classes=3))
    before = population.state_dict()
    x, y = samples(2, seed=3, classes=3)
    logits = population.predict(x)
    assert_same_state(before, population.state_dict())
    torch.testing.assert_close(logits, population.step(x, y).logits, rtol=1e-12, atol=1e-12)
    assert bool(logits[..., 3].isneginf().all()) is growing


@every_rule
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_module_gives_the_same_logits(algorithm, activation):
    population = build(algorithm, without_average(algorithm, members(algorithm)), activation=activation)
    population.learn(*samples(20))
    x, _ = samples(5, seed=1)
    for member in range(3):
        module = population.to_module(member)
        torch.testing.assert_close(module(torch.from_numpy(x)), population.predict(x)[member], rtol=1e-12, atol=1e-12)
        assert all(parameter.requires_grad for parameter in module.parameters())


@every_rule
@pytest.mark.parametrize("size", [1, 2, 5])
def test_learn_does_not_depend_on_how_samples_are_cut_into_calls(algorithm, size):
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


@every_rule
def test_classes_met_midway_equal_rows_there_from_the_start(algorithm):
    x, y = samples(80)
    y = np.minimum(y, np.arange(80) // 15)
    grown = build(algorithm, growing=True, layers=[*LAYERS[:-1], 0])
    ready = build(algorithm, growing=True)
    ours, theirs = grown.learn(x, y), ready.learn(x, y)
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=1e-12, atol=1e-12)
    assert torch.equal(ours.predicted, theirs.predicted)
    assert grown.layers == LAYERS and bool(grown.live.all())


@every_rule
def test_unmet_classes_take_no_part(algorithm):
    x, y = samples(30, classes=2)
    two = build(algorithm, layers=[*LAYERS[:-1], 2])
    four = build(algorithm, growing=True)
    four.step(x[:2], [0, 1])
    two.step(x[:2], [0, 1])
    two.weights = [*four.weights[:-1], tuple(tensor[:, :2] for tensor in four.weights[-1])]
    ours, theirs = two.learn(x, y), four.learn(x, y)
    torch.testing.assert_close(ours.logits, theirs.logits[..., :2], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=1e-11, atol=1e-11)


@every_rule
def test_nothing_moves_before_two_classes_are_live(algorithm):
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


@every_rule
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_diverging_member_stops_alone_at_its_last_finite_weights(algorithm, dtype):
    x, y = samples(60)
    sick, well = build(algorithm, dtype=dtype), build(algorithm, dtype=dtype)
    for population in (sick, well):
        population.learn(x[:20], y[:20])
    weights = sick.weights
    huge = torch.finfo(weights[0][0].dtype).max / 4
    for weight, _ in weights:
        weight[1] = torch.sign(weight[1]) * huge
    sick.weights = weights
    shared = ("live", "steps", "diverged", "counts", "input.covariance", "input.rows")  # what the samples alone change
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


@every_rule
def test_checking_every_element_gives_the_same_numbers(algorithm):
    x, y = samples(40)
    quick, thorough = build(algorithm, dtype="float32"), build(algorithm, dtype="float32")
    thorough._limit = 0.0
    assert torch.equal(quick.learn(x, y).logits, thorough.learn(x, y).logits)
    assert_same_state(quick.state_dict(), thorough.state_dict())


@every_rule
def test_composite_keeps_the_order_of_its_members(algorithm):
    given = without_average(algorithm, members(algorithm, 4))
    given = [{**member, "train_biases": place != 1} for place, member in enumerate(given)]
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


@every_rule
def test_wrong_arguments_are_named_and_change_nothing(algorithm):
    population = build(algorithm)
    x, y = samples(4)
    before = population.state_dict()
    wrong = [
        (x[:3], y[:3], "batch_size"), (x[:, :5], y, "x: got shape"), (x[0], y[:1], "x: got shape"),
        (x * np.nan, y, "finite"),
        (x * np.array([1, 1, 1, 1, 1, np.inf]), y, "finite"), (x.astype(str), y, "type"), (x, y[:2], "y: got shape"),
        (x, y - 4, "unlabelled"), (x, y + 4, "classes"), (x, y * 1.0, "type"),
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


@every_rule
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"members": [{"alhpa": 1}]}, "alhpa.*did you mean"), ({"members": [{"seed": -1}]}, "seed"),
        ({"members": []}, "members"), ({"members": [{}, {"train_biases": "no"}]}, r"members\[1\].train_biases"),
        ({"layers": [4]}, "layers"),
        ({"layers": [4, 0, 2]}, "layers"), ({"layers": [4, 2, 0]}, "layers"), ({"batch_size": 0}, "batch_size"),
        ({"dtype": "float16"}, "dtype"), ({"device": "nowhere"}, "device"), ({"activation": "step"}, "activation"),
        ({"seed": 1.5}, "seed"),
    ],
)
def test_wrong_settings_are_named(algorithm, options, words):
    with pytest.raises(LearnerError, match=words):
        create(**{"algorithm": algorithm, "layers": LAYERS} | options)


@every_rule
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, "1", True, None])
def test_rates_are_positive_numbers(algorithm, value):
    rate = next(iter(set(members(algorithm)[0]) - {"seed"}))
    with pytest.raises(LearnerError, match=rf"members\[0\]\.{rate}"):
        build(algorithm, [{rate: value}])


@every_rule
def test_inputs_of_any_kind_give_the_same(algorithm):
    x, y = np.round(samples(4)[0]), np.array([0, 1, 2, 3])
    frozen = x.copy()
    frozen.flags.writeable = False
    kinds = [(x, y), (torch.from_numpy(x), torch.from_numpy(y)), (x.tolist(), y.tolist()), (frozen, y.astype(np.uint8))]
    kinds += [(x.astype(np.int8), y), (x.astype(">f4"), y), (np.asfortranarray(x), y), (x[::-1][::-1], y)]
    logits = [build(algorithm).learn(*kind).logits for kind in kinds]
    assert all(torch.equal(logits[0], other) for other in logits[1:])


@every_rule
@pytest.mark.parametrize("layers", [[6, 3], [6, 5, 4, 5, 4, 5, 4, 5, 4, 5, 3]])
def test_one_layer_and_ten_learn(algorithm, layers):
    fields = learner_class(algorithm).Hyperparameters.model_fields
    quick = {"learning_rate": 1e-3} if "learning_rate" in fields and fields["learning_rate"].default < 1e-3 else {}
    population = build(algorithm, [quick], layers=layers, batch_size=1)
    assert population.parameters_per_member == sum((a + 1) * b for a, b in pairwise(layers))
    x, _ = samples(1)
    losses = population.learn(np.repeat(x, 300, 0), np.full(300, 1)).loss[0]
    assert losses[-1] < 0.9 * losses[0]


@every_rule
def test_empty_call_changes_nothing(algorithm):
    population = build(algorithm)
    before = population.state_dict()
    outcome = population.learn(np.zeros((0, 6)), np.zeros(0, dtype=int))
    assert outcome.logits.shape == (3, 0, 4) and outcome.predicted.shape == outcome.loss.shape == (3, 0)
    assert_same_state(before, population.state_dict())


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
