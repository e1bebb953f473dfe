"""`noisy-senses`: what arrives is not quite what is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamil.experiment.regimes import NoisySenses
from streamil.samples import Records
from streamil.streams.regimes.numbers import Numbers
from streamil.values import LARGEST


def noisy_senses(samples: Iterator[Records], settings: NoisySenses, rng: np.random.Generator) -> Iterator[Records]:
    """Yield the samples with Gaussian noise on their inputs.

    On uint8 inputs its standard deviation is `sigma` * 255; they are rounded, cut to 0..255 and stay uint8. On all
    other numbers it is `sigma` times the input's own standard deviation over the samples before, so a first sample has
    none; floats keep their type, whole numbers become float64. Missing values stay missing, categories as they are.

    Raises
    ------
    SourceError
        For a text among numbers.
    """
    numbers = Numbers(settings.kind)
    running: dict[str | None, Deviation] = {}  # by feature; None: the dense inputs
    for chunk in samples:
        if chunk.x is None:
            chunk = numbers.read(chunk)
            columns = dict(chunk.columns)
            for name in numbers.names:
                x = np.asarray(columns[name])[:, None]
                spread = running.setdefault(name, Deviation(1)).before(x)
                columns[name] = (x + settings.sigma * spread * rng.standard_normal(x.shape))[:, 0]
            yield replace(chunk, columns=columns)
            continue
        noise = rng.standard_normal(chunk.x.shape, dtype=np.float32)
        if chunk.x.dtype == np.uint8:
            noisy = np.rint(chunk.x + np.float32(255 * settings.sigma) * noise).clip(0, 255)
            yield replace(chunk, x=noisy.astype(np.uint8))
        else:
            x = chunk.x.astype(np.float64)
            spread = running.setdefault(None, Deviation(x.shape[1])).before(x)
            with np.errstate(over="ignore"):  # what is no finite float32 is rejected by the race
                noisy = (x + settings.sigma * spread * noise).astype(
                    chunk.x.dtype if chunk.x.dtype.kind == "f" else np.float64)
            yield replace(chunk, x=noisy)


class Deviation:
    """The standard deviation of each of F inputs, over the samples before each one; nan is missing.

    Examples
    --------
    >>> Deviation(1).before(np.array([[1.0], [3.0], [np.nan], [5.0]])).ravel().tolist()
    [0.0, 0.0, 1.0, 1.0]
    """

    def __init__(self, inputs: int) -> None:
        self._sums = np.zeros((3, inputs))  # count, sum and sum of squares of what is counted from the first value
        self._shift = np.full(inputs, np.nan)

    def before(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the deviations [N, F] that were known before each row of x [N, F]; then know these rows, too."""
        seen = np.abs(x) <= LARGEST  # false for nan
        first = np.take_along_axis(x, np.argmax(seen, axis=0)[None, :], axis=0)[0]
        self._shift = np.where(np.isnan(self._shift) & seen.any(axis=0), first, self._shift)
        d = np.where(seen, x - self._shift, 0.0)
        steps = np.concatenate((self._sums[None], np.stack((seen, d, d * d), axis=1)))
        count, total, squares = np.moveaxis(np.cumsum(steps, axis=0), 1, 0)
        self._sums = np.stack((count[-1], total[-1], squares[-1]))
        count = np.maximum(count[:-1], 1.0)
        mean = total[:-1] / count
        variance: NDArray[np.float64] = squares[:-1] / count - mean * mean
        return np.sqrt(np.maximum(variance, 0.0))
