"""Arrow records: one IPC stream, dense `x` or one column per named feature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamil.codec._arrow_guard import require_sane
from streamil.codec._gather import Bad, Gather, require_cells, require_sample_count, taken
from streamil.errors import CodecError
from streamil.samples import Records
from streamil.values import Column, Seconds, arrow_values, readable

RESERVED = ("x", "y", "id", "t", "segment")
PREFIX = "features."
"""A column of this name and a feature's is that feature: the way for features that are called `x` or `t`."""
END = b"\xff\xff\xff\xff\0\0\0\0"
"""What ends an IPC stream."""

_ARROW_ERRORS = (pa.ArrowException, OSError, ValueError, TypeError, LookupError, NotImplementedError, MemoryError,
                 OverflowError)


def decode_arrow(data: bytes) -> Records:
    """Return the samples of an Arrow record; see `streamil.codec.decode`."""
    columns, total = _read(data, _require_columns)
    try:
        return _records(columns, total)
    except _ARROW_ERRORS as error:
        raise CodecError("arrow-damaged", _line(error)) from None


def arrow_documents(data: bytes) -> list[dict[str, Any]]:
    """Return the rows of an Arrow stream whose columns have names of somebody else's.

    Numbers, booleans, texts, dictionaries and lists of numbers (as arrays, nan for null) are read; a timestamp becomes
    `Seconds`. In a column of another type every cell is that type, which is neither label nor feature.

    Raises
    ------
    CodecError
        For a stream that is damaged or too large.
    """
    columns, _ = _read(data, _require_names)
    try:
        cells = [_cells(arrays) for arrays in columns.values()]
    except _ARROW_ERRORS as error:
        raise CodecError("arrow-damaged", _line(error)) from None
    return [dict(zip(columns, row, strict=True)) for row in zip(*cells, strict=True)]


def arrow_rows(data: bytes, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of an Arrow stream as plain values, of those columns that are wanted and there.

    Numbers, texts, dictionaries and lists of texts are read: a few bytes of others could fill the memory.

    Raises
    ------
    CodecError
        For a stream that is damaged or too large, or a column of another type.
    """
    columns, _ = _read(data, _require_names)
    there = [name for name in wanted if name in columns]
    for name in there:
        kind = columns[name][0].type
        if not readable(kind.value_type if _is_list(kind) and pa.types.is_string(kind.value_type) else kind):
            raise CodecError("wrong-shape", f"column {name} is {str(kind)[:80]}, neither number nor text nor a list of "
                                            "texts")
    try:
        cells = [[cell for array in columns[name] for cell in array.to_pylist()] if _is_list(columns[name][0].type)
                 else _listed(_joined(columns[name])) for name in there]
    except _ARROW_ERRORS as error:
        raise CodecError("arrow-damaged", _line(error)) from None
    return [dict(zip(there, row, strict=True)) for row in zip(*cells, strict=True)]


def _cells(arrays: list[pa.Array]) -> list[Any]:
    kind = arrays[0].type
    if isinstance(kind, pa.FixedShapeTensorType):
        kind, arrays = kind.storage_type, [_lists(array) for array in arrays]
    if _is_list(kind):
        if pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type):
            return [row.values.to_numpy(zero_copy_only=False) if row.is_valid else None
                    for array in arrays for row in array]
        return [kind] * sum(map(len, arrays))
    if not readable(kind):
        return [kind] * sum(map(len, arrays))
    values = _listed(_joined(arrays))
    return [None if value is None else Seconds(value) for value in values] if pa.types.is_timestamp(kind) else values


def _is_list(kind: pa.DataType) -> bool:
    return any(one(kind) for one in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _read(data: bytes, require: Callable[[pa.Schema, list[str]], None]) -> tuple[dict[str, list[pa.Array]], int]:
    """Return the columns of an Arrow stream that `require` accepts, and the number of its rows."""
    require_sane(data)
    try:
        # no Arrow threads: a record is small, and its memory is bounded by the walk before
        reader = pa.ipc.open_stream(data, options=pa.ipc.IpcReadOptions(use_threads=False))
        names = [field.name for field in reader.schema]
    except _ARROW_ERRORS as error:
        raise CodecError("arrow-damaged", _line(error)) from None
    require(reader.schema, names)
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
    require_cells(total, sum(name not in RESERVED for name in names))
    try:
        return {name: [batch.column(place) for batch in batches] for place, name in enumerate(names)}, total
    except _ARROW_ERRORS as error:
        raise CodecError("arrow-damaged", _line(error)) from None


def _require_names(schema: pa.Schema, names: list[str]) -> None:
    """Raise `CodecError` where two columns have one name."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise CodecError("wrong-shape", f"two columns are called {min(twice)[:40]!r}")


def _require_columns(schema: pa.Schema, names: list[str]) -> None:
    """Raise `CodecError` unless every column is of a type that is read in bounded memory."""
    features = [name for name in names if name not in RESERVED]
    _require_names(schema, [name for name in names if name in RESERVED])
    _require_names(schema, [name.removeprefix(PREFIX) for name in features])
    if "x" in names and features:
        raise CodecError("wrong-shape", f"a record has x or features, never both; it has x and {features[0][:40]!r}")
    if "x" not in names and not features and not {"id", "y"} <= set(names):
        raise CodecError("no-features", "neither a column x nor a column of a feature, nor late labels: id and y")
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
    late = all(name in RESERVED[1:] for name in columns)
    x, bad_rows = _dense(columns.pop("x")) if "x" in columns else (None, {})
    values = {name: _joined(arrays) for name, arrays in columns.items()}
    if late:
        bad_rows = _half_labels(values["y"], values["id"])
    y, *others = (values.pop(name, None) for name in RESERVED[1:])
    gathered = Gather()
    if bad_rows or not gathered.add_all([None] * total if y is None else y, *others):
        _one_by_one(gathered, [[None] * total if one is None else _listed(one) for one in (y, *others)], bad_rows)
    return gathered.records(
        None if x is None else _rows(x, gathered.index),
        {name.removeprefix(PREFIX): taken(column, gathered.index, total) for name, column in values.items()})


def _half_labels(y: Column, ids: Column) -> dict[int, Bad]:
    """Return which late labels lack one of the two, and why they are bad."""
    return {row: Bad("no-features", "a late label has an id and a y")
            for row, pair in enumerate(zip(_listed(y), _listed(ids), strict=True)) if None in pair}


def _one_by_one(gathered: Gather, beside: list[list[Any]], bad_rows: dict[int, Bad]) -> None:
    for row, values in enumerate(zip(*beside, strict=True)):
        try:
            if row in bad_rows:
                raise bad_rows[row]
            gathered.add(row, *values)
        except Bad as bad:
            gathered.reject(row, bad)


def _rows(x: NDArray[Any], index: list[int]) -> NDArray[Any]:
    return x if len(index) == len(x) else x[np.array(index, dtype=np.int64)]


def _dense(arrays: list[pa.Array]) -> tuple[NDArray[Any], dict[int, Bad]]:
    """Return x [N, F] in its own type, and why rows of it are bad."""
    parts: list[NDArray[Any]] = []
    bad: dict[int, Bad] = {}
    first = 0
    for array in arrays:
        part, null = _numbers(array)
        if null is not None or (part.dtype.kind == "f" and not np.isfinite(part).all()):
            null = np.zeros(part.shape, dtype=bool) if null is None else null
            wrong = null | ~np.isfinite(part) if part.dtype.kind == "f" else null
            for row in np.flatnonzero(wrong.any(axis=1)).tolist():
                place = int(np.argmax(wrong[row]))
                what = "null" if null[row, place] else part[row, place]
                bad[first + row] = Bad("not-finite", f"x[{place}] is {what}")
        parts.append(part)
        first += len(part)
    return parts[0] if len(parts) == 1 else np.concatenate(parts), bad


def _numbers(array: pa.Array) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Return the numbers of a column of lists [N, F], 0 where null, and where they are null, None if nowhere."""
    lists = _lists(array)
    size = lists.type.list_size
    shape = len(lists), size
    numbers = lists.values.slice(lists.offset * size, len(lists) * size)
    null = None
    if numbers.null_count or lists.null_count:
        null = (numbers.is_null().to_numpy(zero_copy_only=False).reshape(shape)
                | lists.is_null().to_numpy(zero_copy_only=False)[:, None])
        numbers = numbers.fill_null(0)
    return numbers.to_numpy(zero_copy_only=False).reshape(shape), null


def _lists(array: pa.Array) -> pa.Array:
    """Return a column of lists as it is, of tensors as lists: row by row, whatever the order they are stored in."""
    if not isinstance(array, pa.FixedShapeTensorArray):
        return array
    kind, lists = array.type, array.storage
    if kind.permutation is None or list(kind.permutation) == sorted(kind.permutation):
        return lists
    size = lists.type.list_size
    order = np.arange(size).reshape(kind.shape).transpose(kind.permutation).ravel()
    first = (lists.offset + np.arange(len(lists))) * size
    return pa.FixedSizeListArray.from_arrays(lists.values.take(pa.array((first[:, None] + order).ravel())), size,
                                             mask=lists.is_null())


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
    require_cells(len(records), len(records.columns))
    try:
        columns = _arrays(records)
        batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
        # what pa.ipc.new_stream would write, in a fifth of the time
        return b"".join((batch.schema.serialize(), batch.serialize(), END))
    except _ARROW_ERRORS as error:
        raise CodecError("wrong-shape", f"Arrow cannot hold these samples: {_line(error)}") from None


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
