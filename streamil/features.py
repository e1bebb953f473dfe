"""Records as sent -> batches to learn: scaling, online statistics, categories, missing values, bad samples.

Everything here depends on the samples and their order alone, never on how they are cut into calls: sums run through
`numpy.cumsum`, which adds one sample after the other from the value carried over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamil.experiment import Stream
from streamil.samples import UNLABELLED, Batch, Labels, Records, Rejected
from streamil.standardiser import Standardiser
from streamil.values import LARGEST, Column, category_text, missing, number, read_numbers

Kind = Literal["number", "category"]

SLOTS = 32
"""Inputs of a category: 31 values have one each, in order of appearance, the rest share the last."""
PIECE = 256
"""Samples that are scaled at once; bounds the float64 copies that scaling needs."""


class Featurizer:
    """Turns the samples of one stream into inputs and label indices, test-then-train: by what was known before each.

    Dense inputs and named numbers are scaled, `Stream.scale`: `auto` divides uint8 inputs by 255 and standardises all
    else; a standardised value is `(x - mean) / deviation` of the samples before, clipped to +-5, and 0 where nothing
    or one value only was seen. Missing values (null, NaN in a named feature) are 0 after scaling. Named features are
    fixed by the first good sample: their names, sorted, and their kinds (text that is no number: a category; a
    missing value: a number).

    Parameters
    ----------
    stream
        Its `scale`, `classes` and `label_map` are used.

    Attributes
    ----------
    labels
        Label text -> index, after `label_map`.
    inputs
        Width of a batch; None before the first good sample.
    names
        Names of the features, sorted; empty for dense inputs.
    ignored
        Values of features that the first sample did not have.
    shared
        Values of categories that had to share the last slot.

    Examples
    --------
    >>> stream = Stream.model_validate({"source": {"kind": "elec"}})
    >>> featurizer = Featurizer(stream)
    >>> records = Records(y=["up", "down", "up"], columns={"a": ["1", "3", None], "b": [2.0, 2.0, 2.0]})
    >>> batch, rejected = featurizer.transform(records, np.arange(3))
    >>> batch.x.tolist(), batch.y.tolist(), rejected
    ([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [0, 1, 0], ())
    >>> featurizer.transform(Records(y=["up"], columns={"a": [4]}), np.array([3]))[0].x.tolist()
    [[2.0, 0.0]]
    """

    def __init__(self, stream: Stream) -> None:
        self.labels = Labels(stream.classes)
        self.inputs: int | None = None
        self.names: list[str] = []
        self.ignored = 0
        self.shared = 0
        self._scale = stream.scale
        self._label_map = stream.label_map
        self._kinds: list[Kind] = []
        self._slots: list[dict[str, int]] = []
        self._bytes = False
        self._running: Standardiser | None = None

    def transform(self, records: Records, ordinals: NDArray[np.int64]) -> tuple[Batch, tuple[Rejected, ...]]:
        """Return the good samples as a batch, and the bad ones, which change nothing.

        Parameters
        ----------
        records
            Samples as sent.
        ordinals
            Their places in the stream [N].

        Returns
        -------
        Batch
            The samples that can be learned.
        tuple of Rejected
            The others: place in the record, reason out of `streamil.codec.REASONS`, detail.
        """
        bad: dict[int, tuple[str, str]] = {}
        if records.x is not None:
            x, y = self._dense(records.x, records.y, bad)
        else:
            x, y = self._named(records, bad)
        good = np.array([row for row in range(len(records)) if row not in bad], dtype=np.int64) if bad else slice(None)
        segment = np.zeros(len(records), dtype=np.int64) if records.segment is None else records.segment
        places = records.places
        rejected = tuple(Rejected(int(places[row]), *why) for row, why in sorted(bad.items()))
        ids = None if records.ids is None else np.array(records.ids, dtype=object)[good]
        return Batch(x, y, ordinals[good], segment[good], ids), rejected

    def label_index(self, label: str) -> int | None:
        """Return the index of a label, after `label_map`, or None for one outside a closed set."""
        return self.labels.index(self._label_map.get(label, label))

    def _label_indices(self, labels: Any, bad: dict[int, tuple[str, str]]) -> NDArray[np.int64]:
        """Return the indices of the good samples' labels; a label outside a closed set makes its sample bad."""
        indices: list[int] = []
        for row, label in enumerate(labels):
            if row in bad:
                continue
            index = UNLABELLED if label is None else self.label_index(label)
            if index is None:
                bad[row] = self.unknown_label(label)
            else:
                indices.append(index)
        return np.array(indices, dtype=np.int64)

    def unknown_label(self, label: str) -> tuple[str, str]:
        """Return reason and detail of a label outside a closed set."""
        known = ", ".join(self.labels.names)[:80]
        return "unknown-label", f"label {self._label_map.get(label, label)[:40]!r} is none of {known}"

    # -- dense inputs

    def _dense(self, x: NDArray[Any], labels: Any, bad: dict[int, tuple[str, str]],
               ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        width = x.shape[1]
        if self.inputs not in (None, width) or self.names:
            expected = f"named features {', '.join(self.names)[:80]}" if self.names else f"{self.inputs}"
            bad |= dict.fromkeys(range(len(x)), ("wrong-width", f"{width} inputs, expected {expected}"))
        elif x.dtype.kind == "f":
            finite = np.abs(x) <= LARGEST if x.dtype.itemsize > 4 else np.isfinite(x)
            if not finite.all():
                for row in np.flatnonzero(~finite.all(axis=1)).tolist():
                    place = int(np.argmin(finite[row]))
                    bad[row] = ("not-finite", f"x[{place}] is {x[row, place]}, not a finite float32")
        y = self._label_indices(labels, bad)
        if not len(y):
            return np.zeros((0, self.inputs or 0), dtype=np.float32), y
        if bad:
            x = x[[row for row in range(len(x)) if row not in bad]]
        if self.inputs is None:
            self.inputs = width
            self._bytes = x.dtype == np.uint8 and self._scale == "auto"
            self._running = None if self._bytes or self._scale == "none" else Standardiser(width)
        if self._bytes:
            # both operands are whole numbers in float32, so this is the rounded quotient, as by way of float64
            return np.divide(x, np.float32(255), dtype=np.float32, casting="unsafe"), y
        return self._scaled(x), y

    def _scaled(self, numbers: NDArray[Any]) -> NDArray[np.float32]:
        """Return numbers [N, F], nan where missing, after scaling; 0 where missing."""
        if self._running is None:
            return np.nan_to_num(numbers.astype(np.float32), nan=0.0)
        scaled = np.empty(numbers.shape, dtype=np.float32)
        for first in range(0, len(numbers), PIECE):
            rows = slice(first, first + PIECE)
            scaled[rows] = self._running.scale(numbers[rows].astype(np.float64))
        return scaled

    # -- named features

    def _named(self, records: Records, bad: dict[int, tuple[str, str]],
               ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        count, columns = len(records), records.columns
        if self.inputs is not None and not self.names:
            bad |= dict.fromkeys(range(count), ("wrong-width", f"named features, expected {self.inputs} dense inputs"))
        first = 0
        while self.inputs is None and first < count:
            self._begin(records[first:first + 1], first, bad)
            first += 1
        if self.inputs is None or not self.names:
            return np.zeros((0, self.inputs or 0), dtype=np.float32), np.zeros(0, dtype=np.int64)
        values = [self._read(place, columns.get(name, [None] * count), bad) for place, name in enumerate(self.names)]
        y = self._label_indices(records.y, bad)
        good = [row for row in range(count) if row not in bad]
        numbers = [column for column, kind in zip(values, self._kinds, strict=True) if kind == "number"]
        scaled = self._scaled(np.stack(numbers, axis=1)[good]) if numbers else np.zeros((len(good), 0), np.float32)
        x = np.zeros((len(good), self.inputs), dtype=np.float32)
        at = taken = 0
        for place, kind in enumerate(self._kinds):
            if kind == "number":
                x[:, at] = scaled[:, taken]
                taken, at = taken + 1, at + 1
            else:
                self._place(x[:, at:at + SLOTS], [values[place][row] for row in good], self._slots[place])
                at += SLOTS
        for name in columns.keys() - set(self.names):
            self.ignored += sum(not missing(columns[name][row]) for row in good)
        return x, y

    def _begin(self, sample: Records, row: int, bad: dict[int, tuple[str, str]]) -> None:
        """Fix names and kinds by one sample, if it is a good one."""
        names = sorted(sample.columns)
        kinds: list[Kind] = []
        for name in names:
            value = sample.columns[name][0]
            kinds.append("category" if isinstance(value, str) and number(value) is None else "number")
        wrong: dict[int, tuple[str, str]] = {}
        for name, kind in zip(names, kinds, strict=True):
            if kind == "number":
                read_numbers(name, sample.columns[name], wrong)
        label = None if sample.y[0] is None else self._label_map.get(sample.y[0], sample.y[0])
        if label is not None and self.labels.closed and label not in self.labels.names:
            wrong.setdefault(0, ("unknown-label", f"label {label[:40]!r} is none of the classes"))
        if wrong:
            bad[row] = wrong[0]
            return
        self._set_features(names, kinds)

    def _set_features(self, names: list[str], kinds: list[Kind]) -> None:
        self.names, self._kinds = names, kinds
        self._slots = [{} for _ in names]
        numbers = kinds.count("number")
        self.inputs = numbers + SLOTS * (len(kinds) - numbers)
        self._running = None if self._scale == "none" else Standardiser(numbers)

    def _read(self, place: int, values: Column, bad: dict[int, tuple[str, str]]) -> Any:
        """Return a column as numbers [N], nan where missing, or as texts, None where missing; note what is neither."""
        if self._kinds[place] == "number":
            return read_numbers(self.names[place], values, bad)
        return [None if missing(value) else category_text(value) for value in values]

    def _place(self, block: NDArray[np.float32], texts: list[str | None], slots: dict[str, int]) -> None:
        for row, text in enumerate(texts):
            if text is None:
                continue
            slot = slots.get(text)
            if slot is None:
                if len(slots) < SLOTS - 1:
                    slot = slots[text] = len(slots)
                else:
                    slot, self.shared = SLOTS - 1, self.shared + 1
            block[row, slot] = 1.0

    # -- state

    def state_dict(self) -> dict[str, Any]:
        """Return all state as a plain dict of lists, ints and arrays."""
        return {
            "labels": self.labels.names, "inputs": self.inputs, "names": list(self.names), "kinds": list(self._kinds),
            "slots": [list(slots) for slots in self._slots], "bytes": self._bytes, "ignored": self.ignored,
            "shared": self.shared, "running": None if self._running is None else self._running.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a featurizer of the same stream."""
        labels = Labels(self.labels.names if self.labels.closed else None)
        for label in state["labels"]:
            labels.index(label)
        self.labels = labels
        self._set_features(list(state["names"]), list(state["kinds"]))
        self.inputs = state["inputs"]
        self._slots = [{text: slot for slot, text in enumerate(texts)} for texts in state["slots"]]
        self._bytes, self.ignored, self.shared = bool(state["bytes"]), int(state["ignored"]), int(state["shared"])
        self._running = None if state["running"] is None else Standardiser.of(state["running"])

