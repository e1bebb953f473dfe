"""What both formats do with a sample's label, identifier, time and segment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.errors import CodecError
from streamil.samples import Records, Rejected, label_text
from streamil.values import EARLIEST, LATEST, Column, time_seconds

SAMPLES_LIMIT = 65_536
"""Samples in one record; what claims more could fill the memory from a few bytes."""
CELLS_LIMIT = 1 << 22
"""Samples times named features of one record: each sample with a name of its own would fill the memory."""
SEGMENT_LIMIT = 2**63
TEXT_LIMIT = 1024
"""Letters of a label or an identifier: a thousand classes and a hundred thousand identifiers are remembered."""


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
        self.has_t = self.has_segment = False
        self.index: list[int] = []
        self.rejected: list[Rejected] = []

    def add(self, index: int, y: Any, identifier: Any, t: Any, segment: Any) -> None:
        """Take one sample's values in, or raise `Bad` and take none."""
        short = type(y) is str and y.isascii() and len(y) <= TEXT_LIMIT
        label = y if y is None or short else _text(y, "bad-label", "label")
        name = None if identifier is None else _text(identifier, "bad-id", "id")
        moment = np.nan if t is None else _time(t)
        if segment is not None and (type(segment) is not int or not 0 <= segment < SEGMENT_LIMIT):
            raise Bad("bad-segment", f"segment is {shown(segment)}, not a whole number from 0")
        self.y.append(label)
        self.ids.append(name)
        self.t.append(moment)
        self.segment.append(segment or 0)
        self.has_t |= t is not None
        self.has_segment |= segment is not None
        self.index.append(index)

    def add_all(self, y: Column, ids: Column | None, t: Column | None, segment: Column | None) -> bool:
        """Take a whole record in where its types and bounds say that no sample is bad, as `add` would one by one.

        Parameters
        ----------
        y, ids, t, segment
            A value per sample; None where the record has no such column.

        Returns
        -------
        bool
            False when `add` must look at each sample; nothing was taken in then.
        """
        count = len(y)
        labels, names = _plain_texts(y), _plain_texts([None] * count if ids is None else ids)
        moments = [np.nan] * count if t is None else _plain_times(t)
        segments = [0] * count if segment is None else _plain_segments(segment)
        if labels is None or names is None or moments is None or segments is None:
            return False
        self.y, self.ids, self.t, self.segment = labels, names, moments, segments
        self.has_t, self.has_segment = t is not None, segment is not None
        self.index = list(range(count))
        return True

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
        return Records(
            y=self.y, x=x, columns=columns,
            ids=self.ids if self.ids.count(None) < len(self.ids) else None,
            t=np.array(self.t, dtype=np.float64) if self.has_t else None,
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


def _plain_texts(values: Column) -> list[str | None] | None:
    if isinstance(values, np.ndarray):
        return [str(number) for number in values.tolist()] if values.dtype.kind in "iu" else None
    if not set(map(type, values)) <= {str, type(None)} or max(map(len, filter(None, values)), default=0) > TEXT_LIMIT:
        return None
    return list(values)


def _plain_times(values: Column) -> list[float] | None:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf":
        return None
    seconds = values.astype(np.float64)
    return seconds.tolist() if ((seconds >= EARLIEST) & (seconds < LATEST)).all() else None


def _plain_segments(values: Column) -> list[int] | None:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iu":
        return None
    whole = values.astype(np.int64)  # what is beyond it turns negative
    return whole.tolist() if (whole >= 0).all() else None


def _text(value: Any, reason: str, what: str) -> str:
    try:
        text = label_text(value) if isinstance(value, str | int | float | bool) else None
        (text or "").encode()  # codecs of others may give half a character, which nothing can write
    except (ValueError, OverflowError):
        text = None
    if text is None:
        raise Bad(reason, f"{what} is {shown(value)}, neither a text nor a whole number nor a boolean")
    if len(text) > TEXT_LIMIT:
        raise Bad(reason, f"{what} has {len(text)} letters; the limit is {TEXT_LIMIT}")
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


def require_cells(samples: int, features: int) -> None:
    """Raise `CodecError` for more values of named features than a record may have."""
    if samples * features > CELLS_LIMIT:
        raise CodecError("too-large", f"{samples} samples of {features} features in all; "
                                      f"the limit is {CELLS_LIMIT} cells")


def taken(values: Sequence[Any] | NDArray[Any], index: list[int], total: int) -> Column:
    """Return the values of the samples taken in."""
    if len(index) == total:
        return values
    return values[np.array(index, dtype=np.int64)] if isinstance(values, np.ndarray) else [values[i] for i in index]
