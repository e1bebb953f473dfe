"""What the terminal shows while something runs: a bar, or lines where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from streamil.race import Race

Report = Callable[[str, float | None], None]
LINE_EVERY_SECONDS = 5.0


def console() -> Console:
    """Return the terminal for what is no result."""
    return Console(stderr=True, highlight=False)


@contextmanager
def download_progress() -> Iterator[Report]:
    """Show a download, if there is one: a text, and the part of it that is done (None: not known)."""
    screen = console()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        bars: list[Progress] = []

        def report(text: str, part: float | None) -> None:
            if not bars:
                bars.append(Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal))
                bars[0].add_task(text)
                stack.enter_context(bars[0])
                if not screen.is_terminal:
                    screen.print(text)
            bars[0].update(bars[0].task_ids[0], description=text, total=part and 1.0, completed=part or 0.0)

        yield report


@contextmanager
def race_progress(samples: int | None) -> Iterator[Callable[[Race], None]]:
    """Show how far a race is, and the windowed accuracy of each arm's best member."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("racing", total=samples)
        shown = [0.0]

        def update(race: Race) -> None:
            now = time.monotonic()
            if now - shown[0] > 0.5:
                shown[0] = now
                best = {name: float(arm.figures.cumulative.max())
                        for name, arm in race.arms.items() if arm.figures.samples}
                leaders = sorted(best, key=lambda name: -best[name])[:3]
                text = "  ".join(f"{name} {best[name]:.3f}" for name in leaders)
                progress.update(task, completed=race.samples, description=text or "racing")

        yield update


@contextmanager
def live_status() -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Show what a consumer says of itself: a table that renews itself, or a line now and then where nobody watches."""
    screen, start = console(), time.monotonic()
    if not screen.is_terminal:
        told = [0.0]

        def line(status: Mapping[str, Any]) -> None:
            now = time.monotonic()
            if now - told[0] >= LINE_EVERY_SECONDS:
                told[0] = now
                screen.print(f"{now - start:5.1f} s  " + one_line(status), soft_wrap=True)

        yield line
        return
    with Live(console=screen, refresh_per_second=4) as live:
        yield lambda status: live.update(status_table(status))


def one_line(status: Mapping[str, Any]) -> str:
    """Return the state of a race in one line."""
    arms = "  ".join(f"{arm['arm']} {arm['best']['accuracy']:.3f}"
                     for arm in status["arms"] if arm["best"]["accuracy"] is not None)
    return f"{status['samples']:,} samples, {status['samples_per_second']:.0f}/s  {arms}"


def status_table(status: Mapping[str, Any]) -> Table:
    """Return the state of a race as a table: accuracy of each arm, and who leads."""
    title = (f"{status['experiment']}: {status['samples']:,} samples, {status['samples_per_second']:.0f} a second, "
             f"{status['state']}")
    table = Table(title=title, title_justify="left", expand=False)
    for heading in ("arm", "members", "best", "median", "worst", "best, last 1,000", "leads"):
        table.add_column(heading, justify="left" if heading in ("arm", "leads") else "right")
    leads: dict[str, list[str]] = {}
    for one in status["comparisons"]:
        if one["verdict"] != "open":
            ahead, behind = (one["challenger"], one["baseline"])[:: 1 if one["verdict"] == "challenger leads" else -1]
            leads.setdefault(ahead, []).append(behind)
    for arm in status["arms"]:
        cells = [_percent(arm[rank]["accuracy"]) for rank in ("best", "median", "worst")]
        table.add_row(arm["arm"], str(arm["members"]), *cells, _percent(arm["best"]["windowed"]),
                      ", ".join(leads.get(arm["arm"], [])), style="green" if arm["family"] == "il" else "")
    table.caption = "leads: by a verdict that allows for sweeps and for looking often; on this stream so far"
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
