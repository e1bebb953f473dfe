"""Snapshots in a folder: each written whole or not at all, the last few kept, one process at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from streamil.errors import SnapshotDamaged, SnapshotError
from streamil.log import Event
from streamil.snapshot.blob import BLOB_LIMIT, Meta, declared_size, unpack

SUFFIX = ".snapshot"
_NAME = re.compile(r"[0-9]{12,}\.snapshot")
_TEMPORARY = re.compile(r"\.[0-9]{12,}\.snapshot\.tmp")


class FolderStore:
    """Keeps the last snapshots in a folder, `000000000001.snapshot` and on.

    A context manager: the folder is locked from the construction to `close`, so that no second process of the machine
    writes to it. What killed writers left behind is removed at the start.

    Parameters
    ----------
    folder
        Made where it is missing.
    keep
        How many snapshots stay, at least 1.
    tell
        Called with one line about what does not stop the work: a damaged file that was passed over.

    Raises
    ------
    SnapshotError
        When the folder cannot be made or written to, or another process has it.

    Examples
    --------
    >>> import tempfile
    >>> from streamil.snapshot import pack
    >>> with tempfile.TemporaryDirectory() as folder, FolderStore(Path(folder), keep=2) as store:
    ...     store.load()
    ...     for ordinal in (10, 20, 30):
    ...         path = store.save(pack({"seen": ordinal}, {"ordinal": ordinal}))
    ...     store.load(), [path.name for path in store.paths()]
    (({'seen': 30}, {'ordinal': 30}), ['000000000002.snapshot', '000000000003.snapshot'])
    """

    def __init__(self, folder: Path, keep: int = 3, tell: Callable[[str], None] = lambda line: None) -> None:
        if keep < 1:
            raise SnapshotError(f"keep is {keep}; at least one snapshot must be kept")
        self.folder = folder
        self.keep = keep
        self._tell = tell
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _refused(folder, error) from None
        # not of one thread: a background thread saves, whoever made the store closes it
        self._lock = FileLock(folder / "lock", thread_local=False, fallback_to_soft=False)
        self._take_lock()
        try:
            for entry in sorted(folder.iterdir()):
                if _TEMPORARY.fullmatch(entry.name):
                    entry.unlink()
        except OSError as error:
            self.close()
            raise _refused(folder, error) from None

    def _take_lock(self) -> None:
        holder = self.folder / "lock"
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            who = "another process"
            with contextlib.suppress(OSError, ValueError), holder.open("rb") as file:
                who = f"process {int(file.read(20))}"
            raise SnapshotError(f"{self.folder}: {who} keeps its snapshots here; end it first, or name another folder"
                                ) from None
        except OSError as error:
            raise _refused(holder, error) from None
        with contextlib.suppress(OSError):  # for the error above alone; a full disk is no reason not to learn
            holder.write_text(f"{os.getpid()}\n")

    def save(self, blob: bytes) -> Path:
        """Write a blob of `pack` as the newest snapshot and return its path; then remove those beyond `keep`.

        Raises
        ------
        SnapshotError
            With path and reason of the system, when it could not be written: no temporary file is left, and the
            snapshots before are as they were.
        """
        path = self.folder / f"{self._next():012d}{SUFFIX}"
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
            self._sync_folder()
        except OSError as error:
            raise _refused(path, error) from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        for old in self.paths()[:-self.keep]:
            try:
                old.unlink()
            except OSError as error:  # the new one is safe; too many are no reason to fail
                self._tell(Event(f"{old}: cannot be removed: {error.strerror}", level="warning"))
        return path

    def load(self) -> tuple[Any, Meta] | None:
        """Return state and meta of the newest whole snapshot; None when the folder has none at all.

        Raises
        ------
        SnapshotError
            When there are snapshots and none is whole, one cannot be read, or the newest whole one is of a newer
            format.
        """
        paths = self.paths()
        damage = []
        for path in reversed(paths):
            try:
                found = read_snapshot(path)
            except SnapshotDamaged as error:
                damage.append(str(error))
                continue
            for line in damage:
                self._tell(Event(f"{line}; going on from {path.name}, the one before", level="warning"))
            return found
        strays = sorted(entry.name for entry in self.folder.glob(f"*{SUFFIX}")) if not paths else []
        if damage or strays:
            why = damage[0] if damage else f"{self.folder}: {strays[0]} has no name that snapshots have"
            raise SnapshotError(f"{why}; none of {len(paths or strays)} in the folder can be used: put back a whole "
                                "one, or move the folder away to start afresh")
        return None

    def paths(self) -> list[Path]:
        """Return the snapshots in the folder, oldest first.

        Raises
        ------
        SnapshotError
            When the folder cannot be read.
        """
        try:
            return sorted((path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)), key=_number)
        except OSError as error:
            raise _refused(self.folder, error) from None

    def close(self) -> None:
        """Let others have the folder."""
        self._lock.release()

    def __enter__(self) -> FolderStore:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def _next(self) -> int:
        paths = self.paths()
        return _number(paths[-1]) + 1 if paths else 1

    def _sync_folder(self) -> None:
        """Make the new name durable: a rename lives in the folder, not in the file."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_snapshot(path: Path) -> tuple[Any, Meta]:
    """Return state and meta of a snapshot in a file.

    Raises
    ------
    SnapshotError
        With the path in front: SnapshotDamaged and SnapshotNewer as `unpack` has them, SnapshotDamaged also where the
        disk does not give the file back.
    """
    try:
        return unpack(_read(path))
    except SnapshotError as error:
        raise type(error)(f"{path}: {error}") from None


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # to open a pipe waits for ever
            raise SnapshotError("is no ordinary file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # what the header says is looked at first: nobody reads terabytes to find them damaged
            if size > BLOB_LIMIT or (size > 1 << 20 and declared_size(file.read(32)) not in (-1, size)):
                raise SnapshotDamaged(f"the snapshot is damaged: a file of {size:,} bytes does not fit its header")
            file.seek(0)
            return file.read(size + 1)
    except OSError as error:
        if error.errno == errno.EIO:
            raise SnapshotDamaged(f"the snapshot is damaged: {error.strerror}") from None
        raise SnapshotError(f"cannot be read: {error.strerror}") from None


def _number(path: Path) -> int:
    return int(path.name.partition(".")[0])


def _refused(path: Path, error: OSError) -> SnapshotError:
    return SnapshotError(f"{path}: {error.strerror or error}; snapshots cannot be kept there")
