"""Named features -> inputs: which features there are, of which kinds, and where the inputs of each stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from streamil.errors import ExperimentError
from streamil.experiment import Stream
from streamil.experiment.features import Feature, TimeFeature
from streamil.experiment_file import nearest
from streamil.kinds import CategoryInputs, Inputs, inputs_of, kind_of
from streamil.standardiser import Standardiser
from streamil.state_entries import entries, texts, whole
from streamil.values import Column, missing


class NamedFeatures:
    """The named features of one stream, ordered by name.

    Parameters
    ----------
    stream
        Its `scale`, `features` and `missing_indicators` are used.

    Attributes
    ----------
    names
        Their names, sorted; empty before `begin`.
    guessed
        Those of them that count as numbers for want of a first value.
    ignored
        Values of features that the first sample did not have.
    shared
        Values of categories that had to share the last slot.
    """

    def __init__(self, stream: Stream) -> None:
        self.names: list[str] = []
        self.guessed: list[str] = []
        self.ignored = 0
        self.shared = 0
        self._scale = stream.scale
        self._declared = stream.features
        self._indicators = stream.missing_indicators
        self._kinds: list[Inputs] = []
        self._running: Standardiser | None = None

    @property
    def kinds(self) -> dict[str, Feature]:
        """The kinds of all features, declared or found, by name."""
        return {kind.name: kind.feature for kind in self._kinds}

    @property
    def width(self) -> int:
        """Number of inputs of all features."""
        return sum(kind.width for kind in self._kinds)

    def kinds_of(self, columns: Mapping[str, Column], wrong: dict[int, tuple[str, str]]) -> dict[str, Feature]:
        """Return the kinds that a first sample would fix, by name; `wrong` says why it is none to begin with."""
        kinds = {name: self._declared.get(name) or kind_of(columns[name][0]) for name in sorted(columns)}
        for name, kind in kinds.items():
            inputs_of(name, kind).read(columns[name], wrong)
        return kinds

    def begin(self, columns: Mapping[str, Column], kinds: Mapping[str, Feature]) -> None:
        """Fix names and kinds by the first good sample, given as columns of one value.

        Raises
        ------
        ExperimentError
            When it does not have a feature that is declared.
        """
        self.require_declared(list(kinds))
        self._set(kinds, [name for name in kinds if name not in self._declared and missing(columns[name][0])])

    def require_declared(self, names: Sequence[str]) -> None:
        """Raise `ExperimentError` unless each feature that is declared is one of the first good sample's."""
        for declared in self._declared:
            if declared not in names:
                known = f"it has {', '.join(names[:20])[:400]}" if names else "its inputs have no names"
                raise ExperimentError(f"stream.features: found {declared[:40]!r}, which the stream's first sample does "
                                      f"not have{nearest(declared, names)}; {known}")

    def _set(self, kinds: Mapping[str, Feature], guessed: list[str]) -> None:
        self.names, self.guessed, self._kinds = list(kinds), guessed, []
        for name, kind in kinds.items():
            why = "missing" if name in guessed else "a number"
            hint = "" if name in self._declared else f"; its first value was {why}: declare it under stream.features"
            self._kinds.append(inputs_of(name, kind, indicator=self._indicators, hint=hint))
        standardised = sum(map(self._is_standardised, self._kinds))
        self._running = Standardiser(standardised) if standardised else None

    def _is_standardised(self, kind: Inputs) -> bool:
        # an epoch time as it is would be a constant in float32: `scale: none` means numbers, not times
        return kind.scaled and (self._scale != "none" or isinstance(kind.feature, TimeFeature))

    def read(self, columns: Mapping[str, Column], count: int, bad: dict[int, tuple[str, str]]) -> list[Any]:
        """Return each feature's values, as `inputs` takes them; rows that cannot be read are noted in `bad`."""
        absent = [None] * count
        return [kind.read(columns.get(kind.name, absent), bad) for kind in self._kinds]

    def inputs(self, values: Sequence[Any], count: int) -> NDArray[np.float32]:
        """Return the inputs [N, width] of the good samples; their values are known from now on."""
        x = np.zeros((count, self.width), dtype=np.float32)
        scaled = self._scaled(values)
        at = 0
        for place, kind in enumerate(self._kinds):
            self.shared += kind.write(x[:, at:at + kind.width], values[place], scaled.get(place, x[:, 0]))
            at += kind.width
        return x

    def _scaled(self, values: Sequence[Any]) -> dict[int, NDArray[np.float32]]:
        """Return the columns that are scaled, by place; 0 where missing."""
        places = [place for place, kind in enumerate(self._kinds) if kind.scaled]
        scaled = {place: np.nan_to_num(values[place].astype(np.float32), nan=0.0) for place in places
                  if not self._is_standardised(self._kinds[place])}
        if self._running is not None:
            standardised = [place for place in places if place not in scaled]
            columns = self._running.inputs(np.stack([values[place] for place in standardised], axis=1))
            scaled |= zip(standardised, columns.T, strict=True)
        return scaled

    def columns(self) -> list[dict[str, str]]:
        """Return what stands in each input, as plain data."""
        return [{"feature": kind.name, **column} for kind in self._kinds for column in kind.columns()]

    def standardised(self) -> tuple[list[int], Standardiser | None]:
        """Return which inputs are standardised, and by what."""
        starts = accumulate((kind.width for kind in self._kinds), initial=0)
        pairs = zip(starts, self._kinds, strict=False)
        return [start for start, kind in pairs if self._is_standardised(kind)], self._running

    def state_dict(self) -> dict[str, Any]:
        """Return all state as a plain dict of lists, ints and arrays."""
        return {
            "names": list(self.names), "kinds": [kind.feature.model_dump(mode="json") for kind in self._kinds],
            "guessed": list(self.guessed), "ignored": self.ignored, "shared": self.shared,
            "slots": [list(kind.slots) if isinstance(kind, CategoryInputs) else [] for kind in self._kinds],
            "running": None if self._running is None else self._running.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of the features of the same stream; raise ValueError where it does not fit."""
        kinds = TypeAdapter(list[Feature]).validate_python(state["kinds"])
        names = texts(state, "names")
        if names != sorted(names) or [kind.model_dump(mode="json") for kind in kinds] != state["kinds"]:
            raise ValueError("names and kinds of features: sorted ones, written out, are allowed")
        self._set(dict(zip(names, kinds, strict=True)), texts(state, "guessed"))
        for kind, met in zip(self._kinds, state["slots"], strict=True):
            slots = {text: slot for slot, text in enumerate(texts({"slots": met}, "slots"))}
            if len(slots) > (kind.width - 1 if isinstance(kind, CategoryInputs) else 0):
                raise ValueError(f"feature {kind.name[:40]!r} has {len(slots)} categories, more than it has room for")
            if isinstance(kind, CategoryInputs):
                kind.slots = slots
        self.ignored, self.shared = whole(state, "ignored"), whole(state, "shared")
        entries(state, self.state_dict())
        if (self._running is None) != (state["running"] is None):
            raise ValueError("scaling of other features than there are")
        if self._running is not None:
            self._running = Standardiser.of(state["running"], len(self._running.count))
