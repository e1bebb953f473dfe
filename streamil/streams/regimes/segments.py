"""Stamps of the true segment, where several regimes have segments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamil.samples import Records


class Segments:
    """Stamps a regime's own segments, and keeps those that samples bring along apart.

    Without earlier stamps the regime's own numbers stand. Else each pair (earlier, own) is a segment, numbered in order
    of first appearance: two samples share a segment only if they share the earlier and the own one. What it remembers
    is one number for each pair.

    Examples
    --------
    >>> segments = Segments()
    >>> records = Records(y=["a"] * 4, segment=np.array([7, 7, 8, 7]))
    >>> segments.stamp(records, np.array([0, 1, 1, 0])).segment.tolist()
    [0, 1, 2, 0]
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], int] = {}

    def stamp(self, records: Records, own: NDArray[np.int64]) -> Records:
        """Return the samples with their segments; `own` [N] is what the regime says."""
        if records.segment is None:
            return replace(records, segment=own)
        pairs = zip(records.segment.tolist(), own.tolist(), strict=True)
        both = [self._known.setdefault(pair, len(self._known)) for pair in pairs]
        return replace(records, segment=np.array(both, dtype=np.int64))
