"""From the messages of a topic to samples that can be learned, each once: what a record says of itself is checked."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from streamil.attachment.numbers import Numbers, advance, number, read_numbers, read_origin
from streamil.attachment.position import Position
from streamil.attachment.rejects import Rejects
from streamil.attachment.taken import NOTHING, Arrived, Taken, together
from streamil.codec.topic import Decoder
from streamil.errors import CodecError
from streamil.experiment.sources import TopicSource
from streamil.kafka import Message
from streamil.origin import WHOLE
from streamil.race import PIECE, Race
from streamil.samples import Rejected
from streamil.state_entries import entries
from streamil.streams.chunks import join
from streamil.telemetry.metrics import RaceMetrics


class Intake:
    """Turns messages into pieces to be learned, each sample once.

    Records of a streamil producer carry the ordinal of their first sample and the hash of their stream: samples taken
    in before are skipped and counted, a gap or another stream is an error; late labels are numbered likewise. On a
    topic that others fill the ordinal counts what arrives. Which of the two a topic is, the file says (source kind
    topic), or else its first record. A rejected sample that was put back (`streamil-origin`) keeps the ordinal that it
    had, and is learned once.

    Messages are taken one by one and come out together: a call of a learner costs the same for 1 sample and for 64.

    Parameters
    ----------
    race, metrics
        For whom, and what is counted beside it.
    rejects
        Takes what cannot be learned.
    decoder
        Reads records.
    until
        Samples that the race shall take in, in all: no more are handed out; None: no limit.

    Attributes
    ----------
    waiting
        Samples taken, but not handed out yet.
    """

    def __init__(self, race: Race, metrics: RaceMetrics, rejects: Rejects, decoder: Decoder,
                 until: int | None = None) -> None:
        self._race, self._metrics, self._rejects, self._decoder = race, metrics, rejects, decoder
        self._until = until
        self._others = isinstance(race.experiment.stream.source, TopicSource)
        self._stream_hash = race.experiment.stream_hash  # once: it costs as much as decoding a small record
        self._queue: list[Taken] = []
        self._out: Arrived | None = None
        self.begin(Position())

    def begin(self, position: Position) -> None:
        """Go on at a position."""
        self._next = self._position = self._resumed = position
        self._queue, self._out, self.waiting = [], None, 0

    @property
    def position(self) -> Position:
        """Where the first sample stands that is not dealt with."""
        return self._out.after if self._out is not None and self._out.learned else self._position

    def take(self, message: Message) -> None:
        """Decode a message and keep its new samples for `pieces`.

        Raises
        ------
        StreamMismatch
            When the record belongs to another stream, or samples between it and the record before are missing.
        """
        at = self._next._replace(offset=message.offset, row=0)
        self._next = at._replace(offset=message.offset + 1)  # and its ordinals, where the record is readable
        taken = self._taken(message, at)
        taken.behind = self._next
        self._queue.append(taken)
        self.waiting += len(taken.records)

    def _taken(self, message: Message, at: Position) -> Taken:
        taken = Taken(message, at)
        again = message.headers.get("streamil-origin")
        try:
            if again is not None:
                taken.origin, only = read_origin(again), message.headers.get("streamil-row")
                taken.only = None if only is None else number(only, "streamil-row")
                numbers = Numbers()
            else:
                numbers = self._numbers(message)
        except CodecError as error:
            return taken.rejecting(WHOLE, error)
        try:
            records = self._decoder(message.value, message.headers)
        except CodecError as error:
            if again is None:
                taken.start, _ = self._advance(message, numbers, numbers.labels or numbers.samples or 1,
                                               numbers.labels > 0)
            return taken.rejecting(WHOLE, error)
        taken.size = len(records) + len(records.rejected)
        try:
            taken.require_one()
        except CodecError as error:
            return taken.rejecting(WHOLE, error)
        places, known = records.places, 0
        if again is None:
            taken.start, known = self._advance(message, numbers, taken.size, records.late)
        taken.repeats = int(np.searchsorted(places, known)) if known > 0 else 0
        # of the record that was stopped in, the first samples were learned before the restart
        row = self._resumed.row if message.offset == self._resumed.offset else 0
        fed = int(np.searchsorted(places, row)) if row > 0 else 0
        bad = tuple(one for one in records.rejected if one.index >= known)
        return taken.holding(replace(records, index=places, rejected=bad), max(taken.repeats, fed))

    def pieces(self) -> Iterator[Arrived]:
        """Yield what was taken, to be learned in pieces; what is asked for next, or learned, is behind us.

        Samples with the same form come together. To stop early, leave the iterator.

        Raises
        ------
        TooManyRejects
            Behind the last of them.
        """
        queue, self._queue, self.waiting = self._queue, [], 0
        for run in together(queue):
            if run[0].origin is not None:
                self._restore_ordinal(run[0])
            for taken in run:
                self._metrics.repeats += taken.repeats
            yield from self._cut(run)
            last = run[-1]
            for one in last.records.rejected:
                self._reject(last, one, count=True)
                if len(last.records) and one.index < last.records.places[-1]:
                    self._rejects.good()  # one that stands behind it
            self._put_back(last)
            self._position = last.behind
            self._rejects.require_few()

    def _cut(self, run: list[Taken]) -> Iterator[Arrived]:
        held = [taken for taken in run if len(taken.records)]
        if not held:
            return
        records = replace(join([taken.records for taken in held]), index=None, rejected=())
        places = np.concatenate([taken.records.places for taken in held])
        owners = np.repeat(np.arange(len(held)), [len(taken.records) for taken in held])
        origin = np.array([held[owner].message.offset for owner in owners.tolist()], np.int64)
        records = replace(records, origin=np.stack((origin, places), axis=1))
        ordinals = np.concatenate([taken.start + taken.records.places for taken in held])
        first = 0
        while first < len(records):
            last = min(first + PIECE, len(records))
            if not records.late and self._until is not None:
                # Counted anew for each piece: a bad sample takes no place among those that are wanted.
                last = min(last, first + self._until - self._race.samples)
            assert last > first, "whoever wants no more leaves the iterator"
            owner = held[owners[last - 1]]
            done = last == len(records) or owners[last] != owners[last - 1]
            within = owner.at._replace(row=int(places[last - 1]) + 1)
            after = owner.behind if done and not owner.records.rejected else within
            self._out = Arrived(records[first:last], ordinals[first:last], after,
                                [held[one] for one in owners[first:last].tolist()], self.settle)
            yield self._out
            self._position, self._out = after, None
            self._rejects.require_few()
            first = last

    def settle(self, arrived: Arrived, rejected: tuple[Rejected, ...]) -> None:
        """Account for a piece that the race has taken in, but for what it has rejected."""
        now = time.time()
        for message, rows in itertools.groupby(arrived.taken, key=lambda one: one.message):
            self._metrics.observe_latency(message.timestamp_ms / 1000, now, sum(1 for _ in rows))
        behind = 0
        for one in rejected:
            assert arrived.records.origin is not None
            if one.index > behind:
                self._rejects.good()
            behind = one.index + 1
            place = int(arrived.records.origin[one.index, 1])
            self._reject(arrived.taken[one.index], replace(one, index=place), count=False)
        if behind < len(arrived):
            self._rejects.good()
        if arrived.after == arrived.taken[-1].behind:
            self._put_back(arrived.taken[-1])
        arrived.learned = True

    def _reject(self, taken: Taken, one: Rejected, *, count: bool) -> None:
        origin, ordinal = taken.origin, taken.start + max(one.index, 0)
        if origin is not None and origin.place == WHOLE != one.index:
            origin = origin._replace(place=one.index)  # what could not be read can be now, but for this sample
        elif origin is not None:
            taken.bad, ordinal = True, self._rejects.ordinal_of(origin) or ordinal
        self._rejects.add(taken.message, one.index, ordinal, one.reason, one.detail, count=count, origin=origin,
                          alone=taken.size == 1)

    def _put_back(self, taken: Taken) -> None:
        """Note that a record that was put back is dealt with, unless it was rejected again."""
        if taken.origin is not None and not taken.bad:
            self._rejects.learned(taken.origin)

    def _restore_ordinal(self, taken: Taken) -> None:
        """Give a sample that was put back its ordinal, or drop it where it is not one that we rejected."""
        assert taken.origin is not None
        ordinal = self._rejects.ordinal_of(taken.origin)
        if ordinal is None:
            taken.repeats, taken.records = max(1, len(taken.records)), NOTHING
            self._rejects.refuse(taken.message, taken.origin)
            taken.origin = None  # it is done with nothing of ours, which may have its offset and place
        elif taken.origin.place != WHOLE and len(taken.records):
            taken.start = ordinal - int(taken.records.places[0])
        else:
            taken.start = ordinal

    def _numbers(self, message: Message) -> Numbers:
        """Return what the record says of its place; nothing on a topic of others."""
        if self._others:
            return Numbers()
        numbered = {"streamil-stream", "streamil-seq"} <= message.headers.keys()
        if self._next.numbered is None:
            self._next = self._next._replace(numbered=numbered)
        if numbered != self._next.numbered:
            raise CodecError("foreign", "the record is numbered and its topic is not, or the other way round")
        if not numbered:
            return Numbers()
        return read_numbers(message.headers, self._stream_hash, self._where(message))

    def _advance(self, message: Message, numbers: Numbers, size: int, late: bool) -> tuple[int, int]:
        self._next, start, known = advance(self._next, numbers, size, late, self._where(message))
        return start, known

    def _where(self, message: Message) -> str:
        return f"topic {self._race.experiment.topic}, offset {message.offset}"

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        return self.position._asdict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the position of an earlier process; raise ValueError where it is none."""
        entries(state, Position._fields)
        whole = [state["offset"], state["row"], state["next_ordinal"] or 0, state["next_label"] or 0]
        known = state["numbered"] in (None, True, False)
        if not known or not all(type(value) is int and value >= 0 for value in whole):
            raise ValueError("numbers of 0 and above are allowed")
        self.begin(Position(**state))
