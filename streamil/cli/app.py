"""The application: what all commands share, and how a command ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from streamil.cli.log import VARIABLE, machines_read, say, write_as
from streamil.errors import ExperimentError, StreamilError
from streamil.log import Event
from streamil.orphan import end_with_parent

if TYPE_CHECKING:
    from streamil.experiment import Experiment

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Streaming online learning: inference learning and backpropagation side by side, test-then-train, from Kafka.",
)

INTERRUPTED = 130
GRACE_SECONDS = 1.8
"""What a command may take after Ctrl-C to finish what was begun; then it is interrupted wherever it is."""
File = Annotated[Path, typer.Argument(metavar="FILE", help="experiment file (YAML)")]


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"streamil {version('streamil')}")
        raise typer.Exit


@app.callback()
def _streamil(version: Annotated[bool, typer.Option(
    "--version", help="Show the version and exit.", is_eager=True, callback=_tell_version)] = False) -> None:
    pass


def load(file: Path) -> Experiment:
    """Read the experiment file."""
    from streamil.experiment import load_experiment

    return load_experiment(file)


class Stop(threading.Event):
    """Set by the first SIGINT or SIGTERM; `signal` says which."""

    signal: int | None = None


@contextmanager
def stopping() -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM into an event, so that what was begun is finished; a second one ends at once.

    After SIGINT that may take `GRACE_SECONDS`, and the command exits with 130. SIGTERM is how services are asked to
    end: it takes its time and is no failure.
    """
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.signal = number
        stop.set()
        if number == signal.SIGINT:
            signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    try:
        yield stop
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.signal == signal.SIGINT:
        raise typer.Exit(INTERRUPTED)


def main() -> None:
    """Run the command line: exit 0 done, 1 failed with one clear line, 2 wrong usage."""
    end_with_parent()
    write_as(os.environ.get(VARIABLE))
    try:
        code = app(standalone_mode=False)
    except StreamilError as error:
        for line in str(error).splitlines() if isinstance(error, ExperimentError) else [" ".join(str(error).split())]:
            say(Event(f"error: {line}", level="error"))
        code = error.exit_code
    except TyperException as error:
        show = getattr(error, "show", None)  # usage errors have it: usage, then what is wrong
        if show and not machines_read():
            show()
        else:
            say(Event(f"error: {getattr(error, 'message', error)}", level="error"))
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    if code == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # to collect what torch leaves takes a second or two that nobody has after Ctrl-C
    sys.exit(code)
