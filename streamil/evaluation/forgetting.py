"""What an arm's members have forgotten: accuracy on samples of earlier segments, now and at its best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.evaluation._state import State, array, require


class Forgetting:
    r"""Accuracy of A members on samples that are held of each segment, at every look.

    What is forgotten of segment j is $\max_l a_{l,j} - a_j$: the best accuracy on its samples at any look since it was
    met, less the present one (Chaudhry et al. 2018, equation 3). Its samples were learned once, so this is about
    keeping, not about generalising.

    Parameters
    ----------
    members
        Members A of the arm.

    Attributes
    ----------
    segments
        Segments looked at [S].
    best
        Best accuracy at any look [S, A].

    Raises
    ------
    EvaluationError
        For arguments of the wrong shape.

    Examples
    --------
    >>> forgetting = Forgetting(members=1)
    >>> forgetting.look(np.array([0]), np.array([[0.9]]))
    >>> forgetting.forgotten(np.array([0, 1]), np.array([[0.6], [0.8]])).round(2).tolist()
    [[0.3], [0.0]]
    """

    def __init__(self, members: int) -> None:
        require(members >= 1, "members", members, "at least 1")
        self.members = members
        self.segments = np.zeros(0, np.int64)
        self.best = np.zeros((0, members))

    def look(self, segments: NDArray[np.int64], accuracy: NDArray[np.float64]) -> None:
        """Take in the accuracy [S, A] on what is held of the segments [S], those looked at before among them first."""
        self.best, self.segments = self._at_best(segments, accuracy), segments.copy()

    def forgotten(self, segments: NDArray[np.int64], accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what of each segment is forgotten [S, A] where accuracy is now [S, A]; 0 is nothing."""
        return self._at_best(segments, accuracy) - accuracy

    def _at_best(self, segments: NDArray[np.int64], accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
        known = len(self.segments)
        require(accuracy.shape == (len(segments), self.members), "accuracy", f"of shape {accuracy.shape}",
                f"[S, A] = {(len(segments), self.members)}")
        require(np.array_equal(segments[:known], self.segments), "segments", "others", "those of before, then new ones")
        best = accuracy.copy()
        best[:known] = np.maximum(best[:known], self.best)
        return best

    def state_dict(self) -> State:
        """Return everything that was learned from samples, as copies."""
        return {"segments": self.segments.copy(), "best": self.best.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of as many members; EvaluationError where an entry does not fit."""
        segments = array(state, "segments", np.int64, (-1,))
        self.best = array(state, "best", np.float64, (len(segments), self.members))
        self.segments = segments
