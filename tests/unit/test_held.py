"""Samples held of each segment, and what arms forget of them in a real race."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamil.evaluation import Forgetting
from streamil.experiment import Experiment
from streamil.held import Held
from streamil.race import Race
from streamil.results import summary
from streamil.samples import Batch, Records


def batch(ordinals: np.ndarray, segment: np.ndarray) -> Batch:
    return Batch(ordinals[:, None].astype(np.float32), ordinals % 3, ordinals, segment)


@given(st.lists(st.integers(0, 300), max_size=6))
def test_what_is_held_does_not_depend_on_cuts(cuts: list[int]) -> None:
    ordinals, segment = np.arange(300), np.arange(300) // 100
    whole, cut = Held(7), Held(7)
    whole.offer(batch(ordinals, segment))
    for rows in np.split(ordinals, sorted(cuts)):
        cut.offer(batch(rows, segment[rows]))
    assert whole.rows.x.tolist() == cut.rows.x.tolist()
    assert whole.rows.segment.tolist() == [0] * 7 + [1] * 7 + [2] * 7
    assert (whole.rows.x[:, 0] // 100 == whole.rows.segment).all() and (whole.rows.y == whole.rows.x[:, 0] % 3).all()


def test_the_choice_is_uniform_over_the_segment() -> None:
    """Which tenth of a segment the held samples come from: chi-square with 9 degrees of freedom, 99.9 % at 27.9."""
    held = Held(1000)
    held.offer(batch(np.arange(20_000), np.zeros(20_000, np.int64)))
    counts = np.bincount(held.rows.x[:, 0].astype(int) // 2000, minlength=10)
    assert counts.sum() == 1000 and ((counts - 100) ** 2 / 100).sum() < 27.9


def test_the_first_segments_are_kept_and_nothing_where_nobody_asks() -> None:
    held, none = Held(2, segments=3), Held(0)
    for one in (held, none):
        one.offer(batch(np.arange(50), np.arange(50) // 10))
    assert held.segments == [0, 1, 2] and none.segments == [] and len(none.rows) == 0


def test_a_damaged_state_is_refused() -> None:
    held = Held(3)
    held.offer(batch(np.arange(50), np.arange(50) // 25))
    state = held.state_dict()
    other = Held(3)
    other.load_state_dict(state, 1)
    assert other.rows.x.tolist() == held.rows.x.tolist()
    for wrong in ({"y": state["y"] - 5}, {"x": state["x"] * np.nan}, {"x": state["x"][:2]}, {"segment": np.zeros(6, np.int64)}):
        with pytest.raises(ValueError, match=r"held|'x'"):
            Held(3).load_state_dict(state | wrong, 1)


def test_forgotten_is_the_best_look_less_the_present_one() -> None:
    forgetting = Forgetting(2)
    forgetting.look(np.array([0]), np.array([[0.9, 0.5]]))
    forgetting.look(np.array([0, 1]), np.array([[0.7, 0.6], [0.8, 0.8]]))
    lost = forgetting.forgotten(np.array([0, 1, 2]), np.array([[0.4, 0.7], [0.8, 0.1], [0.5, 0.5]]))
    assert lost.round(6).tolist() == [[0.5, 0.0], [0.0, 0.7], [0.0, 0.0]]


def test_a_race_tells_what_is_forgotten_when_the_labels_are_swapped() -> None:
    """Swapped labels: who follows the second segment forgets the first, by about all that it had beyond chance."""
    luck = np.random.default_rng(0)
    x = luck.normal(size=(3000, 4)).astype(np.float32)
    segment = np.arange(3000) // 1500
    sign = (x.sum(axis=1) > 0) ^ (segment == 1)
    race = Race(Experiment.model_validate({
        "stream": {"source": {"kind": "elec"}}, "network": {"hidden": [16]}, "arms": {
            "fast": {"algorithm": "il-kfac"}, "slow": {"algorithm": "bp-sgd", "learning_rate": 1e-6}}}))
    race.feed(Records(y=["a" if one else "b" for one in sign.tolist()], x=x, segment=segment), np.arange(3000))
    found = summary(race)["arms"]
    fast, slow = (found[name]["members"][0]["forgetting"] for name in ("fast", "slow"))
    assert fast > 0.8 and abs(slow) < 0.1
    assert [one["segment"] for one in found["fast"]["forgetting"]] == [0, 1]
    rows = race.held.rows
    first = rows.segment == 0
    said = race.arms["fast"].population.predict(rows.x[first])[0].argmax(-1).numpy()
    assert found["fast"]["forgetting"][0]["accuracy"] == [np.mean(said == rows.y[first])]


def test_one_segment_has_nothing_to_forget() -> None:
    race = Race(Experiment.model_validate({
        "stream": {"source": {"kind": "elec"}}, "network": {"hidden": [4]}, "arms": {"bp": {"algorithm": "bp-sgd"}}}))
    race.feed(Records(y=["a", "b"] * 50, x=np.eye(100, 3)), np.arange(100))
    assert summary(race)["arms"]["bp"]["forgetting"] == [] and summary(race)["arms"]["bp"]["members"][0]["forgetting"] is None
