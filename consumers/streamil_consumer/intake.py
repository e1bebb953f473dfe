"""From one message of a topic to the race: what it says of itself is checked, what cannot be used is counted."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamil.codec.topic import Decoder
from streamil.errors import CodecError, StreamMismatch
from streamil.experiment.sources import TopicSource
from streamil.kafka import Message
from streamil.race import PIECE, Race
from streamil.report.lines import REJECTS_TOLD
from streamil.samples import Records
from streamil.streams.chunks import join
from streamil.telemetry.metrics import RaceMetrics

LONGEST_ORDINAL = 18
"""Digits of an ordinal: more would not fit 64 bits."""


class Intake:
    """Feeds messages to a race, each sample once.

    Records of a streamil producer carry the ordinal of their first sample and the hash of their stream: samples taken
    in before are skipped and counted, a gap or another stream is an error; late labels are numbered likewise. On a
    topic that others fill the ordinal counts what arrives. Which of the two a topic is, the file says (source kind
    topic), or else its first record.

    Messages are taken one by one and fed together: a call of a learner costs the same for 1 sample and for 64.

    Parameters
    ----------
    race, metrics, stop
        What is fed, what is counted beside it, and what ends `feed` early.
    decoder
        Reads records.
    tell
        Takes one line about each of the first rejects.
    position
        Where to go on; None: at the first record that comes.

    Attributes
    ----------
    next_ordinal, next_label
        Ordinals of the next sample and of the next late label to take in; None before the first record.
    waiting
        Samples taken, but not fed yet.
    position
        Where the first sample stands that is not fed yet.
    """

    def __init__(self, race: Race, metrics: RaceMetrics, stop: threading.Event, decoder: Decoder,
                 tell: Callable[[str], None], position: Position | None = None) -> None:
        self._race, self._metrics, self._stop = race, metrics, stop
        self._decoder, self._tell = decoder, tell
        self._others = isinstance(race.experiment.stream.source, TopicSource)
        self.waiting = 0
        self.position = position or Position()
        self._told = 0
        self._last = self.position.offset - 1  # offset of the message taken last
        self._queue: list[Taken] = []
        self._numbered = self.position.numbered
        self.next_ordinal, self.next_label = self.position.next_ordinal, self.position.next_label
        self._resumed = self.position

    def take(self, message: Message) -> None:
        """Decode a message and keep its new samples for `feed`; a bad record or sample is counted.

        Raises
        ------
        StreamMismatch
            When the record belongs to another stream, or samples between it and the record before are missing.
        """
        before = Position(message.offset, 0, self.next_ordinal, self.next_label, self._numbered, message.offset)
        self._take(message, before)
        if not self._queue:
            self._move_behind(message.offset)
        self._last = message.offset

    def _take(self, message: Message, before: Position) -> None:
        try:
            numbers = self._numbers(message)
        except CodecError as error:
            self._reject(message, error.reason, error.detail)
            return
        try:
            records = self._decoder(message.value, message.headers)
        except CodecError as error:
            self._reject(message, error.reason, error.detail)
            self._advance(message, numbers, numbers.labels or numbers.samples or 1, numbers.labels > 0)
            return
        start, known = self._advance(message, numbers, len(records) + len(records.rejected), records.late)
        fresh = int(np.searchsorted(records.places, known))
        if message.offset >= self._resumed.counted:
            self._metrics.repeats += fresh
        if message.offset == self._resumed.offset:  # the first of its samples were fed before the restart
            fresh = max(fresh, int(np.searchsorted(records.places, self._resumed.row)))
        for rejected in records.rejected:
            if rejected.index >= known:
                self._reject(message, rejected.reason, rejected.detail)
        if fresh < len(records):
            sent = message.timestamp_ms / 1000
            self._queue.append(Taken(records[fresh:], records.places[fresh:], start, sent, before))
            self.waiting += len(records) - fresh

    def feed(self, until: int | None) -> None:
        """Feed the samples that wait, in pieces, until `stop` or until the race has taken so many in."""
        queue, self._queue, self.waiting = self._queue, [], 0
        for _, group in itertools.groupby(queue, key=lambda one: _form(one.records)):
            taken = list(group)
            records = join([one.records for one in taken])
            fed = self._feed(records, np.concatenate([one.start + one.places for one in taken]), until)
            now = time.time()
            for one in taken:
                self._metrics.observe_latency(one.sent, now, len(one.records))
                if fed < len(one.records):  # stopped here: the rest is left for the next start
                    self.position = one.at._replace(row=int(one.places[fed]), counted=self._last + 1)
                    return
                fed -= len(one.records)
        self._move_behind(self._last)

    def _move_behind(self, offset: int) -> None:
        self.position = Position(offset + 1, 0, self.next_ordinal, self.next_label, self._numbered, offset + 1)

    def _feed(self, records: Records, ordinals: NDArray[np.int64], until: int | None) -> int:
        """Return how many were fed."""
        count = len(records)
        while len(records) and not self._stop.is_set():
            # Counted anew after each piece: a bad sample takes no place among those that are wanted.
            left = PIECE if until is None else until - self._race.samples
            if left <= 0:
                break
            size = PIECE if records.late else min(PIECE, left)
            for one in self._race.feed(records[:size], ordinals[:size]):
                self._say(f"rejected ({one.reason}): {one.detail}")
            records, ordinals = records[size:], ordinals[size:]
        return count - len(records)

    def _reject(self, message: Message, reason: str, detail: str) -> None:
        if message.offset < self._resumed.counted:
            return
        self._race.rejected[reason] += 1
        self._say(f"offset {message.offset}: rejected ({reason}): {detail}")

    def _say(self, line: str) -> None:
        """Tell what is wrong with one of the first few rejects."""
        self._told += 1
        if self._told <= REJECTS_TOLD:
            self._tell(line)

    def _numbers(self, message: Message) -> Numbers:
        """Return what the record says of its place; nothing on a topic of others."""
        if self._others:
            return Numbers()
        stream, first, count, label, labels = (message.headers.get(f"streamil-{name}") for name in (
            "stream", "seq", "count", "label-seq", "label-count"))
        numbered = stream is not None and first is not None
        if self._numbered is None:
            self._numbered = numbered
        if numbered != self._numbered:
            raise CodecError("foreign", "the record is numbered and its topic is not, or the other way round")
        if stream is None or first is None:
            return Numbers()
        own = self._race.experiment.stream_hash
        if stream != own.encode():
            raise StreamMismatch(
                f"topic {self._race.experiment.topic}, offset {message.offset}: the record belongs to another stream "
                f"({stream[:32].decode('ascii', 'replace')!r}; this file's is {own!r}): source, seed or regimes "
                f"differ; use another stream.topic, or the file that it was published from")
        return Numbers(_ordinal(first), None if count is None else _ordinal(count),
                       None if label is None else _ordinal(label), 0 if labels is None else _ordinal(labels))

    def _advance(self, message: Message, numbers: Numbers, size: int, late: bool) -> tuple[int, int]:
        """Return the ordinal of the record's first sample or label, and how many of them were taken in before.

        Raises
        ------
        StreamMismatch
            When samples or labels between this record and the one before are missing.
        """
        sample = self._after(message, "sample", self.next_ordinal, numbers.first)
        label = self._after(message, "late label", self.next_label, numbers.label)
        self.next_ordinal = max(sample.expected, sample.start + (0 if late else size))
        self.next_label = max(label.expected, label.start + (size if late else 0))
        found = label if late else sample
        return found.start, found.expected - found.start

    def _after(self, message: Message, what: str, expected: int | None, first: int | None) -> Place:
        start = (expected or 0) if first is None else first
        if expected is None:
            expected = start
        if start > expected:
            raise StreamMismatch(
                f"topic {self._race.experiment.topic}, offset {message.offset}: {what} {start} follows {what} "
                f"{expected - 1}: {start - expected} of them are missing from the log; publish it to a new topic")
        return Place(start, expected)


class Position(NamedTuple):
    """A place in the log: what a resumed consumer needs to take in the next sample, and no sample twice.

    Attributes
    ----------
    offset, row
        Of the record that holds the next sample, and of the sample within it.
    next_ordinal, next_label
        Ordinals expected of that record.
    numbered
        Whether the topic's records are numbered; None before the first one.
    counted
        Rejects of records before this offset are counted.
    """

    offset: int = -1
    row: int = 0
    next_ordinal: int | None = None
    next_label: int | None = None
    numbered: bool | None = None
    counted: int = -1


class Taken(NamedTuple):
    """Samples of one message that wait: places in it, ordinal of its first, its time, and the position before it."""

    records: Records
    places: NDArray[np.int64]
    start: int
    sent: float
    at: Position


class Numbers(NamedTuple):
    """What a record of a streamil producer says of its place: ordinals of its first sample and label, and counts."""

    first: int | None = None
    samples: int | None = None
    label: int | None = None
    labels: int = 0


class Place(NamedTuple):
    """Where a record starts, and where the one before ended."""

    start: int
    expected: int


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
