"""`single-pass`: every sample once, in an order shuffled by the seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamil.experiment.regimes import SinglePass
from streamil.samples import Records
from streamil.streams.chunks import CHUNK, join, size_in_memory, take
from streamil.streams.regimes.memory import require_room


def single_pass(samples: Iterator[Records], settings: SinglePass, rng: np.random.Generator) -> Iterator[Records]:
    """Yield every sample once, shuffled; all of them are held in memory.

    Raises
    ------
    SourceError
        When the source has more samples than memory is allowed for.
    """
    held, size = [], 0
    for chunk in samples:
        held.append(chunk)
        size += size_in_memory(chunk)
        require_room(settings.kind, size, "leave the regime out, or use a smaller source")
    if not held:
        return
    whole = join(held)
    del held
    order = rng.permutation(len(whole))
    for first in range(0, len(order), CHUNK):
        yield take(whole, order[first:first + CHUNK])
