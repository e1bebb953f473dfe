"""Torch arms: a hand-written loop's numbers, masks, state, and what is refused."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from streamil import run
from streamil.arms import plan_arms
from streamil.errors import ExperimentError, LearnerError
from streamil.experiment import load_experiment
from streamil.explain import explain
from streamil.learners import create

CODE = """
import torch
from torch import nn

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "lbfgs": torch.optim.LBFGS}

def net(inputs, outputs, width=8, lr=0.05, optimizer="adam", dropout=0.0, norm=False, momentum=None):
    layers = [nn.Linear(inputs, width), *([nn.BatchNorm1d(width)] if norm else []), nn.ReLU(), nn.Dropout(dropout),
              nn.Linear(width, outputs)]
    module = nn.Sequential(*layers)
    more = {} if momentum is None else {"momentum": momentum}
    return module, OPTIMIZERS[optimizer](module.parameters(), lr=lr, **more)

def needs(inputs, outputs, width):
    return net(inputs, outputs, width)

def alone(inputs):
    return net(inputs, 2)

def fails(inputs, outputs):
    raise RuntimeError("no such thing")

def wide(inputs, outputs):
    return net(inputs, outputs + 1)

def stranger(inputs, outputs):
    return nn.Linear(inputs, outputs), torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)

def not_two(inputs, outputs):
    return nn.Linear(inputs, outputs), None

def lazy(inputs, outputs):
    module = nn.LazyLinear(outputs)
    return module, torch.optim.SGD(module.parameters(), lr=1.0)

def exits(inputs, outputs):
    raise SystemExit(0)

def frozen(inputs, outputs):
    module = nn.Linear(inputs, outputs).requires_grad_(False)
    return module, torch.optim.SGD(module.parameters(), lr=1.0)

def dense(inputs, outputs):
    module = nn.Linear(inputs, outputs)
    return module, torch.optim.SparseAdam(list(module.parameters()))

def logarithm(inputs, outputs):
    class Log(nn.Linear):
        def forward(self, x):
            return torch.log(super().forward(x))
    module = Log(inputs, outputs)
    return module, torch.optim.SGD(module.parameters(), lr=0.1)

def extra(inputs, outputs):
    class Noted(nn.Linear):
        def get_extra_state(self):
            return {"seen": 3}
    module = Noted(inputs, outputs)
    return module, torch.optim.SGD(module.parameters(), lr=0.1)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(CODE)
    return tmp_path


def samples(count, seed=0, classes=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 4)), rng.integers(0, classes, count)


def build(folder, members=None, name="net", layers=(4, 3), **options):
    return create(f"torch:mine:{name}", layers, members, folder=folder, **{"dtype": "float64"} | options)


@pytest.mark.parametrize("size", [2, 8])
@pytest.mark.parametrize("member", [
    {}, {"optimizer": "sgd", "momentum": 0.9, "norm": True}, {"norm": True, "dropout": 0.3}, {"optimizer": "lbfgs"},
])
def test_numbers_are_those_of_a_hand_written_loop(folder, size, member):
    population = build(folder, [{}, {**member, "seed": 5}], batch_size=size)
    names = {}
    exec(compile(CODE, "mine", "exec"), names)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module, optimizer = names["net"](4, 3, **member)
        module.double()
        for step in range(30):
            x, y = samples(size, step)
            inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
            logits = module.eval()(inputs).detach()
            with torch.random.fork_rng():
                torch.manual_seed(99)  # the program's own generator is not the member's
                outcome = population.step(x, y)
            torch.testing.assert_close(outcome.logits[1], logits, rtol=1e-12, atol=1e-12)
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
            torch.testing.assert_close(outcome.loss[1], loss, rtol=1e-12, atol=1e-12)
            module.train()

            def closure(module=module, inputs=inputs, labels=labels, optimizer=optimizer):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(module(inputs), labels)
                loss.backward()
                return loss

            optimizer.step(closure)


def test_the_program_s_own_random_numbers_stay(folder):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    build(folder, [{"dropout": 0.5}]).learn(*samples(4))
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("member", [{"norm": True, "dropout": 0.3}, {"optimizer": "sgd", "momentum": 0.9},
                                    {"optimizer": "sgd"}])
def test_state_round_trip_repeats_the_next_outcomes(folder, member):
    options = {"members": [member, {**member, "seed": 1}], "growing": True, "batch_size": 2, "layers": (4, 4)}
    one, other = (build(folder, **options) for _ in range(2))
    one.learn(*samples(40))
    other.learn(*samples(10, seed=9, classes=2))
    state = one.state_dict()
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())
    other.load_state_dict(state)
    one.predict(np.ones((3, 4)))
    for seed in range(50):
        x, y = samples(2, seed=100 + seed, classes=4)
        ours, theirs = one.step(x, y), other.step(x, y)
        assert torch.equal(ours.logits, theirs.logits) and torch.equal(ours.loss, theirs.loss)
    mine, yours = one.state_dict(), other.state_dict()
    assert mine.keys() == yours.keys() and all(torch.equal(mine[name], yours[name]) for name in mine)
    before = other.state_dict()
    for wrong in ({}, state | {"2.module.x": state["live"]}, state | {"0.module.0.weight": state["live"]},
                  {k: v for k, v in state.items() if k != "1.random.0"}, state | {"0.what.0": state["live"]},
                  state | {"live": state["live"][:2]}):
        with pytest.raises(LearnerError, match="state"):
            other.load_state_dict(wrong)
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())


def test_learn_does_not_depend_on_the_cuts(folder):
    x, y = samples(60)
    y = np.minimum(y, np.arange(60) // 20)
    options = {"members": [{"dropout": 0.2}], "growing": True, "batch_size": 2, "dtype": "float32"}
    whole, parts = build(folder, **options), build(folder, **options)
    outcome = whole.learn(x, y)
    for first, last in pairwise([0, 2, 10, 36, 60]):
        learned = parts.learn(x[first:last], y[first:last])
        assert torch.equal(learned.logits, outcome.logits[:, first:last])
        assert torch.equal(learned.loss, outcome.loss[:, first:last])


def test_classes_not_met_take_no_part_and_there_is_room_for_no_more(folder):
    population = build(folder, [{"outputs": 3, "optimizer": "sgd"}], layers=(4, 0), growing=True)
    before = population.to_module(0).state_dict()
    x, _ = samples(5)
    one = population.learn(x[:2], [1, 1])
    assert one.predicted.tolist() == [[-1, 1]] and one.loss.tolist() == [[0.0, 0.0]]
    assert all(torch.equal(before[name], tensor) for name, tensor in population.to_module(0).state_dict().items())
    population.learn(x[2:4], [0, 1])
    after = population.to_module(0).state_dict()
    assert not torch.equal(before["3.weight"][:2], after["3.weight"][:2])
    assert torch.equal(before["3.weight"][2], after["3.weight"][2])
    assert population.predict(x)[0, :, 2].isneginf().all()
    with pytest.raises(LearnerError, match="y: got classes 3"):
        population.learn(x[4:], [3])


def test_a_diverging_member_stops_at_its_last_finite_weights(folder):
    population = build(folder, [{"optimizer": "sgd", "lr": 1e300}, {}], batch_size=2)
    x, y = samples(40)
    population.learn(x, y)
    assert population.diverged.tolist() == [True, False]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in population.to_module(0).parameters())
    assert torch.equal(build(folder, [{}], batch_size=2).learn(x, y).loss[0],
                       build(folder, [{"optimizer": "sgd", "lr": 1e300}, {}], batch_size=2).learn(x, y).loss[1])


def test_batch_normalisation_at_one_sample_is_refused_by_name(folder):
    with pytest.raises(LearnerError, match=r"batch_size: got 1.*BatchNorm1d"):
        build(folder, [{"norm": True}])


@pytest.mark.parametrize(("name", "member", "words"), [
    ("nte", {}, "no callable 'nte'"), ("alone", {}, "cannot be called with"), ("fails", {}, "no such thing"),
    ("wide", {}, "returned"), ("stranger", {}, "not the module's"), ("not_two", {}, "NoneType"), ("needs", {}, "width"),
    ("net", {"widht": 3}, "did you mean width"), ("net", {"width": torch.nn.ReLU()}, "only what a file can hold"),
    ("net", {"outputs": 0}, "outputs"), ("lazy", {}, r"before it is returned"), ("exits", {}, "SystemExit"),
    ("frozen", {}, "learning failed: RuntimeError"), ("dense", {}, "learning failed: .*SparseAdam"),
])
def test_what_is_wrong_is_named(folder, name, member, words):
    x, y = samples(2)
    with pytest.raises(LearnerError, match=words):
        build(folder, [member], name).learn(x, y)


def test_logits_that_are_nan_are_wrong_and_their_loss_finite(folder):
    outcome = build(folder, [{}], "logarithm").learn(*samples(20))
    said = outcome.logits[0].isfinite().all(-1)
    assert 0 < int(said.sum()) < 20
    assert (outcome.predicted[0] == -1).tolist() == (~said).tolist()
    assert torch.isfinite(outcome.loss).all()
    assert outcome.loss[0][~said].tolist() == pytest.approx([np.log(4)] * int((~said).sum()))


def test_state_that_is_no_tensor_is_refused_where_it_is_saved(folder):
    population = build(folder, [{}], "extra")
    population.learn(*samples(2))
    with pytest.raises(LearnerError, match="only tensors and numbers can be saved"):
        population.state_dict()


def test_a_module_that_is_not_there_is_named(folder):
    with pytest.raises(LearnerError, match="no module 'nowhere'"):
        create("torch:nowhere:net", [4, 3], folder=folder)
    with pytest.raises(LearnerError, match="no module 'mine'"):
        create("torch:mine:net", [4, 3])
    with pytest.raises(LearnerError, match="<module>:<callable>"):
        create("torch:mine", [4, 3])


FILE = """
stream: {{source: {{kind: elec}}, limit: 200{classes}}}
arms:
  mine: {{algorithm: "torch:mine:net", width: [4, 8], batch_size: {size}, seeds: 2{more}}}
  il-prox: {{algorithm: il-prox, batch_size: {size}}}
"""


def file_of(folder, classes="", size=1, more=""):
    (folder / "race.yaml").write_text(FILE.format(classes=classes, size=size, more=more))
    return load_experiment(folder / "race.yaml")


@pytest.mark.parametrize(("classes", "more", "outputs"), [(", classes: [1, 0]", "", 2), ("", ", outputs: 5", 5)])
def test_a_race_finds_the_callable_beside_the_file_and_repeats_itself(folder, classes, more, outputs):
    first, second = (run(file_of(folder, classes, 1, more)) for _ in range(2))
    assert first == second
    assert [m["hyperparameters"]["width"] for m in first["arms"]["mine"]["members"]] == [4, 4, 8, 8]
    assert first["comparisons"][0]["challenger"] == "il-prox"
    parameters = sum(2 * ((6 + 1) * width + (width + 1) * outputs) for width in (4, 8))
    told = f"one member after another, {parameters} parameters in all"
    assert any(told in line for line in explain(file_of(folder, classes, 1, more)))


def test_a_race_needs_to_know_the_room_for_classes_and_says_so_before_it_starts(folder):
    for more in ("", ", outputs: null", ", outputs: [5, null]"):
        with pytest.raises(ExperimentError, match=r"arms\.mine\.outputs"):
            plan_arms(file_of(folder, more=more))
    with pytest.raises(LearnerError, match="BatchNorm1d"):
        list(explain(file_of(folder, ", classes: [1, 0]", 1, ", norm: true")))
