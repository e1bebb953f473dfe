"""What a race leaves behind: `summary.json`, `curve.parquet`, and the rows that views show."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamil.race import Race
from streamil.racing_arm import RacingArm

MEASURES = ("windowed", "fading", "log_loss", "kappa", "kappa_temporal", "kappa_majority", "macro_f1")
"""What `summary.json` has of each member beside accuracy, by the names of `Prequential`."""


def summary(race: Race) -> dict[str, Any]:
    """Return the result of a race so far: plain values, strict JSON, no clock time.

    `samples` on top counts what was taken in; a member's counts what it has predicted and scored. `replanned` is there
    where the race went on under another plan: from there on its numbers need not repeat.
    """
    labels = race.featurizer.labels.names
    replanned = {"replanned": list(race.replanned)} if race.replanned else {}
    return {
        "experiment": race.experiment.name,
        "samples": race.samples,
        "learned_hash": race.learned_hash.hex(),
        **replanned,
        "arms": {name: {"members": _members(arm, labels), "drift": _drift(arm)} for name, arm in race.arms.items()},
        "comparisons": [
            {**row, "since_segment": strict(comparison.since_segment())}
            for row, comparison in zip(comparison_rows(race), race.comparisons.values(), strict=True)
        ],
    }


def comparison_rows(race: Race) -> list[dict[str, Any]]:
    """Return one row per comparison: its verdict on the whole stream, and the challenger's speedup."""
    return [
        strict({"challenger": challenger, "baseline": baseline, **(found := comparison.summary()),
                "speedup": speedup(race.arms[challenger], race.arms[baseline], found["pair"])})
        for (challenger, baseline), comparison in race.comparisons.items()]


def _drift(arm: RacingArm) -> dict[str, Any]:
    drift = arm.drift
    return {"notices": drift.notices, "false_alarms": drift.false_alarms, "changes": strict(drift.changes())}


def speedup(challenger: RacingArm, baseline: RacingArm, pair: Sequence[int] | None) -> float | None:
    """Return how many times fewer samples a candidate needed for the windowed accuracy that the other has now.

    Read from the learning curve, whose points stand up to 1/250 of the stream apart; seeds are averaged. None: it has
    not been there, or the window is not full.

    Parameters
    ----------
    challenger, baseline
        The arms.
    pair
        Candidate of each.
    """
    window = baseline.figures.window
    if pair is None or baseline.figures.samples < window:
        return None
    ours, theirs = list(challenger.plan.candidates[pair[0]]), list(baseline.plan.candidates[pair[1]])
    now = baseline.figures.windowed[theirs].mean()
    samples, windowed, _ = challenger.curve.points(challenger.figures)
    there = np.flatnonzero((windowed[:, ours].mean(axis=1) >= now) & (samples >= window))
    return baseline.figures.samples / int(samples[there[0]]) if len(there) else None


def _members(arm: RacingArm, labels: Sequence[str]) -> list[dict[str, Any]]:
    figures, population = arm.figures, arm.population
    diverged = population.diverged.tolist() if population else [False] * len(arm.plan.members)
    # each of these is computed for all members at once
    measures = {name: getattr(figures, name) for name in ("cumulative", *MEASURES)}
    area, recall = arm.speed.area, figures.recall
    rows = []
    for member, written in enumerate(arm.plan.members):
        hyperparameters = population.members[member].model_dump(mode="json") if population else written
        rows.append({
            "hyperparameters": {key: value for key, value in hyperparameters.items() if key != "seed"},
            "seed": written["seed"],
            "samples": figures.samples,
            "correct": int(figures.correct[member]),
            "accuracy": strict(float(measures["cumulative"][member])),
            **{name: strict(float(measures[name][member])) for name in MEASURES},
            "area_under_curve": strict(float(area[member])),
            "samples_to": {f"{threshold:g}": int(needed) or None for threshold, needed in zip(
                arm.speed.thresholds, arm.speed.reached[member], strict=True)},
            "recall": {label: strict(float(one)) for label, one in zip(labels, recall[member], strict=False)},
            "diverged": bool(diverged[member]),
        })
    return rows


def strict(value: Any) -> Any:
    """Return the value with every number that JSON has no form for (nan, infinity) as None."""
    if isinstance(value, dict):
        return {key: strict(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [strict(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def standings(race: Race) -> list[dict[str, Any]]:
    """Return one row per arm: accuracy of its best, median and worst member by rank, and what these are.

    The best is chosen after the fact: a row says of how many.
    """
    rows = []
    for name, arm in race.arms.items():
        figures = arm.figures
        order = np.argsort(-figures.correct, kind="stable")
        ranked = {"best": int(order[0]), "median": int(order[len(order) // 2]), "worst": int(order[-1])}
        rows.append(strict({
            "arm": name, "algorithm": arm.plan.algorithm, "family": arm.plan.family, "batch_size": arm.plan.batch_size,
            "members": len(arm.plan.members), "samples": figures.samples, "since": arm.since,
            "diverged": int(arm.population.diverged.sum()) if arm.population else 0,
            **{rank: {"member": member, "accuracy": float(figures.cumulative[member]),
                      "windowed": float(figures.windowed[member]),
                      "hyperparameters": _swept(arm, member)} for rank, member in ranked.items()},
        }))
    return rows


def _swept(arm: RacingArm, member: int) -> dict[str, Any]:
    """Return what tells this member from its neighbours: the hyperparameters that differ within the arm."""
    members = arm.plan.members
    return {key: value for key, value in members[member].items()
            if any(other[key] != value for other in members)}


def curve_table(race: Race) -> pa.Table:
    """Return the learning curves: arm, member, ordinal, windowed and cumulative accuracy."""
    columns: dict[str, list[Any]] = {"arm": [], "member": [], "ordinal": [], "windowed": [], "cumulative": []}
    for name, arm in race.arms.items():
        samples, windowed, cumulative = arm.curve.points(arm.figures)
        ordinals = samples - 1
        for member in range(len(arm.plan.members)):
            columns["arm"] += [name] * len(ordinals)
            columns["member"] += [member] * len(ordinals)
            columns["ordinal"] += ordinals.tolist()
            columns["windowed"] += windowed[:, member].tolist()
            columns["cumulative"] += cumulative[:, member].tolist()
    types = {"arm": pa.string(), "member": pa.int32(), "ordinal": pa.int64(), "windowed": pa.float64(),
             "cumulative": pa.float64()}
    return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})


def write_results(race: Race, folder: Path) -> dict[str, Any]:
    """Write `summary.json` and `curve.parquet` into `folder`, each whole or not at all; return the summary."""
    result = summary(race)
    _write(result, curve_table(race), folder)
    return result


def results(race: Race, folder: Path) -> Callable[[], None]:
    """Return what writes the results of a race as it stands now, in any thread and at any later time."""
    result, table = summary(race), curve_table(race)
    return lambda: _write(result, table, folder)


def _write(result: dict[str, Any], table: pa.Table, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    _replace(folder / "summary.json", lambda file: file.write(text.encode("utf-8", "backslashreplace")))
    _replace(folder / "curve.parquet", lambda file: pq.write_table(table, file))


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            write(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
