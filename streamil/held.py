"""A few samples of each segment, kept to see later what was forgotten of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.samples import Batch
from streamil.state_entries import array, entries

SEGMENTS_LIMIT = 20
"""Segments of which samples are kept: the first ones, since forgetting is about what is long ago."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Samples that were learned: inputs `x` [N, F], labels `y` [N], and the segment of each [N]."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    segment: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)


class Held:
    """A bounded reservoir of each of the first segments.

    The samples with the smallest hashes of their ordinals are kept, a uniform choice that depends neither on how
    samples are cut into calls nor on a generator's state.

    Parameters
    ----------
    per_segment
        Samples of each segment at most; 0: none.
    segments
        Segments at most.

    Examples
    --------
    >>> held = Held(per_segment=2)
    >>> held.offer(Batch(np.eye(4, dtype=np.float32), np.arange(4), np.arange(4), np.array([0, 0, 0, 7])))
    >>> held.rows.segment.tolist(), held.segments
    ([0, 0, 7], [0, 7])
    """

    def __init__(self, per_segment: int, segments: int = SEGMENTS_LIMIT) -> None:
        self.per_segment, self._limit = per_segment, segments
        self._kept: dict[int, tuple[NDArray[np.uint64], NDArray[np.float32], NDArray[np.int64]]] = {}

    @property
    def segments(self) -> list[int]:
        """Segments of which there are samples, in the order that they came."""
        return list(self._kept)

    def offer(self, batch: Batch) -> None:
        """Take labelled samples in, and keep those whose turn it is."""
        if not self.per_segment or not len(batch):
            return
        keys = _hash(batch.ordinals)
        for segment in dict.fromkeys(batch.segment.tolist()):
            if segment not in self._kept and len(self._kept) >= self._limit:
                continue
            chosen = batch.segment == segment
            there = self._kept.get(segment)
            if there is not None and len(there[0]) >= self.per_segment:
                chosen &= keys < there[0][-1]  # keys are kept in order
            if not chosen.any():
                continue
            own, x, y = keys[chosen], batch.x[chosen], batch.y[chosen]
            if there is not None:
                own, x, y = (np.concatenate((there[0], own)), np.concatenate((there[1], x)),
                             np.concatenate((there[2], y)))
            order = np.argsort(own, kind="stable")[:self.per_segment]
            self._kept[segment] = (own[order], x[order], y[order])

    @property
    def rows(self) -> Rows:
        """All that is kept, segment by segment."""
        if not self._kept:
            return Rows(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
        segment = np.repeat(np.array(self.segments, np.int64), [len(keys) for keys, _, _ in self._kept.values()])
        return Rows(np.concatenate([x for _, x, _ in self._kept.values()]),
                    np.concatenate([y for _, _, y in self._kept.values()]), segment)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all of it."""
        rows, keys = self.rows, [keys for keys, _, _ in self._kept.values()]
        return {"keys": np.concatenate(keys) if keys else np.zeros(0, np.uint64), "x": rows.x, "y": rows.y,
                "segment": rows.segment}

    def load_state_dict(self, state: Mapping[str, Any], inputs: int | None) -> None:
        """Take over a state, of samples of `inputs` values; ValueError where an entry does not fit."""
        entries(state, ("keys", "x", "y", "segment"))
        segment = array(state, "segment", np.int64, (-1,))
        keys, y = array(state, "keys", np.uint64, segment.shape), array(state, "y", np.int64, segment.shape)
        x = array(state, "x", np.float32, (len(segment), inputs if len(segment) and inputs is not None else -1))
        there = list(dict.fromkeys(segment.tolist()))
        counts = [int(np.count_nonzero(segment == one)) for one in there]
        if len(there) > self._limit or max(counts, default=0) > self.per_segment or (len(y) and y.min() < 0):
            raise ValueError("samples held: more than are kept, or without a label")
        if not np.isfinite(x).all():
            raise ValueError("samples held: not finite")
        self._kept = {one: (keys[segment == one], x[segment == one], y[segment == one]) for one in there}


def _hash(ordinals: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return one well-mixed number for each ordinal (the finaliser of splitmix64)."""
    mixed: NDArray[np.uint64] = ordinals.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
