"""Curves: bounded, deterministic by sample count, exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamil.errors import EvaluationError
from streamil.evaluation import Curve, Prequential

LUCK = np.random.default_rng(0)
Y = LUCK.integers(0, 3, 700)
PREDICTED = np.where(LUCK.random((2, 700)) < 0.7, Y, 0)
LOSS = LUCK.exponential(size=(2, 700))


def followed(cuts: list[int], limit: int = 20, samples: int = 700) -> tuple[Curve, Prequential]:
    curve, scores = Curve(2, limit), Prequential(2, window=50)
    for rows in np.split(np.arange(samples), sorted(cuts)):
        curve.follow(scores, PREDICTED[:, rows], Y[rows], LOSS[:, rows])
    return curve, scores


@settings(max_examples=25)
@given(st.lists(st.integers(0, 700), max_size=10))
def test_neither_curve_nor_scores_depend_on_how_samples_are_cut(cuts: list[int]) -> None:
    for whole, pieces in zip(followed([]), followed(cuts), strict=True):
        one, other = whole.state_dict(), pieces.state_dict()
        assert all(np.array_equal(one[key], other[key]) for key in one)


def test_each_point_is_the_accuracy_at_exactly_that_sample() -> None:
    curve, scores = followed([])
    correct = PREDICTED == Y
    samples, windowed, cumulative = curve.points(scores)
    for count, in_window, over_all in zip(samples.tolist(), windowed, cumulative, strict=True):
        assert over_all.tolist() == correct[:, :count].mean(1).tolist()
        assert in_window.tolist() == correct[:, max(0, count - 50) : count].mean(1).tolist()


@pytest.mark.parametrize("samples", [0, 1, 19, 20, 21, 40, 639, 640, 700])
def test_points_stand_at_multiples_of_a_stride_and_stay_within_the_limit(samples: int) -> None:
    curve, scores = followed([], samples=samples)
    counts = curve.points()[0]
    assert counts.tolist() == list(range(curve.stride, samples + 1, curve.stride))
    assert len(curve.points(scores)[0]) <= 20
    assert curve.stride == 1 or len(counts) >= 9  # it doubles no sooner than it must


def test_the_last_point_is_exact_and_never_doubled() -> None:
    curve, scores = followed([], samples=643)
    assert curve.points(scores)[0][-1] == 643
    assert curve.points()[0][-1] == 640
    curve, scores = followed([], samples=640)
    assert np.unique(curve.points(scores)[0]).size == curve.points(scores)[0].size


def test_a_restored_curve_goes_on_as_if_nothing_had_happened() -> None:
    curve, scores = followed([], samples=333)
    again, scored = Curve(2, 20), Prequential(2, window=50)
    again.load_state_dict(curve.state_dict())
    scored.load_state_dict(scores.state_dict())
    again.follow(scored, PREDICTED[:, 333:], Y[333:], LOSS[:, 333:])
    expected, found = followed([])[0].state_dict(), again.state_dict()
    assert all(np.array_equal(expected[key], found[key]) for key in expected)


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="members"):
        Curve(0)
    with pytest.raises(EvaluationError, match="limit"):
        Curve(1, limit=1)
    with pytest.raises(EvaluationError, match="scores"):
        Curve(1).follow(Prequential(2), PREDICTED, Y, LOSS)
    with pytest.raises(EvaluationError, match="points"):
        Curve(2, limit=5).load_state_dict(followed([])[0].state_dict())
