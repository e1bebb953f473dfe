"""Test-then-train metrics of one arm: every sample is predicted, scored here, and only then learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.evaluation._state import State, array, number, require

RUN = 64
"""Samples over which the fading sums carry a^-i: so few that no factor from 0.5 on overflows."""


class Prequential:
    r"""Accuracies, log-loss and chance-corrected scores of A members, updated sample by sample.

    Counts are integers and float sums strictly sequential: the state does not depend on how the samples were cut into
    calls, bit for bit. What is undefined (no samples yet, a division by zero) is nan. Correctness p and its rivals:

    - `cumulative` correct / n, `windowed` over the last w samples, `fading` S / N with S <- a S + correct and
      N <- a N + 1 per sample (Gama, Sebastiao and Rodrigues 2013);
    - `kappa` $(p - p_e) / (1 - p_e)$, chance agreement $p_e$ from the marginals (Cohen 1960);
    - `kappa_temporal` and `kappa_majority` $(p - p') / (1 - p')$, with p' the prequential accuracy of repeating the
      label before, and of the most frequent label before (the first to reach that count); the first sample is wrong
      for both (Bifet et al. 2015). Autocorrelated streams flatter everyone, so show these beside the accuracy;
    - `macro_f1` mean F1 over the classes met as a label or as a prediction; `recall` of each class, right / labels.

    Parameters
    ----------
    members
        Members A of the arm.
    window
        Samples w of the windowed accuracy.
    fading
        Factor a of the fading accuracy, from 0.5 to 1.

    Attributes
    ----------
    samples
        Samples scored.
    correct
        Samples predicted right [A].

    Raises
    ------
    EvaluationError
        For an argument out of range or of the wrong shape.

    Examples
    --------
    >>> scores = Prequential(members=2, window=2)
    >>> scores.update(np.array([[0, 1, 1], [0, 0, -1]]), np.array([0, 1, 1]), np.array([[0.1] * 3, [0.5] * 3]))
    >>> scores.samples, scores.correct.tolist(), scores.windowed.tolist()
    (3, [3, 1], [1.0, 0.0])
    """

    def __init__(self, members: int, *, window: int = 1000, fading: float = 0.999) -> None:
        require(members >= 1, "members", members, "at least 1")
        require(window >= 1, "window", window, "at least 1")
        require(0.5 <= fading <= 1, "fading", fading, "from 0.5 to 1")
        self.members, self.window = members, window
        self.samples = 0
        self.correct = np.zeros(members, np.int64)
        self._recent = np.zeros((window, members), np.bool_)  # sample s stands in row s modulo window
        self._hits_in_window = np.zeros(members, np.int64)
        self._faded = np.zeros(members + 1)  # S a^-r of each member, and N a^-r; r samples into the present run
        self._growth = fading ** -np.arange(1.0, RUN + 1)
        self._loss = np.zeros(members)
        self._labels = np.zeros(0, np.int64)  # how often each class was the label [K]
        self._predicted = np.zeros((members, 0), np.int64)  # how often each member said so [A, K]
        self._hits = np.zeros((members, 0), np.int64)  # how often that was right [A, K]
        self._last, self._repeats = -1, 0  # the label before; how often it was the label again
        self._majority, self._majority_hits = -1, 0

    def update(self, predicted: NDArray[np.int64], y: NDArray[np.int64], loss: NDArray[np.float64]) -> None:
        """Score N samples: predicted [A, N] (-1 is no prediction, hence wrong), labels y [N] >= 0, loss [A, N]."""
        predicted, y, loss = np.asarray(predicted), np.asarray(y), np.asarray(loss, np.float64)
        require(y.ndim == 1, "y", f"of shape {y.shape}", "labels [N]")
        shape = (self.members, len(y))
        require(predicted.shape == shape, "predicted", f"of shape {predicted.shape}", f"[A, N] = {shape}")
        require(loss.shape == shape, "loss", f"of shape {loss.shape}", f"[A, N] = {shape}")
        if not len(y):
            return
        require(bool(y.min() >= 0), "y", int(y.min()), "class indices of 0 and above: leave unlabelled samples out")
        correct = predicted == y
        self._follow_rivals(y)  # before the counts: they know what was there before this call
        self._count(predicted, y, correct)
        rows = np.arange(self.samples, self.samples + len(y))[-self.window :]
        rows, arriving = rows % self.window, correct.T[-self.window :]
        self._hits_in_window += arriving.sum(axis=0) - self._recent[rows].sum(axis=0)
        self._recent[rows] = arriving
        # One after the other, from the carried value: a pairwise sum would depend on where the calls were cut.
        self._loss = np.cumsum(np.concatenate((self._loss[:, None], loss), axis=1), axis=1)[:, -1].copy()
        self._fade(correct)
        self.correct += correct.sum(axis=1)
        self.samples += len(y)

    def accuracies_at(
        self, correct: NDArray[np.bool_], places: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what `windowed` and `cumulative` will be [P, A] after so many (`places` [P]) of the next N samples.

        Parameters
        ----------
        correct
            Whether each of them is predicted right [A, N].
        places
            Numbers of samples, from 1 to N.

        Examples
        --------
        >>> windowed, cumulative = Prequential(members=1, window=2).accuracies_at(
        ...     np.array([[True, False, False]]), np.array([1, 3]))
        >>> windowed[:, 0].tolist(), cumulative[:, 0].round(3).tolist()
        ([1.0, 0.0], [1.0, 0.333])
        """
        count = correct.shape[1]
        leaving = self._recent[np.arange(self.samples, self.samples + min(count, self.window)) % self.window]
        if count > self.window:
            leaving = np.concatenate((leaving, correct.T[: count - self.window]))
        hits = np.cumsum(correct.T, axis=0)
        in_window = self._hits_in_window + (hits - np.cumsum(leaving, axis=0))[places - 1]
        return (_ratio(in_window, np.minimum(self.samples + places, self.window)[:, None]),
                _ratio(self.correct + hits[places - 1], (self.samples + places)[:, None]))

    def _fade(self, correct: NDArray[np.bool_]) -> None:
        """Follow S <- a S + correct and N <- a N + 1 as sums of correct a^-i, over aligned runs of samples."""
        done, end = 0, correct.shape[1]
        while done < end:
            at = (self.samples + done) % RUN
            count = min(RUN - at, end - done)
            terms = np.empty((self.members + 1, count + 1))
            terms[:, 0] = self._faded
            terms[:-1, 1:] = correct[:, done : done + count]
            terms[-1, 1:] = 1
            terms[:, 1:] *= self._growth[at : at + count]
            self._faded = np.cumsum(terms, axis=1)[:, -1].copy()
            if at + count == RUN:
                self._faded /= self._growth[-1]
            done += count

    def _follow_rivals(self, y: NDArray[np.int64]) -> None:
        """Score the rivals that know no input: the label before again, and the most frequent label so far."""
        self._repeats += int(np.count_nonzero(y[1:] == y[:-1])) + int(y[0] == self._last)
        self._last = int(y[-1])
        counts = self._labels.tolist() + [0] * (int(y.max()) + 1 - len(self._labels))
        majority, hits = self._majority, self._majority_hits
        top = counts[majority] if self.samples else 0
        for label in y.tolist():
            if label == majority:
                hits += 1
            counts[label] += 1
            if counts[label] > top:
                majority, top = label, counts[label]
        self._majority, self._majority_hits = majority, hits

    def _count(self, predicted: NDArray[np.int64], y: NDArray[np.int64], correct: NDArray[np.bool_]) -> None:
        """Add to the counts by class, which grow with the classes met."""
        known = len(self._labels)
        classes = max(known, int(y.max()) + 1, int(predicted.max()) + 1)
        if classes > known:
            self._labels = np.pad(self._labels, (0, classes - known))
            self._predicted = np.pad(self._predicted, ((0, 0), (0, classes - known)))
            self._hits = np.pad(self._hits, ((0, 0), (0, classes - known)))
        self._labels += np.bincount(y, minlength=classes)
        cells = predicted + np.arange(self.members)[:, None] * classes
        shape, size = self._hits.shape, self._hits.size
        self._predicted += np.bincount(cells[predicted >= 0], minlength=size).reshape(shape)
        self._hits += np.bincount(cells[correct], minlength=size).reshape(shape)

    def _beyond(self, rival: int) -> NDArray[np.float64]:
        """Return (p - p') / (1 - p') for a rival that was right `rival` times."""
        return _ratio(self.correct - rival, self.samples - rival)

    @property
    def cumulative(self) -> NDArray[np.float64]:
        """Accuracy over all samples [A]."""
        return _ratio(self.correct, self.samples)

    @property
    def windowed(self) -> NDArray[np.float64]:
        """Accuracy over the last w samples, or over all while there are fewer [A]."""
        return _ratio(self._hits_in_window, min(self.samples, self.window))

    @property
    def fading(self) -> NDArray[np.float64]:
        """Accuracy with weights that fall by the fading factor from sample to sample [A]."""
        return _ratio(self._faded[:-1], self._faded[-1])

    @property
    def log_loss(self) -> NDArray[np.float64]:
        """Mean loss [A]."""
        return _ratio(self._loss, self.samples)

    @property
    def kappa(self) -> NDArray[np.float64]:
        """Cohen's kappa [A]."""
        chance = (self._predicted * self._labels.astype(np.float64)).sum(axis=1)
        return _ratio(float(self.samples) * self.correct - chance, float(self.samples) ** 2 - chance)

    @property
    def kappa_temporal(self) -> NDArray[np.float64]:
        """Score against the no-change classifier [A]."""
        return self._beyond(self._repeats)

    @property
    def kappa_majority(self) -> NDArray[np.float64]:
        """Score against the majority class of the labels before [A]."""
        return self._beyond(self._majority_hits)

    @property
    def macro_f1(self) -> NDArray[np.float64]:
        """Mean over classes of F1 = 2 hits / (labels + predictions) [A]."""
        f1 = _ratio(2 * self._hits, self._labels + self._predicted)
        return _ratio(np.nansum(f1, axis=1), np.count_nonzero(~np.isnan(f1), axis=1))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of each class's samples that were predicted right [A, K]; nan for one that was no label yet."""
        return _ratio(self._hits, self._labels)

    def state_dict(self) -> State:
        """Return everything that was learned from samples, as copies."""
        return {
            "samples": self.samples, "correct": self.correct.copy(), "recent": self._recent.copy(),
            "faded": self._faded.copy(), "loss": self._loss.copy(),
            "labels": self._labels.copy(), "predicted": self._predicted.copy(), "hits": self._hits.copy(),
            "last": self._last, "repeats": self._repeats,
            "majority": self._majority, "majority_hits": self._majority_hits,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of as many members and the same window; EvaluationError where an entry does not fit."""
        labels = array(state, "labels", np.int64, (-1,))
        by_class = (self.members, len(labels))
        predicted, hits = array(state, "predicted", np.int64, by_class), array(state, "hits", np.int64, by_class)
        correct = array(state, "correct", np.int64, (self.members,))
        recent = array(state, "recent", np.bool_, (self.window, self.members))
        loss = array(state, "loss", np.float64, (self.members,))
        faded = array(state, "faded", np.float64, (self.members + 1,))
        samples, last, repeats, majority, majority_hits = (
            int(number(state, name)) for name in ("samples", "last", "repeats", "majority", "majority_hits"))
        self.samples, self.correct, self._recent, self._faded, self._loss = samples, correct, recent, faded, loss
        self._hits_in_window = np.count_nonzero(recent, axis=0)
        self._labels, self._predicted, self._hits = labels, predicted, hits
        self._last, self._repeats, self._majority, self._majority_hits = last, repeats, majority, majority_hits


def _ratio(above: NDArray[Any], below: NDArray[Any] | float) -> NDArray[np.float64]:
    """Return above / below, nan where below is zero."""
    below = np.broadcast_to(np.asarray(below, np.float64), above.shape)
    ratio = np.full(above.shape, np.nan)
    np.divide(above, below, out=ratio, where=below != 0)
    return ratio
