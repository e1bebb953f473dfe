"""Where a sample came from: what tells two copies of it from two samples."""

from __future__ import annotations

import re
from typing import NamedTuple, Self

WHOLE = -1
"""The place of a record as a whole."""
LONGEST = 18
"""Digits of a number that fits 64 bits."""
_FORM = re.compile(rf"([\w-]{{1,64}})/(\d{{1,9}})/(\d{{1,{LONGEST}}})/({WHOLE}|\d{{1,9}})", re.ASCII)


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
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(f"{text[:80]!r} is no origin: topic id/partition/offset/place")
        return cls(found[1], *map(int, found.groups()[1:]))
