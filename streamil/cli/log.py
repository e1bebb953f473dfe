"""How what happens is written to stderr: a line of text for people, or of JSON for machines."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Annotated, Any, Literal, TextIO

import typer

from streamil.log import Event, Level

Form = Literal["text", "json"]
VARIABLE = "STREAMIL_LOG"

_write: Callable[[str], None] | None = None
"""Writes lines as JSON; None: they are written as they are."""
_SHOWN = warnings.showwarning


def say(line: str) -> None:
    """Write one line about what happens, apart from results."""
    if _write is None:
        typer.echo(line, err=True)
    else:
        _write(line)


def report(line: str) -> None:
    """Write one line of a result: to stdout or, where machines read, as an event like any other."""
    if _write is None:
        typer.echo(line)
    else:
        _write(line)


def machines_read() -> bool:
    """Return whether lines are written as JSON."""
    return _write is not None


def write_as(form: str | None) -> None:
    """Choose the form of all that is said from here on; libraries' warnings and our own crashes are said, too."""
    global _write
    logging.basicConfig(handlers=[_Sayer()], level=logging.WARNING, force=True)
    if form != "json":
        _write, warnings.showwarning, sys.excepthook, threading.excepthook = (
            None, _SHOWN, sys.__excepthook__, threading.__excepthook__)
        return
    import structlog

    log = structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[structlog.processors.TimeStamper(fmt="iso", utc=True), structlog.processors.add_log_level,
                    _in_order, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.BoundLogger)

    def write(line: str) -> None:
        event = line if isinstance(line, Event) else Event(line)
        getattr(log, event.level)(str(event), **event.facts)

    _write, warnings.showwarning, sys.excepthook = write, _warned, _crashed
    threading.excepthook = lambda crash: _crashed(crash.exc_type, crash.exc_value, crash.exc_traceback)


def _in_order(logger: Any, method: str, entry: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {key: entry.pop(key) for key in ("timestamp", "level", "event")} | dict(entry)


class _Sayer(logging.Handler):
    """Says what libraries log."""

    def emit(self, record: logging.LogRecord) -> None:
        levels: list[Level] = ["info", "warning", "error"]
        level = levels[(record.levelno >= logging.WARNING) + (record.levelno >= logging.ERROR)]
        line, facts = record.getMessage(), {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            line += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            facts["exception"] = logging.Formatter().formatException(record.exc_info)
        say(Event(" ".join(line.split()), level=level, **facts))


def _warned(message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
            line: str | None = None) -> None:
    say(Event(" ".join(str(message).split()), level="warning", logger=category.__name__))


def _crashed(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    say(Event(" ".join(f"{kind.__name__}: {error}".split()), level="error",
              exception="".join(traceback.format_exception(kind, error, trace))))


def _chosen(form: Form) -> Form:
    write_as(form)
    return form


Log = Annotated[Form, typer.Option(
    "--log", metavar="text|json", envvar=VARIABLE, is_eager=True, callback=_chosen,
    help="form of what is said on the way, a line an event")]
