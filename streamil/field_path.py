"""Where a field stands in a document of somebody else's shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator

KEYS_LIMIT = 64


def field_path(written: Any) -> tuple[str, ...]:
    """Return the keys that lead to a field, from the outside in.

    A text is cut at its dots; a list holds the keys themselves, for names that have dots.

    Raises
    ------
    ValueError
        For anything else, a key without a letter, and more than 64 keys.

    Examples
    --------
    >>> field_path("payload.after.amount"), field_path(["payload", "net.amount"])
    (('payload', 'after', 'amount'), ('payload', 'net.amount'))
    """
    keys = written.split(".") if isinstance(written, str) else written
    if not (isinstance(keys, Sequence) and 0 < len(keys) <= KEYS_LIMIT
            and all(isinstance(key, str) and key for key in keys)):
        raise ValueError("a path of a field is its keys with dots between them (payload.after.amount), or a list of "
                         "keys where one holds dots ([payload, net.amount])")
    return tuple(keys)


def dotted(path: Sequence[str]) -> str:
    """Return the path as one text, which is also the feature's name."""
    return ".".join(path)


FieldPath = Annotated[tuple[str, ...], BeforeValidator(field_path)]
