"""From one message of a topic to the race: what it says of itself is checked, what cannot be used is counted."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.codec.topic import Decoder
from streamil.errors import CodecError, StreamMismatch
from streamil.experiment import TopicSource
from streamil.kafka import Message
from streamil.race import PIECE, Race
from streamil.samples import Records
from streamil.streams.chunks import join
from streamil.telemetry.metrics import RaceMetrics

REJECTS_TOLD = 5
LONGEST_ORDINAL = 18
"""Digits of an ordinal: more would not fit 64 bits."""


class Intake:
    """Feeds messages to a race, each sample once.

    Records of a streamil producer carry the ordinal of their first sample and the hash of their stream: samples taken
    in before are skipped and counted, a gap or another stream is an error. On a topic that others fill the ordinal
    counts what arrives. Which of the two a topic is, the file says (source kind topic), or else its first record.

    Messages are taken one by one and fed together: a call of a learner costs the same for 1 sample and for 64.

    Parameters
    ----------
    race, metrics, stop
        What is fed, what is counted beside it, and what ends `feed` early.
    decoder
        Reads records.
    tell
        Takes one line about each of the first rejects.

    Attributes
    ----------
    next_ordinal
        Ordinal of the next sample to take in; None before the first record.
    waiting
        Samples taken, but not fed yet.
    """

    def __init__(self, race: Race, metrics: RaceMetrics, stop: threading.Event, decoder: Decoder,
                 tell: Callable[[str], None]) -> None:
        self._race, self._metrics, self._stop = race, metrics, stop
        self._decoder, self._tell = decoder, tell
        self._others = isinstance(race.experiment.stream.source, TopicSource)
        self.next_ordinal: int | None = None
        self.waiting = 0
        self._told = 0
        self._queue: list[tuple[Records, NDArray[np.int64], float]] = []
        self._numbered: bool | None = None

    def take(self, message: Message) -> None:
        """Decode a message and keep its new samples for `feed`; a bad record or sample is counted.

        Raises
        ------
        StreamMismatch
            When the record belongs to another stream, or samples between it and the record before are missing.
        """
        try:
            first, count = self._numbers(message)
        except CodecError as error:
            self._reject(message, error.reason, error.detail)
            return
        try:
            records = self._decoder(message.value, message.headers)
        except CodecError as error:
            self._reject(message, error.reason, error.detail)
            self._advance(message, first, count or 1)
            return
        start, known = self._advance(message, first, len(records) + len(records.rejected))
        fresh = int(np.searchsorted(records.places, known))
        self._metrics.repeats += fresh
        for rejected in records.rejected:
            if rejected.index >= known:
                self._reject(message, rejected.reason, rejected.detail)
        if fresh < len(records):
            self._queue.append((records[fresh:], start + records.places[fresh:], message.timestamp_ms / 1000))
            self.waiting += len(records) - fresh

    def feed(self, until: int | None) -> None:
        """Feed the samples that wait, in pieces, until `stop` or until the race has taken so many in."""
        queue, self._queue, self.waiting = self._queue, [], 0
        for _, group in itertools.groupby(queue, key=lambda one: _form(one[0])):
            parts, places, sent = zip(*group, strict=True)
            self._feed(join(parts), np.concatenate(places), until)
            now = time.time()
            for one, when in zip(parts, sent, strict=True):
                self._metrics.observe_latency(when, now, len(one))

    def _feed(self, records: Records, ordinals: NDArray[np.int64], until: int | None) -> None:
        while len(records) and not self._stop.is_set():
            # Counted anew after each piece: a bad sample takes no place among those that are wanted.
            size = PIECE if until is None else min(PIECE, until - self._race.samples)
            if size <= 0:
                return
            for one in self._race.feed(records[:size], ordinals[:size]):
                self._say(f"rejected ({one.reason}): {one.detail}")
            records, ordinals = records[size:], ordinals[size:]

    def _reject(self, message: Message, reason: str, detail: str) -> None:
        self._race.rejected[reason] += 1
        self._say(f"offset {message.offset}: rejected ({reason}): {detail}")

    def _say(self, line: str) -> None:
        """Tell what is wrong with one of the first few rejects."""
        self._told += 1
        if self._told <= REJECTS_TOLD:
            self._tell(line)

    def _numbers(self, message: Message) -> tuple[int | None, int | None]:
        """Return the ordinal of the record's first sample and its number of samples, or None on a topic of others."""
        if self._others:
            return None, None
        stream, first, count = (message.headers.get(f"streamil-{name}") for name in ("stream", "seq", "count"))
        numbered = stream is not None and first is not None
        if self._numbered is None:
            self._numbered = numbered
        if numbered != self._numbered:
            raise CodecError("foreign", "the record is numbered and its topic is not, or the other way round")
        if stream is None or first is None:
            return None, None
        own = self._race.experiment.stream_hash
        if stream != own.encode():
            raise StreamMismatch(
                f"topic {self._race.experiment.topic}, offset {message.offset}: the record belongs to another stream "
                f"({stream[:32].decode('ascii', 'replace')!r}; this file's is {own!r}): source, seed or regimes "
                f"differ; use another stream.topic, or the file that it was published from")
        return _ordinal(first), None if count is None else _ordinal(count)

    def _advance(self, message: Message, first: int | None, size: int) -> tuple[int, int]:
        """Return the ordinal of the record's first sample, and how many of its samples were taken in before.

        Raises
        ------
        StreamMismatch
            When samples between this record and the one before are missing.
        """
        expected = self.next_ordinal
        start = (expected or 0) if first is None else first
        if expected is None:
            expected = start
        if start > expected:
            raise StreamMismatch(
                f"topic {self._race.experiment.topic}, offset {message.offset}: sample {start} follows sample "
                f"{expected - 1}: {start - expected} samples are missing from the log; publish it to a new topic")
        self.next_ordinal = max(expected, start + size)
        return start, expected - start


def _ordinal(text: bytes) -> int:
    """Return the number that a header holds."""
    if not text.isdigit() or len(text) > LONGEST_ORDINAL:
        raise CodecError("foreign", f"header streamil-seq or streamil-count is {text[:32]!r}, not a number")
    return int(text)


def _form(records: Records) -> tuple[Any, ...]:
    """Return what must be equal for records to be joined without changing a value."""
    def kind(values: Any) -> Any:
        return (values.dtype, values.shape[1:]) if isinstance(values, np.ndarray) else type(values)

    columns = tuple(sorted((name, str(kind(values))) for name, values in records.columns.items()))
    return kind(records.x), columns, records.segment is None, records.t is None, records.ids is None
