"""When records are due: by a rate, or by the stream's own event times."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from streamil.samples import Records

CATCH_UP_SECONDS = 1.0
"""How far behind a producer may be and still make up for it by sending faster; a longer pause moves the schedule."""


class Pace:
    """A schedule on one clock, which starts when the first record is ready; no error adds up over time.

    A record is due when its last sample is, late labels with the sample before them. By a rate, sample n (counted from
    1) is due n / rate seconds after the start. By event times, a sample is due as long after the start as its time is
    after the first sample's; without a time it is due with the one before.

    Parameters
    ----------
    rate
        Samples per second; None, and `by_time` false: always due.
    by_time
        Whether event times (`Records.t`) say when samples are due.
    clock
        Seconds that never go back.

    Attributes
    ----------
    moved
        Seconds by which pauses longer than `CATCH_UP_SECONDS` have moved the schedule.

    Examples
    --------
    >>> now = [100.0]
    >>> pace = Pace(2.0, clock=lambda: now[0])
    >>> pace.ahead(Records(y=["a", "b"])), pace.ahead(Records(y=["c"]))
    (1.0, 1.5)
    >>> now[0] = 110.0  # 8 seconds late: from here on one sample each half second again
    >>> pace.ahead(Records(y=["d"])), pace.ahead(Records(y=["e"])), pace.moved
    (0.0, 0.5, 8.0)
    """

    def __init__(self, rate: float | None = None, *, by_time: bool = False,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._by_time, self._clock = rate, by_time, clock
        self._start: float | None = None
        self._count = 0
        self._first_time: float | None = None
        self._due = 0.0
        self.moved = 0.0

    def ahead(self, records: Records) -> float:
        """Return in how many seconds the next record is due; negative: so long ago."""
        if self._rate is None and not self._by_time:
            return 0.0
        now = self._clock()
        if self._start is None:
            self._start = now
        self._count += 0 if records.late else len(records)
        if self._by_time:
            self._due = max(self._due, self._by_event_time(records))
        elif self._rate is not None:
            self._due = self._count / self._rate
        ahead = self._start + self.moved + self._due - now
        if ahead < -CATCH_UP_SECONDS:
            self.moved -= ahead
            return 0.0
        return ahead

    def _by_event_time(self, records: Records) -> float:
        known: list[float] = [] if records.t is None else records.t[~np.isnan(records.t)].tolist()
        if not known:
            return self._due
        if self._first_time is None:
            self._first_time = known[0]
        return known[-1] - self._first_time
