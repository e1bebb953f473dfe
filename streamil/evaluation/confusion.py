"""Which classes an arm's members take for which others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.evaluation._state import State, array, require

CLASSES_LIMIT = 100
"""Classes that are told apart; what is or is said of others is counted in the last row and column."""


class Confusion:
    """Counts of (label, prediction) of A members [A, K, K], of the first classes met; K grows with them.

    Parameters
    ----------
    members
        Members A of the arm.
    limit
        Classes at most; all others share one more.

    Attributes
    ----------
    counts
        [A, K, K]: member, label, prediction.

    Raises
    ------
    EvaluationError
        For an argument out of range or of the wrong shape.

    Examples
    --------
    >>> confusion = Confusion(members=1)
    >>> confusion.update(np.array([[1, 1, 0, -1]]), np.array([0, 1, 0, 1]))
    >>> confusion.counts[0].tolist()
    [[1, 1], [0, 1]]
    """

    def __init__(self, members: int, limit: int = CLASSES_LIMIT) -> None:
        require(members >= 1, "members", members, "at least 1")
        require(limit >= 1, "limit", limit, "at least 1")
        self.limit = limit
        self.counts = np.zeros((members, 0, 0), np.int64)

    def update(self, predicted: NDArray[np.int64], y: NDArray[np.int64]) -> None:
        """Count N samples: predicted [A, N] (-1 is no prediction, not counted), labels y [N] >= 0."""
        members, known, _ = self.counts.shape
        require(predicted.shape == (members, len(y)), "predicted", f"of shape {predicted.shape}",
                f"[A, N] = {(members, len(y))}")
        if not len(y):
            return
        said, labels = np.minimum(predicted, self.limit), np.minimum(y, self.limit)
        more = max(int(said.max()), int(labels.max())) + 1 - known
        if more > 0:
            self.counts = np.pad(self.counts, ((0, 0), (0, more), (0, more)))
            known += more
        cells = (np.arange(members)[:, None] * known + labels) * known + said
        np.add.at(self.counts.reshape(-1), cells[said >= 0], 1)

    def state_dict(self) -> State:
        """Return everything that was learned from samples, as copies."""
        return {"counts": self.counts.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of as many members; EvaluationError where an entry does not fit."""
        counts = array(state, "counts", np.int64, (len(self.counts), -1, -1))
        require(counts.shape[1] == counts.shape[2] <= self.limit + 1, "state['counts']", f"of shape {counts.shape}",
                f"[A, K, K] with K up to {self.limit + 1}")
        self.counts = counts
