"""What the terminal shows while something runs: a bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from streamil.race import Race

Report = Callable[[str, float | None], None]


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
def bench_progress() -> Iterator[Callable[[float, str], None]]:
    """Show how far a measurement is, and what is measured."""
    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console(), transient=True, disable=not sys.stderr.isatty(),
                  refresh_per_second=2) as progress:  # what is measured shares the processor with it
        task = progress.add_task("", total=1.0)
        yield lambda part, text: progress.update(task, completed=part, description=text)
