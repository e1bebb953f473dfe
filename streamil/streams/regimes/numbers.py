"""Named features as numbers, for regimes that change them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.errors import SourceError
from streamil.samples import Records
from streamil.values import missing, number, to_float


class Numbers:
    """Finds the named features that are numbers, as the race will: those whose first value is no text, or reads as one.

    A feature of which no value has come yet is not known to be a number.

    Examples
    --------
    >>> numbers = Numbers("drift")
    >>> records = numbers.read(Records(y=["up", "up"], columns={"a": ["1.5", None], "b": ["red", "blue"]}))
    >>> records.columns
    {'a': array([1.5, nan]), 'b': ['red', 'blue']}
    >>> numbers.names
    ['a']
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._numeric: dict[str, bool] = {}

    @property
    def names(self) -> list[str]:
        """Names of the features that are known to be numbers, sorted."""
        return sorted(name for name, numeric in self._numeric.items() if numeric)

    def read(self, records: Records) -> Records:
        """Return the samples with every numeric feature as float64 [N], nan where missing.

        Raises
        ------
        SourceError
            For a text among numbers.
        """
        columns = dict(records.columns)
        for name, values in records.columns.items():
            if name not in self._numeric:
                first = next((value for value in values if not missing(value)), None)
                if first is None:
                    continue
                self._numeric[name] = not isinstance(first, str) or number(first) is not None
            if self._numeric[name]:
                columns[name] = self._column(name, values)
        return replace(records, columns=columns)

    def _column(self, name: str, values: Any) -> NDArray[np.float64]:
        if isinstance(values, np.ndarray):
            return values.astype(np.float64)
        found = [np.nan if value is None else number(value) if isinstance(value, str) else to_float(value)
                 for value in values]
        if None in found:
            raise SourceError(f"{self.kind}: feature {name!r} is {values[found.index(None)][:40]!r}, and it began with "
                              "a number: correct the source, or leave the feature out")
        return np.array(found, dtype=np.float64)
