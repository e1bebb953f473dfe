"""`delayed-labels`: what a thing was turns out later."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from streamil.errors import SourceError
from streamil.experiment.regimes import DelayedLabels
from streamil.samples import Records


def delayed_labels(
    samples: Iterator[Records], settings: DelayedLabels, rng: np.random.Generator
) -> Iterator[Records]:
    """Yield the samples without their labels, and late labels (`Records.late`) between them.

    Due labels come before each sample whose ordinal is a multiple of `together`: those with `samples` further samples
    behind them, or whose sample's event time is `seconds` or more before the next one's. A sample keeps its identifier,
    or gets its ordinal for one. Labels still out when the stream ends never come. Waiting labels are held in memory.

    Raises
    ------
    SourceError
        For a delay in seconds of samples without an event time.
    """
    waiting: deque[tuple[float, str, str]] = deque()  # due at this ordinal or time; identifier; label
    ordinal = 0
    for chunk in samples:
        now = _clock(chunk, settings, ordinal)
        delay = settings.seconds if settings.seconds is not None else float(settings.samples or 0) + 1
        mark, known = ("", [None] * len(chunk)) if chunk.ids is None else ("#", chunk.ids)
        ids = [name if name is not None or label is None else f"{mark}{ordinal + row}"  # without a label to come: none
               for row, (name, label) in enumerate(zip(known, chunk.y, strict=True))]
        first = 0
        while first < len(chunk):
            if ordinal % settings.together == 0:
                due = []
                while waiting and waiting[0][0] <= now[first]:
                    due.append(waiting.popleft())
                if due:
                    yield Records(y=[label for _, _, label in due], ids=[name for _, name, _ in due])
            last = min(first + settings.together - ordinal % settings.together, len(chunk))
            yield replace(chunk[first:last], y=[None] * (last - first), ids=ids[first:last])
            for row in range(first, last):
                label, name = chunk.y[row], ids[row]
                if label is not None and name is not None:
                    waiting.append((now[row] + delay, name, label))
            ordinal, first = ordinal + last - first, last


def _clock(chunk: Records, settings: DelayedLabels, ordinal: int) -> list[float]:
    """Return what the delay of each sample is counted in: its ordinal, or its event time."""
    if settings.seconds is None:
        return [float(ordinal + row) for row in range(len(chunk))]
    if chunk.t is None or bool(np.isnan(chunk.t).any()):
        raise SourceError("regime delayed-labels: a delay in seconds needs the event time of every sample: name the "
                          "source's time column, put {kind: bursty, ..} before it, or give the delay in samples")
    times: list[float] = chunk.t.tolist()
    return times
