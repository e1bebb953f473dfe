"""ADWIN: notices that the mean of a stream has changed, in a window that grows while nothing changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.evaluation._state import State, array, number, require

BUCKETS = 5
"""Buckets of one size before the two oldest are put together."""
CLOCK = 32
"""Samples between two looks for a cut."""
GRACE = 10
"""Samples before the first look."""
SHORTEST = 5
"""Samples on each side of a cut."""


class Adwin:
    r"""Adaptive windowing (Bifet and Gavaldà 2007, ADWIN2) over numbers from 0 to 1.

    The window's past is kept in buckets of 1, 2, 4, ... samples: n samples take O(log n) memory. Every 32 samples all
    cuts between two buckets are tried: a change is noticed where the means of the older part, of $n_0$ samples, and of
    the newer one differ by more than

    $\epsilon = \sqrt{\frac{2}{m} \sigma^2 L} + \frac{2}{3 m} L$, $L = \ln \frac{2 \ln n}{\delta}$, $\frac{1}{m} =
    \frac{1}{n_0 - 4} + \frac{1}{n_1 - 4}$

    with $\sigma^2$ the variance of the window (4: the shortest part less one). Then the window starts anew, as river's
    does, so that a change is noticed once. Sums run sample by sample.

    Parameters
    ----------
    delta
        How readily it cuts: the smaller, the surer.

    Attributes
    ----------
    samples
        Samples taken in.
    width
        Samples in the window.

    Raises
    ------
    EvaluationError
        For a delta or a value out of range.

    Examples
    --------
    >>> adwin = Adwin()
    >>> adwin.update(np.array([0.0] * 500 + [1.0] * 100))
    [512]
    >>> adwin.width
    88
    """

    def __init__(self, delta: float = 0.002) -> None:
        require(0 < delta < 1, "delta", delta, "above 0 and below 1")
        self.delta = delta
        self.samples = 0
        self._begin()

    def _begin(self) -> None:
        self.width = 0
        self._total = self._variance = 0.0
        self._rows: list[list[tuple[float, float]]] = [[]]  # row r: sums and variances of buckets of 2^r, oldest first

    @property
    def mean(self) -> float:
        """Mean of the window; nan where it is empty."""
        return self._total / self.width if self.width else math.nan

    def update(self, values: NDArray[Any]) -> list[int]:
        """Take in numbers [N]; return after how many samples, counted from the first ever, changes were noticed."""
        values = np.asarray(values, np.float64)
        fits = values.ndim == 1 and bool(((values >= 0) & (values <= 1)).all())
        require(fits, "values", "of another shape, or out of range", "numbers from 0 to 1, [N]")
        noticed = []
        for value in values.tolist():
            self._insert(value)
            self.samples += 1
            if self.width % CLOCK == 0 and self.width > GRACE and self._differs():
                noticed.append(self.samples)
                self._begin()
        return noticed

    def _insert(self, value: float) -> None:
        if self.width:
            self._variance += self.width / (self.width + 1) * (value - self._total / self.width) ** 2
        self.width += 1
        self._total += value
        self._rows[0].append((value, 0.0))
        row = 0
        while len(self._rows[row]) > BUCKETS:
            (one, spread), (other, other_spread) = self._rows[row][:2]
            del self._rows[row][:2]
            size = 2.0**row
            if row + 1 == len(self._rows):
                self._rows.append([])
            self._rows[row + 1].append((one + other, spread + other_spread + (one - other) ** 2 / (2 * size)))
            row += 1

    def _differs(self) -> bool:
        """Return whether the window has two parts whose means differ."""
        older, total = 0, 0.0
        log = math.log(2 * math.log(self.width) / self.delta)
        spread = 2 * self._variance / self.width * log
        for row in range(len(self._rows) - 1, -1, -1):
            for sum_of, _ in self._rows[row]:
                older, total = older + (1 << row), total + sum_of
                newer = self.width - older
                if newer < SHORTEST:
                    return False
                if older < SHORTEST:
                    continue
                inverse = 1 / (older - SHORTEST + 1) + 1 / (newer - SHORTEST + 1)
                apart = abs(total / older - (self._total - total) / newer)
                if apart > math.sqrt(inverse * spread) + inverse * log * 2 / 3:
                    return True
        return False

    def state_dict(self) -> State:
        """Return everything that was learned from samples, as copies."""
        return {
            "samples": self.samples, "width": self.width, "total": self._total, "variance": self._variance,
            "buckets": np.array([len(row) for row in self._rows], np.int64),
            "sums": np.array([bucket for row in self._rows for bucket in row], np.float64).reshape(-1, 2),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state; EvaluationError where an entry does not fit."""
        buckets = array(state, "buckets", np.int64, (-1,))
        fits = len(buckets) >= 1 and bool(((buckets >= 0) & (buckets <= BUCKETS)).all()) and len(buckets) <= 62
        require(fits, "state['buckets']", buckets.tolist()[:10], f"1 to 62 numbers from 0 to {BUCKETS}")
        sums = array(state, "sums", np.float64, (int(buckets.sum()), 2))
        width = int(number(state, "width"))
        held = sum(int(count) << row for row, count in enumerate(buckets.tolist()))
        require(width == held, "state['width']", width, f"{held}, as its buckets hold")
        ends = np.cumsum(buckets).tolist()
        self.samples, self.width = int(number(state, "samples")), width
        self._total, self._variance = float(number(state, "total")), float(number(state, "variance"))
        self._rows = [[(one, spread) for one, spread in sums[end - count:end].tolist()]
                      for count, end in zip(buckets.tolist(), ends, strict=True)]
