"""`long-tail`: a few common classes and many rare ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamil.experiment.regimes import LongTail
from streamil.samples import Records
from streamil.streams.chunks import take
from streamil.streams.regimes.shelves import Label


def long_tail(samples: Iterator[Records], settings: LongTail, rng: np.random.Generator) -> Iterator[Records]:
    """Yield samples so that the class of rank r is r^-exponent as frequent as the first one.

    Ranks follow first appearance, and the class of rank 1 is kept whole: n_1 samples so far. A sample of rank r is kept
    with probability n_1 r^-exponent - k_r, cut to [0, 1], k_r being those of its class kept so far: that follows the
    frequencies to within a sample or two at every moment, and whatever the shares of the source are. A class that is
    rarer than wanted is kept whole. Nothing is drawn ahead.
    """
    ranks: dict[Label, int] = {}
    kept: dict[Label, int] = {}
    head = 0
    for chunk in samples:
        rows = []
        for row, (label, draw) in enumerate(zip(chunk.y, rng.random(len(chunk)).tolist(), strict=True)):
            rank = ranks.setdefault(label, len(ranks) + 1)
            head += rank == 1
            if draw < head * rank ** -settings.exponent - kept.get(label, 0):
                kept[label] = kept.get(label, 0) + 1
                rows.append(row)
        if rows:
            yield take(chunk, np.array(rows, dtype=np.int64))
