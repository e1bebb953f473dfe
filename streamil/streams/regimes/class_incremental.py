"""`class-incremental`: a few classes at a time, one block after another."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

import numpy as np

from streamil.experiment.regimes import ClassIncremental
from streamil.samples import Records
from streamil.streams.chunks import take
from streamil.streams.regimes.segments import Segments
from streamil.streams.regimes.shelves import Label, Shelves

PATIENCE = 100_000
"""Samples drawn in vain, for one of the block's classes or for a new class, before the block does without."""


def class_incremental(samples: Iterator[Records], settings: ClassIncremental,
                      rng: np.random.Generator) -> Iterator[Records]:
    """Yield blocks of a few classes, stamped with the block's number.

    A block takes the classes that have waited longest: those that had no block yet, in order of first appearance, then
    those whose block is longest ago. It holds the next `samples_per_block` samples of these, in the order of the
    source; so when all classes have had a block they come again, with new samples, until the source ends. Samples of
    the other classes wait meanwhile, `samples_per_block` of each at most: what comes beyond is left out.

    Raises
    ------
    SourceError
        When memory for what waits is full.
    """
    segments = Segments()
    for number, block in enumerate(_Blocks(samples, settings)):
        for part in block:
            yield segments.stamp(part, np.full(len(part), number, dtype=np.int64))


class _Blocks:
    """The blocks of a source, each an iterator that has to be used up before the next one is asked for."""

    def __init__(self, samples: Iterator[Records], settings: ClassIncremental) -> None:
        self._samples, self._settings = samples, settings
        self._shelves = Shelves(settings.kind, settings.samples_per_block)
        self._rest: Records | None = None  # drawn, but not looked at yet
        self._ended = False
        self._turn = 0
        self._last: dict[Label, int] = {}  # every class in order of first appearance -> its last turn, 0: none yet
        self._since_new = 0

    def __iter__(self) -> Iterator[Iterator[Records]]:
        while wanted := self._next_classes():
            self._turn += 1
            self._last |= dict.fromkeys(wanted, self._turn)
            parts = self._block(wanted)
            first = next(parts, None)
            if first is not None:  # classes that have gone for good have no block
                yield itertools.chain([first], parts)

    def _next_classes(self) -> list[Label]:
        wanted = self._settings.classes_per_block
        while len(self._last) < wanted and self._since_new < PATIENCE and (chunk := self._draw()) is not None:
            self._look_at(chunk)
            self._shelves.put(chunk, range(len(chunk)))
        known = [label for label in self._last if not self._ended or label in self._shelves.waiting]
        return sorted(known, key=self._last.__getitem__)[:wanted]

    def _block(self, wanted: Collection[Label]) -> Iterator[Records]:
        left, in_vain = self._settings.samples_per_block, 0
        waiting = self._shelves.take_first(wanted, left)
        if waiting is not None:
            left -= len(waiting)
            yield waiting
        while left and in_vain < PATIENCE and (chunk := self._draw()) is not None:
            rows = [row for row, label in enumerate(chunk.y) if label in wanted][:left]
            if len(rows) == left:
                chunk, self._rest = chunk[:rows[-1] + 1], chunk[rows[-1] + 1:]
            self._look_at(chunk)
            self._shelves.put(chunk, (row for row, label in enumerate(chunk.y) if label not in wanted))
            left -= len(rows)
            in_vain = 0 if rows else in_vain + len(chunk)
            if rows:
                yield take(chunk, np.array(rows, dtype=np.int64))

    def _draw(self) -> Records | None:
        """Return the next samples, None at the end."""
        chunk, self._rest = self._rest, None
        if chunk is None or not len(chunk):
            chunk = next(self._samples, None)
        self._ended = chunk is None
        return chunk

    def _look_at(self, chunk: Records) -> None:
        """Note the classes that are new."""
        known = len(self._last)
        for label in chunk.y:
            self._last.setdefault(label, 0)
        self._since_new = 0 if len(self._last) > known else self._since_new + len(chunk)

