"""Rows of a CSV file on their way to become `Records`.

Values stay text as sent; only a decimal comma becomes a point. A column whose first value is a number, or that is
declared one, holds numbers: another text in it is a bad row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from streamil.experiment.features import CategoryFeature, Feature, TimeFeature
from streamil.experiment.sources import CsvSource
from streamil.samples import Records
from streamil.streams.layout import BadRow, Layout, id_of, label_of, segment_of, time_of
from streamil.values import LARGEST, moment, number

_BLANKS = " \u00a0\u202f\u2009"
"""Between thousands: a blank, and the ones that do not break or are thin."""
_OTHER_NOTATION = re.compile(
    rf"\s*[-+\u2212]?(?:\d{{1,3}}(?:[,.'\u2019{_BLANKS}]?\d{{3}})*[,.]\d+|\d+,\d+"  # decimals, perhaps after thousands
    rf"|\d{{1,3}}(?:[,'\u2019{_BLANKS}]\d{{3}})+|(?<=\u2212)\d+)\s*", re.ASCII)  # thousands; the typographic minus
_MONEY = "$\u20ac\u00a3\u00a5"
_WITH_UNIT = re.compile(
    rf"\s*[-+\u2212]?(?:[{_MONEY}]\s?[-+\u2212]?\d[\d.,]*|\d[\d.,]*\s?[%\u2030{_MONEY}])\s*", re.ASCII)
"""A number as a percentage or an amount of money."""
_PERHAPS_MISSING = frozenset({  # what pandas takes for missing, and spreadsheets', databases' and R's own
    "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "null", "NULL", "None", "na", "N.A.", "n.a.", "nil", "NIL",
    "(null)", "\\N", "#DIV/0!", "#VALUE!", "#REF!", "#NUM!", "#NAME?", "#NULL!", "1.#IND", "-1.#IND", "1.#QNAN",
    "-1.#QNAN", "-", "--", "\u2013", "\u2014", ".", ".."})


class Rows:
    """Rows on their way to become `Records`."""

    def __init__(self, source: CsvSource, layout: Layout, names: Sequence[str],
                 declared: Mapping[str, Feature]) -> None:
        self.source, self.layout, self.names, self.width = source, layout, list(names), len(names)
        self.missing = frozenset(source.missing)
        place = {name: at for at, name in enumerate(names)}
        self.places = [place[name] for name in layout.features]
        self.label = place[layout.label]
        self.beside = [None if name is None else place[name] for name in (layout.id, layout.time, layout.segment)]
        self.first: list[str | None] = [None] * len(self.places)  # first value of each column
        self.numeric = [False] * len(self.places)
        self.declared = [declared.get(name) for name in layout.features]
        self._clear()

    def _clear(self) -> None:
        self.y: list[str | None] = []
        self.cells: list[list[str | None]] = []
        self.ids: list[str | None] = []
        self.t: list[float] = []
        self.segment: list[int] = []

    def add(self, row: list[str]) -> None:
        """Take one row in, or raise `BadRow` and take nothing."""
        if len(row) != self.width:
            raise BadRow(f"{len(row)} fields, {self.width} expected")
        if row == self.names and self.source.header:
            raise BadRow("the names of the columns once more, as where files were joined")
        label = label_of(self._value(row, self.label))
        identifier, time, segment = (None if at is None else self._value(row, at) for at in self.beside)
        name, moment, part = id_of(identifier), time_of(time), segment_of(segment)
        self.cells.append(self._cells(row))  # the last that may refuse the row
        self.y.append(label)
        self.ids.append(name)
        self.t.append(moment)
        self.segment.append(part)

    def _value(self, row: list[str], place: int) -> str | None:
        return None if row[place] in self.missing or not row[place] else row[place]

    def _cells(self, row: list[str]) -> list[str | None]:
        """Return the row's features as sent, or raise `BadRow` for a value that is not of its column's kind."""
        cells: list[str | None] = []
        begun: list[tuple[int, str, bool]] = []
        for column, place in enumerate(self.places):
            text = row[place]
            if text in self.missing:
                cells.append(None)
                continue
            feature = self.declared[column]
            if self.source.decimal != "." and not isinstance(feature, CategoryFeature):
                text = self._with_point(text, column)
            first = self.first[column]
            if feature is not None:
                self._require_kind(feature, text, column)
            elif first is None or self.numeric[column]:
                value = number(text)
                if first is None:
                    self._require_plain(value, text, column)
                    begun.append((column, text, value is not None))
                elif value is None:
                    raise self._bad(column, f"{text[:40]!r} is no number, and the column began with one "
                                            f"({first[:40]!r}); if it means a missing value, list it under missing; "
                                            "if the column holds none, declare it under stream.features")
                if value is not None and not -LARGEST <= value <= LARGEST:
                    raise self._not_finite(text, column)
            cells.append(text)
        for column, text, numeric in begun:
            self.first[column], self.numeric[column] = text, numeric
        return cells

    def _bad(self, column: int, problem: str) -> BadRow:
        return BadRow(f"column {self.layout.features[column]!r}: {problem}")

    def _require_kind(self, feature: Feature, text: str, column: int) -> None:
        """Raise `BadRow` unless a value is of the kind that its column is declared to have."""
        if isinstance(feature, TimeFeature):
            try:
                moment(text, feature.unit)
            except ValueError as error:
                raise self._bad(column, str(error)) from None
        elif not isinstance(feature, CategoryFeature):
            value = number(text)
            if value is None:
                raise self._bad(column, f"{text[:40]!r} is no number, as stream.features says it is; if it means a "
                                        "missing value, list it under missing")
            if not -LARGEST <= value <= LARGEST:
                raise self._not_finite(text, column)

    def _not_finite(self, text: str, column: int) -> BadRow:
        return self._bad(column, f"{text[:40]!r} is no finite float32; if it means a missing value, list it under "
                                 "missing")

    def _require_plain(self, value: float | None, text: str, column: int) -> None:
        """Raise `BadRow` for a column's first value where it would make categories of numbers."""
        if value is None and _OTHER_NOTATION.fullmatch(text):
            raise self._bad(column, f"{text!r} is a number in another notation; set decimal and delimiter, drop the "
                                    "column, or declare it a category under stream.features")
        if value is None and number(text.strip(" \t'\"")) is not None:
            raise self._bad(column, f"{text!r} is a number in quotes that are none of CSV, which are double and stand "
                                    "right beside the delimiter; save it without, or declare the column a category "
                                    "under stream.features")
        if value is None and _WITH_UNIT.fullmatch(text):
            raise self._bad(column, f"{text!r} is a number with a sign of its unit; save it without, drop the column, "
                                    "or declare it a category under stream.features")
        if not text.strip() or (text in _PERHAPS_MISSING and "missing" not in self.source.model_fields_set):
            raise BadRow(f"column {self.layout.features[column]!r} begins with {text!r}, which may mean a missing "
                         "value; list what does: missing: ['', '?', ...], or declare the column a category under "
                         "stream.features")

    def _with_point(self, text: str, column: int) -> str:
        """Return a number with a point for its decimal mark, other text as it stands."""
        pointed = text.replace(self.source.decimal, ".")
        if "." in text and number(pointed.replace(".", "")) is not None:
            raise self._bad(column, f"{text[:40]!r} has a point, though decimal is {self.source.decimal!r}")
        return pointed if number(pointed) is not None else text

    def taken(self) -> Records:
        """Return the rows taken in since the last call."""
        columns = dict(zip(self.layout.features, map(list, zip(*self.cells, strict=True)), strict=True))
        records = Records(
            y=self.y, columns=columns,
            ids=self.ids if self.layout.id is not None else None,
            t=np.array(self.t, dtype=np.float64) if self.layout.time is not None else None,
            segment=np.array(self.segment, dtype=np.int64) if self.layout.segment is not None else None)
        self._clear()
        return records
