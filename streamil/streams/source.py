"""What a source hands out, and how files are opened."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from streamil.errors import SourceError
from streamil.samples import Records

_OTHERS = {
    b"PK\x03\x04": "a zip archive (or a spreadsheet's file); unpack it, or save as CSV",
    b"BZh": "bzip2-compressed; unpack it, or compress with gzip",
    b"\xfd7zXZ\x00": "xz-compressed; unpack it, or compress with gzip",
    b"\x28\xb5\x2f\xfd": "zstd-compressed; unpack it, or compress with gzip",
    b"PAR1": "a Parquet file; name it with source kind parquet",
    b"\x93NUMPY": "a numpy array; save it as npz with arrays x and y, for source kind npz",
    b"ARROW1": "an Arrow file; save it as Parquet",
}


@dataclass
class Skipped:
    """Bad rows that a source left out: how many, and the first few by name."""

    count: int = 0
    details: list[str] = field(default_factory=list)

    def add(self, detail: str) -> None:
        """Count one bad row."""
        self.count += 1
        if len(self.details) < 10:
            self.details.append(detail)

    def told(self, most: int = 5) -> list[str]:
        """Return a line that says how many and which, or none."""
        return [f"{self.count} bad rows skipped, the first: {'; '.join(self.details[:most])}"] if self.count else []


@dataclass(frozen=True)
class Opened:
    """A source: its samples, in chunks of the source's own sizes; whether they end; what it left out.

    Of a `live` one another reading yields other samples.
    """

    chunks: Iterator[Records]
    finite: bool = True
    skipped: Skipped = field(default_factory=Skipped)
    live: bool = False


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, through gzip (all of its members) where its first bytes say so.

    Raises
    ------
    SourceError
        When it cannot be read, is another kind of archive, or is damaged or cut where it is read.
    """
    if "\0" in str(path):
        raise SourceError(f"{str(path)!r}: no file has a byte of 0 in its name, as \"\\0\" of a quoted text in YAML is")
    try:
        with path.open("rb") as raw:
            magic = raw.read(8)
            raw.seek(0)
            require_no_other(magic, path)
            if magic[:2] == b"\x1f\x8b":
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield cast(BinaryIO, unpacked)
            else:
                yield raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"{path}: damaged or incomplete gzip file ({error}); fetch it again") from None
    except OSError as error:
        raise unreadable(path, error) from None


def require_no_other(start: bytes, path: Path) -> None:
    """Raise `SourceError` for a file that begins like one of another kind."""
    for magic, what in _OTHERS.items():
        if start.startswith(magic):
            raise SourceError(f"{path}: is {what}")


def unreadable(path: Path, error: OSError) -> SourceError:
    """Return the error about a file that the system does not let us read."""
    return SourceError(f"{path}: cannot be read: {error.strerror or error}")
