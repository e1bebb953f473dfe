"""What the kind of a named feature makes of its values: which of them are bad, and what stands in which inputs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.experiment.features import CategoryFeature, Feature, NumberFeature, TimeFeature
from streamil.values import Column, category_text, missing, number, read_numbers, read_times

SLOTS = CategoryFeature(kind="category").slots
"""Inputs of a category where nobody says how many: 31 values have one each, by appearance, the rest share the last."""
CYCLES = {"day": (86_400.0, 0.0), "week": (604_800.0, 345_600.0), "year": (31_556_952.0, 0.0)}
"""Cycle -> its length and a start of it, in seconds since 1970, UTC: midnight, a Monday's, and that of 1 January.

A year is the calendar's mean, 365.2425 days, so that a date's place wanders by up to two days.
"""


def kind_of(value: Any) -> Feature:
    """Return the kind of an undeclared feature whose first value this is.

    Examples
    --------
    >>> [kind_of(value).kind for value in ("red", "3.5", True, None)]
    ['category', 'number', 'number', 'number']
    """
    if isinstance(value, str) and number(value) is None:
        return CategoryFeature(kind="category")
    return NumberFeature(kind="number")


class Inputs(ABC):
    """The inputs of one named feature.

    Parameters
    ----------
    name
        The feature's name, for what is said of bad values.
    feature
        Its kind, as declared or by its first value.

    Attributes
    ----------
    width
        Number of its inputs.
    scaled
        Whether `read` gives numbers that are scaled before `write` puts them into the first input.
    """

    width: int
    scaled: bool

    def __init__(self, name: str, feature: Feature) -> None:
        self.name, self.feature = name, feature

    @abstractmethod
    def read(self, values: Column, bad: dict[int, tuple[str, str]]) -> Any:
        """Return N values as sent as what `write` takes; rows that cannot be read are noted in `bad`."""

    @abstractmethod
    def columns(self) -> list[dict[str, str]]:
        """Return what stands in each input, as plain data."""

    @abstractmethod
    def write(self, block: NDArray[np.float32], values: Any, scaled: NDArray[np.float32]) -> int:
        """Fill the inputs [N, width], all 0, of the good samples; return how many values had to share the last slot."""


class NumberInputs(Inputs):
    """A number or a time: its scaled value, sine and cosine of each cycle, and whether it is missing.

    Examples
    --------
    >>> made = NumberInputs("at", TimeFeature(kind="time", cycles=("day",)), indicator=True)
    >>> block = np.zeros((2, made.width), np.float32)
    >>> seconds = made.read(["1970-01-01T06:00:00Z", None], {})
    >>> made.write(block, seconds, np.zeros(2, np.float32))
    0
    >>> block.round(3).tolist()
    [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    """

    scaled = True

    def __init__(self, name: str, feature: NumberFeature | TimeFeature, *, indicator: bool, hint: str = "") -> None:
        super().__init__(name, feature)
        self.indicator, self.hint = indicator, hint
        self.unit = feature.unit if isinstance(feature, TimeFeature) else None
        self.cycles = feature.cycles if isinstance(feature, TimeFeature) else ()
        self.width = 1 + 2 * len(self.cycles) + indicator

    def read(self, values: Column, bad: dict[int, tuple[str, str]]) -> NDArray[np.float64]:
        """Return numbers, or seconds since 1970, [N]; nan where missing."""
        if self.unit is None:
            return read_numbers(self.name, values, bad, self.hint)
        return read_times(self.name, values, bad, self.unit)

    def columns(self) -> list[dict[str, str]]:
        """Return what stands in each input: the value, sine and cosine of its cycles, whether it is missing."""
        value = "number" if self.unit is None else "seconds since 1970, UTC"
        cycles = [{"is": f"{function} of the {cycle}"} for cycle in self.cycles for function in ("sine", "cosine")]
        return [{"is": value}, *cycles, *([{"is": "1 where missing"}] if self.indicator else [])]

    def write(self, block: NDArray[np.float32], values: NDArray[np.float64], scaled: NDArray[np.float32]) -> int:
        """Fill the inputs; where the value is missing, all are 0 but the one that says so."""
        block[:, 0] = scaled
        there = np.flatnonzero(~np.isnan(values))
        for place, cycle in enumerate(self.cycles):
            length, start = CYCLES[cycle]
            angles = (2 * math.pi / length * np.mod(values[there] - start, length)).tolist()
            # value by value: an array's sine may differ in its last bit with the array's length
            block[there, 1 + 2 * place] = [math.sin(angle) for angle in angles]
            block[there, 2 + 2 * place] = [math.cos(angle) for angle in angles]
        if self.indicator:
            block[:, -1] = np.isnan(values)
        return 0


class CategoryInputs(Inputs):
    """A category: one input is 1, none where the value is missing.

    Attributes
    ----------
    slots
        Text -> input, in order of appearance; texts beyond share the last input.
    """

    scaled = False

    def __init__(self, name: str, feature: CategoryFeature) -> None:
        super().__init__(name, feature)
        self.width = feature.slots
        self.slots: dict[str, int] = {}

    def read(self, values: Column, bad: dict[int, tuple[str, str]]) -> list[str | None]:
        """Return texts, None where missing; every value has one."""
        return [None if missing(value) else category_text(value) for value in values]

    def columns(self) -> list[dict[str, str]]:
        """Return what stands in each input: 1 for one text, those not met yet, and the last, which others share."""
        met = [{"is": "1 for the category", "category": text} for text in self.slots]
        free = [{"is": "1 for a category not met yet"}] * (self.width - 1 - len(met))
        return [*met, *free, {"is": "1 for any other category"}]

    def write(self, block: NDArray[np.float32], values: list[str | None], scaled: NDArray[np.float32]) -> int:
        """Fill the inputs; a value not met before takes the next one."""
        shared = 0
        for row, text in enumerate(values):
            if text is None:
                continue
            slot = self.slots.get(text)
            if slot is None:
                if len(self.slots) < self.width - 1:
                    slot = self.slots[text] = len(self.slots)
                else:
                    slot, shared = self.width - 1, shared + 1
            block[row, slot] = 1.0
        return shared


def inputs_of(name: str, feature: Feature, *, indicator: bool = False, hint: str = "") -> Inputs:
    """Return the inputs of a feature of this kind; `hint` follows on what is said of a value that is no number."""
    if isinstance(feature, CategoryFeature):
        return CategoryInputs(name, feature)
    return NumberInputs(name, feature, indicator=indicator, hint=hint)
