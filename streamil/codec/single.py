"""Single samples cut out of a record's bytes, as they were sent."""

from __future__ import annotations

import json
import re
from functools import cached_property

import pyarrow as pa

from streamil.codec._first_bytes import form_of
from streamil.errors import CodecError

_BETWEEN = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()


class Cut:
    """The samples of a record: a JSON list, or an Arrow stream; read once, whatever is asked for.

    Parameters
    ----------
    value
        The record.

    Examples
    --------
    >>> cut = Cut(b'[{"x": [1.0]}, {"x": [1e999], "y": 1}]')
    >>> cut.sample(1), cut.sample(2)
    (b'{"x": [1e999], "y": 1}', None)
    """

    def __init__(self, value: bytes) -> None:
        self._value = value

    def sample(self, index: int) -> bytes | None:
        """Return a record that holds one sample, or None where it cannot be cut out."""
        if self._batches is None:
            return self._elements[index] if index < len(self._elements) else None
        for batch in self._batches:
            if index < batch.num_rows:
                return _row(batch, index)
            index -= batch.num_rows
        return None

    @cached_property
    def _batches(self) -> list[pa.RecordBatch] | None:
        try:
            if form_of(self._value) != "arrow":
                return None
            return list(pa.ipc.open_stream(self._value, options=pa.ipc.IpcReadOptions(use_threads=False)))
        except (CodecError, ValueError, LookupError, pa.ArrowException, OSError, NotImplementedError):
            return []

    @cached_property
    def _elements(self) -> list[bytes]:
        """The bytes of the list's elements: not parsed and written anew, which would change their numbers."""
        elements: list[bytes] = []
        try:
            text = self._value.decode("utf-8-sig")
            end = _BETWEEN.match(text).end()  # type: ignore[union-attr]  # it matches nothing, too
            if text[end] != "[":
                return [text.encode()]
            end += 1
            while text[begin := _BETWEEN.match(text, end).end()] != "]":  # type: ignore[union-attr]
                _, end = _DECODER.raw_decode(text, begin)
                elements.append(text[begin:end].encode())
        except (ValueError, RecursionError, LookupError):
            pass  # the rest cannot be cut out
        return elements


def _row(batch: pa.RecordBatch, index: int) -> bytes | None:
    sink = pa.BufferOutputStream()
    try:
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch.slice(index, 1))
    except (ValueError, pa.ArrowException, OSError, NotImplementedError):
        return None
    return bytes(sink.getvalue())
