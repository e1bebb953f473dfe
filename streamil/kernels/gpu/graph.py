"""The plain rules on a GPU as one launch a mini-batch: their own operations, recorded once as a CUDA graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from streamil.learners.adam import Adam
from streamil.learners.bp_adam import BPAdam
from streamil.learners.bp_aprox import BPAProx
from streamil.learners.bp_obgd import BPObGD
from streamil.learners.bp_prox import BPProx
from streamil.learners.bp_sgd import BPSGD
from streamil.learners.il_adam import ILAdam
from streamil.learners.il_prox import ILProx
from streamil.learners.il_prox_adam import ILProxAdam
from streamil.learners.il_sgd import ILSGD
from streamil.learners.inference import Inference
from streamil.learners.stacked import StackedPopulation

RULES: tuple[type[StackedPopulation], ...] = (
    BPSGD, BPAdam, BPProx, BPAProx, BPObGD, ILSGD, ILAdam, ILProx, ILProxAdam)
"""Those of which a mini-batch is a fixed list of operations. The K-FAC rules renew a metric now and then."""
SAMPLES = 256
"""Samples that wait on the device at once; the host looks at the updates after each such part."""
WARMING = 3
TRIED = 2
"""Mini-batches of a trial: what a recording does not carry from one to the next shows at the second."""
Body = Callable[[], None]


def supports(population: StackedPopulation) -> bool:
    """Return whether the population is on a GPU, and its rule a fixed list of operations.

    Examples
    --------
    >>> from streamil.learners import create
    >>> supports(create("bp-sgd", [4, 8, 3]))  # on a CPU
    False
    """
    return type(population) in RULES and population._like.device.type == "cuda"


def recorded(body: Body) -> Body:
    """Return what launches as one CUDA graph what `body` launches, after having run it some times."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # what libraries set up when first called is not to be recorded
        for _ in range(WARMING):
            body()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may copy meanwhile
        body()
    replay: Body = graph.replay
    return replay


class GraphKernel:
    """A population's mini-batch recorded, and replayed for each of a record; recorded anew where its state is remade.

    The plain rule looks at each update before it applies it; this one looks at the largest of a part, and lets the
    plain rule learn the part again where one could have reached the limit. A recording is tried first: where it cannot
    be made, or does not do what its operations do one by one, the plain rule goes on, with a warning.

    Parameters
    ----------
    record
        What records; tests without a GPU give the operations themselves.
    """

    name = "cuda graph"

    def __init__(self, record: Callable[[Body], Body] = recorded) -> None:
        self._record = record
        self._seen: Tensor | None = None  # of the state recorded: each `_refresh` makes a new `_one_hot`
        self._replay: Body | None = None

    def learn(self, population: Any, x: Tensor, y: Tensor, logits: Tensor) -> None:
        """Predict, then learn, whole mini-batches in order; see `Kernel.learn`."""
        size = population.batch_size
        whole = max(SAMPLES // size, 1) * size
        for begin in range(0, len(y), whole):
            part = slice(begin, begin + whole)
            if population._one_hot is not self._seen:
                self._prepare(population, whole)
            if self._replay is None or not self._learned(population, x[part], y[part], logits[:, part]):
                population.learn_plainly(x[part], y[part], logits[:, part])

    def _learned(self, population: Any, x: Tensor, y: Tensor, logits: Tensor) -> bool:
        """Learn a part, unless an update could have reached the limit: then the state is as before."""
        batches = len(y) // population.batch_size
        torch._foreach_copy_(self._before, self._state)
        self._begin(x, y, population.steps)
        for _ in range(batches):
            self._replay()  # type: ignore[misc]
        largest = self._largest.item()  # nan stays nan
        bound = population._bound + batches * population._reach(largest * largest * self._products)
        if not bound < population._limit:
            torch._foreach_copy_(self._state, self._before)
            return False
        population._bound = bound
        population.steps += batches
        logits.copy_(self._logits[:, : len(y)])
        if isinstance(population, Inference):
            population._rest = self._energy.clone()
        return True

    def _begin(self, x: Tensor, y: Tensor, steps: int) -> None:
        self._x[: len(y)].copy_(x)
        self._y[: len(y)].copy_(y)
        self._row.zero_()
        self._largest.fill_(1)
        self._clock.fill_(steps)

    def _prepare(self, population: Any, samples: int) -> None:
        """Record a mini-batch, whose samples are taken from, and logits written to, where `_row` says; and try it."""
        like, size = population._like, population.batch_size
        self._seen, self._replay = population._one_hot, None
        self._state = list(population._by_member().values())
        self._before = [tensor.clone() for tensor in self._state]
        self._x = like.new_zeros(samples, population.layers[0])
        self._y = torch.zeros(samples, dtype=torch.int64, device=like.device)
        self._logits = like.new_zeros(len(population.seeds), samples, population.layers[-1])
        self._row = torch.zeros((), dtype=torch.int64, device=like.device)
        self._places = torch.arange(size, device=like.device)
        self._largest, self._clock = like.new_ones(()), torch.zeros((), device=like.device)
        tried = min(TRIED * size, samples)
        trial = torch.linspace(-1, 1, tried * population.layers[0], dtype=like.dtype, device=like.device)
        trial = trial.view(tried, -1)
        classes = population._live.nonzero().flatten()
        labels = classes[torch.arange(tried, device=like.device) % len(classes)]
        rest, self._energy = getattr(population, "_rest", None), like.new_zeros(len(population.seeds))

        def outcome(run: Body) -> list[Tensor]:
            torch._foreach_copy_(self._state, self._before)
            self._begin(trial, labels, population.steps)
            for _ in range(tried // size):
                run()
            return [one.clone() for one in (*self._state, self._logits[:, :tried], self._largest, self._energy)]

        try:
            replay = self._record(lambda: self._mini_batch(population))
            expected = outcome(lambda: self._mini_batch(population))
            equal = all(torch.allclose(ours, each, rtol=1e-4, atol=1e-6, equal_nan=True)
                        for ours, each in zip(outcome(replay), expected, strict=True))
            self._replay = replay if equal else None
            reason = "it gives other numbers than its operations one by one"
        except RuntimeError as error:
            reason = str(error)
        torch._foreach_copy_(self._state, self._before)
        if isinstance(population, Inference):
            population._rest = rest
        if self._replay is None:
            warnings.warn(f"{population.algorithm}: not recorded as a CUDA graph, {reason}; launched one by one",
                          RuntimeWarning, stacklevel=2)

    def _mini_batch(self, population: Any) -> None:
        """Predict, then learn, the mini-batch at `_row`, as `StackedPopulation` does but for the look at the update."""
        rows = (self._row + self._places).remainder(len(self._y))  # warming up, it runs more often than there are rows
        population._x.copy_(self._x.index_select(0, rows))
        labels = self._y.index_select(0, rows)
        predictions, presynaptic = population.parameters.forward(population._x_members, population.activation)
        self._logits.index_copy_(1, rows, population._answer(predictions, population._x_members, labels))
        factors = population._stilled(population._factors(predictions, presynaptic, population._one_hot[labels]))
        self._products = max(each.errors.shape[1] for each in factors)
        elements = torch.cat([tensor.reshape(-1) for tensor in population._moves(factors)])
        torch.maximum(self._largest, elements.abs_().amax(), out=self._largest)
        if isinstance(population, Adam):
            population._apply_at(factors, self._clock)
        else:
            population._apply(factors)
        if isinstance(population, Inference):
            self._energy.copy_(population.energy)
        self._row += population.batch_size
        self._clock += 1
