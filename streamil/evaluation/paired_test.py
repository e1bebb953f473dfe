"""The paired sequential test: who is ahead on the same samples, and is that lead real however often one looks?

Two anytime-valid tools. The empirical-Bernstein confidence sequence about the mean difference so far (Howard et al.
2021, theorem 4; Choe and Ramdas 2023, theorem 2) also holds on drifting, dependent streams and is the verdict of
record. The beta-binomial e-process on discordant pairs is faster, but assumes them exchangeable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamil.evaluation._state import State, array, number, require
from streamil.evaluation.boundary import boundaries

Verdict: TypeAlias = Literal["challenger leads", "baseline leads", "open"]

BLOCK = 65_536
"""Differences computed at a time: bounds the memory of many candidates over a long call."""


def decide(lower: float, upper: float) -> Verdict:
    """Return who leads, given bounds on challenger minus baseline."""
    return "challenger leads" if lower > 0 else "baseline leads" if upper < 0 else "open"


class PairedSums:
    """Sums over the differences d of K challengers and M baselines on the same samples: all that the test needs.

    Every float sum is strictly sequential and every count an integer, so the state does not depend on how the samples
    were cut into calls, bit for bit.

    Attributes
    ----------
    samples
        Pairs of outcomes so far.
    total
        Sum of d [K, M].
    variance
        Intrinsic time V [K, M]: sum of (d_i - mean of d_1..d_(i-1))^2, where the mean of none is 0.
    wins, losses
        Samples on which the challenger's or the baseline's outcome was the higher one [K, M].
    """

    def __init__(self, challengers: int, baselines: int) -> None:
        shape = (challengers, baselines)
        self.samples = 0
        self.total = np.zeros(shape)
        self.variance = np.zeros(shape)
        self.wins = np.zeros(shape, np.int64)
        self.losses = np.zeros(shape, np.int64)

    def update(self, challenger: NDArray[np.float64], baseline: NDArray[np.float64]) -> None:
        """Take in the outcomes of N samples: challenger [K, N], baseline [M, N], each in [0, 1]."""
        step = max(1, BLOCK // self.total.size)
        for start in range(0, challenger.shape[1], step):
            self._update(challenger[:, start : start + step], baseline[:, start : start + step])

    def _update(self, challenger: NDArray[np.float64], baseline: NDArray[np.float64]) -> None:
        count = challenger.shape[1]
        terms = np.empty((*self.total.shape, count + 1))
        terms[..., 0] = self.total
        d = np.subtract(challenger[:, None, :], baseline[None, :, :], out=terms[..., 1:])
        # cumsum adds one after the other, from the carried value; sum would add in an order that depends on the length.
        sums = np.cumsum(terms, axis=-1)
        self.wins += (d > 0).sum(axis=-1)
        self.losses += (d < 0).sum(axis=-1)
        d -= sums[..., :-1] / np.maximum(np.arange(self.samples, self.samples + count), 1)
        terms *= terms
        terms[..., 0] = self.variance
        self.total, self.variance = sums[..., -1].copy(), np.cumsum(terms, axis=-1)[..., -1].copy()
        self.samples += count

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean difference so far [K, M]; nan before the first sample."""
        return self.total / self.samples if self.samples else np.full(self.total.shape, np.nan)

    def radius(self, alpha_side: float) -> NDArray[np.float64]:
        """Return u(V) / n [K, M]: the mean is off by more, on one side, at any time, with chance alpha_side at most."""
        if not self.samples:
            return np.full(self.total.shape, np.inf)
        return boundaries(self.variance.ravel(), alpha_side).reshape(self.total.shape) / self.samples

    def bounds(self, alpha_side: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (lower, upper) bounds [K, M] on the mean difference, each missed with chance alpha_side at most."""
        mean, radius = np.nan_to_num(self.mean), self.radius(alpha_side)
        return np.clip(mean - radius, -1, 1), np.clip(mean + radius, -1, 1)

    def log_e(self, challenger: int = 0, baseline: int = 0) -> float:
        r"""Return $n \ln 2 + \ln B(n_{10} + 1/2, n_{01} + 1/2) - \ln B(1/2, 1/2)$ of one pair of 0/1 outcomes."""
        wins, losses = int(self.wins[challenger, baseline]), int(self.losses[challenger, baseline])
        n = wins + losses
        log_beta = math.lgamma(wins + 0.5) + math.lgamma(losses + 0.5) - math.lgamma(n + 1)
        return n * math.log(2) + log_beta - math.log(math.pi)

    def state_dict(self) -> State:
        """Return copies of everything that was learned from samples."""
        return {"samples": self.samples, "total": self.total.copy(), "variance": self.variance.copy(),
                "wins": self.wins.copy(), "losses": self.losses.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of the same number of candidates."""
        shape = self.total.shape
        total, variance = array(state, "total", np.float64, shape), array(state, "variance", np.float64, shape)
        wins, losses = array(state, "wins", np.int64, shape), array(state, "losses", np.int64, shape)
        self.samples = int(number(state, "samples"))
        self.total, self.variance, self.wins, self.losses = total, variance, wins, losses


class PairedTest:
    r"""Compare two learners on the same samples; every look is allowed.

    With $d_i$ = challenger's minus baseline's correctness of sample i, the interval about the mean so far is
    $\bar d_n \pm u(V_n) / n$, where $V_n = \sum_i (d_i - \bar d_{i-1})^2$ and u is the boundary at alpha/2 a side
    (Howard et al. 2021, theorem 4). At all times at once it holds the mean of the conditional expectations of the d so
    far, with chance 1 - alpha. Intervals are not intersected over time, so a verdict can return to `open`.

    Parameters
    ----------
    alpha
        Chance of ever naming a false leader, two-sided, above 0 and below 1.

    Raises
    ------
    EvaluationError
        For an alpha out of range, and for outcomes outside [0, 1] or not in pairs.

    Examples
    --------
    >>> test = PairedTest(alpha=0.05)
    >>> test.update([True] * 90 + [False] * 10, [False] * 50 + [True] * 50)
    >>> test.verdict, test.mean_difference, round(test.log_e, 2)
    ('challenger leads', 0.4, 12.28)
    >>> [round(bound, 2) for bound in test.interval]
    [0.13, 0.67]
    """

    def __init__(self, alpha: float = 0.05) -> None:
        require(0 < alpha < 1, "alpha", alpha, "above 0 and below 1")
        self.alpha = alpha
        self._sums = PairedSums(1, 1)
        self._single = True  # all outcomes were 0 or 1, none a mean

    def update(self, challenger_correct: ArrayLike, baseline_correct: ArrayLike) -> None:
        """Take in the outcomes of N samples: bools, or means over seeds in [0, 1], [N] each or one number each."""
        challenger, challenger_single = _outcomes("challenger_correct", challenger_correct)
        baseline, baseline_single = _outcomes("baseline_correct", baseline_correct)
        require(challenger.shape == baseline.shape, "baseline_correct", f"{baseline.size} outcomes",
                f"one for each of the challenger's {challenger.size}")
        self._sums.update(challenger, baseline)
        self._single = self._single and challenger_single and baseline_single

    @property
    def samples(self) -> int:
        """Pairs of outcomes so far."""
        return self._sums.samples

    @property
    def mean_difference(self) -> float:
        """Mean of challenger minus baseline so far; nan before the first sample."""
        return float(self._sums.mean[0, 0])

    def bounds(self, alpha_side: float) -> tuple[float, float]:
        """Return (lower, upper), each missed at any time with chance alpha_side at most; (-1, 1) before any sample."""
        lower, upper = self._sums.bounds(alpha_side)
        return float(lower[0, 0]), float(upper[0, 0])

    @property
    def interval(self) -> tuple[float, float]:
        """Bounds on the mean difference up to now, within [-1, 1], at alpha/2 a side."""
        return self.bounds(self.alpha / 2)

    @property
    def verdict(self) -> Verdict:
        """`challenger leads`, `baseline leads` or `open`: where the interval lies."""
        return decide(*self.interval)

    @property
    def log_e(self) -> float | None:
        """Log of the e-process on the discordant pairs; None where outcomes are not single 0/1 outcomes."""
        return self._sums.log_e() if self._single else None

    def state_dict(self) -> State:
        """Return everything that was learned from samples, as copies."""
        return {**self._sums.state_dict(), "single": int(self._single)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state; EvaluationError where an entry is missing or does not fit."""
        single = bool(number(state, "single"))
        self._sums.load_state_dict(state)
        self._single = single


def _outcomes(name: str, given: ArrayLike) -> tuple[NDArray[np.float64], bool]:
    """Return checked outcomes [1, N], and whether all of them are 0 or 1."""
    found = np.asarray(given)
    side = np.atleast_1d(found.astype(np.float64))
    require(side.ndim == 1, name, f"of shape {side.shape}", "one outcome a sample, [N]")
    if found.dtype != np.bool_:
        # Written so that nan fails too.
        require(bool(((side >= 0) & (side <= 1)).all()), name, "outside [0, 1]", "bool, or means in [0, 1]")
    return side[None], found.dtype == np.bool_ or bool(((side == 0) | (side == 1)).all())
