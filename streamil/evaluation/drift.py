"""What changes of a stream do to an arm: when it was noticed from its errors, and how long the arm took to recover."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.evaluation._state import State, array, number, prefixed, require, within
from streamil.evaluation.adwin import Adwin
from streamil.evaluation.prequential import Prequential

RECOVERED = 0.95
"""Share of the accuracy before a change at which a member has recovered."""
SAMPLES = 200
"""Samples over which that is judged, all of them after the change."""
KEPT = 200
"""Changes that are kept, the newest."""


class Drift:
    """True changes of segment against those that ADWIN notices in an arm's errors, and recovery from them.

    The errors are the mean over the arm's members. Of each true change: the first notice in its segment is its delay,
    any other notice is a false alarm. A member has recovered after so many samples of the segment that its accuracy in
    the last 200 of them is at 95 % of its windowed accuracy just before the change.

    Parameters
    ----------
    members
        Members A of the arm.

    Attributes
    ----------
    samples
        Samples taken in.
    notices, false_alarms
        Changes that ADWIN noticed, and those of them that were none.

    Raises
    ------
    EvaluationError
        For arguments of the wrong shape.

    Examples
    --------
    >>> scores, drift = Prequential(members=1), Drift(members=1)
    >>> correct = np.array([[True] * 500 + [False] * 100 + [True] * 400])
    >>> drift.follow(scores, correct, np.repeat([0, 1], 500))
    >>> drift.changes()
    [{'segment': 1, 'at': 500, 'delay': 12, 'before': [1.0], 'recovered': [290]}]
    """

    def __init__(self, members: int) -> None:
        require(members >= 1, "members", members, "at least 1")
        self.members = members
        self.samples = self.notices = self.false_alarms = 0
        self._adwin = Adwin()
        self._segment = 0
        self._told = np.zeros((0, 3), np.int64)  # segment, sample, delay (0: not noticed) of each change
        self._before = np.zeros((0, members))
        self._recovered = np.zeros((0, members), np.int64)
        self._tail = np.zeros((members, 0), np.bool_)  # the last outcomes of this segment

    def follow(self, scores: Prequential, correct: NDArray[np.bool_], segment: NDArray[np.int64]) -> None:
        """Take in the next N samples, before `scores` does.

        Parameters
        ----------
        scores
            The arm's scores so far.
        correct
            Whether each sample is predicted right [A, N].
        segment
            True segment of each [N].
        """
        require(correct.shape == (self.members, len(segment)), "correct", f"of shape {correct.shape}",
                f"[A, N] = {(self.members, len(segment))}")
        require(scores.samples == self.samples, "scores", f"of {scores.samples} samples", f"of {self.samples}")
        if not len(segment):
            return
        if not self.samples:
            self._segment = int(segment[0])
        before = np.concatenate(([self._segment], segment[:-1]))
        changes = np.flatnonzero(segment != before).tolist()
        inner = np.array([place for place in changes if place], np.int64)
        windowed = scores.accuracies_at(correct, inner)[0] if len(inner) else np.zeros((0, self.members))
        accuracies = [scores.windowed, *windowed] if changes and not changes[0] else [*windowed]
        starts = dict(zip(changes, accuracies, strict=True))
        for first, last in pairwise(sorted({0, *changes, len(segment)})):
            if first in starts:
                self._change(int(segment[first]), starts[first])
            self._run(correct[:, first:last])
        self._segment = int(segment[-1])

    def _change(self, segment: int, before: NDArray[np.float64]) -> None:
        self._told = np.concatenate((self._told, [[segment, self.samples, 0]]))[-KEPT:]
        self._before = np.concatenate((self._before, before[None, :]))[-KEPT:]
        self._recovered = np.concatenate((self._recovered, np.zeros((1, self.members), np.int64)))[-KEPT:]
        self._tail = self._tail[:, :0]

    def _run(self, correct: NDArray[np.bool_]) -> None:
        """Take in samples of one segment."""
        begin, count = self.samples, correct.shape[1]
        self.samples += count
        for place in self._adwin.update(1 - correct.mean(axis=0)):
            self.notices += 1
            if len(self._told) and not self._told[-1, 2]:
                self._told[-1, 2] = place - self._told[-1, 1]
            else:
                self.false_alarms += 1
        if not len(self._told):
            return
        joined = np.concatenate((self._tail, correct), axis=1)
        self._tail = joined[:, -SAMPLES:].copy()
        if joined.shape[1] < SAMPLES or self._recovered[-1].all():
            return
        hits = np.cumsum(np.pad(joined, ((0, 0), (1, 0))), axis=1)
        good = hits[:, SAMPLES:] - hits[:, :-SAMPLES] >= RECOVERED * SAMPLES * self._before[-1][:, None]
        new = good.any(axis=1) & (self._recovered[-1] == 0)
        into = begin + count - (joined.shape[1] - SAMPLES) - int(self._told[-1, 1])
        self._recovered[-1, new] = into + good.argmax(axis=1)[new]

    def changes(self) -> list[dict[str, Any]]:
        """Return the true changes, the newest last: segment, sample, delay of the notice, recovery of each member.

        `before` is the accuracy that it is held to, `recovered` the samples that it took; None where it did not, yet.
        """
        return [{"segment": segment, "at": at, "delay": delay or None, "before": before,
                 "recovered": [one or None for one in recovered]}
                for (segment, at, delay), before, recovered in zip(
                    self._told.tolist(), self._before.tolist(), self._recovered.tolist(), strict=True)]

    def state_dict(self) -> State:
        """Return everything that was learned from samples, as copies."""
        return {
            "samples": self.samples, "notices": self.notices, "false_alarms": self.false_alarms,
            "segment": self._segment, "told": self._told.copy(), "before": self._before.copy(),
            "recovered": self._recovered.copy(), "tail": self._tail.copy(),
            **prefixed("adwin", self._adwin.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of as many members; EvaluationError where an entry does not fit."""
        adwin = Adwin()
        adwin.load_state_dict(within("adwin", state))
        told = array(state, "told", np.int64, (-1, 3))
        before, recovered = (
            array(state, name, kind, (len(told), self.members))
            for name, kind in (("before", np.float64), ("recovered", np.int64)))
        tail = array(state, "tail", np.bool_, (self.members, -1))
        require(len(told) <= KEPT and tail.shape[1] <= SAMPLES, "state", "of more than is kept", "smaller")
        self.samples, self.notices, self.false_alarms, self._segment = (
            int(number(state, name)) for name in ("samples", "notices", "false_alarms", "segment"))
        self._adwin, self._told, self._before, self._recovered, self._tail = adwin, told, before, recovered, tail
