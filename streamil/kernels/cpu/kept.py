"""Kernels compiled once for a machine: kept on disk, under a key that all of their sources are part of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

from streamil.kernels.cpu.products import COMPILED


def kept(make: Callable[[str], Callable[..., None]]) -> Any:
    """Compile what `make` returns when it is first needed, and keep it on disk.

    `make` gets a hash of all sources, which what it returns has to hold: numba looks at one file alone, and at the
    values that a function holds.
    """
    files = sorted(Path(__file__).parent.glob("*.py"))
    function = make(hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest())
    options = COMPILED | {"no_cpython_wrapper": False, "forceinline": False}
    try:
        return njit(**options, cache=True)(function)
    except RuntimeError:  # there is no folder to keep it in: each process compiles it
        return njit(**options)(function)
