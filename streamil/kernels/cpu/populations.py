"""Which populations the CPU's kernel takes, and the call: state of the population in, the same state out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamil.kernels.cpu import record
from streamil.kernels.cpu.calls import (
    NAME,
    aligned,
    as_held,
    fits,
    kind_of,
    largest,
    line_width,
    padded,
    same,
    share_members,
    try_out,
)
from streamil.kernels.cpu.commit import APPROXIMATE, BOUNDED, FIXED
from streamil.kernels.cpu.errors import Rates
from streamil.kernels.cpu.record import Bounds, Rule
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

ROOM_BYTES = 1 << 28
"""Of working memory, at most: a population that wants more keeps to the plain rule."""


class Form(NamedTuple):
    """How the kernel learns as a rule does: where errors come from, a member's scale of them; largest mini-batch."""

    scale: Callable[[Any, int], float] = lambda member, size: 1.0
    relaxed: bool = False
    post: bool = False
    soft: bool = False
    length: int = FIXED
    regressed: bool = False
    largest: int = 1024


FORMS: dict[type[StackedPopulation], Form] = {
    BPSGD: Form(lambda member, size: member.learning_rate / size),
    BPAdam: Form(lambda member, size: -1 / size),
    BPAProx: Form(lambda member, size: 1 / size, length=APPROXIMATE),
    BPObGD: Form(length=BOUNDED, largest=1),
    BPProx: Form(soft=True, regressed=True),
    ILProx: Form(relaxed=True, regressed=True),
    ILProxAdam: Form(lambda member, size: -1.0, relaxed=True, regressed=True),
    ILSGD: Form(lambda member, size: member.learning_rate / size, post=True, largest=32),
    ILAdam: Form(lambda member, size: -1 / size, post=True, largest=32),
}
"""The rules that the kernel knows; a rule derived from one of them is another rule. Post-activations have no zeros to
be skipped, so that from some mini-batch size on BLAS is faster; more samples than one can cancel in the 1-norm that
bp-obgd looks at."""


def supports(population: StackedPopulation) -> bool:
    """Return whether the kernel knows this population's rule and sizes.

    Examples
    --------
    >>> from streamil.learners import create
    >>> supports(create("il-prox", [4, 8, 3])), supports(create("il-prox", [4, 8, 3], dtype="float64"))
    (True, False)
    """
    form = FORMS.get(type(population))
    return (form is not None and population.batch_size <= form.largest and fits(population)
            and 20 * population.batch_size * len(population.layers) * max(population.layers) <= ROOM_BYTES)


class CPUKernel:
    """One call for a record of samples, one member after another; with threads, some members at a time.

    Parameters
    ----------
    population
        One that `supports` says yes to.
    """

    name = NAME

    def __init__(self, population: StackedPopulation) -> None:
        form, first = FORMS[type(population)], population.members[0]
        size = population.batch_size
        self._rule = Rule(
            kind=kind_of(population), relaxed=form.relaxed, steps=getattr(first, "inference_steps", 0),
            fresh=getattr(first, "target", "") == "fresh", sequential=getattr(first, "sweep", "") == "sequential",
            soft=form.soft, length=form.length, regressed=form.regressed,
            mean=getattr(first, "batch_rule", "") == "nlms-mean", biases=first.train_biases)
        self._table = np.array([_rates(member, form.scale(member, size)) for member in population.members], np.float32)
        self._run, self._adams = record.learn_post if form.post else record.learn, bool(population.slots)
        self._held: list[Tensor] = []
        self._rooms: list[_Room] = []

    def learn(self, population: Any, x: Tensor, y: Tensor, logits: Tensor) -> None:
        """Predict, then learn, whole mini-batches in order; see `Kernel.learn`."""
        members, batches = len(self._table), len(y) // population.batch_size
        call = _Call(self, population, x.contiguous().numpy(), y.numpy(), logits)
        rooms = [self._room(place, population) for place in range(min(torch.get_num_threads(), members))]
        share_members(lambda place, part: call.run(rooms[place], part, 0), members, members * batches * call.work)
        for member in np.flatnonzero(call.done < batches):
            call.carefully(self._room(0, population), int(member))
        population.steps += batches
        if isinstance(population, Inference):
            population._rest = torch.from_numpy(call.energy)
        call.finish()

    def arrays(self, population: StackedPopulation) -> tuple[Any, ...]:
        """Return the kernel's view of weights, biases and slots, as tuples of `DEPTH` arrays."""
        tensors = [population.parameters.flat, *population.parameters.slots.values()]
        held = [tensor for group in tensors for tensor in group]
        if not same(held, self._held):
            self._held = held
            weights = [as_held(group[::2]) for group in tensors]
            biases = [padded([t.numpy() for t in group[1::2]]) for group in tensors]
            none = padded([])
            self._arrays = (weights[0], biases[0],
                            (*weights[1:], *biases[1:]) if self._adams else (none, none, none, none))
        return self._arrays

    def _room(self, place: int, population: StackedPopulation) -> _Room:
        while len(self._rooms) <= place or self._rooms[place].layers != population.layers:
            del self._rooms[place:]
            self._rooms.append(_Room.of(population.layers, population.batch_size))
        return self._rooms[place]


def _rates(member: Any, scale: float) -> Rates:
    def get(name: str, default: Any = 0.0) -> Any:
        return getattr(member, name, default)

    betas = get("betas", (0.0, 0.0))
    return Rates(
        scale=scale, inverse_alpha=1 / get("alpha", 1.0), epsilon=get("epsilon"), bias_norm=float(member.train_biases),
        bottom=get("gamma_bottom"), top=-get("gamma_top"), keep=1 - get("gamma_decay"), clamp=get("clamp"),
        rate=get("learning_rate"), mean_decay=betas[0], square_decay=betas[1], eps=get("eps"),
        kappa=get("kappa"))


class _Room(NamedTuple):
    """Working memory of one thread; see `record.learn`."""

    layers: list[int]
    rows: NDArray[np.int64]
    fed: NDArray[np.float32]
    passes: NDArray[np.float32]
    ones: NDArray[np.float32]
    gram: NDArray[np.float32]
    products: NDArray[np.int64]

    @classmethod
    def of(cls, layers: Sequence[int], size: int) -> _Room:
        width, depth = line_width(layers), len(layers) - 1
        return cls(list(layers), np.zeros((2, width), np.int64), aligned(3, width),
                   aligned(5, size, depth + 1, width), aligned(size, depth, 1), aligned(size, size),
                   np.zeros(depth, np.int64))


class _Call:
    """One call of `CPUKernel.learn`: what all its threads share."""

    def __init__(self, kernel: CPUKernel, population: Any, x: NDArray[np.float32], y: NDArray[np.int64],
                 logits: Tensor) -> None:
        members = len(kernel._table)
        self._kernel, self._population, self._x, self._y = kernel, population, x, y
        self._sizes = np.array(population.layers)
        self._arrays = kernel.arrays(population)
        self._live = population._live.numpy()
        self._logits = logits
        self._out = np.empty(logits.shape, np.float32)  # arrays of one layout always: for another all is compiled anew
        self.energy = np.zeros(members, np.float32)
        self._diverged = population._diverged.numpy().copy()
        self._bounds = Bounds(
            np.full(members, population._bound), np.full(members, getattr(population, "_peak", 0.0)),
            float(getattr(population, "_stretch", 1.0)), float(population._limit))
        self.done = np.zeros(members, np.int64)
        self._careful = False
        self.work = float((self._sizes[:-1] * self._sizes[1:]).sum() * population.batch_size
                          * (2 + kernel._rule.steps))

    def run(self, room: _Room, members: NDArray[np.int64], begin: int, end: int | None = None, *,
            careless: bool = False) -> None:
        """Let some members learn from mini-batch `begin` on; `done` says how far each came."""
        kernel, population = self._kernel, self._population
        size = population.batch_size
        kernel._run(
            kernel._rule, members, kernel._table, self._sizes, *self._arrays, kernel._adams, population.steps, size,
            begin, len(self._y) // size if end is None else end, self._x, self._y, self._live, self._out, self.energy,
            self._diverged, self._bounds, careless, room.rows, room.fed, room.passes, room.ones, room.gram,
            room.products, self.done)

    def carefully(self, room: _Room, member: int) -> None:
        """Let a member go on past an update that could leave something non-finite; what does is taken back."""
        self._careful = True
        one, batches = np.array([member]), len(self._y) // self._population.batch_size
        own = [tensor[member] for tensor in self._population._by_member().values()]
        while (at := int(self.done[member])) < batches:
            step = partial(self.run, room, one, at, at + 1, careless=True)
            self._diverged[member] |= not try_out(own, step)
            self._bounds.bound[member] = largest(own)
            self.run(room, one, at + 1)

    def finish(self) -> None:
        """Give the population what was counted for each member, and the logits to who asked."""
        population = self._population
        self._logits.copy_(torch.from_numpy(self._out))
        population._diverged.copy_(torch.from_numpy(self._diverged))
        if self._careful:
            population._refresh()
            return
        moving = ~self._diverged
        population._bound = float(self._bounds.bound.max(where=moving, initial=0.0))
        if self._kernel._adams:
            population._peak = float(self._bounds.peak.max(where=moving, initial=population._peak))
