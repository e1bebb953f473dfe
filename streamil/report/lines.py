"""The result of a race in a few plain lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def result_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the result as lines: accuracy of each arm, then each comparison.

    Parameters
    ----------
    result
        What `summary.json` holds.
    """
    yield f"{result['experiment']}: {result['samples']:,} samples, each predicted before it was learned"
    width = max(len(name) for name in result["arms"])
    for name, arm in result["arms"].items():
        scored = [member for member in arm["members"] if member["accuracy"] is not None]
        if not scored:
            yield f"  {name:<{width}}  no full mini-batch yet"
            continue
        best = max(scored, key=lambda member: member["correct"])
        others = sorted(member["accuracy"] for member in scored)
        diverged = sum(member["diverged"] for member in scored)
        line = f"  {name:<{width}}  {best['accuracy']:.4f}"
        if len(scored) > 1:
            line += f"  best of {len(scored)} ({varied(arm['members'], best)}); the others down to {others[0]:.4f}"
        yield line + (f"; {diverged} diverged" if diverged else "")
    for one in result["comparisons"]:
        yield f"  {one['challenger']} against {one['baseline']}: {verdict(one)}"
    if result["comparisons"]:
        yield "  (these learners, on this stream so far; valid however often one looks)"


def varied(members: list[dict[str, Any]], one: Mapping[str, Any]) -> str:
    """Return what tells a member from its neighbours, as `alpha 5, seed 1`."""
    def values(member: Mapping[str, Any]) -> dict[str, Any]:
        return {**member["hyperparameters"], "seed": member["seed"]}

    differ = [key for key, value in values(one).items() if any(values(member)[key] != value for member in members)]
    return ", ".join(f"{key} {value:g}" if isinstance(value := values(one)[key], float) else f"{key} {value}"
                     for key in differ)


def verdict(one: Mapping[str, Any]) -> str:
    """Return a comparison's verdict with its effect and interval, in points of accuracy."""
    if one["mean_difference"] is None:
        return "open (no samples yet)"
    mean, lower, upper = (f"{100 * one[key]:+.2f}" for key in ("mean_difference", "lower", "upper"))
    return f"{one['verdict']}, {mean} points [{lower}, {upper}] over {one['samples']:,} samples"
