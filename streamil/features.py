"""Records as sent -> batches to learn: scaling, online statistics, categories, missing values, bad samples.

Everything here depends on the samples and their order alone, never on how they are cut into calls: sums run through
`numpy.cumsum`, which adds one sample after the other from the value carried over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamil.experiment import Stream
from streamil.experiment_file import key_text
from streamil.named_features import NamedFeatures
from streamil.samples import UNLABELLED, Batch, Labels, Records, Rejected
from streamil.standardiser import CLIP, Standardiser
from streamil.state_entries import entries, texts
from streamil.values import LARGEST, missing


class Scaling(NamedTuple):
    """What scaling does to each input [F]: ((x - shift) - centre) / deviation, within +- clip; missing becomes 0."""

    shift: NDArray[np.float64]
    centre: NDArray[np.float64]
    deviation: NDArray[np.float64]
    clip: NDArray[np.float64]


class Featurizer:
    """Turns the samples of one stream into inputs and label indices, test-then-train: by what was known before each.

    Dense inputs and named numbers are scaled, `Stream.scale`: `auto` divides uint8 inputs by 255 and standardises all
    else; a standardised value is `(x - mean) / deviation` of the samples before, clipped to +-5, and 0 where nothing
    or one value only was seen. Missing values (null, NaN in a named feature) are 0 after scaling. Named features are
    fixed by the first good sample: their names, sorted, and the kinds of those that `Stream.features` does not declare
    (text that is no number: a category; a missing value: a number, with a warning in `doubts`).

    Parameters
    ----------
    stream
        Its `scale`, `features`, `missing_indicators`, `classes` and `label_map` are used.

    Attributes
    ----------
    labels
        Label text -> index, after `label_map`.
    inputs
        Width of a batch; None before the first good sample.
    names
        Names of the features, sorted; empty for dense inputs.
    features
        What is known of named features, among it how many values were ignored or shared a slot.

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
        self.labels = Labels(stream.classes, stream.max_classes)
        self.inputs: int | None = None
        self.features = NamedFeatures(stream)
        self._scale = stream.scale
        self._label_map = stream.label_map
        self._bytes = False
        self._running: Standardiser | None = None

    @property
    def names(self) -> list[str]:
        """Names of the features, sorted; empty for dense inputs, and before the first good sample."""
        return self.features.names

    @property
    def doubts(self) -> list[str]:
        """What a user should know of kinds that nobody declared, a line each."""
        return [f"feature {name[:40]!r} counts as a number, for its first value is missing; to settle what it is, say "
                f"stream.features: {{{key_text(name)}: number}}, category or time" for name in self.features.guessed]

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

        Raises
        ------
        ExperimentError
            When the first good sample does not have a feature that is declared.
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
        origin = None if records.origin is None else records.origin[good]
        return Batch(x, y, ordinals[good], segment[good], ids, origin), rejected

    def label_index(self, label: str) -> int | None:
        """Return the index of a label, after `label_map`, or None for one outside a closed set."""
        return self.labels.index(self._label_map.get(label, label))

    def meet(self, late: Records) -> None:
        """Take note of the classes of late labels, for a look at what they are."""
        for label in late.y:
            if label is not None:
                self.label_index(label)

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
        """Return reason and detail of a label outside a closed or full set."""
        if not self.labels.closed:
            return "too-many-classes", (
                f"label {label[:40]!r} would be one more than the {len(self.labels)} that stream.max_classes allows")
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
            self.features.require_declared(())
            self.inputs = width
            self._bytes = x.dtype == np.uint8 and self._scale == "auto"
            self._running = None if self._bytes or self._scale == "none" else Standardiser(width)
        if self._bytes:
            # both operands are whole numbers in float32, so this is the rounded quotient, as by way of float64
            return np.divide(x, np.float32(255), dtype=np.float32, casting="unsafe"), y
        if self._running is None:
            return np.nan_to_num(x.astype(np.float32), nan=0.0), y
        return self._running.inputs(x), y

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
        values = self.features.read(columns, count, bad)
        y = self._label_indices(records.y, bad)
        good = [row for row in range(count) if row not in bad]
        if bad:
            values = [column[good] if isinstance(column, np.ndarray) else [column[row] for row in good]
                      for column in values]
        for name in columns.keys() - set(self.names):
            self.features.ignored += sum(not missing(columns[name][row]) for row in good)
        return self.features.inputs(values, len(good)), y

    def _begin(self, sample: Records, row: int, bad: dict[int, tuple[str, str]]) -> None:
        """Fix names and kinds by one sample, if it is a good one."""
        wrong: dict[int, tuple[str, str]] = {}
        kinds = self.features.kinds_of(sample.columns, wrong)
        label = None if sample.y[0] is None else self._label_map.get(sample.y[0], sample.y[0])
        if label is not None and self.labels.closed and label not in self.labels.names:
            wrong.setdefault(0, ("unknown-label", f"label {label[:40]!r} is none of the classes"))
        if wrong:
            bad[row] = wrong[0]
            return
        self.features.begin(sample.columns, kinds)
        self.inputs = self.features.width

    # -- what it does to the next sample

    def columns(self) -> list[dict[str, str]]:
        """Return what stands in each input, as plain data, before it is scaled."""
        if self.names:
            return self.features.columns()
        return [{"is": "number"} for _ in range(self.inputs or 0)]

    def frozen(self) -> Scaling:
        """Return what scaling does to the next sample."""
        scaling = Scaling(*(np.full(self.inputs or 0, value) for value in (0.0, 0.0, 1.0, np.inf)))
        places, running = self.features.standardised() if self.names else (list(range(self.inputs or 0)), self._running)
        if running is not None:
            scaling.shift[places], scaling.centre[places], scaling.deviation[places] = running.frozen()
            scaling.clip[places] = CLIP
        if self._bytes:
            scaling.deviation[:] = 255
        return scaling

    # -- state

    def state_dict(self) -> dict[str, Any]:
        """Return all state as a plain dict of lists, ints and arrays."""
        return {
            "labels": self.labels.names, "inputs": self.inputs, "bytes": self._bytes,
            "features": self.features.state_dict(),
            "running": None if self._running is None else self._running.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a featurizer of the same stream; raise ValueError where it does not fit."""
        labels = Labels(self.labels.names if self.labels.closed else None)
        known = texts(state, "labels")
        for label in known:
            labels.index(label)
        labels.limit = self.labels.limit  # classes that were met stay, also where fewer may be met now
        if labels.names != known:
            raise ValueError(f"labels: got {len(known)}, those of the closed set are allowed")
        self.labels = labels
        self.features.load_state_dict(state["features"])
        self.inputs, self._bytes = state["inputs"], state["bytes"] is True
        entries(state, self.state_dict())
        fits = self.inputs == self.features.width if self.names else type(self.inputs) is int and self.inputs >= 0
        if type(state["bytes"]) is not bool or not (fits or (self.inputs is None and not self.names)):
            raise ValueError(f"inputs: got {self.inputs}, their number is allowed, and in bytes whether they are some")
        scaled = self.inputs is not None and not self.names and not self._bytes and self._scale != "none"
        if scaled != (state["running"] is not None):
            raise ValueError("running: that of dense inputs that are standardised, and of no others, is allowed")
        self._running = None if state["running"] is None else Standardiser.of(state["running"], self.inputs or 0)
