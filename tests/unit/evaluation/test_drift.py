"""Notices against true changes, and recovery, against the definition written out sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamil.errors import EvaluationError
from streamil.evaluation import Drift, Prequential
from streamil.evaluation.adwin import Adwin


def followed(correct: np.ndarray, segment: np.ndarray, window: int = 1000, cuts: tuple[int, ...] = ()) -> Drift:
    drift, scores = Drift(len(correct)), Prequential(len(correct), window=window)
    for part, stamps in zip(np.split(correct, cuts, axis=1), np.split(segment, cuts), strict=True):
        drift.follow(scores, part, stamps)
        y = np.zeros(part.shape[1], np.int64)
        scores.update(np.where(part, 0, 1), y, np.zeros(part.shape))
        again = Drift(len(correct))
        again.load_state_dict(drift.state_dict())
        drift = again
    return drift


def by_hand(correct: np.ndarray, segment: np.ndarray, window: int) -> list[dict[str, object]]:
    noticed = Adwin().update(1 - correct.mean(axis=0))
    starts = [t for t in range(1, len(segment)) if segment[t] != segment[t - 1]]
    found = []
    for start, end in zip(starts, [*starts[1:], len(segment)], strict=True):
        before = [row[max(0, start - window):start].mean() for row in correct]
        inside = [place - start for place in noticed if start < place <= end]
        recovered = [next((t - start for t in range(start + 200, end + 1) if row[t - 200:t].sum() >= 0.95 * 200 * level), None)
                     for row, level in zip(correct, before, strict=True)]
        found.append({"segment": segment[start], "at": start, "delay": inside[0] if inside else None,
                      "before": pytest.approx(before), "recovered": recovered})
    return found


def falling(seed: int, members: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy that falls at each change of segment and comes back at each member's own pace."""
    luck = np.random.default_rng(seed)
    lengths = luck.integers(150, 900, 5)
    since = np.concatenate([np.arange(length) for length in lengths])
    level = 0.9 - 0.6 * np.exp(-since / luck.uniform(50, 400, (members, 1)))
    return luck.random(level.shape) < level, np.repeat(np.arange(5) * 3, lengths)


@given(st.integers(0, 2**32 - 1), st.sampled_from([5, 300, 1000]))
def test_equals_the_definition_however_samples_are_cut(seed: int, window: int) -> None:
    correct, segment = falling(seed)
    cuts = tuple(sorted(np.random.default_rng(seed).integers(0, len(segment), 5).tolist()))
    drift, whole = followed(correct, segment, window, cuts), followed(correct, segment, window)
    assert drift.changes() == by_hand(correct, segment, window) and drift.changes() == whole.changes()
    noticed = Adwin().update(1 - correct.mean(axis=0))
    answered = sum(change["delay"] is not None for change in drift.changes())
    assert drift.notices == len(noticed) and drift.false_alarms == drift.notices - answered


def test_a_notice_without_a_change_is_a_false_alarm() -> None:
    correct = np.array([[True] * 600 + [False] * 600])
    drift = followed(correct, np.zeros(1200, np.int64))
    assert drift.notices >= 1 and drift.false_alarms == drift.notices and drift.changes() == []


def test_a_member_that_does_not_recover_says_so() -> None:
    correct = np.array([[True] * 1000, [True] * 500 + [False] * 500])
    (change,) = followed(correct, np.repeat([0, 7], 500)).changes()
    assert change["recovered"] == [200, None] and change["segment"] == 7 and change["delay"] is not None


def test_many_changes_are_bounded() -> None:
    correct = np.ones((1, 3000), bool)
    changes = followed(correct, np.arange(3000) // 10).changes()
    assert len(changes) == 200 and changes[-1]["at"] == 2990 and changes[-1]["recovered"] == [None]


def test_wrong_arguments_and_states_are_told() -> None:
    drift, scores = Drift(2), Prequential(2)
    for call in (lambda: Drift(0), lambda: drift.follow(scores, np.ones((1, 3), bool), np.zeros(3, np.int64)),
                 lambda: drift.load_state_dict({}), lambda: drift.load_state_dict(drift.state_dict() | {"tail": np.zeros((2, 900), bool)}),
                 lambda: drift.load_state_dict(drift.state_dict() | {"before": np.zeros((1, 2))})):
        with pytest.raises(EvaluationError):
            call()
