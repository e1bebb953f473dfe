"""`limited`: little experience, gone through again and again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamil.experiment.regimes import Limited
from streamil.samples import Records
from streamil.streams.chunks import CHUNK, join, limit, size_in_memory, take
from streamil.streams.regimes.memory import require_room
from streamil.streams.regimes.segments import Segments


def limited(samples: Iterator[Records], settings: Limited, rng: np.random.Generator) -> Iterator[Records]:
    """Yield the first `samples` samples, `repeats` times, stamped with the number of the pass.

    The first pass is in the order of the source, each later one in a new random order. Samples come again whole, with
    their identifiers and event times. All of them are held in memory.

    Raises
    ------
    SourceError
        When memory for the samples is full.
    """
    segments = Segments()
    held, size = [], 0
    for chunk in limit(samples, settings.samples):
        held.append(chunk)
        size += size_in_memory(chunk)
        require_room(settings.kind, size, "ask for fewer samples")
        yield segments.stamp(chunk, np.zeros(len(chunk), dtype=np.int64))
    if not held:
        return
    whole = join(held)
    del held
    for number in range(1, settings.repeats):
        order = rng.permutation(len(whole))
        for first in range(0, len(order), CHUNK):
            again = take(whole, order[first:first + CHUNK])
            yield segments.stamp(again, np.full(len(again), number, dtype=np.int64))
