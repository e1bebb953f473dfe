"""Images and labels in IDX files (the format of MNIST), and MNIST itself as it ships with the package."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.errors import SourceError
from streamil.samples import Records, label_text
from streamil.streams.chunks import rows_of
from streamil.streams.source import opened

DATA = Path(__file__).parent / "data"
MNIST = {  # part -> (file, MD5 of its unpacked bytes) of images and of labels, as published
    "train": (("train-images-idx3-ubyte.gz", "6bbc9ace898e44ae57da46a324031adb"),
              ("train-labels-idx1-ubyte.gz", "a25bea736e30d166cdddb491f175f624")),
    "test": (("t10k-images-idx3-ubyte.gz", "2646ac647ad5339dbf082846283269ea"),
             ("t10k-labels-idx1-ubyte.gz", "27ae3e4e09519cfbb04c329615203637")),
}
PIECE = 1 << 20
"""Bytes read at once: a file that holds less than its header claims ends before more is allocated."""

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def mnist(part: str, folder: Path = DATA / "mnist") -> Iterator[Records]:
    """Yield MNIST in its published order, after its bytes were compared with the published checksums.

    Raises
    ------
    SourceError
        Naming the file and both checksums where they differ.
    """
    images, labels = (read_idx(folder / name, checksum) for name, checksum in MNIST[part])
    return _records(images, labels, folder / MNIST[part][0][0], folder / MNIST[part][1][0])


def idx(images: Path, labels: Path) -> Iterator[Records]:
    """Yield the samples of two IDX files, plain or gzip.

    Raises
    ------
    SourceError
        When one is no IDX file, is damaged, or the two differ in number.
    """
    return _records(read_idx(images), read_idx(labels), images, labels)


def _records(x: NDArray[Any], y: NDArray[Any], images: Path, labels: Path) -> Iterator[Records]:
    if y.ndim != 1 or len(y) != len(x):
        raise SourceError(f"{labels}: labels {list(y.shape)} do not fit the images {list(x.shape)} of {images}")
    try:
        names = {label: label_text(label) for label in np.unique(y).tolist()}
    except ValueError as error:
        raise SourceError(f"{labels}: {error}") from None
    yield Records(y=[names[label] for label in y.tolist()], x=rows_of(x, str(images)))


def read_idx(path: Path, checksum: str | None = None) -> NDArray[Any]:
    """Return the array of an IDX file; its header is believed only as far as the file's size allows.

    Raises
    ------
    SourceError
        When it is no IDX file, cut, longer than its header says, or its MD5 is not `checksum`.
    """
    with opened(path) as file:
        start = file.read(4)
        if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _TYPES or not 1 <= start[3] <= 8:
            raise SourceError(f"{path}: is no IDX file (it starts with {start.hex() or 'nothing'})")
        sizes = file.read(4 * start[3])
        shape = tuple(int(n) for n in np.frombuffer(sizes[:len(sizes) // 4 * 4], ">u4"))
        dtype = np.dtype(_TYPES[start[2]])
        expected = math.prod(shape) * dtype.itemsize
        if len(shape) < start[3]:
            raise SourceError(f"{path}: damaged: it ends within its header; fetch it again")
        content = bytearray()
        while len(content) <= expected and (piece := file.read(min(PIECE, expected + 1 - len(content)))):
            content += piece
    if len(content) != expected:
        found = "more" if len(content) > expected else f"{len(content)} bytes"
        raise SourceError(f"{path}: damaged: {expected} bytes claimed by its header {list(shape)}, {found} found; "
                          "fetch it again")
    if checksum is not None:
        digest = hashlib.md5(start + sizes, usedforsecurity=False)
        digest.update(content)
        if digest.hexdigest() != checksum:
            raise SourceError(f"{path}: damaged: MD5 of the unpacked file {digest.hexdigest()}, expected {checksum}; "
                              "install streamil again")
    return np.frombuffer(content, dtype).reshape(shape)
