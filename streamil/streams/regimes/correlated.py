"""`correlated`: runs of one class, as when a thing stays in view."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamil.experiment.regimes import Correlated
from streamil.samples import Records
from streamil.streams.chunks import CHUNK, join
from streamil.streams.regimes.shelves import Shelves

RUNS = 32
"""Runs of each class that wait on average, so that hardly a run is cut short for want of samples."""


def correlated(samples: Iterator[Records], settings: Correlated, rng: np.random.Generator) -> Iterator[Records]:
    """Yield every sample once, in runs of one class; within a class the order stays.

    Each run's class is drawn among the other classes that wait, all alike; its length is geometric. Its mean is `dwell`
    times the class's share of what waits times the number of classes: so the mean over runs is `dwell`, a common class
    has longer runs than a rare one, and shares stay as they are. At the end of the source the waiting samples come out
    the same way, until one class is left. Draws `RUNS * dwell` samples of each class ahead.

    Raises
    ------
    SourceError
        When memory for what waits is full.
    """
    shelves = Shelves(settings.kind)
    label: object = samples  # no label is equal to it
    ready: list[Records] = []
    count, ended = 0, False
    while True:
        while not ended and shelves.held < max(CHUNK, RUNS * settings.dwell * len(shelves.waiting)):
            chunk = next(samples, None)
            ended = chunk is None
            if chunk is not None:
                shelves.put(chunk, range(len(chunk)))
        others = [one for one in shelves.waiting if one != label] or list(shelves.waiting)
        if not others:
            break
        chosen = label = others[int(rng.integers(len(others)))]
        share = shelves.waiting[chosen] / shelves.held
        mean = max(1.0, settings.dwell * len(shelves.waiting) * share)
        run = [piece.records for piece in shelves.take(chosen, int(rng.geometric(1 / mean)))]
        ready += run
        count += sum(map(len, run))
        if count >= CHUNK:
            yield join(ready)
            ready, count = [], 0
    if ready:
        yield join(ready)
