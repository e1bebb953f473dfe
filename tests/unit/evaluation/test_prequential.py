"""Prequential metrics against river's and against cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import metrics

from streamil.errors import EvaluationError
from streamil.evaluation import Prequential

MEMBERS, SAMPLES, CLASSES = 3, 500, 4
RNG = np.random.default_rng


def outcomes(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels that drift through the classes, predictions that are right more often than not, losses."""
    luck = RNG(seed)
    y = (np.arange(SAMPLES) // 130 + luck.integers(0, 2, SAMPLES)) % CLASSES
    wrong = luck.random((MEMBERS, SAMPLES)) < np.array([[0.1], [0.4], [0.7]])
    predicted = np.where(wrong, luck.integers(-1, CLASSES, (MEMBERS, SAMPLES)), y)
    return predicted, y, luck.exponential(size=(MEMBERS, SAMPLES))


def scored(predicted: list[list[int]], y: list[int], **options: float) -> Prequential:
    scores = Prequential(len(predicted), **options)
    scores.update(np.array(predicted), np.array(y), np.zeros((len(predicted), len(y))))
    return scores


def test_equals_river_after_every_chunk() -> None:
    predicted, y, _ = outcomes()
    probability = RNG(5).uniform(0.05, 0.95, (MEMBERS, SAMPLES))
    scores = Prequential(MEMBERS)
    theirs = [(metrics.Accuracy(), metrics.CohenKappa(), metrics.MacroF1(), metrics.CrossEntropy())
              for _ in range(MEMBERS)]
    for rows in np.split(np.arange(SAMPLES), [1, 2, 40, 333]):
        scores.update(predicted[:, rows], y[rows], -np.log(probability[:, rows]))
        for member, (accuracy, kappa, macro_f1, cross_entropy) in enumerate(theirs):
            for row in rows.tolist():
                label = int(y[row])
                for metric in (accuracy, kappa, macro_f1):
                    metric.update(label, int(predicted[member, row]))
                cross_entropy.update(label, {label: float(probability[member, row])})
            assert scores.cumulative[member] == pytest.approx(accuracy.get())
            assert scores.log_loss[member] == pytest.approx(cross_entropy.get())
            if scores.samples > 2:  # river calls undefined scores 0
                assert scores.kappa[member] == pytest.approx(kappa.get())
                known = metrics.MacroF1().cm  # river counts "no prediction" as a class of its own, with an F1 of 0
                assert known is not None
                classes = len(macro_f1.cm.classes)
                without = classes - (-1 in macro_f1.cm.classes)
                assert scores.macro_f1[member] == pytest.approx(macro_f1.get() * classes / without)


def test_recall_equals_rivers_by_class() -> None:
    predicted, y, loss = outcomes()
    scores = Prequential(MEMBERS)
    scores.update(predicted, y, loss)
    for member in range(MEMBERS):
        for label in range(CLASSES):
            theirs = metrics.Recall()
            for truth, said in zip(y.tolist(), predicted[member].tolist(), strict=True):
                theirs.update(truth == label, said == label)
            assert scores.recall[member, label] == pytest.approx(theirs.get())
    assert np.isnan(scored([[1]], [0]).recall[0, 1]), "a class that was no label has none"


def test_kappa_by_hand() -> None:
    # 6 samples, p = 4/6; labels 0 x 4, 1 x 2; predictions 0 x 4, 1 x 2: p_e = (4 x 4 + 2 x 2) / 36 = 20/36
    assert scored([[0, 0, 0, 1, 1, 0]], [0, 0, 0, 0, 1, 1]).kappa[0] == pytest.approx((24 - 20) / (36 - 20))


def test_kappa_temporal_is_against_repeating_the_label_before() -> None:
    # no-change: wrong (nothing before), right, wrong, right, right: p' = 3/5; member 0 has p = 4/5, member 1 p = 3/5
    scores = scored([[0, 0, 1, 1, 0], [0, 0, 0, 1, 0]], [0, 0, 1, 1, 1])
    assert scores.kappa_temporal.tolist() == pytest.approx([(4 - 3) / (5 - 3), 0])


def test_kappa_majority_is_against_the_most_frequent_label_before() -> None:
    # majority before each sample: none, 1, 1, 1 (0 only draws level), 0: right at the 4th and not at 5th; p' = 1/6
    y = [1, 0, 0, 0, 1, 1]  # majority before: -, 1, 1, 0, 0, 0
    assert scored([[1, 0, 0, 0, 0, 0]], y).kappa_majority[0] == pytest.approx((4 - 1) / (6 - 1))


def test_a_draw_keeps_the_majority_that_was_there_first() -> None:
    assert scored([[0, 0, 0]], [1, 0, 1]).kappa_majority[0] == pytest.approx((1 - 1) / (3 - 1))


def test_windowed_is_over_the_last_samples_only() -> None:
    scores = scored([[0, 0, 0, 1, 1, 1, 0]], [0] * 7, window=4)
    assert scores.windowed[0] == 1 / 4
    assert scores.cumulative[0] == 4 / 7
    assert scored([[0, 1]], [0, 0], window=4).windowed[0] == 1 / 2


def test_a_call_longer_than_the_window_keeps_its_end() -> None:
    predicted, y, loss = outcomes()
    scores = Prequential(MEMBERS, window=64)
    scores.update(predicted, y, loss)
    assert scores.windowed.tolist() == (predicted == y)[:, -64:].mean(1).tolist()


def test_fading_weighs_by_sample() -> None:
    # S: 1, .5 + 0, .25 + 1 = 1.25; N: 1, 1.5, 1.75
    assert scored([[0, 1, 0]], [0, 0, 0], fading=0.5).fading[0] == 1.25 / 1.75


def test_fading_is_the_recursion_over_many_samples_and_never_above_one() -> None:
    predicted, y, loss = outcomes()
    predicted[0] = y
    scores = Prequential(MEMBERS, fading=0.9)
    scores.update(predicted, y, loss)
    total, weight = np.zeros(MEMBERS), 0.0
    for correct in (predicted == y).T:
        total, weight = 0.9 * total + correct, 0.9 * weight + 1
    assert scores.fading == pytest.approx(total / weight, rel=1e-12)
    assert scores.fading[0] == 1


def test_undefined_scores_are_nan() -> None:
    empty = Prequential(2)
    for score in ("cumulative", "windowed", "fading", "log_loss", "kappa", "kappa_temporal", "kappa_majority",
                  "macro_f1"):
        assert np.isnan(getattr(empty, score)).all()
    assert np.isnan(scored([[0, 0]], [0, 0]).kappa).all()  # one class, always right: chance agrees as well


def test_no_prediction_is_wrong_and_no_class() -> None:
    scores = scored([[-1, 0, -1]], [0, 0, 1])
    assert scores.correct.tolist() == [1]
    assert scores.kappa[0] == pytest.approx((3 * 1 - 2 * 1) / (9 - 2))
    assert scores.macro_f1[0] == pytest.approx((2 / 3 + 0) / 2)


def test_a_class_only_a_member_speaks_of_counts_too() -> None:
    scores = scored([[5, 0], [0, 0]], [0, 0])
    assert scores.macro_f1.tolist() == pytest.approx([(2 / 3 + 0) / 2, 1])


@given(st.lists(st.integers(0, SAMPLES), max_size=12))
def test_state_does_not_depend_on_how_samples_are_cut(cuts: list[int]) -> None:
    predicted, y, loss = outcomes(1)
    whole, pieces = Prequential(MEMBERS, window=100), Prequential(MEMBERS, window=100)
    whole.update(predicted, y, loss)
    for rows in np.split(np.arange(SAMPLES), sorted(cuts)):
        pieces.update(predicted[:, rows], y[rows], loss[:, rows])
    one, other = whole.state_dict(), pieces.state_dict()
    assert all(np.array_equal(one[key], other[key]) for key in one)


def test_members_do_not_touch_each_other() -> None:
    predicted, y, loss = outcomes(2)
    together = Prequential(MEMBERS)
    together.update(predicted, y, loss)
    for member in range(MEMBERS):
        alone = Prequential(1)
        alone.update(predicted[[member]], y, loss[[member]])
        for score in ("windowed", "fading", "log_loss", "kappa", "kappa_temporal", "kappa_majority"):
            assert getattr(alone, score)[0] == getattr(together, score)[member], score


def test_restored_scores_go_on_as_if_nothing_had_happened() -> None:
    predicted, y, loss = outcomes(3)
    scores, restored = Prequential(MEMBERS, window=50), Prequential(MEMBERS, window=50)
    scores.update(predicted[:, :120], y[:120], loss[:, :120])  # some classes not met yet
    saved = scores.state_dict()
    restored.load_state_dict(saved)
    for one in (scores, restored):
        one.update(predicted[:, 120:], y[120:], loss[:, 120:])
    one, other = scores.state_dict(), restored.state_dict()
    assert all(np.array_equal(one[key], other[key]) for key in one)
    assert saved["samples"] == 120
    assert saved["correct"].tolist() == (predicted == y)[:, :120].sum(1).tolist()  # a copy, not a view


def test_a_state_of_another_window_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="'recent'"):
        Prequential(1, window=10).load_state_dict(Prequential(1, window=20).state_dict())


@pytest.mark.parametrize(("options", "name"), [
    ({"members": 0}, "members"), ({"members": 1, "window": 0}, "window"), ({"members": 1, "fading": 0.4}, "fading"),
    ({"members": 1, "fading": 1.1}, "fading"), ({"members": 1, "fading": math.nan}, "fading")])
def test_arguments_out_of_range_are_named(options: dict[str, float], name: str) -> None:
    with pytest.raises(EvaluationError, match=f"{name} is"):
        Prequential(**options)


def test_outcomes_that_do_not_fit_change_nothing() -> None:
    scores = Prequential(2)
    fits = np.zeros((2, 3), np.int64), np.zeros(3, np.int64), np.zeros((2, 3))
    for place, wrong in ((0, np.zeros((1, 3), np.int64)), (1, np.array([0, -1, 0])), (2, np.zeros(3))):
        with pytest.raises(EvaluationError):
            scores.update(*fits[:place], wrong, *fits[place + 1 :])
    assert scores.samples == 0
    assert not scores.state_dict()["recent"].any()
