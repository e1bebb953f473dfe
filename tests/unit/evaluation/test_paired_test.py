"""The paired test: what it promises when watched all day, and what it finds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betaln

from streamil.errors import EvaluationError
from streamil.evaluation import PairedTest
from streamil.evaluation.boundary import boundary
from streamil.evaluation.paired_test import PairedSums

RNG = np.random.default_rng


def same_state(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(one[key], other[key]) and np.asarray(one[key]).dtype == np.asarray(other[key]).dtype
        for key in one)


def test_false_alarms_stay_below_alpha_though_every_tenth_sample_is_looked_at() -> None:
    outcomes = (RNG(0).random((2, 400, 2000)) < 0.7).astype(float)
    differences, nothing = outcomes[0] - outcomes[1], np.zeros((1, 2000))
    sums, alarms, naive = PairedSums(400, 1), set(), set()  # 400 pairs, summed at once
    for start in range(0, 2000, 10):
        sums.update(differences[:, start : start + 10], nothing[:, start : start + 10])
        # The boundary is never below 1.64 roots of V: other looks need not know it.
        suspects = np.flatnonzero(np.abs(sums.total[:, 0]) > 1.64 * np.sqrt(sums.variance[:, 0]))
        naive.update(suspects.tolist())
        alarms.update(i for i in suspects.tolist() if abs(sums.total[i, 0]) > boundary(sums.variance[i, 0], 0.05))
    assert len(alarms) <= 0.1 * 400
    assert len(naive) > 200  # a fixed-size test at this level, looked at as often, finds what is not there


def test_the_verdict_is_the_crossing_of_the_boundary() -> None:
    luck, test = RNG(7), PairedTest(alpha=0.1)
    verdicts = set()
    for _ in range(80):
        test.update(luck.random(5) < 0.9, luck.random(5) < 0.7)
        state = test.state_dict()
        crossed = state["total"][0, 0] > boundary(state["variance"][0, 0], 0.05)
        assert (test.verdict == "challenger leads") == crossed
        verdicts.add(test.verdict)
    assert verdicts == {"open", "challenger leads"}


def test_a_look_may_pass_over_sums_below_the_fixed_size_test() -> None:
    assert all(boundary(float(variance), 0.05) > 1.64 * math.sqrt(variance) for variance in (1e-3, 1, 30, 1e3, 1e5))


def test_holds_for_dependent_differences_whose_mean_so_far_moves() -> None:
    # Conditional means swing between +0.3 and -0.3 in runs of 250: every interval must hold their mean so far.
    missed = 0
    for seed in range(60):
        means = np.where(np.arange(2000) // 250 % 2 == 0, 0.3, -0.3)
        challenger = RNG(seed).random(2000) < 0.5 + means / 2
        baseline = RNG(seed + 1000).random(2000) < 0.5 - means / 2
        test, truth = PairedTest(alpha=0.1), np.cumsum(means) / np.arange(1, 2001)
        for start in range(0, 2000, 50):
            test.update(challenger[start : start + 50], baseline[start : start + 50])
            lower, upper = test.interval
            if not lower <= truth[start + 49] <= upper:
                missed += 1
                break
    assert missed <= 6


@pytest.mark.parametrize(("challenger", "baseline", "verdict"), [
    (0.85, 0.80, "challenger leads"), (0.80, 0.85, "baseline leads"), (0.80, 0.80, "open")])
def test_a_true_difference_is_found_on_the_right_side(challenger: float, baseline: float, verdict: str) -> None:
    found = []
    for seed in range(20):
        luck = RNG(seed)
        test = PairedTest()
        test.update(luck.random(6000) < challenger, luck.random(6000) < baseline)
        found.append(test.verdict)
    assert found.count(verdict) >= 19


def test_a_lead_that_is_lost_returns_to_open() -> None:
    test = PairedTest()
    right, wrong = np.ones(500, bool), np.zeros(500, bool)
    test.update(right, wrong)
    assert test.verdict == "challenger leads"
    test.update(wrong, right)
    assert (test.verdict, test.mean_difference) == ("open", 0.0)


def test_the_interval_is_the_mean_and_the_boundary_at_the_intrinsic_time() -> None:
    challenger, baseline = [1, 1, 0, 1, 0.5, 1] * 20, [0, 1, 1, 0, 0.25, 0] * 20  # enough that nothing is clipped
    d = [c - b for c, b in zip(challenger, baseline, strict=True)]
    test = PairedTest(alpha=0.2)
    test.update(challenger, baseline)
    variance = sum((d[i] - (sum(d[:i]) / i if i else 0)) ** 2 for i in range(len(d)))
    radius, mean = boundary(variance, 0.1) / len(d), sum(d) / len(d)
    assert test.interval == pytest.approx((mean - radius, mean + radius), rel=1e-12)
    assert test.bounds(0.1) == test.interval
    assert test.bounds(0.01)[0] < test.interval[0] < mean < test.interval[1] < test.bounds(0.01)[1]


def test_the_interval_stays_within_what_a_difference_can_be() -> None:
    test = PairedTest()
    assert test.interval == (-1, 1)
    assert test.verdict == "open"
    assert math.isnan(test.mean_difference)
    test.update(True, False)
    assert test.interval == (-1, 1)
    assert test.samples == 1


def test_log_e_is_the_beta_binomial_ratio_of_the_discordant_pairs() -> None:
    test = PairedTest()
    assert test.log_e == pytest.approx(0)
    test.update([1, 1, 1, 0, 1, 0], [0, 0, 1, 1, 0, 0])  # 3 wins, 1 loss
    # 2^4 B(3.5, 1.5) / B(.5, .5) by hand: 16 * (2.5 * 1.5 * .5 * .5 / 4!) = 0.625
    assert test.log_e == pytest.approx(math.log(0.625))
    test.update([True] * 40, [False] * 40)
    assert test.log_e == pytest.approx(44 * math.log(2) + betaln(43.5, 1.5) - betaln(0.5, 0.5))


def test_means_over_seeds_have_no_log_e() -> None:
    test = PairedTest()
    test.update([1, 0.5], [0, 1])
    assert test.log_e is None
    assert test.mean_difference == 0.25
    test.update([True], [False])
    assert test.log_e is None


@given(st.lists(st.integers(0, 300), max_size=12), st.sampled_from([1, 3]))
def test_state_does_not_depend_on_how_samples_are_cut(cuts: list[int], seeds: int) -> None:
    sides = RNG(1).integers(0, seeds + 1, (2, 300)) / seeds
    whole, pieces = PairedTest(), PairedTest()
    whole.update(*sides)
    for piece in np.split(sides, sorted(cuts), axis=1):
        pieces.update(*piece)
    assert same_state(whole.state_dict(), pieces.state_dict())


def test_many_candidates_are_many_pairs() -> None:
    outcomes = RNG(2).random((5, 400)) < 0.6
    sums = PairedSums(3, 2)
    sums.update(outcomes[:3].astype(float), outcomes[3:].astype(float))
    lower, upper = sums.bounds(0.01)
    for i in range(3):
        for j in range(2):
            single = PairedTest()
            single.update(outcomes[i], outcomes[3 + j])
            assert (lower[i, j], upper[i, j]) == pytest.approx(single.bounds(0.01), rel=1e-12)
            assert sums.log_e(i, j) == single.log_e


def test_memory_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = RNG(3).random((2, 1000)).round(2)
    whole, blocks = PairedTest(), PairedTest()
    whole.update(*outcomes)
    monkeypatch.setattr("streamil.evaluation.paired_test.BLOCK", 7)
    blocks.update(*outcomes)
    assert same_state(whole.state_dict(), blocks.state_dict())


def test_a_restored_test_goes_on_as_if_nothing_had_happened() -> None:
    outcomes = RNG(4).random((2, 200)) < 0.5
    test, restored = PairedTest(), PairedTest()
    test.update(*outcomes[:, :77])
    saved = test.state_dict()
    restored.load_state_dict(saved)
    for one in (test, restored):
        one.update(*outcomes[:, 77:])
    assert same_state(test.state_dict(), restored.state_dict())
    assert test.interval == restored.interval
    assert saved["samples"] == 77
    assert not same_state(saved, test.state_dict())  # a copy, not a view


@pytest.mark.parametrize("alpha", [0, 1, -0.1, math.nan])
def test_alpha_out_of_range_is_an_error(alpha: float) -> None:
    with pytest.raises(EvaluationError, match="alpha is"):
        PairedTest(alpha)


@pytest.mark.parametrize(("challenger", "baseline"), [([1.5], [0]), ([math.nan], [0]), ([1, 0], [1]), ([[1, 0]], [1])])
def test_outcomes_that_fit_nothing_change_nothing(challenger: list[float], baseline: list[float]) -> None:
    test = PairedTest()
    with pytest.raises(EvaluationError, match="_correct is"):
        test.update(challenger, baseline)
    assert test.samples == 0


def test_a_state_that_does_not_fit_names_the_entry() -> None:
    state = PairedTest().state_dict()
    with pytest.raises(EvaluationError, match="'variance'"):
        PairedTest().load_state_dict({**state, "variance": np.zeros((2, 1))})
    with pytest.raises(EvaluationError, match=r"'wins'.*missing"):
        PairedTest().load_state_dict({key: value for key, value in state.items() if key != "wins"})
