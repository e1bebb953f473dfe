"""The curve that a sum of centred differences crosses with probability at most alpha, however often one looks.

The gamma-exponential mixture of Howard, Ramdas, McAuliffe and Sekhon (2021), "Time-uniform, nonparametric,
nonasymptotic confidence sequences", proposition 9, for differences in [-1, 1].
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streamil.evaluation._state import require

SCALE = 2.0
"""The scale c of theorem 4: the width of [-1, 1], in which differences of two correctnesses lie."""

TIGHTEST_AT = 100.0
"""Intrinsic time V at which the boundary is tightest: 1,000 samples on which one side in ten is right alone. Any value
fixed in advance is valid; a factor of ten either way widens the interval there by less than a fifth."""

TERMS_AT_ONCE = 1 << 18
"""Numbers held at a time: bounds the memory of many boundaries at a large V."""

Floats = NDArray[np.float64]


def _series(a: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Return log S and d log S / dx of S(a, x) = 1 + x/(a+1) + x^2/((a+1)(a+2)) + ..., for x >= a > 0 [P].

    S is a x^-a e^x times the lower incomplete gamma function, with nothing left that could cancel or overflow.
    """
    # Terms grow until n = x - a; t terms later they have fallen by exp(-t^2 / (2x + 2t/3)), here below exp(-40).
    count = math.ceil(float((x - a + np.sqrt(80 * x)).max())) + 27
    n = np.arange(1.0, count + 1)
    terms = x[:, None] / (a[:, None] + n)
    np.cumprod(terms, axis=1, out=terms)
    total = 1.0 + terms.sum(axis=1)
    return np.log(total), terms @ n / (x * total)


@lru_cache(maxsize=256)
def _mixing(alpha: float) -> tuple[float, float]:
    """Return the mixing parameter rho / c^2 and log S(rho / c^2, rho / c^2) - log(rho / c^2)."""
    spread = -2 * math.log(2 * alpha)
    rho = TIGHTEST_AT / (spread + math.log1p(spread)) / SCALE**2
    at = np.array([rho])
    return rho, float(_series(at, at)[0][0]) - math.log(rho)


def boundary(variance: float, alpha: float) -> float:
    """Return u(V) of one intrinsic time; see `boundaries`.

    Examples
    --------
    >>> round(boundary(100.0, 0.05), 4)
    33.0202
    """
    return float(boundaries(np.array([variance]), alpha)[0])


def boundaries(variance: Floats, alpha: float) -> Floats:
    r"""Return u(V) [P]: P(some t has sum of d_i - E d_i above u(V_t)) <= alpha, where V_t is the intrinsic time.

    u solves $\log m(u, V) = \log(1/\alpha)$ for the mixture

    $m(s, v) = \frac{S(a, a + s/c)\,/\,a}{S(r, r)\,/\,r}, \quad r = \rho / c^2, \quad a = r + v / c^2, \quad
    S(a, x) = \sum_{n \ge 0} \frac{x^n}{(a+1) \cdots (a+n)},$

    which is proposition 9 with its incomplete gamma functions written as their series (the prefactors cancel).

    Parameters
    ----------
    variance
        Intrinsic times V >= 0 [P], the sum of (d_i - prediction of d_i)^2.
    alpha
        Chance of a crossing, one-sided, above 0 and below 1/2.

    Raises
    ------
    EvaluationError
        For an alpha or a variance out of range.

    Examples
    --------
    >>> boundaries(np.array([1.0, 100.0]), 0.05).round(4).tolist()
    [12.6584, 33.0202]
    """
    require(0 < alpha < 0.5, "alpha", alpha, "above 0 and below 0.5, one-sided")
    fits = variance.ndim == 1 and bool(((variance >= 0) & (variance < math.inf)).all())
    require(fits, "variance", variance if variance.size < 5 else f"{variance.size} numbers", "zero or above, finite")
    if not variance.size:
        return np.zeros(0)
    rho, offset = _mixing(alpha)
    a = rho + variance / SCALE**2
    longest = float(np.sqrt(a.max() * (math.log(a.max() / rho) - 2 * math.log(alpha))))
    rows = max(1, int(TERMS_AT_ONCE / (longest + 9 * math.sqrt(a.max() + longest) + 28)))
    parts = [_solved(a[first:first + rows], rho, offset, alpha) for first in range(0, len(a), rows)]
    return SCALE * np.concatenate(parts)


def _solved(a: Floats, rho: float, offset: float, alpha: float) -> Floats:
    """Return s / c at which log m(s, v) is log(1 / alpha) [P], for a = r + v / c^2 [P]."""
    target = offset + np.log(a) - math.log(alpha)
    # log m is convex and increasing in s, so Newton's steps come down on the root after at most one that overshoots.
    spread = np.log(a / rho) - 2 * math.log(alpha)
    distance = np.sqrt(a * spread) + spread / 3  # near the root where a is neither tiny nor huge
    for _ in range(100):
        value, slope = _series(a, a + distance)
        step = (target - value) / slope
        distance += step
        if (abs(step) <= 1e-7 * distance).all():  # a step squares the relative error: below 1e-12 now
            break
    return distance
