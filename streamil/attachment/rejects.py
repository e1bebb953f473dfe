"""What was rejected: counted, told, and written to the dead letters with its origin; put back, it is learned once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from streamil.attachment.outbox import Letter, Outbox
from streamil.codec.single import Cut
from streamil.errors import TooManyRejects
from streamil.kafka import Message
from streamil.log import Event, Tell
from streamil.origin import WHOLE, Origin
from streamil.race import Race
from streamil.report.lines import REJECTS_TOLD
from streamil.state_entries import array, entries, text, whole

REMEMBERED = 100_000
"""Rejected samples that can be put back: past that the oldest are forgotten, and refused when they come again."""
MORE_BYTES = 64 << 10
"""Room that a dead letter has beyond its record, for the headers that say where it came from and why."""
DETAIL = 500
"""Letters of the detail that a dead letter carries."""
COPIES = 16
"""How many times its record's bytes the letters of its samples may take: past that they are shortened. Where samples
cannot be cut out each letter holds the whole record, and one of a megabyte could become gigabytes."""
SHORT_BYTES = 1024
OWN = frozenset(f"streamil-{name}" for name in (
    "origin", "reason", "detail", "experiment", "topic", "partition", "offset", "index", "time", "row"))
"""Headers of a dead letter that are not those of its record."""
SHORTENED = "streamil-shortened"
"""Header of a letter that was too large: how many bytes its record has."""


class Rejects:
    """Keeps the account of what was rejected; part of a snapshot.

    Parameters
    ----------
    race
        Whose `rejected` counts by reason; its file says how many in a row `require_few` allows.
    topic
        Where they come from.
    outbox
        Where dead letters go; None: they are counted and told, and not kept.
    tell
        Takes one line about each of the first rejects.
    cut
        Whether one sample can be cut out of a record's bytes: the record is a list of samples.
    accepted
        Let the rejects that come next pass, however many, until a good sample comes.

    Attributes
    ----------
    topic_id, partition, max_message_bytes
        Of the topic that is read, set when it is opened.
    in_a_row
        Rejects since the last good sample.
    """

    def __init__(self, race: Race, topic: str, outbox: Outbox | None, tell: Tell, *, cut: bool = True,
                 accepted: bool = False) -> None:
        self._race, self._topic, self.outbox, self._tell = race, topic, outbox, tell
        self._limit = race.experiment.service.max_consecutive_rejects
        self._cut = cut
        self.topic_id, self.partition, self.max_message_bytes = "", 0, 1 << 20
        self._accepted = accepted
        self.in_a_row = 0
        self._first = ""
        self._told = 0
        self._open: OrderedDict[tuple[int, int], int] = OrderedDict()  # offset, index -> ordinal
        self._of: Message | None = None  # the record that the newest reject stands in
        self._samples: Cut | None = None
        self._room = 0

    def add(self, message: Message, index: int, ordinal: int, reason: str, detail: str, *, count: bool,
            origin: Origin | None = None, alone: bool = False) -> None:
        """Account for one reject.

        Parameters
        ----------
        message, index
            The record that it stands in, and its place there, or `WHOLE`.
        ordinal
            Of the sample, or of the record's first.
        reason, detail
            Why.
        count
            Whether the race has not counted it itself.
        origin
            Where it came from first, if it was put back before.
        alone
            Whether it is all that its record holds.
        """
        if count:
            self._race.rejected[reason] += 1
        line = f"offset {message.offset}: rejected ({reason}): {detail}"
        if not self.in_a_row:
            self._first = line
        self.in_a_row += 1
        self._say(Event(line, level="warning", offset=message.offset, index=index, reason=reason))
        origin = origin or Origin(self.topic_id, self.partition, message.offset, index)
        self._open[origin.offset, origin.place] = ordinal
        self._open.move_to_end((origin.offset, origin.place))
        if len(self._open) > REMEMBERED:
            self._open.popitem(last=False)
        if self.outbox is not None:
            self.outbox.put(self._letter(message, index, origin, reason, detail, alone))

    def good(self) -> None:
        """Note that a good sample came."""
        self.in_a_row, self._accepted = 0, False

    def require_few(self) -> None:
        """Raise TooManyRejects when the limit on rejects in a row is passed."""
        if self._limit is not None and self.in_a_row > self._limit and not self._accepted:
            where = f"topic {self._topic!r}"
            kept = f"; they are in topic {self.outbox.topic!r}" if self.outbox is not None else ""
            raise TooManyRejects(
                f"{where}: {self.in_a_row} rejects in a row, more than service.max_consecutive_rejects "
                f"({self._limit}); the first, {self._first}{kept}: correct the file or the topic, or pass over them "
                "with --accept-rejects")

    def ordinal_of(self, origin: Origin) -> int | None:
        """Return the ordinal of a rejected sample that was put back, None where it is not known, or learned already."""
        if origin.topic_id != self.topic_id or origin.partition != self.partition:
            return None
        return self._open.get((origin.offset, origin.place))

    def refuse(self, message: Message, origin: Origin) -> None:
        """Tell of a sample that was put back, and that is not one of those that were rejected."""
        self._say(Event(f"offset {message.offset}: passed over: {origin} was put back, but it is none of the "
                        f"{len(self._open)} rejects that are remembered: learned already, or never rejected here",
                        level="warning", offset=message.offset))

    def learned(self, origin: Origin) -> None:
        """Note that a sample that was put back has been learned."""
        self._open.pop((origin.offset, origin.place), None)

    def _say(self, event: Event) -> None:
        self._told += 1
        if self._told <= REJECTS_TOLD:
            self._tell(event)

    def _letter(self, message: Message, index: int, origin: Origin, reason: str, detail: str, alone: bool) -> Letter:
        if message is not self._of:
            self._of, self._room = message, COPIES * Letter(message.value, message.headers, message.key).size
            self._samples = Cut(message.value) if self._cut and message.value is not None else None
        value, more = message.value, {}
        if index != WHOLE and not alone:
            value = self._samples.sample(index) if self._samples is not None else None
            if value is None:  # it cannot be cut out: the whole record, and which of its samples is meant
                value, more = message.value, {"streamil-row": str(index).encode()}
        said = {"origin": str(origin), "reason": reason, "detail": detail[:DETAIL],
                "experiment": self._race.experiment.name, "topic": self._topic, "partition": str(self.partition),
                "offset": str(origin.offset), "index": str(origin.place), "time": str(message.timestamp_ms)}
        own = {f"streamil-{name}": value.encode("utf-8", "backslashreplace") for name, value in said.items()}
        # Without a time of its own: a topic that keeps its records a week would drop those that are older at once.
        theirs = {name: said for name, said in message.headers.items() if name not in OWN and name != SHORTENED}
        letter = Letter(value, {**theirs, **more, **own}, message.key)
        if index != WHOLE:
            self._room -= letter.size
        return shortened(letter, self.max_message_bytes + MORE_BYTES if self._room >= 0 else SHORT_BYTES)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all of it."""
        rows = np.array([[*place, ordinal] for place, ordinal in self._open.items()], np.int64).reshape(-1, 3)
        return {"open": rows, "in_a_row": self.in_a_row, "first": self._first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what an earlier process rejected; raise ValueError where it does not fit."""
        entries(state, ("open", "in_a_row", "first"))
        rows = array(state, "open", np.int64, (-1, 3))
        self._open = OrderedDict(((offset, index), ordinal) for offset, index, ordinal in rows.tolist())
        self.in_a_row, self._first = whole(state, "in_a_row"), text(state, "first")
        if self._accepted:
            self.in_a_row = 0


def shortened(letter: Letter, limit: int) -> Letter:
    """Return a letter cut to about `limit` bytes, and marked so, where it is larger; its own headers always stay.

    Examples
    --------
    >>> cut = shortened(Letter(b"x" * 5000, {"streamil-reason": b"gzip", "other": b"y" * 5000}), 4000)
    >>> len(cut.value), cut.headers
    (3639, {'streamil-reason': b'gzip', 'streamil-shortened': b'5000'})
    """
    if letter.size + 100 <= limit:
        return letter
    value = letter.value
    headers = {name: said for name, said in letter.headers.items() if name in OWN}
    headers[SHORTENED] = str(len(value or b"")).encode()
    room = max(0, limit - 100 - Letter(None, headers).size)
    key = letter.key if len(letter.key or b"") <= room // 2 else None
    return Letter(None if value is None else value[:room - len(key or b"")], headers, key, letter.timestamp_ms)
