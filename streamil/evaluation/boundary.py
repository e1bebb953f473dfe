"""The curve that a sum of centred differences crosses with probability at most alpha, however often one looks.

The gamma-exponential mixture of Howard, Ramdas, McAuliffe and Sekhon (2021), "Time-uniform, nonparametric,
nonasymptotic confidence sequences", proposition 9, for differences in [-1, 1].
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from streamil.evaluation._state import require

SCALE = 2.0
"""The scale c of theorem 4: the width of [-1, 1], in which differences of two correctnesses lie."""

TIGHTEST_AT = 100.0
"""Intrinsic time V at which the boundary is tightest: 1,000 samples on which one side in ten is right alone. Any value
fixed in advance is valid; a factor of ten either way widens the interval there by less than a fifth."""


def _series(a: float, x: float) -> tuple[float, float]:
    """Return log S and d log S / dx of S(a, x) = 1 + x/(a+1) + x^2/((a+1)(a+2)) + ..., for x >= a > 0.

    S is a x^-a e^x times the lower incomplete gamma function, with nothing left that could cancel or overflow.
    """
    # Terms grow until n = x - a; t terms later they have fallen by exp(-t^2 / (2x + 2t/3)), here below exp(-40).
    count = math.ceil(x - a + math.sqrt(80 * x)) + 27
    n = np.arange(1.0, count + 1)
    terms = np.cumprod(x / (a + n))
    total = 1.0 + float(terms.sum())
    return math.log(total), float((n * terms).sum()) / (x * total)


@lru_cache(maxsize=256)
def _mixing(alpha: float) -> tuple[float, float]:
    """Return the mixing parameter rho / c^2 and log S(rho / c^2, rho / c^2) - log(rho / c^2)."""
    spread = -2 * math.log(2 * alpha)
    rho = TIGHTEST_AT / (spread + math.log1p(spread)) / SCALE**2
    return rho, _series(rho, rho)[0] - math.log(rho)


@lru_cache(maxsize=4096)
def boundary(variance: float, alpha: float) -> float:
    r"""Return u(V): P(some t has sum of d_i - E d_i above u(V_t)) <= alpha, where V_t is the intrinsic time.

    u solves $\log m(u, V) = \log(1/\alpha)$ for the mixture

    $m(s, v) = \frac{S(a, a + s/c)\,/\,a}{S(r, r)\,/\,r}, \quad r = \rho / c^2, \quad a = r + v / c^2, \quad
    S(a, x) = \sum_{n \ge 0} \frac{x^n}{(a+1) \cdots (a+n)},$

    which is proposition 9 with its incomplete gamma functions written as their series (the prefactors cancel).

    Parameters
    ----------
    variance
        Intrinsic time V >= 0, the sum of (d_i - prediction of d_i)^2.
    alpha
        Chance of a crossing, one-sided, above 0 and below 1/2.

    Raises
    ------
    EvaluationError
        For an alpha or a variance out of range.

    Examples
    --------
    >>> round(boundary(100.0, 0.05), 4)
    33.0202
    """
    require(0 < alpha < 0.5, "alpha", alpha, "above 0 and below 0.5, one-sided")
    require(0 <= variance < math.inf, "variance", variance, "zero or above, finite")
    rho, offset = _mixing(alpha)
    a = rho + variance / SCALE**2
    target = offset + math.log(a) - math.log(alpha)
    # log m is convex and increasing in s, so Newton's steps come down on the root after at most one that overshoots.
    distance = math.sqrt(a * (math.log(a / rho) - 2 * math.log(alpha)))
    for _ in range(100):
        value, slope = _series(a, a + distance)
        step = (target - value) / slope
        distance += step
        if abs(step) <= 1e-12 * distance:
            break
    return SCALE * distance
