"""What happens, told line by line: a text for people that carries its level and its facts for machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self

Tell = Callable[[str], None]
"""Takes a line about something that happens, often an `Event`."""
Level = Literal["info", "warning", "error"]


class Event(str):
    """One event: the line that people read, and what a machine wants of it.

    It is a text like any other, so whoever takes lines takes events.

    Attributes
    ----------
    level
        How bad it is.
    facts
        Names and plain values.

    Examples
    --------
    >>> event = Event("offset 7: rejected", level="warning", offset=7)
    >>> event, event.level, event.facts
    ('offset 7: rejected', 'warning', {'offset': 7})
    """

    __slots__ = ("facts", "level")

    def __new__(cls, line: str, *, level: Level = "info", **facts: str | int | float | bool | None) -> Self:
        """Return the line as an event."""
        event = super().__new__(cls, line)
        event.level, event.facts = level, facts
        return event

    level: Level
    facts: dict[str, str | int | float | bool | None]


def nobody(line: str) -> None:
    """Take a line and drop it."""
