"""Places in a log: the next record to read, and where a sample came from."""

from __future__ import annotations

from typing import NamedTuple, Self


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
    """

    offset: int = -1
    row: int = 0
    next_ordinal: int | None = None
    next_label: int | None = None
    numbered: bool | None = None


class Origin(NamedTuple):
    """Where a sample came from: what tells two copies of it from two samples.

    Attributes
    ----------
    topic_id, partition, offset
        Of its record.
    place
        Its place in the record; `WHOLE` for a record that could not be read.

    Examples
    --------
    >>> str(Origin("q2s", 0, 7, 3)), Origin.read("q2s/0/7/3") == Origin("q2s", 0, 7, 3)
    ('q2s/0/7/3', True)
    """

    topic_id: str
    partition: int
    offset: int
    place: int

    def __str__(self) -> str:
        return f"{self.topic_id}/{self.partition}/{self.offset}/{self.place}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the origin that a text stands for, or raise ValueError."""
        topic_id, *numbers = text.split("/")
        if len(numbers) != 3 or any(len(number) > LONGEST or not number.removeprefix("-").isdecimal()
                                    for number in numbers):
            raise ValueError(f"{text[:80]!r} is no origin: topic id/partition/offset/place")
        partition, offset, place = map(int, numbers)
        return cls(topic_id, partition, offset, place)


WHOLE = -1
"""The place of a record as a whole."""
LONGEST = 18
"""Digits of a number that fits 64 bits."""
