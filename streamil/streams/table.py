"""CSV files, read row by row: every row is a sample, is refused by its line, or is counted as skipped."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from streamil.errors import SourceError
from streamil.experiment.features import Feature
from streamil.experiment.sources import CsvSource
from streamil.samples import Records
from streamil.streams.chunks import CHUNK
from streamil.streams.layout import BadRow, Layout, on_bad_row
from streamil.streams.rows import Rows
from streamil.streams.source import Opened, Skipped, opened, require_no_other

ROW_LIMIT = 1 << 24
"""Characters of the longest row; a file without line ends is not read into memory whole."""
CHUNK_CHARACTERS = 1 << 22
"""Characters after which a chunk ends before it is full: its cells take ten to thirty times their memory."""
FIELD_LIMIT = 131_072
"""Characters of the longest field: Python's own limit. A quote that is never closed is found by it."""

_ARFF = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:%[^\r\n]*[\r\n]+\s*)*@relation\b", re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\r|\n")


def csv_table(source: CsvSource, path: Path, declared: Mapping[str, Feature]) -> Opened:
    """Open a CSV file, plain or gzip; errors come while its rows are taken.

    `declared` are the kinds of `stream.features`: a row with another value is a bad one.

    Raises
    ------
    SourceError
        When the file is absent, is none, or has a bad row that is not to be skipped: file, line, way out.
    """
    skipped = Skipped()
    return Opened(_chunks(source, path, declared, skipped), skipped=skipped)


def csv_header(path: Path) -> list[str]:
    """Return the column names of a CSV file."""
    with opened(path) as file:
        return next(csv.reader(TextIOWrapper(file, encoding="utf-8-sig", newline="")))


def _chunks(source: CsvSource, path: Path, declared: Mapping[str, Feature], skipped: Skipped) -> Iterator[Records]:
    encoding = _encoding(source, path)
    _require_table(path, encoding)
    rows = 0
    with opened(path) as file, TextIOWrapper(file, encoding=encoding, newline="") as text:
        lines = _Lines(text, path)
        reader = csv.reader(lines, delimiter=source.delimiter, strict=True)
        try:
            table: Rows | None = None
            for row in reader:
                first_line = lines.begin_row()
                if not any(map(str.strip, row)):
                    continue  # blank, or delimiters alone, as at the end of spreadsheets' files
                if table is None:
                    names = row if source.header else [str(place) for place in range(1, len(row) + 1)]
                    layout = Layout.of(source, _columns(names, source, path), path, declared)
                    table = Rows(source, layout, names, declared)
                    if source.header:
                        continue
                try:
                    table.add(row)
                except BadRow as bad:
                    on_bad_row(source, skipped, f"{path}: line {first_line}", bad)
                    continue
                rows += 1
                if len(table.y) == CHUNK or lines.characters >= CHUNK_CHARACTERS:
                    yield table.taken()
                    lines.characters = 0
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{path}: line {_line_of(error, path, encoding)}: byte 0x{error.object[error.start]:02x} is not "
                f"{source.encoding.upper()}; name the file's own encoding, for example encoding: latin-1") from None
        except csv.Error as error:
            first, last = lines.first, reader.line_num
            on = "" if first == last else f", in a row that goes on to line {last}"
            raise SourceError(f"{path}: line {first}{on}: {error}; a field with quotes is \"written \"\"so\"\"\""
                              ) from None
        if table is not None and table.y:
            yield table.taken()
    if not rows:
        raise SourceError(f"{path}: has no rows" + (", only a header" if not skipped.count else
                                                    f" but {skipped.count} bad ones"))


def _encoding(source: CsvSource, path: Path) -> str:
    try:
        name = codecs.lookup(source.encoding).name
        "".encode(name)  # hex and rot13 are known, and no encodings of text
        b"".decode(name)
    except (LookupError, ValueError):
        raise SourceError(f"{path}: unknown encoding {source.encoding!r}; for example utf-8, latin-1") from None
    return "utf-8-sig" if name == "utf-8" else name  # which takes a byte order mark away


def _require_table(path: Path, encoding: str) -> None:
    """Raise `SourceError` for what is recognisably no CSV."""
    with opened(path) as file:
        start = file.read(1 << 16)
    if not start.removeprefix(codecs.BOM_UTF8).strip():
        raise SourceError(f"{path}: is empty")
    require_no_other(start, path)
    if start[:2] == b"\x1f\x8b":
        raise SourceError(f"{path}: is compressed twice; unpack it once")
    if _ARFF.match(start):
        raise SourceError(f"{path}: is an ARFF file; save it as CSV, or read it by source kind python "
                          "(scipy.io.arff) or river")
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and encoding not in ("utf-16", "utf-32"):
        raise SourceError(f"{path}: is UTF-16 text with a byte order mark; set encoding: utf-16")
    if start.startswith(codecs.BOM_UTF8) and encoding != "utf-8-sig":
        raise SourceError(f"{path}: begins with the byte order mark of UTF-8; set encoding: utf-8")
    if start.startswith(codecs.BOM_UTF8 * 2):
        raise SourceError(f"{path}: begins with two byte order marks; take one away")
    if b"\0" in start and not encoding.startswith(("utf-16", "utf-32")):
        raise SourceError(f"{path}: holds bytes of 0, as no text does but UTF-16; if it is that, set encoding: "
                          "utf-16-le (or -be), else save it as CSV")


def _columns(names: list[str], source: CsvSource, path: Path) -> list[str]:
    """Return the names, or raise `SourceError` where the delimiter is not the file's."""
    if len(names) == 1:
        others = {mark: names[0].count(mark) for mark in ";\t|,: " if mark != source.delimiter and mark in names[0]}
        hint = f" and holds {max(others, key=others.__getitem__)!r}" if others else ""
        raise SourceError(f"{path}: one column only with delimiter {source.delimiter!r}: its first line is "
                          f"{names[0][:40]!r}{hint}; set delimiter, or take away what stands above the header")
    return names


class _Lines(Iterator[str]):
    """The lines of a text, with a bound on those of one row; `characters` counts them until it is set back."""

    def __init__(self, text: TextIO, path: Path) -> None:
        self.text, self.path = text, path
        self.characters = self.number = self.row = 0
        self.first = 1

    def begin_row(self) -> int:
        """Note that the next line begins a row; return the first line of the row that is complete."""
        first, self.first, self.row = self.first, self.number + 1, 0
        return first

    def __next__(self) -> str:
        line = self.text.readline(ROW_LIMIT)
        if not line:
            raise StopIteration
        self.number += 1
        self.row += len(line)
        self.characters += len(line)
        if self.row >= ROW_LIMIT:
            raise SourceError(f"{self.path}: line {self.first}: a row of more than {ROW_LIMIT} characters, which no "
                              "table has; is a quote not closed?")
        return line


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
