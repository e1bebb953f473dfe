"""Arrow records: one IPC stream, dense `x` or one column per named feature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamil.codec._arrow_guard import require_sane
from streamil.codec._gather import Bad, Gather, require_sample_count, taken
from streamil.errors import CodecError
from streamil.samples import Records
from streamil.values import Column, arrow_values, readable

RESERVED = ("x", "y", "id", "t", "segment")
PREFIX = "features."
"""A column of this name and a feature's is that feature: the way for features that are called `x` or `t`."""

_ARROW_ERRORS = (pa.ArrowException, OSError, ValueError, TypeError, LookupError, NotImplementedError, MemoryError,
                 OverflowError)


def decode_arrow(data: bytes) -> Records:
    """Return the samples of an Arrow record; see `streamil.codec.decode`."""
    require_sane(data)
    try:
        # no Arrow threads: a record is small, and its memory is bounded by the walk before
        reader = pa.ipc.open_stream(data, options=pa.ipc.IpcReadOptions(use_threads=False))
        names = [field.name for field in reader.schema]
    except _ARROW_ERRORS as error:
        raise CodecError("arrow-damaged", _line(error)) from None
    _require_columns(reader.schema, names)
    batches, total = [], 0
    try:
        for batch in reader:
            total += batch.num_rows
            require_sample_count(total)
            batch.validate(full=True)
            batches.append(batch)
    except _ARROW_ERRORS as error:
        raise CodecError("arrow-damaged", _line(error)) from None
    if not total:
        raise CodecError("no-samples", "the Arrow stream holds no row")
    try:
        columns = {name: [batch.column(place) for batch in batches] for place, name in enumerate(names)}
        return _records(columns, total)
    except _ARROW_ERRORS as error:
        raise CodecError("arrow-damaged", _line(error)) from None


def _require_columns(schema: pa.Schema, names: list[str]) -> None:
    """Raise `CodecError` unless every column is of a type that is read in bounded memory."""
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twice:
        raise CodecError("wrong-shape", f"two columns are called {min(twice)!r}")
    features = [name for name in names if name not in RESERVED]
    if "x" in names and features:
        raise CodecError("wrong-shape", f"a record has x or features, never both; it has x and {features[0][:40]!r}")
    if "x" not in names and not features:
        raise CodecError("no-features", "neither a column x nor a column of a feature")
    for field in schema:
        kind = field.type
        if field.name == "x":
            storage = kind.storage_type if isinstance(kind, pa.FixedShapeTensorType) else kind
            if not pa.types.is_fixed_size_list(storage) or not (
                    pa.types.is_integer(storage.value_type) or pa.types.is_floating(storage.value_type)):
                raise CodecError("wrong-shape", f"column x is {str(kind)[:80]}, not a fixed-size list or fixed-shape "
                                                f"tensor of numbers; a feature of that name is sent as {PREFIX}x")
            if storage.list_size < 1:
                raise CodecError("no-features", "column x holds lists of no number")
        elif not readable(kind):
            raise CodecError("wrong-shape", f"column {field.name[:40]!r} is {str(kind)[:80]}, neither number, boolean, "
                                            "text, timestamp, date nor a dictionary of these")


def _records(columns: dict[str, list[pa.Array]], total: int) -> Records:
    x, bad_rows = _dense(columns.pop("x")) if "x" in columns else (None, {})
    values = {name: _joined(arrays) for name, arrays in columns.items()}
    missing = [None] * total
    y, ids, t, segment = (_listed(values.pop(name, missing)) for name in RESERVED[1:])
    gathered = Gather()
    for row in range(total):
        try:
            if row in bad_rows:
                raise Bad("not-finite", bad_rows[row])
            gathered.add(row, y[row], ids[row], t[row], segment[row])
        except Bad as bad:
            gathered.reject(row, bad)
    return gathered.records(
        None if x is None else _rows(x, gathered.index),
        {name.removeprefix(PREFIX): taken(column, gathered.index, total) for name, column in values.items()})


def _rows(x: NDArray[Any], index: list[int]) -> NDArray[Any]:
    return x if len(index) == len(x) else x[np.array(index, dtype=np.int64)]


def _dense(arrays: list[pa.Array]) -> tuple[NDArray[Any], dict[int, str]]:
    """Return x [N, F] in its own type, and why rows of it are bad."""
    parts, nulls = [], []
    for array in arrays:
        lists = array.storage if isinstance(array, pa.FixedShapeTensorArray) else array
        size = lists.type.list_size
        numbers = lists.values.slice(lists.offset * size, len(lists) * size)
        null = np.zeros((len(lists), size), dtype=bool)
        if numbers.null_count or lists.null_count:
            null = (numbers.is_null().to_numpy(zero_copy_only=False).reshape(null.shape)
                    | lists.is_null().to_numpy(zero_copy_only=False)[:, None])
            numbers = numbers.fill_null(0)
        parts.append(numbers.to_numpy(zero_copy_only=False).reshape(null.shape))
        nulls.append(null)
    x, null = (parts[0], nulls[0]) if len(parts) == 1 else (np.concatenate(parts), np.concatenate(nulls))
    wrong = null | ~np.isfinite(x) if x.dtype.kind == "f" else null
    bad: dict[int, str] = {}
    if wrong.any():
        for row in np.flatnonzero(wrong.any(axis=1)).tolist():
            place = int(np.argmax(wrong[row]))
            bad[row] = f"x[{place}] is {'null' if null[row, place] else x[row, place]}"
    return x, bad


def _joined(arrays: list[pa.Array]) -> Column:
    parts = [arrow_values(array) for array in arrays]
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate([np.asarray(part) for part in parts])
    return [value for part in parts for value in _listed(part)]


def _listed(values: Column) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def encode_arrow(records: Records) -> bytes:
    """Return an Arrow record of the samples; see `streamil.codec.encode`."""
    try:
        columns = _arrays(records)
        batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
    except _ARROW_ERRORS as error:
        raise CodecError("wrong-shape", f"Arrow cannot hold these samples: {_line(error)}") from None
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _arrays(records: Records) -> dict[str, pa.Array]:
    columns: dict[str, pa.Array] = {}
    if records.x is not None:
        native = records.x.astype(records.x.dtype.newbyteorder("="), copy=False)
        columns["x"] = pa.FixedSizeListArray.from_arrays(pa.array(native.reshape(-1)), records.x.shape[1])
    for name, values in records.columns.items():
        escape = name in RESERVED or name.startswith(PREFIX)
        columns[f"{PREFIX}{name}" if escape else name] = pa.array(values)
    columns["y"] = pa.array(records.y, pa.string())
    if records.ids is not None:
        columns["id"] = pa.array(records.ids, pa.string())
    if records.t is not None:
        columns["t"] = pa.array(records.t, mask=np.isnan(records.t))
    if records.segment is not None:
        columns["segment"] = pa.array(records.segment)
    return columns


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
