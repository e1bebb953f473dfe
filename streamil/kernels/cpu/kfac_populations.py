"""The calls of the K-FAC kernel: samples between two renewals of the metric, which stay with the plain rule."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, TypeGuard, cast

import numpy as np
import torch
from torch import Tensor

from streamil.kernels.cpu import kfac
from streamil.kernels.cpu.calls import (
    NAME,
    Array,
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
from streamil.kernels.cpu.kfac import KFacRates, KFacRule, KFacState, Projected
from streamil.kernels.cpu.record import Bounds
from streamil.learners.bp_kfac import BPKFac
from streamil.learners.il_kfac import ILKFac
from streamil.learners.kfac import KFac
from streamil.learners.stacked import StackedPopulation

RULES: tuple[type[KFac], ...] = (ILKFac, BPKFac)
AT_ONCE = 64
"""Samples of a call, at most: what the input layer's metric makes of them is kept meanwhile."""


def supports(population: StackedPopulation) -> TypeGuard[KFac]:
    """Return whether the kernel knows this population's way to learn: sample by sample, and along the ray.

    Examples
    --------
    >>> from streamil.learners import create
    >>> supports(create("il-kfac", [4, 8, 3])), supports(create("il-kfac", [4, 8, 3], [{"inference": "sweeps"}]))
    (True, False)
    """
    if type(population) not in RULES:
        return False
    one: Any = population.members[0]
    return (getattr(one, "inference", "ray") == "ray" and fits(population)
            and (one.batch_rule == "sequential" or population.batch_size == 1))


class KFacKernel:
    """One call for the samples up to the next renewal of the metric, one member after another, some at a time.

    Parameters
    ----------
    population
        One that `supports` says yes to.
    """

    name = NAME

    def __init__(self, population: KFac) -> None:
        first: Any = population.members[0]
        self.rule = KFacRule(kind_of(population), isinstance(population, ILKFac), first.adaptive, first.train_biases)
        rates = [[getattr(member, name) for name in KFacRates._fields] for member in population.members]
        self.table = np.array(rates, np.float32)
        self._held: list[Tensor] = []
        self._rooms: list[_Room] = []

    def learn(self, population: KFac, x: Tensor, y: Tensor, logits: Tensor) -> None:
        """Predict, then learn, whole mini-batches in order; see `Kernel.learn`."""
        begin = 0
        out = np.empty(logits.shape, np.float32)  # arrays of one layout always: for another all is compiled anew
        call = _Call(self, population, x.contiguous().numpy(), y.numpy(), out)
        while begin < len(y):
            end = min(len(y), begin + AT_ONCE, begin + population._due - population._samples)
            call.learn(begin, end)
            population._metrics[0].add(x[None, begin:end], population._place)
            population._learned += end - begin
            population._count(end - begin)
            begin = end
        logits.copy_(torch.from_numpy(out))
        population.steps += len(y) // population.batch_size
        if self.rule.ray:
            cast("ILKFac", population)._rest = torch.from_numpy(call.energy)

    def arrays(self, population: KFac) -> tuple[KFacState, Projected]:
        """Return the kernel's view of what a member has of its own, and room for what the members share."""
        own, metrics = population.parameters, population._metrics
        lags = own.slots.get("lag", [])
        held = [*own.flat, *lags, *population._squares, *population._step_size, *(one.inverse for one in metrics)]
        if not same(held, self._held):
            self._held = held
            self._state = KFacState(
                as_held(own.W), padded([t.numpy() for t in own.b]), as_held(lags[::2]),
                padded([t.numpy() for t in lags[1::2]]), padded([t.numpy() for t in population._squares]),
                padded([one.inverse.numpy() for one in metrics]), padded([one.rows.numpy() for one in metrics]),
                tuple(t.flatten().numpy() for t in population._step_size))
            groups = metrics[0].groups
            wide = line_width(population.layers[:1])
            self._projected = Projected(aligned(max(groups) + 1, AT_ONCE, wide), aligned(max(groups) + 1, AT_ONCE),
                                        np.array(groups))
        return self._state, self._projected

    def room(self, place: int, population: KFac) -> _Room:
        """Return the working memory of a thread."""
        while len(self._rooms) <= place or self._rooms[place].layers != population.layers:
            del self._rooms[place:]
            self._rooms.append(_Room.of(population.layers, population.batch_size))
        return self._rooms[place]


class _Room(NamedTuple):
    """Working memory of one thread; see `kfac.learn`."""

    layers: list[int]
    passes: Array
    rows: Array
    edges: Array

    @classmethod
    def of(cls, layers: list[int], size: int) -> _Room:
        width = line_width(layers)
        return cls(list(layers), aligned(7, len(layers), width), np.zeros((2, width), np.int64), aligned(size))


class _Call:
    """One call of `KFacKernel.learn`: what its blocks and threads share."""

    def __init__(self, kernel: KFacKernel, population: KFac, x: Array, y: Array, logits: Array) -> None:
        members = len(population.seeds)
        self._kernel, self._population, self._x, self._y, self._logits = kernel, population, x, y, logits
        self._sizes, self._live = np.array(population.layers), population._live.numpy()
        self._state, self._projected = kernel.arrays(population)
        self._rooms = [kernel.room(place, population) for place in range(min(torch.get_num_threads(), members))]
        self.energy, self._done = np.zeros(members, np.float32), np.zeros(members, np.int64)
        self._diverged = population._diverged.numpy().copy()
        self._bounds = Bounds(np.full(members, population._bound), np.zeros(members), 1.0, float(population._limit))
        self._work = 8.0 * float((self._sizes[:-1] * self._sizes[1:]).sum())

    def learn(self, begin: int, end: int) -> None:
        """Let all members learn the samples from `begin` to `end`; the metric holds meanwhile."""
        population, members, count = self._population, len(self._done), end - begin
        metric = population._metrics[0]
        kfac.project(metric.inverse.numpy(), np.float32(metric.bias), self._x[begin:end], self._projected,
                     self._rooms[0].rows[0])

        def run(place: int, part: Array) -> None:
            self._run(self._rooms[place], part, begin, begin, end)

        share_members(run, members, members * count * self._work)
        short = np.flatnonzero(self._done < count)
        for member in short:
            self._carefully(int(member), begin, end)
        if len(short):
            population._diverged.copy_(torch.from_numpy(self._diverged))
            population._refresh()
        population._bound = float(self._bounds.bound.max(where=~self._diverged, initial=0.0))

    def _run(self, room: _Room, members: Array, origin: int, begin: int, end: int, *, careless: bool = False) -> None:
        """Let some members learn from `begin` on, in the block from `origin` on; `_done` says how far each came."""
        population = self._population
        kfac.learn(
            self._kernel.rule, members, self._kernel.table, self._sizes, self._state, self._projected,
            population.batch_size, origin, begin, end, population._samples, population._learned, population._place,
            self._x, self._y, self._live, population._known, self._logits, self.energy, self._diverged, self._bounds,
            careless, room.passes, room.rows, room.edges, self._done)
        self._done[members] += begin - origin

    def _carefully(self, member: int, begin: int, end: int) -> None:
        """Let a member go on past an update that could leave something non-finite; what does is taken back."""
        room, one = self._rooms[0], np.array([member])
        own = [tensor[member] for tensor in self._population._by_member().values()]
        while (at := begin + int(self._done[member])) < end:
            step = partial(self._run, room, one, begin, at, at + 1, careless=True)
            self._diverged[member] |= not try_out(own, step)
            self._bounds.bound[member] = largest(own)
            self._run(room, one, begin, at + 1, end)
