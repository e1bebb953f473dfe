"""CSV files, read row by row: every row is a sample, is refused by its line, or is counted as skipped.

Values stay text as sent; only a decimal comma becomes a point. A column whose first value is a number holds numbers:
another text in it is a bad row.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

import numpy as np

from streamil.errors import SourceError
from streamil.experiment import CsvSource
from streamil.samples import Records
from streamil.streams.chunks import CHUNK
from streamil.streams.layout import BadRow, Layout, id_of, label_of, on_bad_row, segment_of, time_of
from streamil.streams.source import Opened, Skipped, opened, require_no_other
from streamil.values import number

LINE_LIMIT = 1 << 24
"""Characters of the longest line; a file without line ends is not read into memory whole."""
FIELD_LIMIT = 131_072
"""Characters of the longest field: Python's own limit. A quote that is never closed is found by it."""

_ARFF = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:%[^\r\n]*[\r\n]+\s*)*@relation\b", re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\r|\n")
_BLANKS = " \u00a0\u202f\u2009"
"""Between thousands: a blank, and the ones that do not break or are thin."""
_OTHER_NOTATION = re.compile(
    rf"\s*[-+\u2212]?(?:\d{{1,3}}(?:[,.'\u2019{_BLANKS}]?\d{{3}})*[,.]\d+|\d+,\d+"  # decimals, perhaps after thousands
    rf"|\d{{1,3}}(?:[,'\u2019{_BLANKS}]\d{{3}})+|(?<=\u2212)\d+)\s*", re.ASCII)  # thousands; the typographic minus
_PERHAPS_MISSING = frozenset({"NA", "N/A", "n/a", "#N/A", "null", "NULL"})


def csv_table(source: CsvSource, path: Path) -> Opened:
    """Open a CSV file, plain or gzip; errors come while its rows are taken.

    Raises
    ------
    SourceError
        When the file is absent, is none, or has a bad row that is not to be skipped: file, line, way out.
    """
    skipped = Skipped()
    return Opened(_chunks(source, path, skipped), skipped=skipped)


def csv_header(path: Path) -> list[str]:
    """Return the column names of a CSV file."""
    with opened(path) as file:
        return next(csv.reader(TextIOWrapper(file, encoding="utf-8-sig", newline="")))


def _chunks(source: CsvSource, path: Path, skipped: Skipped) -> Iterator[Records]:
    encoding = _encoding(source, path)
    _require_table(path, encoding)
    rows = 0
    with opened(path) as file, TextIOWrapper(file, encoding=encoding, newline="") as text:
        reader = csv.reader(_lines(text, path), delimiter=source.delimiter, strict=True)
        try:
            table: _Rows | None = None
            line = 1
            for row in reader:
                first_line, line = line, reader.line_num + 1
                if not any(map(str.strip, row)):
                    continue  # blank, or delimiters alone, as at the end of spreadsheets' files
                if table is None:
                    names = row if source.header else [str(place) for place in range(1, len(row) + 1)]
                    table = _Rows(source, Layout.of(source, _columns(names, source, path), path), names)
                    if source.header:
                        continue
                try:
                    table.add(row)
                except BadRow as bad:
                    on_bad_row(source, skipped, f"{path}: line {first_line}", bad)
                    continue
                rows += 1
                if len(table.y) == CHUNK:
                    yield table.taken()
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{path}: line {_line_of(error, path, encoding)}: byte 0x{error.object[error.start]:02x} is not "
                f"{source.encoding.upper()}; name the file's own encoding, for example encoding: latin-1") from None
        except csv.Error as error:
            raise SourceError(f"{path}: line {reader.line_num}: {error}; a field with quotes is \"written \"\"so\"\"\""
                              ) from None
        if table is not None and table.y:
            yield table.taken()
    if not rows:
        raise SourceError(f"{path}: has no rows" + (", only a header" if not skipped.count else
                                                    f" but {skipped.count} bad ones"))


def _encoding(source: CsvSource, path: Path) -> str:
    try:
        name = codecs.lookup(source.encoding).name
    except LookupError:
        raise SourceError(f"{path}: unknown encoding {source.encoding!r}; for example utf-8, latin-1") from None
    return "utf-8-sig" if name == "utf-8" else name  # which takes a byte order mark away


def _require_table(path: Path, encoding: str) -> None:
    """Raise `SourceError` for what is recognisably no CSV."""
    with opened(path) as file:
        start = file.read(1 << 16)
    if not start.strip():
        raise SourceError(f"{path}: is empty")
    require_no_other(start, path)
    if start[:2] == b"\x1f\x8b":
        raise SourceError(f"{path}: is compressed twice; unpack it once")
    if _ARFF.match(start):
        raise SourceError(f"{path}: is an ARFF file; save it as CSV, or read it by source kind python "
                          "(scipy.io.arff) or river")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") and not encoding.startswith("utf-16"):
        raise SourceError(f"{path}: is UTF-16 text; set encoding: utf-16")


def _columns(names: list[str], source: CsvSource, path: Path) -> list[str]:
    """Return the names, or raise `SourceError` where the delimiter is not the file's."""
    if len(names) == 1:
        others = {mark: names[0].count(mark) for mark in ";\t|,: " if mark != source.delimiter and mark in names[0]}
        hint = f"; its first line holds {max(others, key=others.__getitem__)!r}" if others else ""
        raise SourceError(f"{path}: one column only with delimiter {source.delimiter!r}{hint}: set delimiter")
    return names


def _lines(text: TextIO, path: Path) -> Iterator[str]:
    while line := text.readline(LINE_LIMIT):
        if len(line) == LINE_LIMIT:
            raise SourceError(f"{path}: has a line of more than {LINE_LIMIT} characters, which no table has")
        yield line


def _line_of(error: UnicodeDecodeError, path: Path, encoding: str) -> int:
    """Return the line of the first byte that cannot be decoded; `error` knows it within its own piece only."""
    decoder = codecs.getincrementaldecoder(encoding)()
    lines, last = 1, ""
    with opened(path) as file:
        while piece := file.read(1 << 16):
            bad = False
            try:
                text = decoder.decode(piece)
            except UnicodeDecodeError as found:
                text, bad = found.object[:found.start].decode(encoding), True
            lines += len(_LINE_END.findall(text)) - (last.endswith("\r") and text.startswith("\n"))
            if bad:
                break
            last = text
    return lines


class _Rows:
    """Rows on their way to become `Records`."""

    def __init__(self, source: CsvSource, layout: Layout, names: Sequence[str]) -> None:
        self.source, self.layout, self.width = source, layout, len(names)
        self.missing = frozenset(source.missing)
        place = {name: at for at, name in enumerate(names)}
        self.places = [place[name] for name in layout.features]
        self.label = place[layout.label]
        self.beside = [None if name is None else place[name] for name in (layout.id, layout.time, layout.segment)]
        self.first: list[str | None] = [None] * len(self.places)  # first value of each column
        self.numeric = [False] * len(self.places)
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
        """Return the row's features as sent, or raise `BadRow` for a text among numbers."""
        cells: list[str | None] = []
        begun: list[tuple[int, str, bool]] = []
        for column, place in enumerate(self.places):
            text = row[place]
            if text in self.missing:
                cells.append(None)
                continue
            if self.source.decimal != ".":
                text = self._with_point(text, column)
            first = self.first[column]
            if first is None or self.numeric[column]:
                value = number(text)
                if first is None:
                    if value is None and _OTHER_NOTATION.fullmatch(text):
                        raise BadRow(f"column {self.layout.features[column]!r}: {text!r} is a number in another "
                                     "notation; set decimal and delimiter, or drop the column")
                    if text in _PERHAPS_MISSING and "missing" not in self.source.model_fields_set:
                        raise BadRow(f"column {self.layout.features[column]!r} begins with {text!r}, which may mean a "
                                     "missing value; list what does: missing: ['', '?', ...]")
                    begun.append((column, text, value is not None))
                elif value is None:
                    raise BadRow(f"column {self.layout.features[column]!r}: {text[:40]!r} is no number, and the column "
                                 f"began with one ({first[:40]!r})")
            cells.append(text)
        for column, text, numeric in begun:
            self.first[column], self.numeric[column] = text, numeric
        return cells

    def _with_point(self, text: str, column: int) -> str:
        """Return a number with a point for its decimal mark, other text as it stands."""
        pointed = text.replace(self.source.decimal, ".")
        if "." in text and number(pointed.replace(".", "")) is not None:
            raise BadRow(f"column {self.layout.features[column]!r}: {text[:40]!r} has a point, though decimal is "
                         f"{self.source.decimal!r}")
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
