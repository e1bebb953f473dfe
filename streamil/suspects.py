"""Features that look as if they were none: row numbers, identifiers, times that are read as something else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from streamil.experiment import Stream
from streamil.experiment.sources import TableSource
from streamil.experiment_file import key_text
from streamil.values import PER_SECOND, missing, moment, number, to_float

FEWEST = 20
"""Values that a suspicion needs; fewer rise, or differ, by chance."""
EPOCH = (978_307_200.0, 2_208_988_800.0)
"""Seconds from 1970 to 2001 and to 2040: what lies between, in some unit, is more often a time than a measurement."""


def suspects(columns: Mapping[str, Sequence[Any]], stream: Stream) -> Iterator[str]:
    """Yield one line for each feature whose first values, in the source's order, look like none, with the way out.

    A feature whose kind is declared is what it was declared to be.

    Examples
    --------
    >>> stream = Stream.model_validate({"source": {"kind": "csv", "path": "t.csv", "label": "y"}})
    >>> list(suspects({"row": list(range(1, 31)), "colour": ["red", "blue"] * 15}, stream))[0][:70]
    "feature 'row' looks like row numbers or an id (whole numbers that rise"
    """
    for name in sorted(columns):
        values = [value for value in columns[name] if not missing(value)]
        if name in stream.features or len(values) < FEWEST or any(type(value) is bool for value in values):
            continue
        key = key_text(name)
        table = isinstance(stream.source, TableSource)
        out = f"drop: [{key}], or id: {key}" if table else "leave it out"
        numbers = [number(value) if isinstance(value, str) else to_float(value) for value in values]
        shown = f"feature {name[:40]!r} looks like"
        if numbers[0] is None:
            if all(map(_is_time, values)):
                yield f"{shown} times, and counts as a category: {_as_time(key, table)}"
            elif len(set(values)) == len(values):
                yield f"{shown} an id or free text (its first {len(values)} values all differ): {out}"
            continue
        known = [value for value in numbers if value is not None]
        unit = _epoch_unit(known)
        if unit is not None:
            yield f"{shown} times in {unit}, and counts as a number: {_as_time(key, table, unit)}"
        elif all(value.is_integer() for value in known) and all(one < other for one, other in pairwise(known)):
            yield (f"{shown} row numbers or an id (whole numbers that rise): {out}; "
                   f"if it is none: stream.features: {{{key}: number}}")


def alike(classes: Sequence[str]) -> Iterator[str]:
    """Yield one line for each class that differs from an earlier one in blanks, case or notation alone.

    Examples
    --------
    >>> [line[:33] for line in alike(["up", "1", "down", "Up ", "1.0"])]
    ["classes 'up' and 'Up ' are two; t", "classes '1' and '1.0' are two; to"]
    """
    seen: dict[str | float, str] = {}
    for name in classes:
        value = number(name)
        first = seen.setdefault(name.strip().casefold() if value is None or value != value else value, name)
        if first != name:
            yield (f"classes {first[:40]!r} and {name[:40]!r} are two; to make them one: "
                   f"stream.label_map: {{{json.dumps(name[:40])}: {json.dumps(first[:40])}}}")


def _as_time(key: str, table: bool, unit: str = "s") -> str:
    kind = "time" if unit == "s" else f"{{kind: time, unit: {unit}}}"
    beside = f", time: {key}" if table and unit == "s" else ""
    return f"stream.features: {{{key}: {kind}}}{beside}, or leave it out"


def _is_time(value: Any) -> bool:
    try:
        moment(value)
    except ValueError:
        return False
    return True


def _epoch_unit(values: Sequence[float]) -> str | None:
    """Return the unit in which all values are times of our days, if there is one."""
    first, last = EPOCH
    for unit, ticks in PER_SECOND.items():
        if all(first <= value / ticks < last for value in values):
            return unit
    return None
