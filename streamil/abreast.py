"""Calls at the same time, in threads, with answers in the order asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

Name = TypeVar("Name")
Answer = TypeVar("Answer")


def in_turn(call: Callable[[Name], Answer], names: Iterable[Name], abreast: Collection[Name], threads: int,
            ) -> Iterator[tuple[Name, Answer]]:
    """Yield each name with what the call answers to it, in order.

    Parameters
    ----------
    call
        What is called, once for each name.
    names
        What it is called with.
    abreast
        Those that threads take, from the first step on, while the thread that asks takes the others one by one.
    threads
        How many there are.

    Examples
    --------
    >>> list(in_turn(lambda name: name * 2, ["a", "b", "c"], ["a", "c"], threads=2))
    [('a', 'aa'), ('b', 'bb'), ('c', 'cc')]
    """
    if len(abreast) < 2 or threads < 2:
        yield from ((name, call(name)) for name in names)
        return
    begun = {name: _pool(threads).submit(call, name) for name in abreast}
    try:
        yield from ((name, begun[name].result() if name in begun else call(name)) for name in names)
    finally:
        wait(begun.values())  # after an error, too: nobody goes on behind the back of who asked


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "arm")
