"""What was rejected and why, in lines for people and as data."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from streamil.dead_letters.letter import DeadLetter, utc
from streamil.origin import WHOLE
from streamil.printable import printable

SHOWN_BYTES = 48
SHOWN_DETAIL = 80


@dataclass
class Reason:
    """How many letters have a reason, and when the first and the last of them were written."""

    count: int = 0
    first_ms: int = -1
    last_ms: int = -1

    def add(self, letter: DeadLetter) -> None:
        """Count a letter."""
        at = letter.rejected_ms
        self.count += 1
        self.first_ms = at if self.count == 1 else min(self.first_ms, at)
        self.last_ms = max(self.last_ms, at)


@dataclass
class Summary:
    """Counts by reason, and the newest letters, of which no more is kept than is shown.

    Attributes
    ----------
    reasons
        Reason -> its count and times.
    rows
        The newest letters.
    """

    reasons: dict[str, Reason] = field(default_factory=dict)
    rows: deque[dict[str, Any]] = field(default_factory=deque)

    @classmethod
    def of(cls, letters: Iterable[DeadLetter], limit: int) -> Summary:
        """Return the summary of letters, with the newest `limit` of them."""
        summary = cls(rows=deque(maxlen=limit))
        for letter in letters:
            summary.reasons.setdefault(letter.reason, Reason()).add(letter)
            summary.rows.append(row(letter))
        return summary

    @property
    def count(self) -> int:
        """How many letters there are."""
        return sum(one.count for one in self.reasons.values())

    def data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"letters": self.count, "reasons": {
            name: {"count": one.count, "first": utc(one.first_ms), "last": utc(one.last_ms)}
            for name, one in self._by_count()}, "rows": list(self.rows)}

    def lines(self) -> Iterator[str]:
        """Yield it as lines: a table of the reasons, then one of the newest letters."""
        yield from _table([("reason", "letters", "first", "last"), *(
            (name, f"{one.count:,}", utc(one.first_ms) or "-", utc(one.last_ms) or "-")
            for name, one in self._by_count())], right=1)
        if not self.rows:
            return
        yield ""
        yield f"the newest {len(self.rows):,}:" if len(self.rows) < self.count else "all of them:"
        yield from _table([("offset", "index", "reason", "rejected", "value", "detail"), *(
            (str(one["offset"]), "-" if one["index"] is None else str(one["index"]), one["reason"],
             one["rejected"] or "-", _start(one), one["detail"][:SHOWN_DETAIL]) for one in self.rows)])

    def _by_count(self) -> list[tuple[str, Reason]]:
        return sorted(self.reasons.items(), key=lambda one: (-one[1].count, one[0]))


def row(letter: DeadLetter) -> dict[str, Any]:
    """Return what is shown of a letter, in texts that are fit for a terminal."""
    value = letter.value
    return {"topic": printable(letter.topic), "partition": letter.origin.partition, "offset": letter.origin.offset,
            "index": None if letter.origin.place == WHOLE else letter.origin.place, "reason": letter.reason,
            "detail": printable(letter.detail), "time": utc(letter.time_ms), "rejected": utc(letter.rejected_ms),
            "bytes": None if value is None else len(value) if letter.shortened is None else letter.shortened,
            "start": None if value is None else printable(value[:SHOWN_BYTES].decode("utf-8", "backslashreplace"))}


def _start(one: dict[str, Any]) -> str:
    if one["start"] is None:
        return "null"
    return f"{one['start']}..." if one["bytes"] > SHOWN_BYTES else one["start"]


def _table(rows: list[tuple[str, ...]], right: int | None = None) -> Iterator[str]:
    """Yield rows as lines with columns of equal width; one of them may be set to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        aligned = (f"{cell:>{width}}" if place == right else f"{cell:{width}}"
                   for place, (cell, width) in enumerate(zip(cells, widths, strict=True)))
        yield "  ".join(aligned).rstrip()
