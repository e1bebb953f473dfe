"""A bounded record of something over samples: rows at every `stride` samples, which doubles when they run out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from streamil.evaluation._state import require


class Points:
    """Rows of numbers at the multiples of a stride; every other one goes when there are `limit`.

    Counts alone decide, so what is kept does not depend on how samples are cut into calls.

    Parameters
    ----------
    limit
        Rows at most, and at least 2; one fewer is kept, so that the present one finds room.
    stride
        Samples between two rows, at first.

    Attributes
    ----------
    stride
        Samples between two rows now.
    samples, rows
        Where each row stands, and the row.

    Raises
    ------
    EvaluationError
        For an argument out of range.

    Examples
    --------
    >>> points = Points(limit=4)
    >>> for first, last in points.stops(0, 6):
    ...     points.add(last, np.array([last / 10]))
    >>> points.stride, points.samples
    (2, [2, 4, 6])
    """

    def __init__(self, limit: int, stride: int = 1) -> None:
        require(limit >= 2, "limit", limit, "at least 2")
        require(stride >= 1, "stride", stride, "at least 1")
        self.limit, self.stride = limit, stride
        self.samples: list[int] = []
        self.rows: list[NDArray[np.float64]] = []

    def stops(self, samples: int, count: int) -> Iterator[tuple[int, int]]:
        """Cut the next `count` samples where rows are due: yield where each part begins and ends, after `samples`.

        The stride is read anew after each part, so a row that is due has to be added before the next one is asked for.
        """
        done, end = samples, samples + count
        while done < end:
            stop = min(done + self.stride - done % self.stride, end)
            yield done, stop
            done = stop

    def due(self, samples: int) -> bool:
        """Return whether a row stands at so many samples."""
        return samples % self.stride == 0

    @property
    def room(self) -> int:
        """Rows that can be added before the stride doubles."""
        return self.limit - len(self.samples)

    def add(self, samples: int, row: NDArray[np.float64]) -> None:
        """Add the row that is due at so many samples."""
        self.samples.append(samples)
        self.rows.append(row)
        if len(self.samples) >= self.limit:
            self.stride *= 2
            for kept in (self.samples, self.rows):
                del kept[::2]  # row i stands at (i + 1) strides: the odd multiples go

    def take(self, stride: int, samples: NDArray[np.int64], rows: NDArray[np.float64]) -> None:
        """Take up the rows of a state."""
        require(len(samples) < self.limit, "state['samples']", f"{len(samples)} points", f"fewer than {self.limit}")
        self.stride, self.samples, self.rows = stride, samples.tolist(), list(rows)
