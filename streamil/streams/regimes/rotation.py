"""Square images turned by any angle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.errors import SourceError
from streamil.samples import Records


class Rotations:
    """Turns images that stand in dense inputs row by row, side * side of them; remembers the last two angles."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._maps: dict[tuple[int, float], tuple[NDArray[np.int64], NDArray[np.float32]]] = {}

    def turned(self, records: Records, degrees: float) -> NDArray[Any]:
        """Return the images [N, F] turned counter-clockwise about their middle, of the same type; outside is 0.

        Raises
        ------
        SourceError
            When the inputs are no square images.
        """
        x = records.x
        side = 0 if x is None else math.isqrt(x.shape[1])
        if x is None or side * side != x.shape[1]:
            what = f"{len(records.columns)} named features" if x is None else f"{x.shape[1]} inputs"
            raise SourceError(f"{self._kind}: what: rotation turns square images, and {what} are none (784 inputs are "
                              "28 x 28 pixels): take what: features, or leave the regime out")
        if degrees == 0:
            return x
        if (side, degrees) not in self._maps:
            last = list(self._maps.items())[-1:]
            self._maps = dict([*last, ((side, degrees), bilinear(side, degrees))])
        places, weights = self._maps[side, degrees]
        turned = sum(x[:, place] * weight for place, weight in zip(places, weights, strict=True))
        if x.dtype.kind == "f":
            return np.asarray(turned, dtype=x.dtype)
        limits = np.iinfo(x.dtype)
        return np.asarray(np.rint(turned).clip(limits.min, limits.max), dtype=x.dtype)


def bilinear(side: int, degrees: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return, for each pixel of the turned image, the four pixels [4, F] it is made of, and their weights [4, F].

    Examples
    --------
    >>> places, weights = bilinear(2, 90)
    >>> (np.array([[1, 2], [3, 4]]).ravel()[places] * weights).sum(0).round().reshape(2, 2)
    array([[2., 4.],
           [1., 3.]])
    """
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    middle = (side - 1) / 2
    down, right = np.mgrid[:side, :side] - middle
    row, column = (sin * right + cos * down + middle).ravel(), (cos * right - sin * down + middle).ravel()
    places, weights = [], []
    for below in (0, 1):
        for beside in (0, 1):
            at_row, at_column = np.floor(row) + below, np.floor(column) + beside
            weight = (1 - np.abs(row - at_row)) * (1 - np.abs(column - at_column))
            inside = (at_row >= 0) & (at_row < side) & (at_column >= 0) & (at_column < side)
            places.append(np.where(inside, at_row * side + at_column, 0).astype(np.int64))
            weights.append(np.where(inside, weight, 0.0).astype(np.float32))
    return np.stack(places), np.stack(weights)
