"""What a race leaves behind: `summary.json`, `curve.parquet`, `details.json`, and the rows that views show."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamil.diagnostics import Diagnostics
from streamil.errors import ReportError
from streamil.evaluation import CLASSES_LIMIT
from streamil.pictures import pictures
from streamil.race import Race
from streamil.racing_arm import RacingArm

MEASURES = ("windowed", "fading", "log_loss", "kappa", "kappa_temporal", "kappa_majority", "macro_f1")
"""What `summary.json` has of each member beside accuracy, by the names of `Prequential`."""

FEATURES_SHOWN = 100
"""Names of features that are listed."""


def summary(race: Race) -> dict[str, Any]:
    """Return the result of a race so far: plain values, strict JSON, no clock time.

    `samples` on top counts what was taken in; a member's counts what it has predicted and scored. `replanned` is there
    where the race went on under another plan: from there on its numbers need not repeat.
    """
    replanned = {"replanned": list(race.replanned)} if race.replanned else {}
    return {
        "experiment": race.experiment.name,
        "samples": race.samples,
        "learned_hash": race.learned_hash.hex() or None,
        **replanned,
        "arms": {name: _arm(race, arm) for name, arm in race.arms.items()},
        "comparisons": comparison_rows(race, segments=True),
        "controls": comparison_rows(race, segments=True, controls=True),
    }


def comparison_rows(race: Race, *, segments: bool = False, controls: bool = False) -> list[dict[str, Any]]:
    """Return one row per comparison, its verdict on the whole stream and the challenger's speedup; or per A/A control.

    With `segments` each has the verdict since the last change of segment too.
    """
    rows = []
    for pair, comparison in race.comparisons.items():
        if (pair in race.comparisons.controls) == controls:
            found, (challenger, baseline) = comparison.summary(), pair
            recent = {"since_segment": comparison.since_segment()} if segments else {}
            rows.append(strict({
                "challenger": challenger, "baseline": baseline, **found,
                "speedup": speedup(race.arms[challenger], race.arms[baseline], found["pair"]), **recent}))
    return rows


def _arm(race: Race, arm: RacingArm) -> dict[str, Any]:
    plan, forgotten = arm.plan, _forgotten(race, arm)
    members = _members(arm, race.featurizer.labels.names)
    for place, member in enumerate(members):
        earlier = [one["forgotten"][place] for one in forgotten if one["segment"] != race.segment]
        member["forgetting"] = sum(earlier) / len(earlier) if earlier else None
    looked = arm.diagnostics and {
        "looks": arm.diagnostics.looks,
        "mean": strict({name: values.tolist() for name, values in arm.diagnostics.mean.items()})}
    return {"algorithm": plan.algorithm, "family": plan.family, "batch_size": plan.batch_size, "members": members,
            "drift": _drift(arm), "forgetting": forgotten, **({"diagnostics": looked} if looked else {})}


def _forgotten(race: Race, arm: RacingArm) -> list[dict[str, Any]]:
    """Return of each segment that samples are held of: accuracy on them now, and what is forgotten, of each member."""
    rows = race.held.rows
    if arm.population is None or not len(race.held.segments) > 1:
        return []
    segments, now = arm.recall(rows)
    lost = arm.forgetting.forgotten(segments, now)
    return [{"segment": segment, "accuracy": there, "forgotten": gone}
            for segment, there, gone in zip(segments.tolist(), now.tolist(), lost.tolist(), strict=True)]


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


def require_folder(folder: Path) -> None:
    """Make a folder for results, and raise `ReportError` unless files can be written there."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise `ReportError` where the system does not let us write results."""
    try:
        yield
    except OSError as error:
        raise ReportError(f"{folder}: results cannot be written there: {error.strerror or error}") from None


def write_results(race: Race, folder: Path) -> dict[str, Any]:
    """Write `summary.json`, `curve.parquet` and `details.json` into `folder`, each whole or not at all."""
    result = summary(race)
    _write(result, curve_table(race), details(race), folder)
    return result


def results(race: Race, folder: Path) -> Callable[[], None]:
    """Return what writes the results of a race as it stands now, in any thread and at any later time."""
    result, table, more = summary(race), curve_table(race), details(race)
    return lambda: _write(result, table, more, folder)


def details(race: Race) -> dict[str, Any]:
    """Return what a report shows beside the summary: strict JSON, no clock time, nothing of the broker."""
    labels = race.featurizer.labels.names
    asked = race.experiment.model_dump(mode="json", exclude={"kafka", "service"}, exclude_unset=True)
    return {
        "experiment": asked, "plan": race.plan(), "inputs": race.featurizer.inputs,
        "features": race.featurizer.names[:FEATURES_SHOWN], "labels": labels[:CLASSES_LIMIT],
        "rejected": {reason: count for reason, count in race.rejected.items() if count},
        "unlabelled": race.unlabelled, "pictures": pictures(race, points=500),
        "confusion": {name: _confusion(arm) for name, arm in race.arms.items()},
        "diagnostics": {name: _course_of(arm.diagnostics) for name, arm in race.arms.items() if arm.diagnostics},
    }


def _confusion(arm: RacingArm) -> dict[str, Any]:
    """Return the counts of (label, prediction) of the arm's best member, those that are not 0, as triples."""
    best = int(np.argmax(arm.figures.correct))
    counts = arm.confusion.counts[best]
    cells = np.argwhere(counts)
    return {"member": best, "counts": [[*cell, int(counts[tuple(cell)])] for cell in cells.tolist()]}


def _course_of(diagnostics: Diagnostics) -> dict[str, Any]:
    """Return each measure at each look that is kept, of each member."""
    samples, rows = diagnostics.points()
    return {"samples": samples.tolist(),
            "measures": {name: strict(rows[:, place].T.round(6).tolist())
                         for place, name in enumerate(diagnostics.measures)}}


def _write(result: dict[str, Any], table: pa.Table, more: dict[str, Any], folder: Path) -> None:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content, indent in (("summary.json", result, 2), ("details.json", more, None)):
            text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
            _replace(folder / name, _writer(text.encode("utf-8", "backslashreplace")))
        _replace(folder / "curve.parquet", lambda file: pq.write_table(table, file))


def _writer(content: bytes) -> Callable[[BinaryIO], object]:
    return lambda file: file.write(content)


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            write(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
