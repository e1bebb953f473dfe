"""The learning curve of one arm: accuracy over samples, in a bounded number of points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.evaluation._state import State, array, number, require
from streamil.evaluation.points import Points
from streamil.evaluation.prequential import Prequential


class Curve:
    """Windowed and cumulative accuracy of A members at every `stride` samples; the stride doubles when points run out.

    A point stands at each sample count that is a multiple of the stride, 1 at first. When `limit` points are there,
    every other one is dropped. Counts alone decide, so a curve does not depend on how samples are cut into calls.

    Parameters
    ----------
    members
        Members A of the arm.
    limit
        Points kept at most, the exact last one included.

    Raises
    ------
    EvaluationError
        For an argument out of range.

    Examples
    --------
    >>> scores, curve = Prequential(members=1), Curve(members=1, limit=4)
    >>> curve.follow(scores, np.ones((1, 9), np.int64), np.array([0, 1, 1, 1, 1, 1, 1, 1, 1]), np.zeros((1, 9)))
    >>> samples, windowed, cumulative = curve.points(scores)
    >>> samples.tolist(), cumulative[:, 0].tolist()
    ([4, 8, 9], [0.75, 0.875, 0.8888888888888888])
    """

    def __init__(self, members: int, limit: int = 2000) -> None:
        require(members >= 1, "members", members, "at least 1")
        self.members = members
        self._points = Points(limit)  # rows [2, A]: windowed, cumulative

    @property
    def stride(self) -> int:
        """Samples between two points."""
        return self._points.stride

    def follow(
        self, scores: Prequential, predicted: NDArray[np.int64], y: NDArray[np.int64], loss: NDArray[np.float64]
    ) -> None:
        """Update `scores` with N samples, as `scores.update` does, stopping at every point on the way."""
        require(scores.members == self.members, "scores", f"of {scores.members} members", f"of {self.members}")
        done = 0
        while done < len(y):
            stride = self.stride
            until_point = stride - scores.samples % stride
            end = min(done + until_point + (self._points.room - 1) * stride, len(y))  # the stride doubles there
            places = np.arange(until_point, end - done + 1, stride)
            part, labels = predicted[:, done:end], y[done:end]
            accuracies = scores.accuracies_at(part == labels, places) if len(places) else ((), ())
            at = (scores.samples + places).tolist()
            scores.update(part, labels, loss[:, done:end])
            for samples, row in zip(at, np.stack(accuracies, axis=1) if at else (), strict=True):
                self._points.add(samples, row)
            done = end

    def points(
        self, scores: Prequential | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Return samples [P], windowed [P, A] and cumulative [P, A]; with `scores`, their present state comes last."""
        samples, rows = list(self._points.samples), list(self._points.rows)
        if scores is not None and scores.samples > (samples[-1] if samples else 0):
            samples.append(scores.samples)
            rows.append(np.stack((scores.windowed, scores.cumulative)))
        both = np.reshape(rows, (len(samples), 2, self.members))
        return np.array(samples, np.int64), both[:, 0].copy(), both[:, 1].copy()

    def state_dict(self) -> State:
        """Return everything that was learned from samples, as copies."""
        samples, windowed, cumulative = self.points()
        return {"stride": self.stride, "samples": samples, "windowed": windowed, "cumulative": cumulative}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of as many members; EvaluationError where an entry does not fit."""
        samples = array(state, "samples", np.int64, (-1,))
        windowed, cumulative = (
            array(state, name, np.float64, (len(samples), self.members)) for name in ("windowed", "cumulative"))
        self._points.take(int(number(state, "stride")), samples, np.stack((windowed, cumulative), axis=1))
