"""How much a regime may hold."""

from __future__ import annotations

from streamil.errors import SourceError

MEMORY_LIMIT = 8 << 30
"""Bytes of samples that one regime holds at most."""


def require_room(kind: str, size: int, way_out: str) -> None:
    """Raise `SourceError` where a regime has come to hold more than `MEMORY_LIMIT` bytes of samples."""
    if size > MEMORY_LIMIT:
        raise SourceError(f"{kind}: it has to hold samples, {MEMORY_LIMIT} bytes are full and the source goes on: "
                          f"{way_out}")
