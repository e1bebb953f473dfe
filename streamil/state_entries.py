"""Entries of a state, read as bytes of a file deserve it: anything may stand in them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.errors import StateError


@contextmanager
def part(name: str) -> Iterator[None]:
    """Make whatever goes wrong with this part of a state a StateError that names it: bytes of a file may hold anything.

    Examples
    --------
    >>> with part("late labels"):
    ...     {}["names"]
    Traceback (most recent call last):
    streamil.errors.StateError: state of late labels: 'names' is missing
    """
    try:
        yield
    except StateError:
        raise
    except KeyError as error:
        raise StateError(f"state of {name}: {error} is missing") from None
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise StateError(f"state of {name}: {lines[0]}") from error


def entries(state: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Raise ValueError unless a part of a state has exactly these entries."""
    if not isinstance(state, Mapping):
        raise ValueError(f"{type(state).__name__} found, a mapping is allowed")
    for name in (*allowed, *state):
        if name not in state or name not in allowed:
            raise ValueError(f"{name!r} is {'missing' if name in allowed else 'unknown'}")


def whole(state: Mapping[str, Any], name: str) -> int:
    """Return the entry `name`, a whole number of 0 and above; raise ValueError for any other."""
    value = state[name]
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {str(value)[:40]}, a whole number of at least 0 is allowed")
    return value


def count_by(state: Mapping[str, Any], words: Collection[str]) -> dict[str, int]:
    """Return the count of each word, in the order of `words`."""
    entries(state, words)
    return {word: whole(state, word) for word in words}


def array(state: Mapping[str, Any], name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a copy of the array `name`; -1 in `shape` stands for any length. Raise ValueError where it does not fit.

    Examples
    --------
    >>> array({"rows": np.zeros((4, 2), np.int64)}, "rows", np.int64, (-1, 3))
    Traceback (most recent call last):
    ValueError: 'rows' is int64 of shape (4, 2), int64 of shape (-1, 3) is allowed
    """
    if name not in state:
        raise ValueError(f"{name!r} is missing, an array of shape {shape} is allowed")
    found = np.asarray(state[name])
    fits = found.ndim == len(shape) and all(want in (-1, have) for want, have in zip(shape, found.shape, strict=True))
    if not fits or found.dtype != dtype:
        raise ValueError(f"{name!r} is {found.dtype} of shape {found.shape}, {np.dtype(dtype)} of shape {shape} is "
                         "allowed")
    return found.copy()


def text(state: Mapping[str, Any], name: str) -> str:
    """Return the entry `name`, a text; raise ValueError for any other."""
    value = state[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is {type(value).__name__}, a text is allowed")
    return value


def texts(state: Mapping[str, Any], name: str) -> list[str]:
    """Return a copy of the entry `name`, a list of texts, each once; raise ValueError for any other."""
    values = state[name]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{name}: a list of texts is allowed")
    if len(set(values)) != len(values):
        raise ValueError(f"{name}: each text once is allowed")
    return list(values)
