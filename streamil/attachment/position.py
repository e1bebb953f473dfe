"""A place in a log: the next record to read."""

from __future__ import annotations

from typing import NamedTuple


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
