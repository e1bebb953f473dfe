"""Samples that wait for their turn, by class."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamil.samples import Records
from streamil.streams.chunks import join, size_in_memory, take
from streamil.streams.regimes.memory import require_room

Label = str | None
"""Samples without a label count as one class of their own."""


class Piece(NamedTuple):
    """Some samples of one class, and their places in the source."""

    places: NDArray[np.int64]
    records: Records


class Shelves:
    """Samples that wait, one shelf for each class, each in the order of the source.

    Parameters
    ----------
    kind
        The regime that holds them, for its errors.
    most
        Samples that a shelf takes at most; what comes while it is full is left out. None: no bound but memory's.

    Attributes
    ----------
    waiting
        Label -> samples that wait; classes of which none waits are absent.

    Examples
    --------
    >>> shelves = Shelves("correlated")
    >>> shelves.put(Records(y=["a", "b", "a", "b"], x=np.arange(4)[:, None]), range(4))
    >>> [piece.records.x.ravel().tolist() for piece in shelves.take("b", 1)], shelves.waiting
    ([[1]], {'a': 2, 'b': 1})
    >>> shelves.take_first({"a", "b"}, 2).x.ravel().tolist()
    [0, 2]
    """

    def __init__(self, kind: str, most: int | None = None) -> None:
        self.kind, self.most = kind, most
        self.waiting: dict[Label, int] = {}
        self._shelves: dict[Label, deque[Piece]] = {}
        self._size = 0
        self._seen = 0

    @property
    def held(self) -> int:
        """Samples that wait."""
        return sum(self.waiting.values())

    def put(self, chunk: Records, rows: Iterable[int]) -> None:
        """Take in copies of some rows of the source's next samples.

        Raises
        ------
        SourceError
            When memory for what waits is full.
        """
        by_label: dict[Label, list[int]] = {}
        for row in rows:
            by_label.setdefault(chunk.y[row], []).append(row)
        for label, own in by_label.items():
            before = self.waiting.get(label, 0)
            places = np.array(own if self.most is None else own[:self.most - before], dtype=np.int64)
            if len(places):
                piece = Piece(self._seen + places, take(chunk, places))
                self._shelves.setdefault(label, deque()).append(piece)
                self.waiting[label] = before + len(places)
                self._size += size_in_memory(piece.records)
        self._seen += len(chunk)
        require_room(self.kind, self._size, "ask for less (see docs/regimes.md), or use a source with fewer classes")

    def take(self, label: Label, most: int) -> list[Piece]:
        """Return the oldest samples of a class, at most so many, which wait no longer."""
        taken: list[Piece] = []
        count = min(most, self.waiting.get(label, 0))
        left = count
        while left:
            places, records = self._shelves[label].popleft()
            if len(places) > left:
                self._shelves[label].appendleft(Piece(places[left:], records[left:]))
            taken.append(Piece(places[:left], records[:left]))
            self._size -= size_in_memory(taken[-1].records)
            left -= len(taken[-1].places)
        if count:
            self.waiting[label] -= count
            if not self.waiting[label]:
                del self.waiting[label], self._shelves[label]
        return taken

    def take_first(self, labels: Collection[Label], most: int) -> Records | None:
        """Return the oldest samples of several classes together, in the order of the source; None where none waits."""
        places = {label: np.concatenate([piece.places for piece in self._shelves[label]])
                  for label in self.waiting if label in labels}
        if not places or not most:
            return None
        last = np.sort(np.concatenate(list(places.values())))[:most][-1]
        pieces = [piece for label, own in places.items()
                  for piece in self.take(label, int(np.searchsorted(own, last, side="right")))]
        order = np.argsort(np.concatenate([piece.places for piece in pieces]))
        return take(join([piece.records for piece in pieces]), order)
