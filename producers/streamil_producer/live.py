"""A live source: one that hands out samples when they come, and may be silent for long."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from streamil.samples import Records

WAITING = 64
"""Chunks that may wait between the source and the producer."""
LOOK_SECONDS = 0.1


def until_stopped(samples: Iterator[Records], stop: threading.Event) -> Iterator[Records]:
    """Yield a live source's samples as they come, and end at `stop`, even while the source is silent.

    The source is read by a thread of its own, since nothing else can leave a read that waits; what it raises comes out
    here.
    """
    waiting: queue.Queue[Records | BaseException | None] = queue.Queue(WAITING)
    over = threading.Event()

    def put(one: Records | BaseException | None) -> None:
        while not over.is_set():
            try:
                waiting.put(one, timeout=LOOK_SECONDS)
            except queue.Full:
                continue
            return

    def read() -> None:
        try:
            for records in samples:
                put(records)
                if over.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    threading.Thread(target=read, name="live-source", daemon=True).start()
    try:
        while not stop.is_set():
            try:
                one = waiting.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            if one is None:
                return
            if isinstance(one, BaseException):
                raise one
            yield one
    finally:
        over.set()
