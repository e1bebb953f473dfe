"""Area under the curve and samples to thresholds, against the definition written out sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamil.errors import EvaluationError
from streamil.evaluation import Prequential, Speed

THRESHOLDS = [0.5, 0.8, 1.0]


def followed(correct: np.ndarray, window: int, cuts: list[int] | None = None) -> Speed:
    speed, scores = Speed(len(correct), THRESHOLDS), Prequential(len(correct), window=window)
    for part in np.split(correct, cuts or [], axis=1):
        speed.follow(scores, part)
        y = np.zeros(part.shape[1], np.int64)
        scores.update(np.where(part, 0, 1), y, np.zeros(part.shape))
    return speed


def by_hand(row: np.ndarray, window: int) -> tuple[float, list[int]]:
    recent = [row[max(0, t - window):t].mean() for t in range(1, len(row) + 1)]
    reached = [next((t for t in range(window, len(row) + 1) if recent[t - 1] >= threshold), 0) for threshold in THRESHOLDS]
    return float(np.mean(recent)), reached


@given(st.integers(1, 40), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_equals_the_definition_however_samples_are_cut(window: int, samples: int, seed: int) -> None:
    luck = np.random.default_rng(seed)
    correct = luck.random((3, samples)) < np.linspace(0.2, 1, samples) * luck.random((3, 1)) * 1.5
    cuts = sorted(luck.integers(0, samples + 1, 4).tolist())
    whole, pieces = followed(correct, window), followed(correct, window, cuts)
    assert np.array_equal(whole.area, pieces.area) and np.array_equal(whole.reached, pieces.reached) and pieces.samples == samples
    for member, row in enumerate(correct):
        area, reached = by_hand(row, window)
        assert whole.area[member] == pytest.approx(area, abs=1e-12) and whole.reached[member].tolist() == reached


def test_a_threshold_once_reached_stays_and_too_few_samples_reach_none() -> None:
    correct = np.array([[True] * 9 + [False] * 30])
    assert followed(correct, 10).reached.tolist() == [[10, 10, 0]]
    assert followed(correct[:, :9], 10).reached.tolist() == [[0, 0, 0]], "right nine times, and the window has ten"
    assert np.isnan(Speed(2).area).all() and Speed(2).reached.shape == (2, 0)


def test_a_state_goes_on_bit_for_bit() -> None:
    correct = np.random.default_rng(3).random((2, 90)) < 0.7
    first, scores = Speed(2, THRESHOLDS), Prequential(2, window=7)
    first.follow(scores, correct[:, :50])
    scores.update(np.where(correct[:, :50], 0, 1), np.zeros(50, np.int64), np.zeros((2, 50)))
    second = Speed(2, THRESHOLDS)
    second.load_state_dict(first.state_dict())
    for one in (first, second):
        one.follow(scores, correct[:, 50:])
    assert np.array_equal(first.area, second.area) and np.array_equal(first.reached, second.reached)
    assert np.array_equal(first.area, followed(correct, 7).area)
    for state in ({}, first.state_dict() | {"reached": np.zeros((2, 1), np.int64)}, first.state_dict() | {"area": np.zeros(3)}):
        with pytest.raises(EvaluationError):
            Speed(2, THRESHOLDS).load_state_dict(state)


@pytest.mark.parametrize("call", [
    lambda: Speed(0), lambda: Speed(1, [0.5, 0.5]), lambda: Speed(1, [1.1]), lambda: Speed(1, [float("nan")]),
    lambda: Speed(2).follow(Prequential(2), np.zeros((1, 3), bool)), lambda: Speed(1).follow(scored(), np.zeros((1, 3), bool))])
def test_wrong_arguments_are_told(call: object) -> None:
    with pytest.raises(EvaluationError, match="it must be"):
        call()


def scored() -> Prequential:
    scores = Prequential(1)
    scores.update(np.zeros((1, 2), np.int64), np.zeros(2, np.int64), np.zeros((1, 2)))
    return scores
