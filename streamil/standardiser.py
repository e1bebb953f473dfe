"""Running mean and variance of each input, used for a value before they have seen it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

CLIP = 5.0
"""A standardised value stays within +- this many deviations, however few samples the deviation is from."""
PIECE = 256
"""Samples that are scaled at once; bounds the float64 copies that scaling needs."""


class Standardiser:
    r"""Standardises F inputs online: $z_i = (x_i - \mu_{i-1}) / \sigma_{i-1}$, clipped to +-5.

    Welford's recurrence (1962), with sums instead of means so that a whole chunk is two running sums: with
    $d = x - k$, $k$ the first value seen, $\mu_i = \frac{1}{n_i} \sum d$ and
    $M_i = M_{i-1} + (d_i - \mu_{i-1})(d_i - \mu_i)$, $\sigma^2 = M / n$. The shift keeps the digits of inputs that
    are far from 0, an epoch time for example. nan is missing: 0 afterwards, and in no sum.

    Examples
    --------
    >>> running = Standardiser(1)
    >>> running.scale(np.array([[1.0], [3.0], [4.0], [np.nan], [900.0]])).ravel().tolist()
    [0.0, 0.0, 2.0, 0.0, 5.0]
    """

    def __init__(self, inputs: int) -> None:
        self.count = np.zeros(inputs)
        self.shift = np.full(inputs, np.nan)
        self.total = np.zeros(inputs)
        self.spread = np.zeros(inputs)

    def scale(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return x [N, F] standardised, row by row by the rows before; then know these rows, too."""
        seen = ~np.isnan(x)
        complete = bool(seen.all())
        new = np.isnan(self.shift)
        if new.any():
            first = np.take_along_axis(x, np.argmax(seen, axis=0)[None, :], axis=0)[0]
            self.shift[new] = first[new]
        d = x - self.shift
        if not complete:
            d[~seen] = 0.0
        count = _before_and_after(self.count, seen)
        total = _before_and_after(self.total, d)
        mean = total / np.maximum(count, 1.0)
        from_before = d - mean[:-1]
        grown = from_before * (d - mean[1:])
        if not complete:
            grown[~seen] = 0.0
        spread = _before_and_after(self.spread, grown)
        variance = spread[:-1] / np.maximum(count[:-1], 1.0)
        known = variance > 0.0
        z: NDArray[np.float64] = np.divide(from_before, np.sqrt(np.where(known, variance, 1.0)))
        z[~(known & seen)] = 0.0
        self.count, self.total, self.spread = count[-1].copy(), total[-1].copy(), spread[-1].copy()
        np.clip(z, -CLIP, CLIP, out=z)
        return z

    def inputs(self, numbers: NDArray[Any]) -> NDArray[np.float32]:
        """Return numbers [N, F] of any type as `scale` does, in float32 and piece by piece."""
        scaled = np.empty(numbers.shape, dtype=np.float32)
        for first in range(0, len(numbers), PIECE):
            rows = slice(first, first + PIECE)
            scaled[rows] = self.scale(numbers[rows].astype(np.float64))
        return scaled

    def frozen(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return shift, centre and deviation [F]: `scale` makes the next value ((x - shift) - centre) / deviation.

        The deviation is infinite where nothing or one value only was seen.
        """
        variance = self.spread / np.maximum(self.count, 1.0)
        deviation = np.where(variance > 0.0, np.sqrt(variance), np.inf)
        return np.nan_to_num(self.shift, nan=0.0), self.total / np.maximum(self.count, 1.0), deviation

    def state_dict(self) -> dict[str, Any]:
        """Return all state as arrays [F]."""
        return {name: getattr(self, name).copy() for name in ("count", "shift", "total", "spread")}

    @classmethod
    def of(cls, state: Mapping[str, Any], inputs: int) -> Self:
        """Return the standardiser of that many inputs whose state this is; raise ValueError where it does not fit."""
        made = cls(inputs)
        for name in ("count", "shift", "total", "spread"):
            found = np.array(state[name], dtype=np.float64)
            if found.shape != (inputs,):
                raise ValueError(f"{name} has shape {found.shape}, {(inputs,)} is allowed")
            setattr(made, name, found)
        return made


def _before_and_after(carried: NDArray[np.float64], steps: NDArray[Any]) -> NDArray[np.float64]:
    """Return the running sums [N + 1, F]: the carried one, then after each step, added one by one in order."""
    sums = np.empty((len(steps) + 1, steps.shape[1]))
    sums[0] = carried
    sums[1:] = steps
    np.cumsum(sums, axis=0, out=sums)
    return sums
