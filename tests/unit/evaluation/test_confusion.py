"""Confusion: against scikit-learn's definition written out, growing, bounded."""

from __future__ import annotations

import numpy as np
import pytest

from streamil.errors import EvaluationError
from streamil.evaluation import Confusion

LUCK = np.random.default_rng(2)


def test_counts_are_those_of_label_and_prediction_in_any_cut() -> None:
    y, said = LUCK.integers(0, 5, 400), LUCK.integers(-1, 5, (3, 400))
    whole, cut = Confusion(3), Confusion(3)
    whole.update(said, y)
    for rows in np.split(np.arange(400), [0, 1, 7, 399]):
        cut.update(said[:, rows], y[rows])
    expected = [[[int(np.sum((y == label) & (member == other))) for other in range(5)] for label in range(5)] for member in said]
    assert whole.counts.tolist() == cut.counts.tolist() == expected


def test_classes_past_the_limit_share_the_last_row_and_column() -> None:
    confusion = Confusion(1, limit=2)
    confusion.update(np.array([[0, 5, 3, 1]]), np.array([0, 1, 7, 9]))
    assert confusion.counts[0].tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 1]]


def test_state_goes_round_and_wrong_ones_are_refused() -> None:
    one, other = Confusion(1), Confusion(1)
    one.update(np.array([[0, 2]]), np.array([1, 2]))
    other.load_state_dict(one.state_dict())
    assert other.counts.tolist() == one.counts.tolist()
    for wrong in (np.zeros((2, 3, 3), np.int64), np.zeros((1, 3, 2), np.int64), np.zeros((1, 300, 300), np.int64)):
        with pytest.raises(EvaluationError):
            other.load_state_dict({"counts": wrong})
    with pytest.raises(EvaluationError, match="predicted"):
        one.update(np.array([0]), np.array([0]))
