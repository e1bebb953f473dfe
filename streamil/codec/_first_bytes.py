"""What a record's first bytes tell: which of the two forms it has, or the cause why it has neither."""

from __future__ import annotations

from typing import Literal

from streamil.errors import CodecError

RECORD_LIMIT = 64 << 20
"""Bytes of the largest record that is looked at; Kafka's own limits are far below."""


def require_value(data: bytes | None) -> bytes:
    """Return the record's value, or raise `CodecError` where there is none or too much of it."""
    if data is None:
        raise CodecError("null", "a tombstone: the record has no value")
    if len(data) > RECORD_LIMIT:
        raise CodecError("too-large", f"{len(data)} bytes; the limit is {RECORD_LIMIT}")
    return data


def form_of(data: bytes) -> Literal["arrow", "json"]:
    """Return which form the value has, or raise `CodecError` that names a recognisable third one."""
    if data[:4] == b"\xff\xff\xff\xff":
        return "arrow"
    if data[:6] == b"ARROW1":
        raise CodecError("arrow-file", "an Arrow file (ARROW1); an Arrow IPC stream is wanted")
    if data[:2] == b"\x1f\x8b":
        raise CodecError("gzip", "the value is gzip-compressed; compress in Kafka (compression.type) instead")
    if data[:1] == b"\x03" and data[1:2] in (b"\0", b"\5") and len(data) >= 18:
        raise CodecError("schema-registry", "the frame of AWS Glue's schema registry; send plain JSON or Arrow, or "
                                            "name a codec of your own (stream.source.codec)")
    if data[:1] == b"\x00" and len(data) >= 5 and data[1:3] not in (b"{\0", b"[\0"):  # these are UTF-16
        schema = int.from_bytes(data[1:5], "big")
        raise CodecError("schema-registry", f"schema-registry framing (schema {schema}); send plain JSON or Arrow, or "
                                            "name a codec of your own (stream.source.codec)")
    return "json"
