"""Joins what arms said, sample by sample: figures and verdicts of a race whose arms learn elsewhere.

A judge's race is an ordinary one whose arms never start: they are told what was predicted, and score it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.codec.prediction_rows import PredictedRows
from streamil.errors import CodecError
from streamil.race import Race
from streamil.racing_arm import RacingArm
from streamil.samples import UNLABELLED

AHEAD = 10_000
"""Samples that an arm may be ahead of the last one before it is read no further: bounds what waits."""


@dataclass
class _Side:
    """Outcomes of one arm that wait for the other arm of a comparison."""

    ordinals: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    correct: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    segment: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, ordinals: NDArray[np.int64], correct: NDArray[np.bool_], segment: NDArray[np.int64]) -> None:
        self.correct = np.concatenate((self.correct.reshape(len(correct), -1), correct), axis=1)
        self.ordinals = np.concatenate((self.ordinals, ordinals))
        self.segment = np.concatenate((self.segment, segment))

    def forget(self, before: int) -> None:
        """Let go of the samples with ordinals below `before`."""
        there = int(np.searchsorted(self.ordinals, before))
        self.ordinals, self.segment = self.ordinals[there:], self.segment[there:]
        self.correct = self.correct[:, there:]


class Judge:
    """Figures and verdicts from what arms said, arm by arm in order, each sample once.

    A comparison covers the samples that both its arms spoke of, joined by ordinal. Where each arm learned every
    labelled sample, figures and verdicts are those of the arms in one process, bit for bit; but there is no log-loss,
    since rows hold no probability of the label.

    Parameters
    ----------
    race
        A race that has taken in nothing, and is fed nothing: it holds the figures.
    until
        Labelled samples after which an arm is done; None: none is.
    lock
        Held while anything changes, so that another thread can read in between.

    Attributes
    ----------
    next
        Of each arm, one past the ordinal of its last labelled row: rows below are repeats.
    repeats, unlabelled, unmatched
        Rows that came again; rows without a label, which nobody can judge; samples of a comparison of which one arm
        alone spoke.

    Examples
    --------
    >>> from streamil.experiment import Experiment
    >>> judge = Judge(Race(Experiment.model_validate({"stream": {"source": {"kind": "mnist"}}, "arms": {
    ...     "il": {"algorithm": "il-prox"}, "bp": {"algorithm": "bp-sgd"}}})))
    >>> for arm, said in (("il", ["up", "up"]), ("bp", ["up", "down"])):
    ...     judge.take(PredictedRows(arm, np.arange(2), np.zeros(2, int), ["up", "up"], [[one] for one in said]))
    >>> judge.race.comparisons["il", "bp"].summary()["mean_difference"]
    0.5
    """

    def __init__(self, race: Race, until: int | None = None, *, lock: AbstractContextManager[Any] | None = None,
                 ) -> None:
        self.race, self._until, self._lock = race, until, lock or nullcontext()
        self.next = dict.fromkeys(race.arms, 0)
        self.repeats = self.unlabelled = self.unmatched = 0
        self._sides = {pair: (_Side(), _Side()) for pair in race.comparisons}

    @property
    def behind(self) -> list[str]:
        """The arms to read now: not done, and not too far ahead of the last one."""
        open_arms = [name for name in self.race.arms if not self._done(name)]
        last = min((self.next[name] for name in open_arms), default=0)
        return [name for name in open_arms if self.next[name] < last + AHEAD]

    @property
    def done(self) -> bool:
        """Whether every arm has been judged on as many samples as were asked for."""
        return all(map(self._done, self.race.arms))

    def take(self, rows: PredictedRows) -> None:
        """Take in the next rows of an arm.

        Raises
        ------
        CodecError
            For an arm that the experiment does not have, another number of members, or a label outside a closed set.
        """
        arm = self.race.arms.get(rows.arm)
        if arm is None:
            raise CodecError("foreign", f"rows of arm {rows.arm[:60]!r}, which the experiment does not have")
        if len(rows.predicted[0]) != len(arm.plan.members):
            raise CodecError("wrong-shape", f"arm {rows.arm!r} has {len(arm.plan.members)} members, the rows are of "
                                            f"{len(rows.predicted[0])}")
        with self._lock:
            self._take(arm, rows)

    def _take(self, arm: RacingArm, rows: PredictedRows) -> None:
        y = self._indices(rows.labels)
        new = self._new(rows, y)
        room = self._room(arm)
        new = new if room is None else new[:room]
        if not len(new):
            return
        said = self._indices([one for row in new for one in rows.predicted[row]]).reshape(len(new), -1).T
        ordinals, segment = rows.ordinals[new], rows.segment[new]
        nothing = np.full(said.shape, np.nan)  # no row says how likely its label was
        correct = arm.score(said, y[new], nothing, segment)
        self.next[rows.arm] = int(ordinals[-1]) + 1
        self._compare(rows.arm, ordinals, correct, segment)
        self.race.samples = max(one.figures.samples for one in self.race.arms.values())
        self.race.segment = int(segment[-1])

    def _new(self, rows: PredictedRows, y: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the labelled rows that did not come before, in rising order of their ordinals."""
        labelled = y != UNLABELLED
        self.unlabelled += int(np.count_nonzero(~labelled))
        before = np.concatenate(([self.next[rows.arm] - 1], np.where(labelled, rows.ordinals, -1)[:-1]))
        fresh = labelled & (rows.ordinals > np.maximum.accumulate(before))
        self.repeats += int(np.count_nonzero(labelled & ~fresh))
        return np.flatnonzero(fresh)

    def _indices(self, texts: Any) -> NDArray[np.int64]:
        """Return the index of each label; `UNLABELLED` where there is none."""
        labels = self.race.featurizer.labels
        found = {text: labels.index(text) for text in dict.fromkeys(texts)}
        for text, index in found.items():
            if index is None:
                raise CodecError(*self.race.featurizer.unknown_label(str(text)))
        return np.array([found[text] for text in texts], np.int64)

    def _compare(self, name: str, ordinals: NDArray[np.int64], correct: NDArray[np.bool_],
                 segment: NDArray[np.int64]) -> None:
        for pair, sides in self._sides.items():
            if name in pair:
                sides[pair.index(name)].add(ordinals, correct, segment)
                self._join(pair, *sides)

    def _join(self, pair: tuple[str, str], challenger: _Side, baseline: _Side) -> None:
        """Compare the samples of which both arms spoke; what one has passed over, the other has alone."""
        passed = min(self.next[name] for name in pair)
        ours, theirs = (side.ordinals[:np.searchsorted(side.ordinals, passed)] for side in (challenger, baseline))
        common, left, right = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
        self.unmatched += len(ours) + len(theirs) - 2 * len(common)
        if len(common):
            self.race.comparisons[pair].update(
                challenger.correct[:, left], baseline.correct[:, right], challenger.segment[left])
        for side in (challenger, baseline):
            side.forget(passed)

    def _room(self, arm: RacingArm) -> int | None:
        """Return how many samples more an arm is judged on; None: any number."""
        return None if self._until is None else self._goal(arm) - arm.figures.samples

    def _goal(self, arm: RacingArm) -> int:
        assert self._until is not None
        return self._until // arm.plan.batch_size * arm.plan.batch_size  # what fills no mini-batch is never predicted

    def _done(self, name: str) -> bool:
        return self._room(self.race.arms[name]) == 0

    def told(self) -> Mapping[str, int]:
        """Return what was not judged, by cause."""
        return {"repeats": self.repeats, "without a label": self.unlabelled, "of one arm alone": self.unmatched}
