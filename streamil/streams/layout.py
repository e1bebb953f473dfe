"""Which column of a table is what; and rows that are bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamil.errors import SourceError
from streamil.experiment.features import Feature
from streamil.experiment.sources import TableSource
from streamil.experiment_file import nearest
from streamil.samples import label_text
from streamil.streams.source import Skipped
from streamil.values import number, time_seconds

COLUMNS_LIMIT = 100_000
"""Columns of the widest table; what has more is a file without line ends, or not in its delimiter."""


class BadRow(Exception):
    """A row that is no sample: what is wrong with it."""


@dataclass(frozen=True)
class Layout:
    """Names of the columns: features in the file's order, and those beside them."""

    features: tuple[str, ...]
    label: str
    id: str | None
    time: str | None
    segment: str | None

    @classmethod
    def of(cls, source: TableSource, names: Sequence[str], path: Path, declared: Mapping[str, Feature]) -> Layout:
        """Return the layout that the source's settings give a table with these column names.

        `declared` are the kinds of `stream.features`, which are of columns that are features.

        Raises
        ------
        SourceError
            For a name that is there twice, is empty or is not there, and a table without a feature.
        """
        if len(names) > COLUMNS_LIMIT:
            raise SourceError(f"{path}: has {len(names)} columns; the limit is {COLUMNS_LIMIT}")
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise SourceError(f"{path}: two columns are called {name[:80]!r}; give each column a name of its own")
            seen.add(name)
        beside = {"label": source.label, "id": source.id, "time": source.time, "segment": source.segment}
        wanted = [(key, name) for key, name in beside.items() if name is not None]
        wanted += [("columns", name) for name in source.columns or ()] + [("drop", name) for name in source.drop]
        wanted += [("stream.features", name) for name in declared]
        for key, name in wanted:
            if name not in seen:
                close = nearest(repr(name), [repr(one) for one in names])
                shown = ", ".join(repr(one) for one in names[:20]) + (", ..." if len(names) > 20 else "")
                raise SourceError(f"{path}: no column {name!r} ({key}){close}; it has {shown}")
        taken = {name for name in beside.values() if name is not None}
        for name in source.columns or ():
            if name in taken:
                raise SourceError(f"{path}: columns: {name!r} is the label, id, time or segment, hence no feature")
        listed = names if source.columns is None else source.columns
        features = [name for name in listed if name not in taken and name not in source.drop]
        for name in declared:
            if name not in features:
                raise SourceError(f"{path}: stream.features: {name!r} is the label, id, time or segment, or is left "
                                  "out, hence no feature")
        if not features:
            raise SourceError(f"{path}: no column is left as a feature, beside the label {source.label!r}")
        index = next((name for name in features if name.startswith("__index_level_") and name not in declared), None)
        if index is not None and source.columns is None:  # how pandas writes an index without a name
            raise SourceError(f"{path}: column {index!r} is the index of a table of pandas, like row numbers; leave it "
                              f"out: drop: [{index}], or say what it is: stream.features: {{{index}: number}}")
        if "" in features:
            raise SourceError(f"{path}: column {list(names).index('') + 1} has no name, like row numbers and what "
                              "follows a last delimiter; name it, or leave it out: drop: ['']")
        return cls(tuple(features), source.label, source.id, source.time, source.segment)


def on_bad_row(source: TableSource, skipped: Skipped, where: str, problem: BadRow | str) -> None:
    """End the run at a bad row, or count it, as the source was told.

    Raises
    ------
    SourceError
        Naming file, row, what is wrong, and the way out.
    """
    if source.on_bad_row == "fail":
        raise SourceError(f"{where}: {problem}; correct it, or set on_bad_row: skip") from None
    skipped.add(f"{where}: {problem}")


def label_of(value: object) -> str | None:
    """Return a label's text, or raise `BadRow`."""
    try:
        return label_text(value)
    except ValueError as error:
        raise BadRow(str(error)) from None


def id_of(value: object) -> str | None:
    """Return an identifier's text, or raise `BadRow`."""
    try:
        return label_text(value)
    except ValueError:
        raise BadRow(f"identifier {value!r} is neither a text nor a whole number") from None


def time_of(value: object) -> float:
    """Return an event time in seconds, nan where absent, or raise `BadRow`; a text may hold a number of seconds."""
    if value is None:
        return float("nan")
    seconds = number(value) if isinstance(value, str) else None
    try:
        return time_seconds(value if seconds is None else seconds)
    except ValueError as error:
        raise BadRow(f"time: {error}") from None


def segment_of(value: object) -> int:
    """Return a segment, 0 where absent, or raise `BadRow`."""
    text = "0" if value is None else str(value)
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise BadRow(f"segment {text[:40]!r} is not a whole number from 0")
    return int(text)
