"""Labelled samples that wait for a full mini-batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamil.late_labels import Said, marks, pack, read_marks, unpack
from streamil.samples import Batch
from streamil.state_entries import array, entries, whole


class Backlog:
    """Labelled samples that not every arm has learned yet, each with what was said of it before its label came.

    Attributes
    ----------
    first
        Place of the first of them among the labelled samples of the stream.
    """

    def __init__(self) -> None:
        self.first = 0
        self._rows: Batch | None = None
        self._said: list[Mapping[str, Said]] = []

    @property
    def end(self) -> int:
        """Labelled samples so far."""
        return self.first + len(self._said)

    def append(self, new: Batch, said: Sequence[Mapping[str, Said]]) -> None:
        """Take samples in; nothing was `said` of one that came with its label."""
        self._rows = new if self._rows is None else _join(self._rows, new)
        self._said += said

    def full(self, position: int, batch_size: int) -> tuple[Batch, list[Mapping[str, Said]]] | None:
        """Return the samples from `position` on that make whole mini-batches, None where there is not one."""
        count = (self.end - position) // batch_size * batch_size
        if self._rows is None or not count:
            return None
        rows = slice(position - self.first, position - self.first + count)
        return self._rows[rows], self._said[rows]

    def forget(self, position: int) -> None:
        """Let go of the samples before `position`."""
        behind = position - self.first
        self._said = self._said[behind:]
        self._rows = self._rows[behind:] if self._rows is not None and self._said else None
        self.first = position

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all of it."""
        rows = None if self._rows is None else {
            **{name: getattr(self._rows, name).copy() for name in ("x", "y", "ordinals", "segment")},
            **marks(self._rows)}
        return {"first": self.first, "rows": rows, "said": pack(self._said)}

    def load_state_dict(self, state: Mapping[str, Any], inputs: int | None, classes: int,
                        arms: Mapping[str, int]) -> None:
        """Take over a state of samples of `inputs` values and labels of `classes` kinds; `arms` as of `unpack`.

        Raises
        ------
        ValueError, KeyError
            For a state that does not fit; the backlog is then of no further use.
        """
        entries(state, ("first", "rows", "said"))
        self.first, rows, count = whole(state, "first"), state["rows"], 0
        if rows is not None:
            entries(rows, ("x", "y", "ordinals", "segment", "ids", "origin"))
            count = len(rows["y"])
            x = array(rows, "x", np.float32, (count, inputs or 0))
            y, ordinals, segment = (array(rows, name, np.int64, (count,)) for name in ("y", "ordinals", "segment"))
            if not count or y.min() < 0 or y.max() >= classes:
                raise ValueError(f"rows: labels 0 to {classes - 1} are allowed, one at least")
            self._rows = Batch(x, y, ordinals, segment, *read_marks(rows, count))
        self._said = unpack(state["said"], count, arms)


def _join(first: Batch, second: Batch) -> Batch:
    """Return both in one."""
    def both(name: str, missing: Any = None) -> Any:
        parts = [getattr(one, name) for one in (first, second)]
        if all(part is None for part in parts):
            return None
        return np.concatenate([np.broadcast_to(missing, (len(one), *missing.shape)) if part is None else part
                               for one, part in zip((first, second), parts, strict=True)])

    return Batch(both("x"), both("y"), both("ordinals"), both("segment"), both("ids", np.array(None, object)),
                 both("origin", np.array([-1, -1])))
