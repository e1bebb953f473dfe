"""Points: bounded, at multiples of the stride, whatever the cuts; and the verdict over time that is kept in them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamil.errors import EvaluationError
from streamil.evaluation import Comparison, Points

LUCK = np.random.default_rng(5)
CHALLENGER, BASELINE = LUCK.random((2, 6000)) < 0.8, LUCK.random((1, 6000)) < 0.7
SEGMENT = np.arange(6000) // 700


def filled(samples: int, limit: int, stride: int, cuts: list[int]) -> Points:
    points = Points(limit, stride)
    edges = [0, *sorted(cut for cut in cuts if cut < samples), samples]
    for first, last in pairwise(edges):
        for _, stop in points.stops(first, last - first):
            if points.due(stop):
                points.add(stop, np.array([float(stop)]))
    return points


@given(st.integers(0, 3000), st.integers(2, 20), st.integers(1, 7), st.lists(st.integers(0, 3000), max_size=5))
def test_rows_stand_at_the_multiples_of_a_stride_that_doubles(samples: int, limit: int, stride: int, cuts: list[int]) -> None:
    points = filled(samples, limit, stride, cuts)
    assert points.samples == list(range(points.stride, samples + 1, points.stride))
    assert [row.tolist() for row in points.rows] == [[float(at)] for at in points.samples]
    assert len(points.samples) < limit and points.stride % stride == 0
    assert points.stride == stride or len(points.samples) >= limit // 2 - 1  # it doubles no sooner than it must


def compared(cuts: list[int], samples: int = 6000) -> Comparison:
    comparison = Comparison([[0], [1]], [[0]])
    for rows in np.split(np.arange(samples), sorted(cuts)):
        comparison.update(CHALLENGER[:, rows], BASELINE[:, rows], SEGMENT[rows])
    return comparison


def test_the_timeline_is_what_the_summary_was_there() -> None:
    samples, bounds = compared([]).timeline()
    assert len(samples) < 400 and samples[-1] == 6000
    for at, row in list(zip(samples.tolist(), bounds.tolist(), strict=True))[::40]:
        found = compared([], at).summary()
        assert row == [found["mean_difference"], found["lower"], found["upper"]]


def test_the_timeline_does_not_depend_on_cuts_and_is_saved() -> None:
    whole, cut = compared([]), compared([1, 9, 10, 11, 2345, 5999])
    other = Comparison([[0], [1]], [[0]])
    other.load_state_dict(compared([], 3217).state_dict())
    other.update(CHALLENGER[:, 3217:], BASELINE[:, 3217:], SEGMENT[3217:])
    for one in (cut, other):
        assert all(np.array_equal(left, right) for left, right in zip(whole.timeline(), one.timeline(), strict=True))
        assert one.since_segment() == whole.since_segment()


def test_a_damaged_timeline_is_refused() -> None:
    state = compared([]).state_dict()
    for name, wrong in (("timeline.bounds", np.zeros((3, 3))), ("timeline.samples", np.arange(1000)), ("timeline.stride", None)):
        with pytest.raises(EvaluationError):
            Comparison([[0], [1]], [[0]]).load_state_dict({key: value for key, value in (state | {name: wrong}).items() if value is not None})


def test_nothing_yet_has_no_points() -> None:
    samples, bounds = Comparison([[0]], [[0]]).timeline()
    assert samples.shape == (0,) and bounds.shape == (0, 3)
