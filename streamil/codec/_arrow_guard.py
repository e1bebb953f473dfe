"""Looks over an Arrow IPC stream before Arrow reads it: claims that a few bytes could make it allocate for are refused.

The library trusts the uncompressed length that stands before each compressed buffer and would allocate it. So the
messages are walked once, by the format's own tables (`Message.fbs`, Arrow columnar format 1.x): each message must lie
within the record, all lengths together below a limit, and nothing may follow the end of the stream.
"""

from __future__ import annotations

import struct

from streamil.errors import CodecError

EXPANDED_LIMIT = 8 << 20
"""Bytes that all compressed buffers of a record may claim to hold; text grows up to fourfold in Python."""
CONTINUATION = b"\xff\xff\xff\xff"

# header types of Message, and slots of its tables
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
_BUFFERS, _COMPRESSION = 2, 3
_DICTIONARY_DATA, _IS_DELTA = 1, 2


def require_sane(data: bytes) -> None:
    """Raise `CodecError` when the stream is cut, claims too much, or something follows it."""
    try:
        _walk(data)
    except struct.error:
        raise CodecError("arrow-damaged", "a message's metadata points outside itself") from None


def _walk(data: bytes) -> None:
    place, expanded = 0, 0
    while place < len(data):
        if data[place:place + 4] != CONTINUATION or place + 8 > len(data):
            if place and not data[place:].strip(b"\0"):
                return  # padding
            raise CodecError("arrow-damaged", f"no message where one should start, at byte {place}")
        size = struct.unpack_from("<i", data, place + 4)[0]
        place += 8
        if size == 0:
            if data[place:].strip(b"\0"):
                raise CodecError("trailing-data", f"{len(data) - place} bytes after the end of the Arrow stream")
            return
        if not 0 < size <= len(data) - place:
            raise CodecError("arrow-damaged", f"metadata of {size} bytes claimed, {len(data) - place} are there")
        message = _Table(data[place:place + size])
        place += size
        body_length = message.number(_BODY_LENGTH, "<q")
        if not 0 <= body_length <= len(data) - place:
            raise CodecError("arrow-damaged", f"a body of {body_length} bytes claimed, {len(data) - place} are there")
        expanded += _claimed(message, data[place:place + body_length])
        if expanded > EXPANDED_LIMIT:
            raise CodecError("too-large", f"compressed buffers claim {expanded} bytes; the limit is {EXPANDED_LIMIT}")
        place += body_length


def _claimed(message: _Table, body: bytes) -> int:
    """Return how many bytes the compressed buffers of a message say they hold."""
    kind = message.number(_HEADER_TYPE, "<B")
    if kind not in (_RECORD_BATCH, _DICTIONARY_BATCH):
        return 0
    batch = message.table(_HEADER)
    if kind == _DICTIONARY_BATCH:
        # deltas of deltas would be kept side by side, each longer than the one before
        if batch.number(_IS_DELTA, "<B"):
            raise CodecError("arrow-damaged", "delta dictionaries have no place in one record")
        batch = batch.table(_DICTIONARY_DATA)
    if not batch.offset(_COMPRESSION):
        return 0
    claimed = 0
    for start, length in batch.pairs(_BUFFERS):
        if length >= 8:
            if not 0 <= start <= len(body) - 8:
                raise CodecError("arrow-damaged", "a buffer outside its message's body")
            claimed += max(0, struct.unpack_from("<q", body, start)[0])  # -1: stored as it is
    return claimed


class _Table:
    """One flatbuffers table: reads of what is not there raise `struct.error`."""

    def __init__(self, data: bytes, place: int | None = None) -> None:
        self.data = data
        self.place = self._read("<I", 0) if place is None else place
        self.slots = self.place - self._read("<i", self.place)

    def _read(self, form: str, place: int) -> int:
        if place < 0:
            raise struct.error("before the start")
        value: int = struct.unpack_from(form, self.data, place)[0]
        return value

    def offset(self, slot: int) -> int:
        """Return where a slot's value stands, 0 where it is absent."""
        at = 4 + 2 * slot
        if at + 2 > self._read("<H", self.slots):
            return 0
        found = self._read("<H", self.slots + at)
        return self.place + found if found else 0

    def number(self, slot: int, form: str) -> int:
        found = self.offset(slot)
        return self._read(form, found) if found else 0

    def table(self, slot: int) -> _Table:
        found = self.offset(slot)
        if not found:
            raise struct.error("no table")
        return _Table(self.data, found + self._read("<I", found))

    def pairs(self, slot: int) -> list[tuple[int, int]]:
        """Return a vector of pairs of int64."""
        found = self.offset(slot)
        if not found:
            return []
        found += self._read("<I", found)
        count = self._read("<I", found)
        if count > len(self.data) // 16:
            raise struct.error("vector longer than its message")
        return [struct.unpack_from("<qq", self.data, found + 4 + 16 * i) for i in range(count)]
