"""One sample cut out of a record's bytes, as it was sent."""

from __future__ import annotations

import json
import re

import pyarrow as pa

from streamil.codec._first_bytes import form_of
from streamil.errors import CodecError

_BETWEEN = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()


def single(value: bytes, index: int) -> bytes | None:
    """Return a record that holds one sample of another record, or None where it cannot be cut out.

    Parameters
    ----------
    value
        A record: a JSON list, or an Arrow stream.
    index
        Place of the sample in it.

    Examples
    --------
    >>> single(b'[{"x": [1.0]}, {"x": [1e999], "y": 1}]', 1)
    b'{"x": [1e999], "y": 1}'
    >>> single(b'{"x": [1.0]}', 1) is None
    True
    """
    try:
        return _row(value, index) if form_of(value) == "arrow" else _element(value.decode(), index)
    except (CodecError, ValueError, RecursionError, LookupError, pa.ArrowException, OSError, NotImplementedError):
        return None


def _element(text: str, index: int) -> bytes | None:
    """Return the bytes of an element of a JSON list: not parsed and written anew, which would change its numbers."""
    start = _BETWEEN.match(text).end()  # type: ignore[union-attr]  # it matches nothing, too
    if text[start] != "[":
        return text.encode() if index == 0 else None
    end = start + 1
    for place in range(index + 1):
        begin = _BETWEEN.match(text, end).end()  # type: ignore[union-attr]
        _, end = _DECODER.raw_decode(text, begin)
        if place == index:
            return text[begin:end].encode()
    return None


def _row(value: bytes, index: int) -> bytes | None:
    reader = pa.ipc.open_stream(value, options=pa.ipc.IpcReadOptions(use_threads=False))
    for batch in reader:
        if index < batch.num_rows:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, reader.schema) as writer:
                writer.write_batch(batch.slice(index, 1))
            return bytes(sink.getvalue())
        index -= batch.num_rows
    return None
