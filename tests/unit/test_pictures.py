"""What charts show: bounded, exact at the ends, strict JSON; and the answer in words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from streamil.experiment import Experiment
from streamil.pictures import MARKS_LIMIT, NUMBERS_LIMIT, pictures
from streamil.race import Race
from streamil.report.answer import answer


def race(arms: int = 1, *, sizes: tuple[int, ...] = (1,), samples: int = 0, segments: int = 1, **more: object) -> Race:
    """A race whose outcomes are simulated: right half the time, more often with each arm."""
    found = Race(Experiment.model_validate({
        "stream": {"source": {"kind": "elec"}}, "network": {"hidden": [2]}, "arms": {
            f"{kind}{n}": {"algorithm": rule, "batch_size": list(sizes), "seeds": 2}
            for n in range(arms) for kind, rule in (("il", "il-prox"), ("bp", "bp-sgd"))}, **more}))
    luck = np.random.default_rng(0)
    for first in range(0, samples, 500):
        count = min(500, samples - first)
        y, segment = luck.integers(0, 2, count), np.arange(first, first + count) * segments // samples
        for place, (name, arm) in enumerate(found.arms.items()):
            said = np.where(luck.random((2, count)) < 0.5 + 0.1 * place, y, 1 - y)
            found.comparisons.tell(name, arm.score(said, y, np.ones((2, count)), segment), segment, first)
    return found


def strict(value: object) -> str:
    return json.dumps(value, allow_nan=False)


def test_curves_end_exactly_where_the_race_stands() -> None:
    running = race(samples=7777, segments=5)
    shown = json.loads(strict(pictures(running, points=50)))
    for one in shown["arms"]:
        figures = running.arms[one["arm"]].figures
        assert one["samples"][-1] == 7777 and len(one["samples"]) <= 50
        assert one["best"][-1] == round(float(figures.windowed[figures.correct.argmax()]), 5)
        assert one["low"][-1] <= one["best"][-1] <= one["high"][-1]
        first = running.arms[one["arm"]].curve.points()[0][0]
        assert one["samples"][0] == first
    compared = shown["comparisons"][0]
    found = next(iter(running.comparisons.values())).summary()
    assert [compared[name][-1] for name in ("mean", "lower", "upper")] == [round(found[name], 5) for name in ("mean_difference", "lower", "upper")]
    assert [segment for _, segment in shown["marks"]] == [1, 2, 3, 4] and shown["marks"][0][0] == 1556


def test_a_change_of_verdict_is_not_thinned_away() -> None:
    running = race(samples=4000)
    comparison = next(iter(running.comparisons.values()))
    samples, bounds = comparison.timeline()
    changed = int(samples[np.flatnonzero(bounds[:, 2] < 0)[0]])  # the baseline is made the better one
    runs = pictures(running, points=3)["comparisons"][0]["verdicts"]
    assert runs[0][1] == "open" and [changed, "baseline leads"] in runs


def test_many_arms_stay_within_the_bound() -> None:
    running = race(25, sizes=(1, 2), samples=3000)
    shown = pictures(running)
    assert len(shown["comparisons"]) == 40 and shown["comparisons_left_out"] == 2 * 25 * 25 - 40
    numbers = sum(len(one[name]) for one in shown["arms"] for name in ("samples", "best", "low", "high"))
    numbers += sum(len(one[name]) for one in shown["comparisons"] for name in ("samples", "mean", "lower", "upper"))
    assert numbers <= NUMBERS_LIMIT and len(strict(shown)) < 300_000


def test_too_many_marks_are_the_newest() -> None:
    shown = pictures(race(samples=5000, segments=150))
    assert len(shown["marks"]) == MARKS_LIMIT and shown["marks"][-1][1] == 149


@pytest.mark.parametrize("more", [{}, {"comparisons": []}])
def test_nothing_yet_is_drawn_as_nothing(more: dict[str, object]) -> None:
    empty = race(**more)
    shown = pictures(empty)
    assert json.loads(strict(shown)) == shown
    assert all(one["samples"] == [] for one in shown["arms"]) and shown["marks"] == []


def test_a_control_is_marked_and_states_nothing() -> None:
    running = race(samples=600, verdict={"controls": ["il0@1"]}, sizes=(1, 8))
    shown = pictures(running)
    assert [one["arm"] for one in shown["arms"] if one["control"]] == ["il0@1 (control)"]
    assert [(one["challenger"], one["baseline"]) for one in shown["comparisons"] if one["control"]] == [("il0@1", "il0@1 (control)")]
    assert running.comparisons["il0@1", "bp0@1"].alpha == 0.025  # two comparisons; the control takes no share


def row(challenger: str, baseline: str, verdict: str, mean: float | None, lower: float | None = None, upper: float | None = None) -> dict:
    return {"challenger": challenger, "baseline": baseline, "verdict": verdict, "mean_difference": mean, "lower": lower, "upper": upper, "samples": 100}


SIZES = {"il": 1, "prox": 1, "bp": 1, "kfac": 1, "il@8": 8, "bp@8": 8}


@pytest.mark.parametrize(("rows", "says"), [
    ([], "Nothing is compared."),
    ([row("il", "bp", "open", None)], "Mini-batches of 1: no samples yet."),
    ([row("il", "bp", "challenger leads", 0.03, 0.01, 0.05)], "Mini-batches of 1: il leads bp, by 3.00 points [+1.00, +5.00] over 100 samples."),
    ([row("il", "bp", "challenger leads", 0.03, 0.01, 0.05), row("il", "kfac", "challenger leads", 0.02, 0.001, 0.05)],
     "Mini-batches of 1: il leads all 2 opponents, the nearest of them kfac, by 2.00 points [+0.10, +5.00] over 100 samples."),
    ([row("il", "bp", "challenger leads", 0.03, 0.01, 0.05), row("il", "kfac", "open", 0.01, -0.01, 0.03), row("prox", "bp", "open", 0, -0.1, 0.1)],
     "Mini-batches of 1: il leads 1 of 2 opponents (bp); against kfac, the strongest of them, il is open: +1.00 points [-1.00, +3.00] over 100 samples."),
    ([row("il", "bp", "baseline leads", -0.03, -0.05, -0.01)],
     "Mini-batches of 1: bp leads il; against bp, the strongest of them, il is behind: -3.00 points [-5.00, -1.00] over 100 samples."),
    ([row("il@8", "bp", "open", 0, -0.1, 0.1)], "Mini-batches of 8 against 1: no lead so far; against bp, the strongest of them, il@8 is open: +0.00 points [-10.00, +10.00] over 100 samples."),
])
def test_the_answer_names_the_nearest_opponent(rows: list[dict], says: str) -> None:
    assert answer(rows, SIZES) == [says]


def test_each_size_and_each_control_has_a_sentence() -> None:
    rows = [row("il", "bp", "open", 0, -1, 1), row("il@8", "bp@8", "open", 0, -1, 1)]
    said = answer(rows, SIZES, [row("il", "il (control)", "open", 0, -1, 1), row("il@8", "il@8 (control)", "challenger leads", 0.02, 0.01, 0.03)])
    assert [line.split(":")[0] for line in said] == ["Mini-batches of 1", "Mini-batches of 8", "A/A control of il", "A/A control of il@8"]
    assert said[-1].endswith("a lead of that size may be a matter of seeds.")
