"""A dead letter: a sample or a record that was rejected, with where it came from and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from streamil.kafka import Message
from streamil.origin import LONGEST, Origin

STAY = ("streamil-stream", "streamil-dtype")
"""Headers of a streamil producer that say how its record is read; its numbers are not those of a record put back."""
_REASON = re.compile(r"[a-z][a-z-]{0,39}", re.ASCII)
_NUMBER = re.compile(rf"-?\d{{1,{LONGEST}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A sample or a record that was rejected.

    Attributes
    ----------
    origin, topic
        Where it came from first.
    reason, detail
        Why it was rejected.
    key, value, headers
        As they came; the value holds the sample alone, where it could be cut out of its record.
    row
        Which sample is meant of a record that could not be cut; None: all that is there.
    shortened
        How many bytes the value had, where it was too large for a letter; None: it is whole.
    experiment
        Whose consumer rejected it.
    time_ms, rejected_ms
        Time of the record that was rejected, and when it was.

    Examples
    --------
    >>> letter = DeadLetter.read(Message(3, None, b"{}", {
    ...     "streamil-origin": b"q2s/0/7/-1", "streamil-reason": b"no-features", "streamil-topic": b"t"}, 0))
    >>> letter.origin.offset, letter.reason, letter.value
    (7, 'no-features', b'{}')
    """

    origin: Origin
    topic: str
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]
    row: int | None = None
    shortened: int | None = None
    experiment: str = ""
    time_ms: int = -1
    rejected_ms: int = -1

    @classmethod
    def read(cls, message: Message) -> Self:
        """Return the letter that a record of a topic of dead letters holds, or raise ValueError."""
        said = {name.removeprefix("streamil-"): value.decode("utf-8", "replace")
                for name, value in message.headers.items() if name.startswith("streamil-")}
        try:
            origin, topic, reason = Origin.read(said["origin"]), said["topic"], said["reason"]
        except KeyError as error:
            raise ValueError(f"header streamil-{error.args[0]} is missing") from None
        if not _REASON.fullmatch(reason):
            raise ValueError(f"{reason[:40]!r} is no reason")
        time_ms, row, shortened = (_number(said.get(name)) for name in ("time", "row", "shortened"))
        headers = {name: value for name, value in message.headers.items()
                   if not name.startswith("streamil-") or name in STAY}
        return cls(origin, topic, reason, said.get("detail", ""), message.key, message.value, headers, row, shortened,
                   said.get("experiment", ""), -1 if time_ms is None else time_ms, message.timestamp_ms)

    @property
    def headers_back(self) -> dict[str, bytes]:
        """Headers that it has when it is put back on its topic."""
        own = {"streamil-origin": str(self.origin).encode()}
        if self.row is not None:
            own["streamil-row"] = str(self.row).encode()
        return self.headers | own


def utc(milliseconds: int) -> str | None:
    """Return a time of Kafka's as RFC 3339, or None for one that is absent or out of range.

    Examples
    --------
    >>> utc(1_700_000_000_250), utc(-1), utc(10**17)
    ('2023-11-14T22:13:20.250Z', None, None)
    """
    if not 0 <= milliseconds < 253_402_300_800_000:  # the year 10000
        return None
    found = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{found:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03}Z"


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no number")
    return int(text)
