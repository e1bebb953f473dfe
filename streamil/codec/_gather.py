"""What both formats do with a sample's label, identifier, time and segment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.errors import CodecError
from streamil.samples import Records, Rejected, label_text
from streamil.values import Column, time_seconds

SAMPLES_LIMIT = 65_536
"""Samples in one record; what claims more could fill the memory from a few bytes."""
CELLS_LIMIT = 1 << 22
"""Samples times named features of one record: each sample with a name of its own would fill the memory."""
SEGMENT_LIMIT = 2**63


class Bad(Exception):
    """One sample is bad: reason and detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class Gather:
    """Collects what stands beside the inputs, sample by sample; bad samples are kept apart with their index."""

    def __init__(self) -> None:
        self.y: list[str | None] = []
        self.ids: list[str | None] = []
        self.t: list[float] = []
        self.segment: list[int] = []
        self.has_segment = False
        self.index: list[int] = []
        self.rejected: list[Rejected] = []

    def add(self, index: int, y: Any, identifier: Any, t: Any, segment: Any) -> None:
        """Take one sample's values in, or raise `Bad` and take none."""
        label = y if y is None or type(y) is str else _text(y, "bad-label", "label")
        name = None if identifier is None else _text(identifier, "bad-id", "id")
        moment = np.nan if t is None else _time(t)
        if segment is not None and (type(segment) is not int or not 0 <= segment < SEGMENT_LIMIT):
            raise Bad("bad-segment", f"segment is {shown(segment)}, not a whole number from 0")
        self.y.append(label)
        self.ids.append(name)
        self.t.append(moment)
        self.segment.append(segment or 0)
        self.has_segment |= segment is not None
        self.index.append(index)

    def reject(self, index: int, bad: Bad) -> None:
        """Keep one bad sample apart."""
        self.rejected.append(Rejected(index, bad.reason, bad.detail))

    def records(self, x: NDArray[Any] | None, columns: dict[str, Column]) -> Records:
        """Return what was collected, with the inputs of the samples taken in.

        Raises
        ------
        CodecError
            When no sample is left: the first one's reason.
        """
        if not self.index:
            if not self.rejected:
                raise CodecError("no-samples", "the record holds no sample")
            first = self.rejected[0]
            raise CodecError(first.reason, first.detail)
        t = np.array(self.t, dtype=np.float64)
        return Records(
            y=self.y, x=x, columns=columns,
            ids=self.ids if any(one is not None for one in self.ids) else None,
            t=None if np.isnan(t).all() else t,
            segment=np.array(self.segment, dtype=np.int64) if self.has_segment else None,
            index=np.array(self.index, dtype=np.int64) if self.rejected else None,
            rejected=tuple(self.rejected),
        )


def shown(value: Any) -> str:
    """Return a value as it may stand in a message: short, and never a whole container."""
    if value is None:
        return "null"
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, str | int | float | bool):
        return repr(value[:40] if isinstance(value, str) else value)
    return {"list": "a list", "dict": "an object"}.get(type(value).__name__, f"of type {type(value).__name__}")


def _text(value: Any, reason: str, what: str) -> str:
    try:
        text = label_text(value) if isinstance(value, str | int | float | bool) else None
    except (ValueError, OverflowError):
        text = None
    if text is None:
        raise Bad(reason, f"{what} is {shown(value)}, neither a text nor a whole number nor a boolean")
    return text


def _time(value: Any) -> float:
    try:
        return time_seconds(value)
    except ValueError as error:
        raise Bad("bad-time", str(error)) from None


def require_sample_count(count: int) -> None:
    """Raise `CodecError` for more samples than a record may have."""
    if count > SAMPLES_LIMIT:
        raise CodecError("too-large", f"{count} samples in one record; the limit is {SAMPLES_LIMIT}")


def taken(values: Sequence[Any] | NDArray[Any], index: list[int], total: int) -> Column:
    """Return the values of the samples taken in."""
    if len(index) == total:
        return values
    return values[np.array(index, dtype=np.int64)] if isinstance(values, np.ndarray) else [values[i] for i in index]
