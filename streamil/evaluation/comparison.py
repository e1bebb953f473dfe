"""The comparison of two arms: candidates against candidates, for the whole stream and since the last segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamil.evaluation._state import State, array, number, prefixed, require, within
from streamil.evaluation.paired_test import PairedSums, decide
from streamil.evaluation.points import Points

RESTART_EVERY = 200
"""Fewest samples between two starts of the test since segment: more starts than that would spend its alpha on noise."""

TIMELINE_POINTS = 300
"""Points of the verdict over time; each costs one computation of all bounds."""
TIMELINE_STRIDE = 100
"""Samples between the first of them."""


def allot(alpha: float, comparisons: int) -> float:
    """Return each comparison's share of the experiment's alpha, so that no false leader in any has chance 1 - alpha.

    Raises
    ------
    EvaluationError
        For an alpha out of range or no comparison.

    Examples
    --------
    >>> allot(0.05, 4)
    0.0125
    """
    require(0 < alpha < 1, "alpha", alpha, "above 0 and below 1")
    require(comparisons >= 1, "comparisons", comparisons, "at least 1")
    return alpha / comparisons


class _Side:
    """One arm of a comparison: its members by candidate, and the outcomes that wait for the other side."""

    def __init__(self, name: str, groups: Sequence[Sequence[int]]) -> None:
        members = [member for group in groups for member in group]
        allowed = "one list of member indices a candidate, none empty, no member twice"
        fits = bool(groups) and all(groups) and len(set(members)) == len(members) and min(members) >= 0
        require(fits, f"{name}_groups", groups, allowed)
        self.name, self.groups = name, [list(group) for group in groups]
        self.members = max(members) + 1
        self.order, self.sizes = np.array(members), np.array([len(group) for group in groups])
        self.firsts = np.cumsum(self.sizes) - self.sizes
        self.waiting = np.zeros((len(groups), 0))
        self.segment = np.zeros(0, np.int64)

    def add(self, correct: ArrayLike, segment: ArrayLike) -> None:
        outcomes, stamps = np.asarray(correct), np.asarray(segment, np.int64)
        require(outcomes.dtype == np.bool_, f"{self.name}_correct", f"of {outcomes.dtype}", "bool")
        require(outcomes.ndim == 2 and len(outcomes) >= self.members, f"{self.name}_correct",
                f"of shape {outcomes.shape}", f"[A, N] with at least {self.members} members")
        require(stamps.shape == outcomes.shape[1:], "segment", f"of shape {stamps.shape}", f"{outcomes.shape[1:]}")
        # Seeds are replicates: a candidate's outcome is their mean, from an exact count.
        right = np.add.reduceat(outcomes[self.order], self.firsts, axis=0, dtype=np.float64)
        self.waiting = np.concatenate((self.waiting, right / self.sizes[:, None]), axis=1)
        self.segment = np.concatenate((self.segment, stamps))

    def take(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        taken = self.waiting[:, :count], self.segment[:count]
        self.waiting, self.segment = self.waiting[:, count:].copy(), self.segment[count:].copy()
        return taken


class Comparison:
    r"""Is the challenger ahead of the baseline on the samples that both have scored?

    Members that differ in the seed alone are replicates of one candidate; d of two candidates is the difference of
    their means over seeds. With k challengers and m baselines, half of alpha a side, split over the side's candidates:
    the challenger leads if one of its candidates has its lower bound, at (side's alpha) / k, above 0 against *every*
    baseline; the baseline leads if one of its candidates has the upper bound, at (side's alpha) / m, below 0 against
    every challenger. Nothing is chosen after the fact. So `lower` is the maximum over challengers of the minimum over
    baselines, `upper` the minimum over baselines of the maximum over challengers.

    Two scopes share alpha, half each: the whole stream, and since the last segment change, where the test starts anew
    (a change within 200 samples of the last start is passed over); its j-th start has 1 / (j (j + 1)) of that half,
    which adds up to all of it.

    The n-th scored sample of one side is taken for the n-th of the other: both arms score the same samples in the same
    order, and the one that is ahead (smaller mini-batches) waits.

    Parameters
    ----------
    challenger_groups, baseline_groups
        For each candidate the indices of its members.
    alpha
        This comparison's share of the experiment's alpha (see `allot`), two-sided.

    Raises
    ------
    EvaluationError
        For groups, an alpha or outcomes that do not fit.

    Examples
    --------
    >>> comparison = Comparison([[0], [1]], [[0, 1]], alpha=0.05)
    >>> challenger = np.array([[True, False] * 200, [True] * 400])
    >>> baseline = np.array([[True, False] * 200, [False] * 400])
    >>> comparison.update(challenger, baseline, np.zeros(400, int))
    >>> {key: value for key, value in comparison.summary().items() if key not in ("lower", "upper")}
    {'verdict': 'challenger leads', 'mean_difference': 0.75, 'log_e': None, 'samples': 400, 'pair': [1, 0]}
    """

    def __init__(self, challenger_groups: Sequence[Sequence[int]], baseline_groups: Sequence[Sequence[int]],
                 alpha: float = 0.05) -> None:
        require(0 < alpha < 1, "alpha", alpha, "above 0 and below 1")
        self.alpha = alpha
        self._challenger = _Side("challenger", challenger_groups)
        self._baseline = _Side("baseline", baseline_groups)
        self._whole, self._recent = self._fresh(), self._fresh()
        self._starts, self._segment = 1, 0
        self._timeline = Points(TIMELINE_POINTS, TIMELINE_STRIDE)

    def _fresh(self) -> PairedSums:
        return PairedSums(len(self._challenger.groups), len(self._baseline.groups))

    @property
    def samples(self) -> int:
        """Samples that both sides have scored."""
        return self._whole.samples

    def update(self, challenger_correct: ArrayLike, baseline_correct: ArrayLike, segment: ArrayLike) -> None:
        """Take in N samples of both sides: correct [A, N] bool of each arm, true segment [N]."""
        self.add_challenger(challenger_correct, segment)
        self.add_baseline(baseline_correct, segment)

    def add_challenger(self, correct: ArrayLike, segment: ArrayLike) -> None:
        """Take in the challenger's next N samples: correct [A, N] bool, true segment [N]."""
        self._challenger.add(correct, segment)
        self._pair()

    def add_baseline(self, correct: ArrayLike, segment: ArrayLike) -> None:
        """Take in the baseline's next N samples: correct [A, N] bool, true segment [N]."""
        self._baseline.add(correct, segment)
        self._pair()

    def _pair(self) -> None:
        """Compare what both sides have."""
        count = min(len(self._challenger.segment), len(self._baseline.segment))
        if not count:
            return
        same = np.array_equal(self._challenger.segment[:count], self._baseline.segment[:count])
        require(same, "segment", "of other samples than the challenger's", "those of the same samples, in their order")
        challenger, segment = self._challenger.take(count)
        baseline, _ = self._baseline.take(count)
        begin = self.samples
        for first, last in self._timeline.stops(begin, count):
            part = slice(first - begin, last - begin)
            self._take_in(challenger[:, part], baseline[:, part], segment[part])
            if self._timeline.due(last):
                self._timeline.add(last, self._bounds())

    def _take_in(self, challenger: NDArray[np.float64], baseline: NDArray[np.float64],
                 segment: NDArray[np.int64]) -> None:
        before = segment[0] if not self.samples else self._segment
        begin = 0
        for change in np.flatnonzero(segment != np.concatenate(([before], segment[:-1]))).tolist():
            if self._recent.samples + change - begin >= RESTART_EVERY:
                self._recent, self._starts, begin = self._fresh(), self._starts + 1, change
        self._recent.update(challenger[:, begin:], baseline[:, begin:])
        self._whole.update(challenger, baseline)
        self._segment = int(segment[-1])

    def _bounds(self) -> NDArray[np.float64]:
        found = self.summary()
        return np.array([found["mean_difference"], found["lower"], found["upper"]])

    def timeline(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return samples [P], and mean difference, lower and upper bound there [P, 3], on the whole stream.

        A bounded number of points, the present one last; `decide` makes a verdict of the bounds.
        """
        samples, rows = list(self._timeline.samples), list(self._timeline.rows)
        if self.samples > (samples[-1] if samples else 0):
            samples.append(self.samples)
            rows.append(self._bounds())
        return np.array(samples, np.int64), np.reshape(rows, (len(samples), 3))

    def summary(self) -> dict[str, Any]:
        """Return the verdict on the whole stream, ready for JSON.

        Keys: verdict, mean_difference, lower, upper, log_e, samples, pair. What is undefined is None. mean_difference,
        log_e and pair [challenger, baseline] are those of the pair of candidates that attains lower; log_e is None
        where a candidate of that pair has several seeds.
        """
        return self._summary(self._whole, self.alpha / 2)

    def since_segment(self) -> dict[str, Any]:
        """Return the verdict on the samples since the last start, with the keys of `summary`."""
        return self._summary(self._recent, self.alpha / 2 / (self._starts * (self._starts + 1)))

    def _summary(self, sums: PairedSums, alpha: float) -> dict[str, Any]:
        if not sums.samples:
            return {"verdict": "open", "mean_difference": None, "lower": None, "upper": None, "log_e": None,
                    "samples": 0, "pair": None}
        candidates = len(self._challenger.groups), len(self._baseline.groups)
        lowers, uppers = sums.bounds(alpha / 2 / candidates[0])
        if candidates[1] != candidates[0]:
            uppers = sums.bounds(alpha / 2 / candidates[1])[1]
        i = int(lowers.min(axis=1).argmax())
        j = int(lowers[i].argmin())
        lower, upper = float(lowers[i, j]), float(uppers.max(axis=0).min())
        single = len(self._challenger.groups[i]) == len(self._baseline.groups[j]) == 1
        return {"verdict": decide(lower, upper), "mean_difference": float(sums.mean[i, j]), "lower": lower,
                "upper": upper, "log_e": sums.log_e(i, j) if single else None, "samples": sums.samples, "pair": [i, j]}

    def state_dict(self) -> State:
        """Return everything that was learned from samples, as copies; waiting outcomes included."""
        state: State = {"starts": self._starts, "segment": self._segment}
        state |= prefixed("whole", self._whole.state_dict()) | prefixed("recent", self._recent.state_dict())
        samples, rows = self._timeline.samples, self._timeline.rows
        state |= {"timeline.stride": self._timeline.stride, "timeline.samples": np.array(samples, np.int64),
                  "timeline.bounds": np.reshape(rows, (len(samples), 3))}
        for side in (self._challenger, self._baseline):
            state |= {f"{side.name}.waiting": side.waiting.copy(), f"{side.name}.segment": side.segment.copy()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of the same numbers of candidates; EvaluationError where an entry does not fit."""
        whole, recent = self._fresh(), self._fresh()
        whole.load_state_dict(within("whole", state))
        recent.load_state_dict(within("recent", state))
        waiting = []
        for side in (self._challenger, self._baseline):
            segment = array(state, f"{side.name}.segment", np.int64, (-1,))
            shape = (len(side.groups), len(segment))
            waiting.append((array(state, f"{side.name}.waiting", np.float64, shape), segment))
        samples = array(state, "timeline.samples", np.int64, (-1,))
        bounds = array(state, "timeline.bounds", np.float64, (len(samples), 3))
        self._timeline.take(int(number(state, "timeline.stride")), samples, bounds)
        self._starts, self._segment = int(number(state, "starts")), int(number(state, "segment"))
        self._whole, self._recent = whole, recent
        for side, (outcomes, segment) in zip((self._challenger, self._baseline), waiting, strict=True):
            side.waiting, side.segment = outcomes, segment
