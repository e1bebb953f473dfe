"""What a record says of its place in the stream, in headers, and what follows for the position behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from streamil.attachment.position import Position
from streamil.errors import CodecError, StreamMismatch
from streamil.origin import LONGEST, Origin


class Numbers(NamedTuple):
    """What a record of a streamil producer says of its place: ordinals of its first sample and label, and counts."""

    first: int | None = None
    samples: int | None = None
    label: int | None = None
    labels: int = 0


def read_numbers(headers: Mapping[str, bytes], own: str, where: str) -> Numbers:
    """Return what the headers of a numbered record say.

    Parameters
    ----------
    headers
        Of the record.
    own
        Hash of the stream that is learned.
    where
        Names the record in an error.

    Raises
    ------
    StreamMismatch
        When the record belongs to another stream.
    CodecError
        For a number that is none.
    """
    stream, first, count, label, labels = (headers.get(f"streamil-{name}") for name in (
        "stream", "seq", "count", "label-seq", "label-count"))
    assert stream is not None and first is not None, "it is numbered"
    if stream != own.encode():
        raise StreamMismatch(
            f"{where}: the record belongs to another stream ({stream[:32].decode('ascii', 'replace')!r}; this file's "
            f"is {own!r}): source, seed or regimes differ; use another stream.topic, or the file that it was published "
            "from")
    return Numbers(number(first, "streamil-seq"), None if count is None else number(count, "streamil-count"),
                   None if label is None else number(label, "streamil-label-seq"),
                   0 if labels is None else number(labels, "streamil-label-count"))


def advance(position: Position, numbers: Numbers, size: int, late: bool, where: str) -> tuple[Position, int, int]:
    """Return the position behind a record, the ordinal of its first sample or label, and how many were taken in before.

    Parameters
    ----------
    position, numbers
        Before it, and what it says.
    size, late
        How many samples it has, or late labels.
    where
        Names the record in an error.

    Raises
    ------
    StreamMismatch
        When samples or labels between this record and the one before are missing.
    """
    sample = _after("sample", position.next_ordinal, numbers.first, where)
    label = _after("late label", position.next_label, numbers.label, where)
    behind = position._replace(
        next_ordinal=max(sample.expected, sample.start + (0 if late else size)),
        next_label=max(label.expected, label.start + (size if late else 0)))
    found = label if late else sample
    return behind, found.start, found.expected - found.start


class _Place(NamedTuple):
    """Where a record starts, and where the one before ended."""

    start: int
    expected: int


def _after(what: str, expected: int | None, first: int | None, where: str) -> _Place:
    start = (expected or 0) if first is None else first
    if expected is None:
        expected = start
    if start > expected:
        raise StreamMismatch(f"{where}: {what} {start} follows {what} {expected - 1}: {start - expected} of them are "
                             "missing from the log; publish it to a new topic")
    return _Place(start, expected)


def number(text: bytes, header: str) -> int:
    """Return the number that a header holds."""
    if not text.isdigit() or len(text) > LONGEST:
        raise CodecError("foreign", f"header {header} is {text[:32]!r}, not a number")
    return int(text)


def read_origin(text: bytes) -> Origin:
    """Return where a sample that was put back came from; raise CodecError where the header does not say."""
    try:
        return Origin.read(text.decode("ascii"))
    except ValueError as error:
        raise CodecError("foreign", f"header streamil-origin: {error}") from None
