"""The learning curves of a race as one PNG."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.figure import Figure

matplotlib.use("agg")

COLOURS = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#666666")
STYLES = ("-", "--", ":", "-.")


def plot_accuracy(folder: Path) -> Path:
    """Draw `accuracy.png` from a run's `summary.json` and `curve.parquet`, and return its path.

    Left: windowed accuracy over samples, each arm's best member as a line and its whole sweep as a band. Right: the
    advantage of each challenger over each baseline, with its interval, against the mini-batch size.
    """
    summary = json.loads((folder / "summary.json").read_text())
    curve = pq.read_table(folder / "curve.parquet")
    columns = {name: curve[name].to_numpy() for name in ("arm", "member", "ordinal", "windowed")}
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _curves(left, summary, columns)
    _advantage(right, summary)
    figure.suptitle(f"{summary['experiment']}: {summary['samples']:,} samples, test-then-train", fontsize=11)
    path = folder / "accuracy.png"
    figure.savefig(path, dpi=130)
    return path


def _curves(axes: Axes, summary: Mapping[str, Any], columns: Mapping[str, Any]) -> None:
    looks = _looks(list(summary["arms"]))
    for name, arm in summary["arms"].items():
        rows = columns["arm"] == name
        members = len(arm["members"])
        ordinals = columns["ordinal"][rows].reshape(members, -1)[0]
        if not len(ordinals):
            continue
        windowed = columns["windowed"][rows].reshape(members, -1)
        best = max(range(members), key=lambda member: arm["members"][member]["correct"])
        colour, style = looks[name]
        label = name if members == 1 else f"{name} (best of {members})"
        axes.plot(ordinals + 1, windowed[best], color=colour, linestyle=style, linewidth=1.6, label=label)
        if members > 1:
            axes.fill_between(ordinals + 1, windowed.min(0), windowed.max(0), color=colour, alpha=0.08, linewidth=0)
    axes.set(xlabel="samples", ylabel="windowed accuracy")
    axes.grid(alpha=0.25)
    if axes.lines:
        _legend(axes, columns=3)


def _looks(arms: list[str]) -> dict[str, tuple[str, str]]:
    """Give arms that differ in the mini-batch size alone one colour, and each size a line style."""
    families = list(dict.fromkeys(name.partition("@")[0] for name in arms))
    sizes = {family: [name for name in arms if name.partition("@")[0] == family] for family in families}
    return {name: (COLOURS[families.index(family) % len(COLOURS)], STYLES[place % len(STYLES)])
            for family, names in sizes.items() for place, name in enumerate(names)}


def _advantage(axes: Axes, summary: Mapping[str, Any]) -> None:
    pairs: dict[str, list[tuple[str, float, float, float]]] = {}
    for one in summary["comparisons"]:
        if one["mean_difference"] is not None:
            challenger, baseline = one["challenger"], one["baseline"]
            size = challenger.partition("@")[2] or "as given"
            pair = f"{challenger.partition('@')[0]} against {baseline.partition('@')[0]}"
            points = (100 * one[key] for key in ("mean_difference", "lower", "upper"))
            pairs.setdefault(pair, []).append((size, *points))
    sizes = list(dict.fromkeys(size for rows in pairs.values() for size, *_ in rows))
    for place, (pair, rows) in enumerate(pairs.items()):
        at = np.array([sizes.index(size) for size, *_ in rows]) + 0.12 * (place - (len(pairs) - 1) / 2)
        mean, lower, upper = (np.array(values) for values in list(zip(*rows, strict=True))[1:])
        spread = np.clip((mean - lower, upper - mean), 0, None)
        axes.errorbar(at, mean, yerr=spread, fmt="o", capsize=3, color=COLOURS[place % len(COLOURS)], label=pair)
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set(xlabel="mini-batch size", ylabel="advantage, points of accuracy", xlim=(-0.6, max(len(sizes), 1) - 0.4))
    axes.set_xticks(range(len(sizes)), sizes)
    axes.grid(alpha=0.25, axis="y")
    if pairs:
        _legend(axes, columns=2)


def _legend(axes: Axes, columns: int) -> None:
    """Put the legend below the axes, where it hides no point."""
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=columns, frameon=False)
