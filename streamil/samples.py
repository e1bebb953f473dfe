"""Samples on their way: `Records` as sent, `Batch` as learned, `Labels` between the two.

A sample is one input with its label. `Records` keep it the way it was sent (values of the sender's type, labels as
text); `streamil.features` turns it into a `Batch` of float32 rows and label indices. Nothing here knows where samples
come from or who learns from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNLABELLED = -1
"""The index that stands in `Batch.y` for a sample whose label is not known."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """One bad sample of a good record: its place in the record, a documented reason, and a detail for people."""

    index: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Records:
    """Samples as sent, in order; or late labels, each with the identifier of a sample that came before without one.

    Attributes
    ----------
    x
        Dense inputs [N, F] of the sender's own dtype, or None where features are named.
    columns
        Named features: name -> N values as sent (an array, or a list of float, int, bool, str and None for missing);
        empty where inputs are dense. The order of the names means nothing.
    y
        N labels as text; None is unlabelled.
    ids
        N identifiers as text, or None where the sender gave none.
    t
        N event times in seconds since 1970, nan where absent; or None.
    segment
        N true segments of the stream (int64), stamped by a regime; or None.
    index
        N places of the samples within their record (int64): rejected neighbours leave gaps.
    rejected
        Samples of the record that were rejected alone.
    origin
        Where each stands in its log [N, 2] (int64): offset of its record and place in it; None: in no log.
    """

    y: Sequence[str | None]
    x: NDArray[Any] | None = None
    columns: Mapping[str, Sequence[Any] | NDArray[Any]] = field(default_factory=dict)
    ids: Sequence[str | None] | None = None
    t: NDArray[np.float64] | None = None
    segment: NDArray[np.int64] | None = None
    index: NDArray[np.int64] | None = None
    rejected: tuple[Rejected, ...] = ()
    origin: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def late(self) -> bool:
        """Whether these are late labels: `ids` and `y`, and no inputs."""
        return self.x is None and not self.columns and self.ids is not None and len(self) > 0

    @property
    def places(self) -> NDArray[np.int64]:
        """Places of the samples within their record, `index` or 0..N-1."""
        return np.arange(len(self), dtype=np.int64) if self.index is None else self.index

    def __getitem__(self, rows: slice) -> Records:
        """Return the samples in `rows`, without the rejected ones."""
        def cut(values: Any) -> Any:
            return None if values is None else values[rows]

        return Records(
            y=self.y[rows], x=cut(self.x), columns={name: values[rows] for name, values in self.columns.items()},
            ids=cut(self.ids), t=cut(self.t), segment=cut(self.segment), index=cut(self.index), origin=cut(self.origin),
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples ready to be learned, in order.

    Attributes
    ----------
    x
        Inputs [N, F] float32, finite.
    y
        Label indices [N] int64, `UNLABELLED` where the label is not known.
    ordinals
        Place of each sample in its stream [N] int64, counted from 0.
    segment
        True segment of each sample [N] int64, 0 where nobody stamped one.
    ids
        Identifiers [N] as text, None where there is none; or None where no sample has one.
    origin
        Where each stands in its log [N, 2] int64; None: in no log. See `Records`.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    ordinals: NDArray[np.int64]
    segment: NDArray[np.int64]
    ids: NDArray[np.object_] | None = None
    origin: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: slice | NDArray[Any]) -> Batch:
        ids = None if self.ids is None else self.ids[rows]
        origin = None if self.origin is None else self.origin[rows]
        return Batch(self.x[rows], self.y[rows], self.ordinals[rows], self.segment[rows], ids, origin)


class Labels:
    """Label text -> index, append-only: indices follow first appearance, or a fixed list.

    Parameters
    ----------
    classes
        A fixed list closes the set; None lets it grow.
    limit
        How many an open set may come to: labels come from strangers, and each costs every arm a row of weights.

    Examples
    --------
    >>> labels = Labels()
    >>> labels.index("cat"), labels.index("dog"), labels.index("cat"), labels.index(None)
    (0, 1, 0, -1)
    >>> Labels(["ok", "fraud"]).index("other") is None
    True
    >>> one = Labels(limit=1)
    >>> one.index("cat"), one.index("dog"), one.index("cat")
    (0, None, 0)
    """

    def __init__(self, classes: Iterable[str] | None = None, limit: int | None = None) -> None:
        self.closed, self.limit = classes is not None, limit
        self._indices: dict[str, int] = {text: index for index, text in enumerate(classes or ())}

    def index(self, label: str | None) -> int | None:
        """Return the label's index, `UNLABELLED` for None, or None for a label outside a closed or full set."""
        if label is None:
            return UNLABELLED
        known = self._indices.get(label)
        if known is None and not self.closed and (self.limit is None or len(self._indices) < self.limit):
            known = self._indices[label] = len(self._indices)
        return known

    @property
    def names(self) -> list[str]:
        """The labels in order of their indices."""
        return list(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


def label_text(value: object) -> str | None:
    """Return the label's text under the one rule of every path, or None for an absent label.

    Text stays as it stands; an integer of any size, and a float that is integral, becomes its digits; a boolean
    becomes `true` or `false`; None is unlabelled.

    Raises
    ------
    ValueError
        For any other value, with what it got.

    Examples
    --------
    >>> [label_text(value) for value in ("01", 1, 1.0, True, None)]
    ['01', '1', '1', 'true', None]
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    raise ValueError(f"label {value!r} is neither a text nor a whole number nor a boolean")
