"""A running race in the terminal: curves, verdicts over time and where it stands, or lines where nobody watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streamil.printable import printable
from streamil.views import console

LINE_EVERY_SECONDS = 5.0
WIDTH = 32
"""Columns of a curve and of a verdict's course."""
BLOCKS = "▁▂▃▄▅▆▇█"
COLOURS = {"challenger leads": "green", "open": "bright_black", "baseline leads": "red"}
MARK = "┊"

Json = Mapping[str, Any]


@contextmanager
def live_race() -> Iterator[Callable[[Json, Json | None], None]]:
    """Show what a process says of itself (`/status.json`, `/pictures.json`), renewed with each call.

    Where nobody watches it is a line now and then.
    """
    screen, start = console(), time.monotonic()
    if not screen.is_terminal:
        told = [0.0]

        def line(status: Json, pictures: Json | None) -> None:
            now = time.monotonic()
            if now - told[0] >= LINE_EVERY_SECONDS:
                told[0] = now
                screen.print(f"{now - start:5.1f} s  " + one_line(status), soft_wrap=True)

        yield line
        return
    with Live(console=screen, refresh_per_second=4, vertical_overflow="crop") as live:
        yield lambda status, pictures: live.update(race_view(status, pictures))


def one_line(status: Json) -> str:
    """Return the state of a race in one line."""
    arms = "  ".join(f"{printable(arm['arm'])} {arm['best']['accuracy']:.3f}"
                     for arm in status["arms"] if arm["best"]["accuracy"] is not None)
    return f"{status['samples']:,} samples, {status['samples_per_second']:.0f}/s  {arms}"


def race_view(status: Json, pictures: Json | None) -> Group:
    """Return the answer so far, a table of the arms with their curves, and one of the comparisons with their course.

    Parameters
    ----------
    status, pictures
        What `/status.json` and `/pictures.json` hold; without pictures there are no curves.
    """
    lag = "" if status["lag"] is None else f", lag {status['lag']:,}"
    away = ", the broker does not answer" if status["broker_away"] else ""
    segment = f", segment {status['segment']}" if status["segment"] else ""
    rate = f"{status['samples_per_second']:.0f} a second"
    head = f"{status['experiment']}: {status['samples']:,} samples, {rate}, {status['state']}{lag}{segment}{away}"
    note = Text("curves: accuracy in the last samples, all on one scale; verdicts allow for sweeps and for looking "
                "often, on this stream so far", "bright_black")
    parts: list[Text | Table] = [Text(printable(head), "bold")]
    parts += [Text(printable(line)) for line in status["answer"]]
    parts.append(_arms(status, pictures))
    if status["comparisons"]:
        parts.append(_comparisons(status, pictures))
    return Group(*parts, note)


def _arms(status: Json, pictures: Json | None) -> Table:
    table = _table(("arm", "left"), ("members", "right"), ("best", "right"), ("worst", "right"),
                   ("last samples", "right"), ("curve", "left"))
    drawn = [] if pictures is None else [one for one in pictures["arms"] if one["samples"]]
    end = max((one["samples"][-1] for one in drawn), default=0)
    levels = {one["arm"]: _levels(one["samples"], one["best"], end) for one in drawn}
    known = [value for own in levels.values() for value in own if value is not None]
    marks = [at for at, _ in pictures["marks"]] if pictures else []
    for arm in status["arms"]:
        own = levels.get(arm["arm"])
        curve = _curve(own, min(known), max(known), end, marks) if own and known else ""
        table.add_row(printable(arm["arm"]), str(arm["members"]), _percent(arm["best"]["accuracy"]),
                      _percent(arm["worst"]["accuracy"]), _percent(arm["best"]["windowed"]), curve,
                      style="green" if arm["family"] == "il" else "")
    return table


def _comparisons(status: Json, pictures: Json | None) -> Table:
    table = _table(("comparison", "left"), ("verdict", "left"), ("advantage", "right"), ("interval", "right"),
                   ("verdicts over time", "left"))
    courses = {} if pictures is None else {(one["challenger"], one["baseline"]): one for one in pictures["comparisons"]}
    for one in status["comparisons"]:
        course = courses.get((one["challenger"], one["baseline"]))
        table.add_row(
            printable(f"{one['challenger']} against {one['baseline']}"), Text(one["verdict"], COLOURS[one["verdict"]]),
            _points(one["mean_difference"]), f"{_points(one['lower'])} … {_points(one['upper'])}",
            _course(course["verdicts"], course["samples"][-1]) if course and course["samples"] else Text(""))
    return table


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(expand=False, box=None, pad_edge=False, header_style="bright_black", padding=(0, 2, 0, 0))
    for heading, side in columns:
        table.add_column(heading, justify="right" if side == "right" else "left", no_wrap=side == "right")
    return table


def _columns(end: int) -> list[float]:
    """Return the number of samples at the end of each column."""
    return [(column + 1) * end / WIDTH for column in range(WIDTH)]


def _levels(samples: Sequence[int], values: Sequence[float | None], end: int) -> list[float | None]:
    """Return the last value in each column; None before the first."""
    levels: list[float | None] = []
    place, value = 0, None
    for until in _columns(end):
        while place < len(samples) and samples[place] <= until:
            value, place = values[place], place + 1
        levels.append(value)
    return levels


def _curve(levels: Sequence[float | None], low: float, high: float, end: int, marks: Sequence[int]) -> str:
    """Return a curve as blocks; where a segment changes it is a mark instead."""
    shown, before = [], 0.0
    for value, until in zip(levels, _columns(end), strict=True):
        if any(before < at <= until for at in marks):
            shown.append(MARK)
        elif value is None:
            shown.append(" ")
        else:
            shown.append(BLOCKS[round((value - low) / (high - low or 1) * (len(BLOCKS) - 1))])
        before = until
    return "".join(shown)


def _course(verdicts: Sequence[Sequence[Any]], end: int) -> Text:
    """Return the verdict at the end of each column as a coloured bar."""
    bar, place, verdict = Text(), 0, "open"
    for until in _columns(end):
        while place < len(verdicts) and verdicts[place][0] <= until:
            verdict, place = verdicts[place][1], place + 1
        bar.append("░" if verdict == "open" else "█", COLOURS[verdict])
    return bar


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.2f}"
