"""Arms against arms: candidates, seeds, segments, and sides that arrive at different times."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamil.errors import EvaluationError
from streamil.evaluation import Comparison, PairedTest, allot

RNG = np.random.default_rng
ALPHA = 0.06


def arms(samples: int, *rates: float, seed: int = 0) -> np.ndarray:
    return RNG(seed).random((len(rates), samples)) < np.array(rates)[:, None]


def one_segment(samples: int) -> np.ndarray:
    return np.zeros(samples, np.int64)


def compare(challenger: Any, baseline: Any, segment: Any = None, **groups: Any) -> Comparison:
    groups = {"challenger_groups": [[i] for i in range(len(challenger))],
              "baseline_groups": [[i] for i in range(len(baseline))], **groups}
    comparison = Comparison(**groups, alpha=ALPHA)
    comparison.update(challenger, baseline, one_segment(challenger.shape[1]) if segment is None else segment)
    return comparison


def pair_bounds(challenger: np.ndarray, baseline: np.ndarray, alpha_side: float) -> tuple[float, float]:
    test = PairedTest()
    test.update(challenger, baseline)
    return test.bounds(alpha_side)


def test_one_pair_is_the_paired_test_at_half_of_alpha() -> None:
    challenger, baseline = arms(500, 0.9), arms(500, 0.7, seed=1)
    test = PairedTest(ALPHA / 2)
    test.update(challenger[0], baseline[0])
    assert compare(challenger, baseline).summary() == {
        "verdict": "challenger leads", "mean_difference": test.mean_difference, "lower": test.interval[0],
        "upper": test.interval[1], "log_e": test.log_e, "samples": 500, "pair": [0, 0]}


def test_bounds_of_populations_are_the_rule_of_max_and_min() -> None:
    challenger, baseline = arms(900, 0.6, 0.9, 0.7), arms(900, 0.65, 0.6, seed=1)
    side = ALPHA / 2 / 2  # half for the whole stream, half of that a side
    lower = [[pair_bounds(c, b, side / 3)[0] for b in baseline] for c in challenger]
    upper = [[pair_bounds(c, b, side / 2)[1] for b in baseline] for c in challenger]
    summary = compare(challenger, baseline).summary()
    assert summary["lower"] == max(min(row) for row in lower)
    assert summary["upper"] == min(max(column) for column in zip(*upper, strict=True))
    i, j = summary["pair"]
    assert i == 1
    assert lower[i][j] == summary["lower"]
    assert summary["mean_difference"] == pytest.approx(challenger[i].mean() - baseline[j].mean())


def test_the_challenger_must_beat_every_baseline_with_one_candidate() -> None:
    strong, weak = np.ones((1, 600), bool), np.zeros((1, 600), bool)
    assert compare(strong, np.vstack([weak, weak])).summary()["verdict"] == "challenger leads"
    assert compare(strong, np.vstack([weak, strong])).summary()["verdict"] == "open"
    assert compare(np.vstack([weak, strong]), weak).summary()["verdict"] == "challenger leads"
    assert compare(weak, np.vstack([weak, strong])).summary()["verdict"] == "baseline leads"
    assert compare(np.vstack([weak, strong]), strong).summary()["verdict"] == "open"


def test_the_candidate_that_counts_is_the_one_with_the_best_worst_case() -> None:
    i = np.arange(800)
    baseline = np.array([i % 2 == 0, i // 2 % 2 == 0])
    # The first candidate follows one baseline closely; the second is somewhat like both. Each is right 80 times more.
    challenger = np.array([baseline[0], np.where(i // 4 % 2 == 0, baseline[0], baseline[1])])
    for candidate in challenger:
        candidate[np.flatnonzero(~candidate)[::5]] = True
    side = ALPHA / 4 / 2
    lower = np.array([[pair_bounds(c, b, side)[0] for b in baseline] for c in challenger])
    assert lower.max(1).argmax() == 0
    assert lower.min(1).argmax() == 1
    summary = compare(challenger, baseline).summary()
    assert summary["lower"] == pytest.approx(lower.min(1).max(), rel=1e-12)
    assert summary["pair"] == [1, int(lower[1].argmin())]


def test_more_candidates_cost_width() -> None:
    challenger, baseline = arms(500, 0.9), arms(500, 0.7, seed=1)
    alone = compare(challenger, baseline).summary()
    twins = compare(np.repeat(challenger, 5, axis=0), baseline).summary()
    assert twins["lower"] < alone["lower"]
    assert twins["upper"] == alone["upper"]


def test_seeds_are_replicates_not_candidates() -> None:
    challenger, baseline = arms(400, 0.8, 0.8, 0.2), arms(400, 0.5, 0.5, seed=1)
    summary = compare(challenger, baseline, challenger_groups=[[0, 1], [2]], baseline_groups=[[0, 1]]).summary()
    lower, _ = pair_bounds(challenger[:2].mean(0), baseline.mean(0), ALPHA / 4 / 2)
    assert (summary["lower"], summary["pair"], summary["log_e"]) == (lower, [0, 0], None)


def test_log_e_belongs_to_single_seeds_alone_however_the_outcomes_look() -> None:
    both = np.ones((2, 50), bool)  # the mean over two seeds is 0 or 1 throughout
    assert compare(both, both[:1], challenger_groups=[[0, 1]]).summary()["log_e"] is None
    assert compare(both[:1], both[:1]).summary()["log_e"] == pytest.approx(0)


def test_before_the_first_sample_all_is_undefined_and_open() -> None:
    comparison = Comparison([[0]], [[0]])
    expected = {"verdict": "open", "mean_difference": None, "lower": None, "upper": None, "log_e": None, "samples": 0,
                "pair": None}
    assert comparison.summary() == comparison.since_segment() == expected
    comparison.add_challenger(np.ones((1, 3), bool), one_segment(3))
    assert comparison.summary() == expected


def test_a_new_segment_starts_the_test_anew_with_its_share_of_alpha() -> None:
    challenger, baseline = arms(1000, 0.9), arms(1000, 0.5, seed=1)
    segment = np.repeat([0, 1, 2], [300, 300, 400])
    comparison = compare(challenger, baseline, segment)
    since = comparison.since_segment()
    share = ALPHA / 2 / (3 * 4)
    assert since["samples"] == 400
    assert (since["lower"], since["upper"]) == pair_bounds(challenger[0, 600:], baseline[0, 600:], share / 2)
    assert comparison.summary()["samples"] == 1000


def test_segments_restart_the_test_at_most_once_in_200_samples() -> None:
    right = np.ones((1, 700), bool)
    segment = np.repeat([0, 1, 2, 3, 4], [200, 199, 1, 100, 200])  # changes at 200, 399, 400, 500
    comparison = compare(right, right, segment)
    assert comparison.since_segment()["samples"] == 300  # restarted at 200 and 400, passed over 399 and 500
    assert comparison.state_dict()["starts"] == 3


def test_shares_of_all_starts_stay_within_alpha() -> None:
    assert sum(1 / (j * (j + 1)) for j in range(1, 10_000)) < 1
    assert allot(0.05, 5) * 5 == pytest.approx(0.05)


def test_arms_of_different_batch_size_are_compared_on_the_samples_both_have() -> None:
    challenger, baseline = arms(120, 0.9), arms(120, 0.6, seed=1)
    comparison = Comparison([[0]], [[0]], ALPHA)
    for start in range(0, 120, 7):  # the last mini-batch of 7 is not full: 119 samples
        comparison.add_challenger(challenger[:, start : start + 7], one_segment(len(challenger[0, start : start + 7])))
        if start + 7 <= 120:
            comparison.add_baseline(baseline[:, start : start + 7], one_segment(7))
    assert comparison.summary() == compare(challenger[:, :119], baseline[:, :119]).summary()


@given(st.lists(st.integers(0, 900), max_size=8), st.lists(st.integers(0, 880), max_size=8), st.randoms())
def test_neither_cuts_nor_the_side_that_is_ahead_matter(first: list[int], second: list[int], order: Any) -> None:
    challenger, baseline = arms(900, 0.7, 0.6, 0.8), arms(880, 0.7, 0.7, seed=1)
    segment = np.repeat([0, 1, 2, 1], [250, 100, 350, 200])
    groups = [[0, 2], [1]], [[1], [0]]
    whole, pieces = Comparison(*groups), Comparison(*groups)
    whole.add_challenger(challenger, segment)
    whole.add_baseline(baseline, segment[:880])
    calls = {"challenger": [(pieces.add_challenger, challenger[:, rows], segment[rows]) for rows in slices(first, 900)],
             "baseline": [(pieces.add_baseline, baseline[:, rows], segment[rows]) for rows in slices(second, 880)]}
    while any(calls.values()):
        add, outcomes, stamps = calls[order.choice([side for side in calls if calls[side]])].pop(0)
        add(outcomes, stamps)
    one, other = whole.state_dict(), pieces.state_dict()
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[key], other[key]) for key in one)


def slices(cuts: list[int], end: int) -> list[slice]:
    edges = [0, *sorted(cuts), end]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def test_a_restored_comparison_goes_on_as_if_nothing_had_happened() -> None:
    challenger, baseline = arms(700, 0.9), arms(700, 0.5, seed=1)
    segment = np.repeat([0, 1], [350, 350])
    comparison, restored = Comparison([[0]], [[0]]), Comparison([[0]], [[0]])
    comparison.add_challenger(challenger[:, :340], segment[:340])
    comparison.add_baseline(baseline[:, :330], segment[:330])  # ten outcomes wait
    restored.load_state_dict(comparison.state_dict())
    for one in (comparison, restored):
        one.add_baseline(baseline[:, 330:], segment[330:])
        one.add_challenger(challenger[:, 340:], segment[340:])
    assert comparison.summary() == restored.summary()
    assert comparison.since_segment() == restored.since_segment()
    assert comparison.since_segment()["samples"] == 350


@pytest.mark.parametrize("groups", [[], [[]], [[0, 0]], [[0], [0]], [[-1]]])
def test_groups_that_make_no_candidates_are_an_error(groups: list[list[int]]) -> None:
    with pytest.raises(EvaluationError, match="baseline_groups"):
        Comparison([[0]], groups)


def test_outcomes_that_do_not_fit_are_an_error() -> None:
    comparison = Comparison([[0], [1]], [[0]])
    with pytest.raises(EvaluationError, match="at least 2 members"):
        comparison.add_challenger(np.ones((1, 5), bool), one_segment(5))
    with pytest.raises(EvaluationError, match="bool"):
        comparison.add_baseline(np.ones((1, 5)), one_segment(5))
    with pytest.raises(EvaluationError, match="segment"):
        comparison.add_baseline(np.ones((1, 5), bool), one_segment(4))
    comparison.add_challenger(np.ones((2, 5), bool), one_segment(5))
    with pytest.raises(EvaluationError, match="other samples"):
        comparison.add_baseline(np.ones((1, 5), bool), one_segment(5) + 1)


@pytest.mark.parametrize(("alpha", "comparisons"), [(0.05, 0), (0, 1), (1, 1)])
def test_no_share_of_nothing(alpha: float, comparisons: int) -> None:
    with pytest.raises(EvaluationError):
        allot(alpha, comparisons)
