"""Answers that are made no more often than learning can afford."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

SHARE = 0.05
"""Of the time at most is spent on making one answer: learning waits meanwhile."""

PATIENCE_SECONDS = 0.5
"""What an answer waits for learning to pause; then the one before is given, for a record may take minutes."""

T = TypeVar("T")


class Busy(Exception):
    """Learning does not pause just now."""


@contextmanager
def paused(lock: threading.Lock) -> Iterator[None]:
    """Hold the lock that learning holds while it changes something; raise `Busy` where that takes too long."""
    if not lock.acquire(timeout=PATIENCE_SECONDS):
        raise Busy
    try:
        yield
    finally:
        lock.release()


class Sparing(Generic[T]):
    """A value that is made when it is asked for; who asks too soon, or while learning is busy, gets the last one.

    Examples
    --------
    >>> made = []
    >>> ask = Sparing(lambda: made.append(time.sleep(0.01)) or len(made))
    >>> ask(), ask()
    (1, 1)
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: tuple[T] | None = None
        self._again = 0.0

    def __call__(self) -> T:
        """Return the value, made now or a moment ago."""
        with self._lock:
            while self._made is None or time.monotonic() >= self._again:
                start = time.monotonic()
                try:
                    self._made = (self._make(),)
                except Busy:
                    if self._made is None:
                        continue
                else:
                    end = time.monotonic()
                    self._again = end + (end - start) / SHARE
                break
            return self._made[0]
