"""numpy archives with arrays `x` and `y`, read without pickles."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.errors import SourceError
from streamil.samples import Records, label_text
from streamil.streams.chunks import rows_of
from streamil.streams.source import unreadable


def npz(path: Path) -> Iterator[Records]:
    """Yield the samples of an npz file: `x` [N, F] (or [N, ...], flattened) of numbers, `y` [N] of labels.

    Raises
    ------
    SourceError
        When the file is damaged, lacks an array, or the arrays do not fit each other.
    """
    x, y = _arrays(path)
    rows = rows_of(x, f"{path}: x")
    if y.ndim != 1 or len(y) != len(rows):
        raise SourceError(f"{path}: y is {list(y.shape)}, expected [{len(rows)}], one label for each row of x")
    labels: list[str | None] = []
    for row, label in enumerate(y.tolist()):
        try:
            labels.append(label_text(label))
        except ValueError as error:
            raise SourceError(f"{path}: y[{row}]: {error}") from None
    yield Records(y=labels, x=rows)


def _arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise SourceError(f"{path}: is no npz file, or not a whole one; save one with numpy.savez(path, x=.., "
                                  "y=..)")
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
            missing = {"x", "y"} - set(archive.files)
            if missing:
                held = ", ".join(archive.files) or "nothing"
                raise SourceError(f"{path}: has no array {' and no array '.join(sorted(missing))}; it holds {held}")
            x, y = archive["x"], archive["y"]
            if isinstance(x, bytes) or isinstance(y, bytes):  # what a member that is no array is handed out as
                raise SourceError(f"{path}: x and y are not both numpy arrays; save it again with numpy.savez")
            return x, y
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, EOFError, KeyError, RuntimeError, MemoryError, TokenError, zipfile.BadZipFile,
            zlib.error) as error:
        reason = ("holds Python objects, which are not read; save x and y as plain numbers or texts"
                  if "allow_pickle" in str(error) else "is damaged; save it again with numpy.savez")
        raise SourceError(f"{path}: {reason}") from None
