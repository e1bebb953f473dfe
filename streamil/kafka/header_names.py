"""Names of headers that are no UTF-8: other clients send any bytes, and kafka-python 3.0 would read no further."""

from __future__ import annotations

import re
from typing import Any

from kafka.record.util import decode_varint


def _ascii_names(buffer: bytearray, place: int) -> None:
    """Put a question mark for every byte beyond ASCII in the names of one record's headers."""
    for _ in ("length", "attributes", "time", "offset"):
        _, place = decode_varint(buffer, place)
    for _ in ("key", "value"):
        size, place = decode_varint(buffer, place)
        place += max(size, 0)
    count, place = decode_varint(buffer, place)
    for _ in range(count):
        size, place = decode_varint(buffer, place)
        buffer[place:place + size] = re.sub(rb"[\x80-\xff]", b"?", buffer[place:place + size])
        size, place = decode_varint(buffer, place + size)
        place += max(size, 0)


def read_any_name(batch: type[Any]) -> None:
    """Let a batch read its records whatever their headers are called."""
    read = batch._read_msg

    def read_once_more(self: Any) -> Any:
        try:
            return read(self)
        except UnicodeDecodeError:
            _ascii_names(self._buffer, self._pos)
            return read(self)

    batch._read_msg = read_once_more
