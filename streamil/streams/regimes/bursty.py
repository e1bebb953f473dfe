"""`bursty`: samples come in bursts, with pauses between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from streamil.experiment.regimes import Bursty
from streamil.samples import Records

CLOSER = 10
"""How much closer together the samples of a burst are than those of an even stream of the same rate."""


def bursty(samples: Iterator[Records], settings: Bursty, rng: np.random.Generator) -> Iterator[Records]:
    """Yield the samples with event times that come in bursts, in seconds from 0, the first sample's; never falling.

    Bursts have `burst` samples. Gaps within a burst are exponential with mean 1 / (`CLOSER` `rate`), pauses between
    bursts are exponential with the mean that makes `rate` samples a second of it all. With `burst` 1 that is a Poisson
    process. Event times that the source gave are replaced.
    """
    gap = 1 / (CLOSER * settings.rate)
    pause = settings.burst / settings.rate - (settings.burst - 1) * gap
    first, now = 0, 0.0
    for chunk in samples:
        ordinals = np.arange(first, first + len(chunk))
        waits = rng.standard_exponential(len(chunk)) * np.where(ordinals % settings.burst, gap, pause)
        if not first:
            waits[0] = 0.0
        t = np.cumsum(np.concatenate(([now], waits)))[1:]  # one after the other, from the time carried over
        first, now = first + len(chunk), float(t[-1])
        yield replace(chunk, t=t)
