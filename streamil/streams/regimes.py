"""Regimes: seeded, deterministic reshapings of a source. Each takes chunks and yields chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from streamil.errors import SourceError
from streamil.samples import Records
from streamil.streams.chunks import CHUNK, join, size_in_memory, take

MEMORY_LIMIT = 8 << 30
"""Bytes of samples that a shuffle holds at most; a source that never ends is found by it."""


def single_pass(samples: Iterator[Records], seed: int) -> Iterator[Records]:
    """Yield every sample once, in an order shuffled by `seed`; all of them are held in memory.

    Raises
    ------
    SourceError
        When the source has more samples than memory is allowed for.
    """
    held, size = [], 0
    for chunk in samples:
        held.append(chunk)
        size += size_in_memory(chunk)
        if size > MEMORY_LIMIT:
            raise SourceError(f"single-pass: shuffling needs all samples in memory; {MEMORY_LIMIT} bytes are full and "
                              "the source goes on: leave the regime out, or use a smaller source")
    if not held:
        return
    whole = join(held)
    del held
    order = np.random.default_rng(seed).permutation(len(whole))
    for first in range(0, len(order), CHUNK):
        yield take(whole, order[first:first + CHUNK])


REGIMES: Mapping[str, Callable[[Iterator[Records], int], Iterator[Records]]] = {"single-pass": single_pass}
