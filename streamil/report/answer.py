"""The answer to the project's question, in words: what the verdicts of a race say together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

QUESTION = "Does inference learning learn faster than backpropagation, from this stream, seen once?"


def answer(comparisons: Sequence[Mapping[str, Any]], batch_sizes: Mapping[str, int],
           controls: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """Return the answer so far, a sentence for each mini-batch size and one about A/A controls.

    Each names the challenger that stands best against *all* its opponents, and of these the one that it is least
    ahead of.

    Parameters
    ----------
    comparisons, controls
        As in `summary.json`.
    batch_sizes
        Of each arm.

    Examples
    --------
    >>> answer([{"challenger": "il", "baseline": "bp", "verdict": "challenger leads", "mean_difference": 0.031,
    ...          "lower": 0.011, "upper": 0.05, "samples": 4000}], {"il": 1, "bp": 1})
    ['Mini-batches of 1: il leads bp, by 3.10 points [+1.10, +5.00] over 4,000 samples.']
    """
    if not comparisons:
        return ["Nothing is compared."]
    sizes: dict[str, list[Mapping[str, Any]]] = {}
    for one in comparisons:
        left, right = batch_sizes[one["challenger"]], batch_sizes[one["baseline"]]
        sizes.setdefault(f"of {left}" if left == right else f"of {left} against {right}", []).append(one)
    return [*(f"Mini-batches {size}: {_best(rows)}" for size, rows in sizes.items()), *_of_controls(controls)]


def _best(rows: Sequence[Mapping[str, Any]]) -> str:
    judged = [one for one in rows if one["mean_difference"] is not None]
    if not judged:
        return "no samples yet."
    of: dict[str, list[Mapping[str, Any]]] = {}
    for one in judged:
        of.setdefault(one["challenger"], []).append(one)
    nearest = {name: min(own, key=lambda one: one["lower"]) for name, own in of.items()}
    challenger = max(nearest, key=lambda name: nearest[name]["lower"])
    own, near = of[challenger], nearest[challenger]
    leads = [one["baseline"] for one in own if one["verdict"] == "challenger leads"]
    behind = [one["baseline"] for one in own if one["verdict"] == "baseline leads"]
    mean, interval = near["mean_difference"], f"[{100 * near['lower']:+.2f}, {100 * near['upper']:+.2f}]"
    figures = f"{100 * mean:+.2f} points {interval} over {near['samples']:,} samples"
    if len(leads) == len(own):
        nearer = near["baseline"]
        whom = nearer if len(own) == 1 else f"all {len(own)} opponents, the nearest of them {nearer}"
        return f"{challenger} leads {whom}, by {100 * mean:.2f} points {interval} over {near['samples']:,} samples."
    said = []
    if leads:
        said.append(f"{challenger} leads {len(leads)} of {len(own)} opponents ({_listed(leads)})")
    if behind:
        said.append(f"{_listed(behind)} {'leads' if len(behind) == 1 else 'lead'} {challenger}")
    against = "behind" if near["verdict"] == "baseline leads" else "open"
    what = "; ".join(said) if said else "no lead so far"
    return f"{what}; against {near['baseline']}, the strongest of them, {challenger} is {against}: {figures}."


def _of_controls(controls: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for one in controls:
        if one["verdict"] == "open":
            yield f"A/A control of {one['challenger']}: open, as it should be."
        else:
            yield (f"A/A control of {one['challenger']}: the arm and itself with other seeds differ by "
                   f"{100 * one['mean_difference']:+.2f} points: a lead of that size may be a matter of seeds.")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
