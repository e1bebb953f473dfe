"""What a snapshot holds, in lines, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from streamil.errors import SnapshotError
from streamil.printable import printable
from streamil.snapshot.folder import read_snapshot

_SHOWN = (dict, list, bytes, np.ndarray, Tensor)
"""What a list is taken apart for."""


class Entry(NamedTuple):
    """A value in a state: its place, shape, type, and bytes (0 for what is no array, tensor or bytes)."""

    name: str
    shape: str
    type: str
    bytes: int


def inspect(path: Path) -> list[str]:
    """Return the lines of `streamil snapshot inspect`: the meta, then a table of the entries.

    Raises
    ------
    SnapshotError
        When the file cannot be read or is no whole snapshot.
    """
    state, meta = read_snapshot(path)
    width = max((len(printable(key)) for key in meta), default=0)
    lines = [f"{printable(key):{width}}  {printable(str(value))}" for key, value in meta.items()]
    rows = list(entries(state))
    table = [("name", "shape", "type", "bytes"), *((row.name, row.shape, row.type, f"{row.bytes:,}") for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines += ["", *(f"{name:{widths[0]}}  {shape:{widths[1]}}  {kind:{widths[2]}}  {size:>{widths[3]}}"
                    for name, shape, kind, size in table)]
    return [*lines, "", _counted(rows)]


def verify(paths: Iterable[Path]) -> Iterator[tuple[bool, str]]:
    """Yield for each file whether it is a whole snapshot, and a line that says so or why not."""
    for path in paths:
        try:
            state, _ = read_snapshot(path)
        except SnapshotError as error:
            yield False, printable(str(error))
        else:
            yield True, f"{printable(str(path))}: whole, {_counted(list(entries(state)))}"


def entries(state: Any, name: str = "") -> Iterator[Entry]:
    """Yield what a state holds, in order; a list without containers or arrays in it is one entry.

    Examples
    --------
    >>> for entry in entries({"arm": {"w": np.zeros((2, 3), np.float32), "seen": [1, 2]}}):
    ...     print(*entry, sep=", ")
    arm.w, 2 x 3, array float32, 24
    arm.seen, 2, list, 0
    """
    if isinstance(state, dict) and state:
        for key, value in state.items():
            yield from entries(value, f"{name}.{printable(key)}" if name else printable(key))
    elif isinstance(state, list) and any(isinstance(value, _SHOWN) for value in state):
        for index, value in enumerate(state):
            yield from entries(value, f"{name}[{index}]")
    elif isinstance(state, np.ndarray):
        yield Entry(name, _shape(state.shape), f"array {state.dtype}", state.nbytes)
    elif isinstance(state, Tensor):
        yield Entry(name, _shape(state.shape), f"tensor {str(state.dtype).removeprefix('torch.')}", state.nbytes)
    elif isinstance(state, bytes):
        yield Entry(name, str(len(state)), "bytes", len(state))
    else:
        yield Entry(name, str(len(state)) if isinstance(state, dict | list) else "", type(state).__name__, 0)


def _shape(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape)) or "scalar"


def _counted(rows: list[Entry]) -> str:
    return f"{len(rows):,} entries, {sum(row.bytes for row in rows):,} bytes of arrays"
