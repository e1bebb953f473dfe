"""Chunks of `Records`: cut, joined, taken by index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamil.errors import SourceError
from streamil.samples import Records

CHUNK = 256
"""Samples in a chunk that leaves this package; what a chunk costs in memory is this many samples."""

Values = TypeVar("Values", bound=Sequence[Any] | NDArray[Any])


def pack(records: Iterable[Records], samples_per_record: int) -> Iterator[Records]:
    """Yield the same samples in records of exactly `samples_per_record`, shorter at the end and before late labels.

    Late labels that follow one another stay one record each time.

    Examples
    --------
    >>> chunks = [Records(y=list("abc")), Records(y=list("de"))]
    >>> [list(record.y) for record in pack(chunks, 2)]
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    waiting: list[Records] = []
    count = 0
    for chunk in records:
        if chunk.late:
            if waiting:
                yield join(waiting)
                waiting, count = [], 0
            yield chunk
            continue
        first = 0
        while count + len(chunk) - first >= samples_per_record:
            last = first + samples_per_record - count
            yield join([*waiting, chunk[first:last]])
            waiting, count, first = [], 0, last
        if first < len(chunk):
            waiting.append(chunk[first:])
            count += len(chunk) - first
    if waiting:
        yield join(waiting)


def cut(records: Iterable[Records], size: int) -> Iterator[Records]:
    """Yield the same samples in chunks of at most `size`, without joining any."""
    for chunk in records:
        for first in range(0, len(chunk), size):
            yield chunk[first:first + size]


def limit(records: Iterable[Records], samples: int | None) -> Iterator[Records]:
    """Yield the first `samples` samples, all where it is None; take nothing more from the source."""
    left = samples
    for chunk in records:
        if left is None or chunk.late:
            yield chunk
            continue
        yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            return


def join(chunks: Sequence[Records]) -> Records:
    """Return the samples of all chunks, which are alike in what they hold."""
    if len(chunks) == 1:
        return chunks[0]
    first = chunks[0]
    return Records(
        y=[label for chunk in chunks for label in chunk.y],
        x=None if first.x is None else np.concatenate([_there(chunk.x) for chunk in chunks]),
        columns={name: _joined([chunk.columns[name] for chunk in chunks]) for name in first.columns},
        ids=None if first.ids is None else [one for chunk in chunks for one in _there(chunk.ids)],
        t=None if first.t is None else np.concatenate([_there(chunk.t) for chunk in chunks]),
        segment=None if first.segment is None else np.concatenate([_there(chunk.segment) for chunk in chunks]),
    )


def take(records: Records, rows: NDArray[np.int64]) -> Records:
    """Return the samples at `rows`, in that order."""
    places = rows.tolist()
    return Records(
        y=[records.y[row] for row in places],
        x=None if records.x is None else records.x[rows],
        columns={name: values[rows] if isinstance(values, np.ndarray) else [values[row] for row in places]
                 for name, values in records.columns.items()},
        ids=None if records.ids is None else [records.ids[row] for row in places],
        t=None if records.t is None else records.t[rows],
        segment=None if records.segment is None else records.segment[rows],
    )


def size_in_memory(records: Records) -> int:
    """Return about how many bytes the samples occupy."""
    cells = sum(values.nbytes if isinstance(values, np.ndarray) else 64 * len(values)
                for values in (records.y, *records.columns.values()))
    return cells + (records.x.nbytes if records.x is not None else 0)


def rows_of(x: NDArray[Any], where: str) -> NDArray[Any]:
    """Return dense inputs as [N, F] in a type that records may have: booleans become int8, byte order the machine's.

    Raises
    ------
    SourceError
        For anything that is not an array of at least two dimensions of such numbers.
    """
    if x.ndim < 2 or x.dtype.kind not in "biuf" or x.dtype.itemsize > 8:
        raise SourceError(f"{where}: inputs are {x.dtype} {list(x.shape)}, not numbers [N, F]")
    flat = x.reshape(len(x), int(np.prod(x.shape[1:])))
    if not flat.shape[1]:
        raise SourceError(f"{where}: inputs {list(x.shape)} have no feature")
    return flat.astype(np.int8) if x.dtype.kind == "b" else flat.astype(x.dtype.newbyteorder("="), copy=False)


def _joined(parts: Sequence[Sequence[Any] | NDArray[Any]]) -> Sequence[Any] | NDArray[Any]:
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate([np.asarray(part) for part in parts])
    return [value for part in parts for value in (part.tolist() if isinstance(part, np.ndarray) else part)]


def _there(values: Any) -> Any:
    assert values is not None, "chunks of one source are alike"
    return values
