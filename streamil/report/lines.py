"""The result of a race in a few plain lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from streamil.printable import printable

REJECTS_TOLD = 5
"""Rejects that are told one by one; the rest are counted."""


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


def status_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """Yield how a running process stands, as lines.

    Parameters
    ----------
    status
        What `/status.json` of a consumer or a producer holds.

    Raises
    ------
    KeyError, TypeError, ValueError
        For what is neither.
    """
    if "lag_seconds" in status:
        yield f"producer: {status['samples']:,} samples published, {status['lag_seconds']:.1f} s behind its schedule"
        return
    away = ", the broker does not answer" if status["broker_away"] else ""
    lag = f"lag {status['lag']:,}" if status["lag"] else "caught up, lag 0"
    yield printable(f"{status['experiment']}: {status['state']}{away}; topic {status['topic']}, offset "
                    f"{status['offset']:,}, {lag}")
    yield (f"{status['samples']:,} samples, {status['samples_per_second']:.1f} a second; {status['rejected']:,} "
           f"rejected, {status['repeats']:,} repeats, {status['waiting_for_labels']:,} wait for their label, "
           f"{status['snapshot_failures']:,} snapshots failed")
    width = max((len(printable(arm["arm"])) for arm in status["arms"]), default=0)
    for arm in status["arms"]:
        best, line = arm["best"], f"  {printable(arm['arm']):<{width}}  "
        if best["accuracy"] is None:
            yield line + "no full mini-batch yet"
            continue
        of = f", best of {arm['members']}" if arm["members"] > 1 else ""
        yield line + (f"{best['accuracy']:.4f}, the last ones {best['windowed']:.4f}{of}"
                      + (f"; {arm['diverged']} diverged" if arm["diverged"] else ""))
    for one in status["comparisons"]:
        yield printable(f"  {one['challenger']} against {one['baseline']}: {verdict(one)}")


def inputs_line(inputs: int, names: Sequence[str]) -> str:
    """Return what a stream's inputs are, in one line; dense inputs have no names.

    Examples
    --------
    >>> inputs_line(3, ["age", "amount", "hour"]), inputs_line(784, [])
    ('inputs: 3: age, amount, hour', 'inputs: 784')
    """
    return f"inputs: {inputs}" + (f": {shortened(names)}" if names else "")


def shortened(names: Iterable[str], most: int = 12) -> str:
    """Return the first names, and how many there are; what senders named may be long or no text for a terminal."""
    listed = list(names)
    short = (name if len(name) <= 60 else f"{name[:57]}..." for name in listed[:most])
    first = ", ".join(name if name.isprintable() else repr(name) for name in short)
    return first + (f", ... ({len(listed)} in all)" if len(listed) > most else "")


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
    line = f"{one['verdict']}, {mean} points [{lower}, {upper}] over {one['samples']:,} samples"
    faster = one.get("speedup") if one["verdict"] == "challenger leads" else None  # where it is level this is chance
    return line + (f"; had the baseline's present accuracy {faster:.1f} times sooner" if faster and faster > 1 else "")
