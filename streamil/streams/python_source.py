"""Any Python callable that yields `(array, label)` or `(dict, label)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from streamil.errors import SourceError
from streamil.experiment.sources import PythonSource
from streamil.experiment_file import nearest
from streamil.samples import Records, label_text
from streamil.streams.chunks import CHUNK, rows_of
from streamil.streams.source import Opened
from streamil.user_code import first_line, load_module
from streamil.values import date_seconds


def python_source(source: PythonSource, folder: Path) -> Opened:
    """Open `module:function`, the module looked for in `folder` first, then on the import path.

    The first sample decides what all are: arrays of one length and type (lists of numbers become float64), or dicts,
    whose names the first one fixes: later others are left out, absent ones are missing.

    Raises
    ------
    SourceError
        When the module or function is not there, or fails, or yields something else.
    """
    where = f"python {source.callable}"
    name, _, function = source.callable.partition(":")
    module = load_module(name, folder, where, SourceError)
    call = getattr(module, function, None)
    if not callable(call):
        known = [one for one in vars(module) if not one.startswith("_")]
        raise SourceError(f"{where}: module {name!r} has no function {function!r}{nearest(function, known)}")
    size = 1 if source.live else CHUNK
    return Opened(sampled(lambda: call(**source.options), where, size), finite=not source.live, live=source.live)


def sampled(pairs: Callable[[], Iterable[Any]], where: str, size: int = CHUNK) -> Iterator[Records]:
    """Yield what a foreign iterable yields as `(x, label)`, in chunks of `size`.

    Raises
    ------
    SourceError
        When it fails, or a sample is not like the first one: names the sample, counted from 0.
    """
    chunk = _Chunk(where)
    iterator = None
    while True:
        try:
            iterator = iter(pairs()) if iterator is None else iterator
            pair = next(iterator)
        except StopIteration:
            break
        except (Exception, SystemExit) as error:  # a script's sys.exit() would end the run as if it were done
            raise SourceError(f"{where}: failed after {chunk.seen} samples: {first_line(error)}") from error
        try:
            chunk.add(pair)
        except SourceError:
            raise
        except Exception as error:  # of a library's own value, where it is read
            raise SourceError(f"{where}: sample {chunk.seen}: {first_line(error)}") from error
        if len(chunk.y) == size:
            yield chunk.taken()
    if chunk.y:
        yield chunk.taken()
    if not chunk.seen:
        raise SourceError(f"{where}: yields no sample")


class _Chunk:
    def __init__(self, where: str) -> None:
        self.where, self.seen = where, 0
        self.names: list[str] | None = None
        self.form: tuple[Any, ...] | None = None
        self.y: list[str | None] = []
        self.x: list[Any] = []

    def add(self, pair: Any) -> None:
        """Take one sample in."""
        here = f"{self.where}: sample {self.seen}"
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise SourceError(f"{here}: is {type(pair).__name__}, not a pair (x, label)")
        x, label = pair
        try:
            text = label_text(label.item() if hasattr(label, "item") else label)
        except ValueError as error:
            raise SourceError(f"{here}: {error}") from None
        self.x.append(self._named(x, here) if isinstance(x, dict) else self._dense(x, here))
        self.y.append(text)
        self.seen += 1

    def _named(self, x: dict[Any, Any], here: str) -> list[Any]:
        if self.names is None:
            self.names = [str(name) for name in x]
            self._require_form("named features", here)
            if not x:
                raise SourceError(f"{here}: has no feature")
            if len(set(self.names)) < len(self.names):
                raise SourceError(f"{here}: two features have one name as text, of {list(x)[:20]}")
        self._require_form("named features", here)
        values = {str(name): value for name, value in x.items()}
        for name, value in values.items():
            try:
                value = values[name] = _plain(value)
            except Exception as error:  # an array of several values, for one
                raise SourceError(f"{here}: feature {name!r}: {first_line(error)}") from None
            if value is not None and not isinstance(value, str | int | float):
                raise SourceError(f"{here}: feature {name!r} is {type(value).__name__}, neither number, text nor time")
        return [values.get(name) for name in self.names]

    def _dense(self, x: Any, here: str) -> Any:
        x = x.detach() if hasattr(x, "detach") else x  # a tensor of torch with a gradient
        try:
            row = rows_of(np.asarray(x, dtype=None if hasattr(x, "dtype") else np.float64).reshape(1, -1), here)
        except (TypeError, ValueError):
            raise SourceError(f"{here}: x is {type(x).__name__}, neither an array of numbers nor a dict") from None
        self._require_form((row.shape[1], row.dtype.name), here)
        return row.copy()  # the callable may fill one array anew for each sample

    def _require_form(self, form: Any, here: str) -> None:
        """Raise `SourceError` unless this sample is like the first one."""
        self.form = self.form or (form,)
        if self.form != (form,):
            raise SourceError(f"{here}: is {form}, the first one was {self.form[0]}")

    def taken(self) -> Records:
        """Return the samples taken in since the last call."""
        if self.names is None:
            records = Records(y=self.y, x=np.concatenate(self.x))
        else:
            columns = [list(values) for values in zip(*self.x, strict=True)]
            records = Records(y=self.y, columns=dict(zip(self.names, columns, strict=True)))
        self.y, self.x = [], []
        return records


def _plain(value: Any) -> Any:
    """Return a value of a library's own type as Python's; times in seconds since 1970, UTC where they name no zone."""
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]")  # finer ones would become a bare number
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, date) and value == value:  # pandas' NaT is none
        return date_seconds(value)
    return None if isinstance(value, date) else value
