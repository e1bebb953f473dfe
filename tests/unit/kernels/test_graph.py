"""Rules recorded as a CUDA graph, against the same rules operation by operation: equal bits.

Where there is no GPU, `on_same_memory` records as CUDA does: the operations and the memory they work on, not the Python between
them; what would ask the device for a number is refused. Everything but CUDA itself is tested so.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from streamil.kernels import kernel_name
from streamil.kernels.gpu.graph import RULES, SAMPLES, GraphKernel, recorded
from streamil.learners import create, learner_class
from streamil.learners.bp_sgd import BPSGD

LAYERS = [20, 16, 12, 5]
CUDA = pytest.param("cuda", marks=[
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")])
devices = pytest.mark.parametrize("device", ["cpu", CUDA])
rules = pytest.mark.parametrize("algorithm", [rule.algorithm for rule in RULES])


def samples(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, LAYERS[0])).astype(np.float32), rng.integers(0, LAYERS[-1], count)


class OnSameMemory(TorchDispatchMode):
    """Takes down each operation with the tensors that it reads and writes; raises where the host would wait for one."""

    def __init__(self):
        super().__init__()
        self.done = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        chosen = function.overloadpacket is torch.ops.aten.index and any(one is not None and one.dtype == torch.bool for one in args[1])
        if chosen or function.overloadpacket in HOST:
            raise RuntimeError(f"{function}: operation not permitted when stream is capturing")
        out = function(*args, **(kwargs or {}))
        self.done.append((function, args, kwargs or {}, out))
        return out


aten = torch.ops.aten
HOST = (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten._unique2, aten.equal, aten.lift_fresh, aten.lift_fresh_copy)
"""What waits for the device, or copies numbers of Python's to it."""


def on_same_memory(body):
    body()
    with OnSameMemory() as recording:
        body()

    def replay():
        for function, args, kwargs, out in recording.done:
            again = function(*args, **kwargs)
            for before, now in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if before is not None and before.data_ptr() != now.data_ptr():  # neither a view nor in place
                    before.copy_(now)

    return replay


def both(algorithm, device, members=({}, {"seed": 1}), **options):
    graph, plain = (create(algorithm, LAYERS, list(members), device=device, kernels="none", **options) for _ in range(2))
    graph.kernel = GraphKernel(recorded if device == "cuda" else on_same_memory)
    return graph, plain


def same(graph, plain):
    other = plain.state_dict()
    for name, tensor in graph.state_dict().items():
        assert torch.equal(tensor, other[name]), name
    assert graph.steps == plain.steps
    assert (graph.energy is None) == (plain.energy is None)
    assert graph.energy is None or torch.equal(graph.energy, plain.energy)
    assert graph.kernel._replay is not None, "it was recorded, and used"


@devices
@rules
@pytest.mark.parametrize("size", [1, 4, 32])
def test_equal_bits_in_any_cut(algorithm, size, device):
    graph, plain = both(algorithm, device, batch_size=size)
    x, y = samples(2 * SAMPLES + 64)
    for begin, end in ((0, 32), (32, 64), (64, len(y))):
        ours, theirs = graph.learn(x[begin:end], y[begin:end]), plain.learn(x[begin:end], y[begin:end])
        assert torch.equal(ours.logits, theirs.logits)
    same(graph, plain)


@devices
@rules
def test_classes_met_as_they_come_and_weights_set_from_outside(algorithm, device):
    graph, plain = both(algorithm, device, growing=True)
    x, y = samples(64)
    graph.learn(x, y), plain.learn(x, y)
    same(graph, plain)
    for one in (graph, plain):
        one.weights = [(2 * weight, bias) for weight, bias in one.weights]
        one.learn(x, y)
    same(graph, plain)


@devices
@rules
def test_a_state_taken_over_goes_on(algorithm, device):
    graph, plain = both(algorithm, device)
    x, y = samples(64)
    graph.learn(x[:32], y[:32]), plain.learn(x, y)
    other, _ = both(algorithm, device)
    other.learn(x, y)
    own = other.kernel
    other.load_state_dict(graph.state_dict())
    other.kernel = own
    other.learn(x[32:], y[32:])
    same(other, plain)


@devices
@rules
def test_a_member_that_diverges_stops_and_its_neighbours_do_not_notice(algorithm, device):
    graph, plain = both(algorithm, device, [{"seed": seed} for seed in range(3)])
    x, y = samples(16)
    weights = plain.weights
    weights[0][0][1], weights[0][1][1], weights[1][0][1] = 3e38, 3e38, 3e38
    for one in (graph, plain):
        one.weights = weights
        one.learn(x, y)
        one.learn(x, y)
    assert graph.diverged.tolist() == plain.diverged.tolist() == [False, True, False]
    other = plain.state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in graph.state_dict().items())


def refuse(body):
    raise RuntimeError("operation not permitted when stream is capturing")


def forget(body):
    return lambda: None


def only_once(body):
    turns = iter([body])
    return lambda: next(turns, int)()


@pytest.mark.parametrize(("record", "reason"), [(refuse, "not permitted"), (forget, "other numbers"), (only_once, "other numbers")])
def test_what_cannot_be_recorded_is_learned_plainly_with_a_warning(record, reason):
    graph, plain = both("il-prox", "cpu")
    graph.kernel = GraphKernel(record)
    x, y = samples(32)
    with pytest.warns(RuntimeWarning, match=reason):
        graph.learn(x, y)
    plain.learn(x, y)
    other = plain.state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in graph.state_dict().items())


class Remade(BPSGD):
    """A rule that puts its weights into new memory: what is recorded goes on reading the old."""

    def _apply(self, factors):
        self.parameters.b[-1] = self.parameters.b[-1] + 1


class Asking(BPSGD):
    """A rule that looks at a number on the way."""

    def _apply(self, factors):
        if factors[0].errors.amax() < 1e9:
            super()._apply(factors)


@pytest.mark.parametrize(("rule", "reason"), [(Remade, "other numbers"), (Asking, "not permitted")])
def test_a_rule_that_cannot_be_recorded_is_found_out(rule, reason):
    population = create("bp-sgd", LAYERS, kernels="none")
    population.__class__, population.kernel = rule, GraphKernel(on_same_memory)
    with pytest.warns(RuntimeWarning, match=reason):
        population.learn(*samples(4))


def test_its_name_is_that_of_the_rules_it_knows():
    assert kernel_name(learner_class("bp-adam"), torch.device("cuda")) == GraphKernel.name
    assert kernel_name(learner_class("il-kfac"), torch.device("cuda")) == "none"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_it_is_chosen_where_no_other_kernel_is():
    assert isinstance(create("bp-sgd", LAYERS, device="cuda").kernel, GraphKernel)
    assert isinstance(create("il-prox", LAYERS, device="cuda", batch_size=4).kernel, GraphKernel)
    assert create("il-kfac", LAYERS, device="cuda").kernel is None
    assert create("bp-sgd", LAYERS, device="cuda", kernels="none").kernel is None
