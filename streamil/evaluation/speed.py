"""How fast an arm learned: the area under its learning curve, and the samples it needed to reach an accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.evaluation._state import State, array, number, require
from streamil.evaluation.prequential import Prequential


class Speed:
    r"""Area under the learning curve, and samples to thresholds, of A members.

    With $a_t$ the accuracy over the last w samples (over all while there are fewer) just after sample t of n:

    - `area` $\frac{1}{n} \sum_t a_t$, 1 for who is always right: what was learned early counts longest;
    - `reached` the first t >= w with $a_t$ at or above a threshold: before w samples the accuracy says too little.

    Sums run sample by sample, so the state does not depend on how samples are cut into calls, bit for bit.

    Parameters
    ----------
    members
        Members A of the arm.
    thresholds
        Accuracies to reach [T], each once, from 0 to 1.

    Attributes
    ----------
    samples
        Samples taken in.
    reached
        Samples that each member needed for each threshold [A, T]; 0: not reached.

    Raises
    ------
    EvaluationError
        For an argument out of range or of the wrong shape.

    Examples
    --------
    >>> scores, speed = Prequential(members=1, window=2), Speed(members=1, thresholds=[0.5, 1.0])
    >>> y = np.array([0, 1, 1, 0])
    >>> predicted = np.array([[1, 0, 1, 0]])
    >>> speed.follow(scores, predicted == y)
    >>> speed.area.tolist(), speed.reached.tolist()
    ([0.375], [[3, 4]])
    """

    def __init__(self, members: int, thresholds: Sequence[float] = ()) -> None:
        require(members >= 1, "members", members, "at least 1")
        fits = all(0 <= one <= 1 for one in thresholds) and len(set(thresholds)) == len(thresholds)
        require(fits, "thresholds", list(thresholds), "accuracies from 0 to 1, each once")
        self.members, self.thresholds = members, np.array(thresholds, np.float64)
        self.samples = 0
        self.reached = np.zeros((members, len(self.thresholds)), np.int64)
        self._area = np.zeros(members)

    def follow(self, scores: Prequential, correct: NDArray[np.bool_]) -> None:
        """Take in the next N samples, whether they are predicted right [A, N], before `scores` does.

        Parameters
        ----------
        scores
            The arm's scores so far; its window is the one that counts.
        correct
            Whether each sample is predicted right [A, N].
        """
        require(correct.ndim == 2 and len(correct) == self.members, "correct", f"of shape {correct.shape}",
                f"[A, N] with {self.members} members")
        require(scores.samples == self.samples, "scores", f"of {scores.samples} samples", f"of {self.samples}")
        count = correct.shape[1]
        if not count:
            return
        windowed, _ = scores.accuracies_at(correct, np.arange(1, count + 1))
        # one after the other, from the carried value
        self._area = np.cumsum(np.concatenate((self._area[None, :], windowed)), axis=0)[-1].copy()
        full = max(0, scores.window - 1 - self.samples)
        for place, threshold in enumerate(self.thresholds if full < count else ()):
            there = windowed[full:] >= threshold
            new = there.any(axis=0) & (self.reached[:, place] == 0)
            self.reached[new, place] = self.samples + full + 1 + there.argmax(axis=0)[new]
        self.samples += count

    @property
    def area(self) -> NDArray[np.float64]:
        """Mean over samples of the windowed accuracy [A]; nan before the first sample."""
        return self._area / self.samples if self.samples else np.full(self.members, np.nan)

    def state_dict(self) -> State:
        """Return everything that was learned from samples, as copies."""
        return {"samples": self.samples, "area": self._area.copy(), "reached": self.reached.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of as many members and thresholds; EvaluationError where an entry does not fit."""
        area = array(state, "area", np.float64, (self.members,))
        reached = array(state, "reached", np.int64, self.reached.shape)
        self.samples, self._area, self.reached = int(number(state, "samples")), area, reached
