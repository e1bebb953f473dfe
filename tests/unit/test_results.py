"""What a race leaves: speed and drift of a real race, against what its curves and its stream say."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from streamil.direct import run
from streamil.evaluation import Curve, Prequential
from streamil.experiment import Experiment
from streamil.race import Race
from streamil.report.lines import verdict
from streamil.results import speedup, summary
from streamil.samples import Records


def experiment(**more: Any) -> Experiment:
    return Experiment.model_validate({
        "stream": {"source": {"kind": "elec"}, "limit": 1500, **more.pop("stream", {})}, "network": {"hidden": [16]}, "service": {"device": "cpu"},
        "arms": {"il": {"algorithm": "il-kfac", "seeds": 2}, "bp": {"algorithm": "bp-sgd", "learning_rate": [0.001, 0.01]}},
        "evaluation": {"window": 100, "thresholds": [0.5, 0.7, 1.0]}, **more})


def raced(race: Race, count: int) -> Race:
    luck = np.random.default_rng(3)
    x = luck.normal(size=(count, 4)).astype(np.float32)
    race.feed(Records(y=["a" if one > 0 else "b" for one in x.sum(axis=1).tolist()], x=x), np.arange(count))
    return race


def test_speedup_is_read_from_the_curves_with_seeds_averaged() -> None:
    race = raced(Race(experiment()), 800)
    il, bp = race.arms["il"], race.arms["bp"]
    for candidate in (0, 1):
        now = bp.figures.windowed[candidate]
        samples, windowed, _ = il.curve.points(il.figures)
        first = next((int(n) for n, both in zip(samples, windowed, strict=True) if n >= 100 and both.mean() >= now), None)
        assert first is not None and speedup(il, bp, [0, candidate]) == 800 / first
    found = summary(race)["comparisons"][0]
    assert found["speedup"] == speedup(il, bp, found["pair"]) > 1 and found["since_segment"]["samples"] == 800


def test_speedup_is_none_before_a_full_window_and_for_who_has_not_been_there() -> None:
    short = raced(Race(experiment()), 99)
    assert summary(short)["comparisons"][0]["speedup"] is None
    race = raced(Race(experiment()), 800)
    il, bp = race.arms["il"], race.arms["bp"]
    assert bp.figures.windowed[0] < il.figures.windowed.mean() and speedup(bp, il, [0, 0]) is None
    assert speedup(il, bp, None) is None


def test_a_window_that_is_not_full_is_no_place_to_have_been() -> None:
    """Right on the first 60 samples, wrong on the next 60, then right: at 60 of 100 the window says 1."""
    def arm(correct: np.ndarray) -> Any:
        figures, curve = Prequential(1, window=100), Curve(1, 5000)
        curve.follow(figures, np.where(correct, 0, 1)[None], np.zeros(len(correct), np.int64), np.zeros((1, len(correct))))
        return SimpleNamespace(plan=SimpleNamespace(candidates=((0,),)), figures=figures, curve=curve)

    challenger, baseline = arm(np.r_[np.ones(60, bool), np.zeros(60, bool), np.ones(380, bool)]), arm(np.ones(500, bool))
    assert speedup(challenger, baseline, [0, 0]) == 500 / 220


def test_figures_of_an_empty_race_are_null_not_nan() -> None:
    found = summary(Race(experiment()))
    json.dumps(found, allow_nan=False)
    member = found["arms"]["il"]["members"][0]
    assert member["area_under_curve"] is None and member["kappa"] is None and member["samples_to"] == {"0.5": None, "0.7": None, "1": None}
    assert member["recall"] == {} and found["arms"]["il"]["drift"] == {"notices": 0, "false_alarms": 0, "changes": []}
    assert found["comparisons"][0]["speedup"] is None and found["comparisons"][0]["verdict"] == "open"


def test_changes_stand_where_the_regime_made_them() -> None:
    regime = {"kind": "drift", "what": "labels", "how": "abrupt", "every": 500}
    found = run(experiment(stream={"regimes": [regime]}))
    for arm in found["arms"].values():
        assert [(one["at"], one["segment"]) for one in arm["drift"]["changes"]] == [(500, 1), (1000, 2)]
    drift = found["arms"]["bp"]["drift"]
    first = drift["changes"][0]
    assert first["delay"] is not None and 0 < first["delay"] <= 500 and len(first["recovered"]) == 2
    assert drift["false_alarms"] == drift["notices"] - sum(one["delay"] is not None for one in drift["changes"])
    assert set(found["arms"]["il"]["members"][0]["recall"]) == {"0", "1"}


@pytest.mark.parametrize(("given", "ends"), [
    (2.44, "[+1.00, +3.00] over 500 samples; had the baseline's present accuracy 2.4 times sooner"), (1.0, "over 500 samples"), (None, "over 500 samples")])
def test_a_verdict_says_how_much_sooner(given: float | None, ends: str) -> None:
    line = verdict({"verdict": "challenger leads", "mean_difference": 0.02, "lower": 0.01, "upper": 0.03, "samples": 500, "speedup": given})
    assert line.startswith("challenger leads, +2.00 points ") and line.endswith(ends)
    level = verdict({"verdict": "open", "mean_difference": 0.02, "lower": -0.01, "upper": 0.03, "samples": 500, "speedup": given})
    assert level.endswith("over 500 samples"), "of two that are level the one that was there sooner was there by chance"
