"""What the charts of a race show, as plain data of bounded size: the live page and the report draw the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.evaluation import decide
from streamil.race import Race
from streamil.racing_arm import RacingArm

NUMBERS_LIMIT = 24_000
"""Numbers of all curves together, about 200 kB as JSON; more curves get fewer points each."""
POINTS_LIMIT = 300
POINTS_LEAST = 20
COMPARISONS_LIMIT = 40
"""Comparisons whose course is drawn; tables have all of them."""
MARKS_LIMIT = 100


def pictures(race: Race, *, points: int = POINTS_LIMIT) -> dict[str, Any]:
    """Return curves of all arms, the course of the comparisons and the changes of segment: strict JSON.

    Curves are thinned to at most so many `points`, their first and last ones exact. An arm's curve is the windowed
    accuracy of its best member, between those of its lowest and highest; the best is chosen after the fact.
    """
    shown = list(race.comparisons.items())[:COMPARISONS_LIMIT]
    each = min(points, max(POINTS_LEAST, NUMBERS_LIMIT // (4 * (len(race.arms) + len(shown)))))
    return {
        "window": race.experiment.evaluation.window,
        "arms": [_arm(arm, each) for arm in race.arms.values()],
        "comparisons": [
            _course(pair, comparison.timeline(), each, race.comparisons.since[pair], pair in race.comparisons.controls)
            for pair, comparison in shown],
        "comparisons_left_out": len(race.comparisons) - len(shown),
        "marks": _marks(race),
    }


def _arm(arm: RacingArm, points: int) -> dict[str, Any]:
    samples, windowed, _ = arm.curve.points(arm.figures)
    rows = _thin(len(samples), points)
    samples, windowed = samples[rows], windowed[rows]
    best = int(np.argmax(arm.figures.correct))
    band = windowed if windowed.shape[1] > 1 else windowed[:, :0]
    return {
        "arm": arm.plan.name, "family": arm.plan.family, "batch_size": arm.plan.batch_size,
        "members": len(arm.plan.members), "control": arm.plan.control_of is not None,
        "samples": (samples + arm.since).tolist(), "best": _rounded(windowed[:, best]),
        "low": _rounded(band.min(axis=1)) if band.size else [],
        "high": _rounded(band.max(axis=1)) if band.size else [],
    }


def _course(pair: tuple[str, str], timeline: tuple[NDArray[np.int64], NDArray[np.float64]], points: int, since: int,
            control: bool) -> dict[str, Any]:
    samples, bounds = timeline
    verdicts = [decide(lower, upper) for _, lower, upper in bounds.tolist()]
    runs = [place for place in range(len(verdicts)) if not place or verdicts[place] != verdicts[place - 1]]
    rows = _thin(len(samples), points)
    return {
        "challenger": pair[0], "baseline": pair[1], "control": control,
        "samples": (samples[rows] + since).tolist(),
        **{name: _rounded(bounds[rows, column]) for column, name in enumerate(("mean", "lower", "upper"))},
        # of all points: a change of verdict is never thinned away, unless there are too many
        "verdicts": [[int(samples[place]) + since, verdicts[place]] for place in runs[-points:]],
    }


def _marks(race: Race) -> list[list[int]]:
    """Return [labelled samples, segment] of the newest changes of segment, as an arm that was there met them."""
    arm = max(race.arms.values(), key=lambda one: one.position)
    return [[change["at"] + arm.since, change["segment"]] for change in arm.drift.changes()[-MARKS_LIMIT:]]


def _thin(count: int, points: int) -> NDArray[np.int64]:
    """Return which of `count` points to show, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, points)).round().astype(np.int64))


def _rounded(values: NDArray[np.float64]) -> list[float | None]:
    return [round(value, 5) if np.isfinite(value) else None for value in values.tolist()]
