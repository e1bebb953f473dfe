"""Parquet files, read piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamil.errors import SourceError
from streamil.experiment.features import Feature, NumberFeature, TimeFeature
from streamil.experiment.sources import TableSource
from streamil.kinds import inputs_of
from streamil.samples import Records
from streamil.streams.chunks import CHUNK, take
from streamil.streams.layout import BadRow, Layout, id_of, label_of, on_bad_row, segment_of, time_of
from streamil.streams.source import Opened, Skipped, unreadable
from streamil.values import arrow_values, decimal_number, readable

BATCH_BYTES = 8 << 20
"""Unpacked bytes after which a batch of rows ends before it is full; Python's values take several times that."""


def parquet(source: TableSource, path: Path, declared: Mapping[str, Feature]) -> Opened:
    """Open a Parquet file: numbers keep their type, times become seconds, dictionaries go by value.

    `declared` are the kinds of `stream.features`: a row with another value is a bad one.

    Raises
    ------
    SourceError
        When the file is absent or damaged, or has a column or row that is no sample's.
    """
    skipped = Skipped()
    return Opened(_chunks(source, path, declared, skipped), skipped=skipped)


def _chunks(source: TableSource, path: Path, declared: Mapping[str, Feature], skipped: Skipped) -> Iterator[Records]:
    try:
        # buffered and not ahead: memory for a piece of each column, not for whole row groups
        with pq.ParquetFile(path, buffer_size=1 << 16, pre_buffer=False) as file:
            schema = file.schema_arrow
            layout = Layout.of(source, schema.names, path, declared)
            _require_types(schema, layout, path, declared)
            checked = _checked(schema, layout, declared)
            read = {*layout.features, layout.label, layout.id, layout.time, layout.segment}
            wanted = [name for name in schema.names if name in read]
            row = 0
            for batch in file.iter_batches(_rows_at_once(file.metadata), columns=wanted, use_threads=False):
                yield from _records(batch, layout, checked, row, source, path, skipped)
                row += batch.num_rows
    except pa.ArrowException as error:
        reason = (str(error).splitlines() or ["?"])[0][:200]
        raise SourceError(f"{path}: not a whole Parquet file: {reason}") from None
    except OSError as error:
        raise unreadable(path, error) from None
    if row == skipped.count:
        raise SourceError(f"{path}: has no rows" + (f" but {row} bad ones" if row else ""))


def _rows_at_once(metadata: pq.FileMetaData) -> int:
    """Return the rows of a batch: fewer than a chunk's where rows are long."""
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    longest = max((group.total_byte_size / group.num_rows for group in groups if group.num_rows), default=1.0)
    return max(1, min(CHUNK, int(BATCH_BYTES / max(longest, 1.0))))


def _require_types(schema: pa.Schema, layout: Layout, path: Path, declared: Mapping[str, Feature]) -> None:
    for name in layout.features:
        kind, feature = schema.field(name).type, declared.get(name)
        if not (readable(kind) or pa.types.is_decimal(kind) or pa.types.is_string_view(kind)):
            raise SourceError(f"{path}: column {name!r} is {kind}, neither number, boolean, text nor time; "
                              f"leave it out: drop: [{name}]")
        if pa.types.is_temporal(kind) and isinstance(feature, TimeFeature) and feature.unit != "s":
            raise SourceError(f"{path}: column {name!r} is {kind}, which knows its own unit: leave unit out of "
                              f"stream.features.{name}")


def _checked(schema: pa.Schema, layout: Layout, declared: Mapping[str, Feature]) -> dict[str, Feature]:
    """Return the columns whose values may be bad, with what they should be."""
    number = NumberFeature(kind="number")
    floats = [name for name in layout.features
              if pa.types.is_floating(schema.field(name).type) or pa.types.is_decimal(schema.field(name).type)]
    return {**dict.fromkeys(floats, number), **declared}


def _records(batch: pa.RecordBatch, layout: Layout, checked: Mapping[str, Feature], first: int, source: TableSource,
             path: Path, skipped: Skipped) -> Iterator[Records]:
    bad: set[int] = set()

    def refuse(place: int, problem: BadRow | str) -> None:
        if place not in bad:
            on_bad_row(source, skipped, f"{path}: row {first + place + 1}", problem)
            bad.add(place)

    def read(name: str, reader: Callable[[Any], Any]) -> list[Any]:
        read_values: list[Any] = []
        for place, value in enumerate(_values(batch, name, path, listed=True)):
            try:
                read_values.append(reader(value))
            except BadRow as problem:
                read_values.append(None)
                refuse(place, problem)
        return read_values

    y = read(layout.label, label_of)
    ids = None if layout.id is None else read(layout.id, id_of)
    t = None if layout.time is None else np.array(read(layout.time, time_of), dtype=np.float64)
    segments = None if layout.segment is None else read(layout.segment, segment_of)
    columns = {name: _values(batch, name, path) for name in layout.features}
    wrong: dict[int, tuple[str, str]] = {}
    for name, feature in checked.items():
        inputs_of(name, feature).read(columns[name], wrong)
    for place, (_, detail) in sorted(wrong.items()):
        refuse(place, detail)
    records = Records(
        y=y, columns=columns, ids=ids, t=t,
        segment=None if segments is None else np.array([one or 0 for one in segments], dtype=np.int64))
    good = np.array([place for place in range(len(y)) if place not in bad], dtype=np.int64)
    if len(good):
        yield take(records, good) if bad else records


def _values(batch: pa.RecordBatch, name: str, path: Path, *, listed: bool = False) -> Any:
    array = batch.column(batch.schema.get_field_index(name))
    if pa.types.is_decimal(array.type):
        if listed:  # labels and identifiers: whole numbers of any size keep their digits
            return [None if value is None else decimal_number(value) for value in array.to_pylist()]
        # not by Arrow's cast, which gives the neighbour of the nearest float for one in seven of two decimals
        array = pa.array([None if value is None else float(value) for value in array.to_pylist()], pa.float64())
    if pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    try:
        values = arrow_values(array)
    except ValueError as error:
        raise SourceError(f"{path}: column {name!r}: {error}") from None
    return values.tolist() if listed and isinstance(values, np.ndarray) else values
