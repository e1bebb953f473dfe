"""One reading of single values for every path: numbers in text, event times, and Arrow columns.

Files, records and the featurizer read values through these functions, so that `streamil run` and producer plus
consumer agree to the last bit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Column = Sequence[Any] | NDArray[Any]

EARLIEST = -62_135_596_800.0
"""Seconds from 1970 back to the year 1."""
LATEST = 253_402_300_800.0
"""Seconds from 1970 to the year 10000, which is out of range."""
LARGEST = float(np.finfo(np.float32).max)
"""The largest input; what is beyond is infinite in float32."""

DIGITS_LIMIT = 4000
"""Digits of a whole decimal that are kept: few enough to be written as text again."""

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Ticks of a unit of time in a second."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}):(\d{2})(?:\.(\d{1,12}))?([Zz]|[+-]\d{2}:\d{2})?", re.ASCII)


class Seconds(float):
    """A time in seconds since 1970, of a sender whose type says so: no unit of a file applies to it."""


def number(text: str) -> float | None:
    """Return the number that a text reads as, which may be infinite or nan, or None where it reads as none.

    Examples
    --------
    >>> [number(text) for text in ("1.5", " -2e3 ", "1_000", "1,5", "red")]
    [1.5, -2000.0, None, None, None]
    """
    if "_" in text or not text.isascii():
        return None
    try:
        return float(text)
    except ValueError:
        return None


def decimal_number(value: Decimal) -> int | float:
    """Return a decimal as an integer where it is whole, else as the nearest float.

    As floats, labels and identifiers beyond 2^53 would become each other.

    Examples
    --------
    >>> decimal_number(Decimal("1.5")), decimal_number(Decimal(2**60 + 1)), decimal_number(Decimal("NaN"))
    (1.5, 1152921504606846977, nan)
    """
    if value.is_finite() and value.adjusted() < DIGITS_LIMIT and value == int(value):
        return int(value)
    return float(value) if not value.is_snan() else np.nan


def time_seconds(value: object) -> float:
    """Return an event time in seconds since 1970, UTC.

    A number is seconds; a text is RFC 3339, UTC where it names no zone (never the machine's).

    Raises
    ------
    ValueError
        For anything else, and for times outside the years 1 to 9999: milliseconds are not guessed.

    Examples
    --------
    >>> [time_seconds(value) for value in (1700000000, "2023-11-14T22:13:20Z", "2023-11-14 23:13:20.5+01:00")]
    [1700000000.0, 1700000000.0, 1700000000.5]
    """
    if isinstance(value, str):
        seconds = _rfc3339(value)
    elif isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        seconds = to_float(value)
    else:
        raise ValueError(f"a time is a number of seconds or an RFC 3339 text, not {type(value).__name__}")
    if not EARLIEST <= seconds < LATEST:
        raise ValueError(f"{value!r} is outside the years 1 to 9999; a number is seconds since 1970")
    return seconds


def moment(value: object, unit: str = "s") -> float:
    """Return a value of a feature of kind time in seconds since 1970, UTC.

    A number, or a text that reads as one, counts `unit`; other text is RFC 3339 as in `time_seconds`, or a date alone,
    which is its midnight.

    Raises
    ------
    ValueError
        For anything else, and for times outside the years 1 to 9999: units are not guessed.

    Examples
    --------
    >>> [moment(value, "ms") for value in (1700000000500, "1700000000500", "2023-11-14T22:13:20Z", "1970-01-02")]
    [1700000000.5, 1700000000.5, 1700000000.0, 86400.0]
    """
    if isinstance(value, str):
        ticks = number(value)
        if ticks is None:
            return time_seconds(f"{value}T00:00:00Z" if _DATE.fullmatch(value) else value)
        value = ticks
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ValueError(f"a time is a number or an RFC 3339 text, not {type(value).__name__}")
    # as a float first: the same rounding as for a whole array
    seconds = to_float(value) / PER_SECOND[unit]
    if not EARLIEST <= seconds < LATEST:
        raise ValueError(f"{str(value)[:40]} {unit} since 1970 is outside the years 1 to 9999; set the feature's unit")
    return seconds


def date_seconds(value: date) -> float:
    """Return a date (its midnight) or a time in seconds since 1970, UTC where it names no zone.

    Examples
    --------
    >>> date_seconds(date(1970, 1, 2)), date_seconds(datetime(1970, 1, 1, 1))
    (86400.0, 3600.0)
    """
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _rfc3339(text: str) -> float:
    shown = f"{text[:40]!r} is not RFC 3339, for example 2023-11-14T22:13:20Z"
    match = _RFC3339.fullmatch(text)
    if not match:
        raise ValueError(shown)
    day, minute, second, fraction, zone = match.groups()
    leap = second == "60"  # RFC 3339 allows leap seconds, datetime does not
    offset = "+00:00" if zone in (None, "Z", "z") else zone
    try:
        moment = datetime.fromisoformat(f"{day}T{minute}:{'59' if leap else second}{offset}")
    except ValueError:
        raise ValueError(shown) from None
    whole = (moment - _EPOCH) // timedelta(seconds=1) + leap
    return float(f"{whole}") + float(f"0.{fraction or 0}")


def arrow_values(array: pa.Array) -> Column:
    """Return the values of an Arrow column: an array where it is numeric without nulls, else a list with None.

    Numbers keep their type, timestamps and dates become seconds since 1970, dictionaries go by value.

    Raises
    ------
    ValueError
        For a type that is neither number, boolean, text, timestamp, date nor a dictionary of these.

    Examples
    --------
    >>> arrow_values(pa.array(["red", None, "red"]).dictionary_encode())
    ['red', None, 'red']
    >>> arrow_values(pa.array([1, 2], pa.int16()))
    array([1, 2], dtype=int16)
    """
    kind = array.type
    if pa.types.is_dictionary(kind):
        values, codes = arrow_values(array.dictionary), array.indices.to_pylist()
        values = values.tolist() if isinstance(values, np.ndarray) else values
        return [None if code is None else values[code] for code in codes]
    if pa.types.is_date(kind):
        return arrow_values(array.cast(pa.timestamp("ms")))
    if pa.types.is_timestamp(kind):
        per_second = PER_SECOND[kind.unit]
        whole = array.cast(pa.int64()).to_pylist()
        seconds = [None if ticks is None else ticks / per_second for ticks in whole]
        return seconds if array.null_count else np.array(seconds, dtype=np.float64)
    if not readable(kind):
        raise ValueError(f"type {kind} is neither number, boolean, text, timestamp, date nor a dictionary of these")
    if array.null_count or pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        values_list: list[Any] = array.to_pylist()
        return values_list
    numeric: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return numeric


def readable(kind: pa.DataType) -> bool:
    """Return whether `arrow_values` reads columns of this type."""
    types = pa.types
    if types.is_dictionary(kind):
        return not types.is_dictionary(kind.value_type) and readable(kind.value_type)
    plain = (types.is_integer, types.is_floating, types.is_boolean, types.is_string, types.is_large_string,
             types.is_null, types.is_timestamp, types.is_date)
    return any(is_kind(kind) for is_kind in plain)


def missing(value: Any) -> bool:
    """Return whether a named feature is missing: null, or NaN."""
    return value is None or value != value  # nan alone is not itself


def category_text(value: Any) -> str:
    """Return a category's text: text as it stands, a whole number its digits, a boolean true or false."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    whole = not isinstance(value, float | np.floating) or (np.isfinite(value) and float(value).is_integer())
    return str(int(value)) if whole else repr(float(value))


def read_numbers(name: str, values: Column, bad: dict[int, tuple[str, str]], hint: str = "") -> NDArray[np.float64]:
    """Return a column as numbers [N], nan where missing; rows that hold something else are noted in `bad`.

    `hint` follows on what is said of a value that is no number.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        numbers = values.astype(np.float64)
        for row in np.flatnonzero(np.abs(numbers) > LARGEST).tolist():
            bad.setdefault(row, ("not-finite", f"feature {name[:40]!r} is {values[row]}, not a finite float32"))
        return numbers
    numbers = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        if value is None:
            continue
        found = number(value) if isinstance(value, str) else to_float(value)
        if found is None:
            bad.setdefault(row, ("bad-number", f"feature {name[:40]!r} is {str(value)[:40]!r}, not a number{hint}"))
        elif abs(found) > LARGEST or (isinstance(value, str) and found != found):
            bad.setdefault(row, ("not-finite", f"feature {name[:40]!r} is {found}, not a finite float32"))
        else:
            numbers[row] = found
    return numbers


def read_times(name: str, values: Column, bad: dict[int, tuple[str, str]], unit: str) -> NDArray[np.float64]:
    """Return a column as seconds since 1970 [N], nan where missing; rows that hold no time are noted in `bad`."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf":
        seconds = values.astype(np.float64) / PER_SECOND[unit]
        rows = np.flatnonzero(~np.isnan(seconds) & ~((seconds >= EARLIEST) & (seconds < LATEST))).tolist()
    else:
        seconds = np.full(len(values), np.nan)
        rows = [row for row, value in enumerate(values) if not missing(value)]
    for row in rows:
        try:
            seconds[row] = moment(values[row], unit)
        except ValueError as error:
            bad.setdefault(row, ("bad-time", f"feature {name[:40]!r}: {error}"))
    return seconds


def to_float(value: Any) -> float:
    """Return a number as a float, infinite where it is beyond."""
    try:
        return float(value)
    except OverflowError:
        return np.inf
