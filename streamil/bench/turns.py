"""Contestants measured turn about, so that what else the machine does hits all of them alike."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from streamil.learners.population import Population

Progress = Callable[[float, str], None]
"""Takes the part that is done, 0 to 1, and what is measured now."""
Clock = Callable[[], float]


@dataclass
class Contestant:
    """Somebody who learns records, and what that took.

    Attributes
    ----------
    rule, way
        What learns, and by whose code: `kernel`, `plain`, `eager`, `compiled`, or a library's.
    members, batch_size
        Learners in it, and samples of an update.
    learn
        Learns one record.
    records
        Inputs and labels, in its own form; taken again and again.
    population
        Ours, where it is one.
    period
        Samples after which its cost repeats, if it does: so often K-FAC's metric is renewed, after four times as many.
        It is warm then, and a turn is whole periods.
    first_call
        Seconds of the very first call: what has to be compiled counts.
    seconds
        Of one update, for each turn.
    diverged
        Members that stopped learning, which costs less; known once it has left.
    """

    rule: str
    way: str
    members: int
    batch_size: int
    learn: Callable[[Any, Any], object]
    records: Sequence[tuple[Any, Any]]
    population: Population | None = None
    period: int = 1
    first_call: float = math.nan
    seconds: list[float] = field(default_factory=list)
    diverged: int = 0
    _calls: int = 1
    _taken: int = 0

    def warm_up(self, clock: Clock, least: float) -> float:
        """Learn three times, and four periods; return what a turn of `least` seconds or more takes."""
        self.first_call = self._call(clock)
        second = min(self._call(clock), self._call(clock))
        samples = len(self.records[0][1])
        while self._taken * samples < 5 * self.period:
            self._call(clock)
        whole = math.lcm(samples, self.period) // samples
        self._calls = max(1, math.ceil(least / second / whole)) * whole
        return self._calls * second

    def take_turn(self, clock: Clock) -> None:
        """Learn for one turn."""
        updates = len(self.records[0][1]) // self.batch_size
        self.seconds.append(sum(self._call(clock) for _ in range(self._calls)) / self._calls / updates)

    def _call(self, clock: Clock) -> float:
        x, y = self.records[self._taken % len(self.records)]
        self._taken += 1
        begin = clock()
        self.learn(x, y)
        return clock() - begin

    @property
    def median(self) -> float:
        """Seconds of an update."""
        return statistics.median(self.seconds)

    def leave(self) -> None:
        """Let go of what takes memory."""
        if self.population is not None:
            self.diverged = int(self.population.diverged.sum())
        self.learn, self.records, self.population = (lambda x, y: None), (), None


def clock_of(device: str) -> Clock:
    """Return a clock that is read when all that the device was asked for is done."""
    if device == "cpu":
        return time.perf_counter

    def read() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return read


def take_turns(contestants: Sequence[Contestant], clock: Clock, *, most: int, seconds: float,
               stop: threading.Event, tell: Progress) -> None:
    """Measure contestants that are warm turn about, at most so often, and for so long; once in any case.

    Every other turn goes backwards, so that nobody always follows the same neighbour.
    """
    begin = time.monotonic()
    for turn in range(most):
        spent = time.monotonic() - begin
        if turn and spent * (turn + 1) / turn > seconds:
            return
        for contestant in contestants if turn % 2 == 0 else reversed(contestants):
            if stop.is_set():
                return
            tell(turn / most, f"turn {turn + 1}, {contestant.rule}")
            contestant.take_turn(clock)
