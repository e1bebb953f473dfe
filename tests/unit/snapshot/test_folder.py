"""The folder of snapshots: the last few, whole ones only, one process at a time, and what the system refuses."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from test_blob import sealed

from streamil.errors import SnapshotDamaged, SnapshotError, SnapshotNewer
from streamil.snapshot import FolderStore, pack
from streamil.snapshot import folder as folder_module
from streamil.snapshot.folder import read_snapshot


def blob(ordinal: int, size: int = 10) -> bytes:
    return pack({"w": torch.full((size,), ordinal), "n": ordinal}, {"ordinal": ordinal})


def script(code: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, in a namespace of its own where `prefix` says so."""
    return subprocess.run([*prefix, sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
                          capture_output=True, text=True, timeout=120)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"lock"}


def test_the_last_ones_are_kept_in_order(tmp_path):
    with FolderStore(tmp_path / "a" / "b", keep=2) as store:
        assert store.load() is None and store.paths() == []
        saved = [store.save(blob(ordinal)) for ordinal in (10, 20, 30)]
        assert store.paths() == saved[1:] and names(store.folder) == {"000000000002.snapshot", "000000000003.snapshot"}
        state, meta = store.load()
        assert meta == {"ordinal": 30} and state["n"] == 30 and state["w"].tolist() == [30] * 10
    with FolderStore(store.folder, keep=1) as store:
        assert store.save(blob(40)).name == "000000000004.snapshot" and len(store.paths()) == 1


def test_numbers_sort_as_numbers_past_twelve_digits(tmp_path):
    (tmp_path / "999999999999.snapshot").write_bytes(blob(1))
    with FolderStore(tmp_path) as store:
        assert store.save(blob(2)).name == "1000000000000.snapshot"
        assert store.load()[1] == {"ordinal": 2} and store.save(blob(3)).name == "1000000000001.snapshot"
        assert [path.name[0] for path in store.paths()] == ["9", "1", "1"]


def test_at_least_one_is_kept(tmp_path):
    with pytest.raises(SnapshotError, match="keep is 0"):
        FolderStore(tmp_path, keep=0)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:100] + b"\0" + data[101:], lambda data: b"x" * (2 << 20)])
def test_a_damaged_newest_falls_back_to_the_one_before_and_says_so(tmp_path, damage):
    told: list[str] = []
    with FolderStore(tmp_path, tell=told.append) as store:
        first, second, third = (store.save(blob(ordinal)) for ordinal in (1, 2, 3))
        third.write_bytes(damage(third.read_bytes()))
        assert store.load()[1] == {"ordinal": 2}
        assert len(told) == 1 and told[0].startswith(f"{third}: ") and told[0].endswith("going on from 000000000002.snapshot, the one before")
        second.write_bytes(b"")
        assert store.load()[1] == {"ordinal": 1} and len(told) == 3
        first.write_bytes(b"")
        with pytest.raises(SnapshotError, match=r"000000000003.snapshot: .*none of 3 in the folder can be used: put back"):
            store.load()
        assert store.save(blob(4)).name == "000000000004.snapshot"  # no name is given twice
        assert store.load()[1] == {"ordinal": 4}


def test_what_the_disk_does_not_give_back_is_damaged(tmp_path):
    told: list[str] = []
    with FolderStore(tmp_path, tell=told.append) as store:
        store.save(blob(1))
        (tmp_path / "000000000002.snapshot").symlink_to("/proc/self/mem")  # to read its first byte is an input/output error
        assert store.load()[1] == {"ordinal": 1}
    assert len(told) == 1 and "Input/output error" in told[0]


def test_a_newer_version_is_not_passed_over(tmp_path):
    with FolderStore(tmp_path) as store:
        store.save(blob(1))
        path = store.save(sealed(version=2))
        with pytest.raises(SnapshotNewer, match=rf"{path}: the snapshot is of format version 2"):
            store.load()


def test_snapshots_under_other_names_are_not_taken_for_none(tmp_path):
    (tmp_path / "backup.snapshot").write_bytes(blob(1))
    with FolderStore(tmp_path) as store, pytest.raises(SnapshotError, match=r"backup\.snapshot has no name"):
        store.load()


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    left = {".000000000001.snapshot.tmp", "000000000001.snapshot", "notes.txt", ".hidden.tmp"}
    for name in left:
        (tmp_path / name).write_bytes(b"")
    with FolderStore(tmp_path):
        assert names(tmp_path) == left - {".000000000001.snapshot.tmp"}


def test_a_second_store_is_kept_out_by_name_until_the_first_is_closed(tmp_path):
    with FolderStore(tmp_path) as store:
        (tmp_path / ".000000000001.snapshot.tmp").write_bytes(b"of the one who writes")
        code = """
            import sys, pathlib
            from streamil.errors import SnapshotError
            from streamil.snapshot import FolderStore
            try:
                FolderStore(pathlib.Path(sys.argv[1]))
            except SnapshotError as error:
                print(error)
        """
        for _ in range(2):  # the first attempt must not wipe the number
            assert script(code, tmp_path).stdout.startswith(f"{tmp_path}: process {os.getpid()} keeps its snapshots here")
        with pytest.raises(SnapshotError, match=f"process {os.getpid()}"):
            FolderStore(tmp_path)
        (tmp_path / "lock").write_text("")
        assert script(code, tmp_path).stdout.startswith(f"{tmp_path}: another process keeps")
        assert (tmp_path / ".000000000001.snapshot.tmp").exists()
        store.close()
        assert script(code, tmp_path).stdout == ""


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SnapshotError, match=r"file/folder: Not a directory"):
        FolderStore(tmp_path / "file" / "folder")
    with pytest.raises(SnapshotError, match=r"file: File exists"):
        FolderStore(tmp_path / "file")


def test_a_folder_that_is_gone_is_refused(tmp_path):
    with FolderStore(tmp_path / "a") as store:
        shutil.rmtree(store.folder)
        for use in store.load, lambda: store.save(b""):
            with pytest.raises(SnapshotError, match=rf"{store.folder}: No such file or directory"):
                use()


SAVING = """
    import resource, signal, sys, pathlib, subprocess
    from streamil.errors import SnapshotError
    from streamil.snapshot import FolderStore, pack
    folder = pathlib.Path(sys.argv[1])
    def names():
        return sorted(path.name for path in folder.iterdir() if path.name != "lock")
    small, large = pack("small", {}), pack(b"x" * (1 << 20), {})
    def refused(reason):
        before = names()
        try:
            store.save(large)
        except SnapshotError as error:
            assert reason in str(error) and str(folder / "000000000002.snapshot") in str(error), error
            assert names() == before, names()
            assert store.load() == ("small", {})
        else:
            raise AssertionError("it was saved")
    def system(*command):
        subprocess.run(command, check=True)
    def start():
        global store
        store = FolderStore(folder)
        store.save(small)
    def goes_on():
        assert store.save(small).name == "000000000002.snapshot" and len(names()) == 2
        print("done")
"""


def test_a_file_that_may_not_grow_leaves_nothing_and_the_next_one_succeeds(tmp_path):
    done = script(textwrap.dedent(SAVING) + textwrap.dedent("""
        start()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        refused("File too large")
        goes_on()
    """), tmp_path)
    assert done.stdout == "done\n", done.stderr


UNSHARED = ("unshare", "--user", "--map-root-user", "--mount")
mountable = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*UNSHARED, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode != 0,
    reason="this machine lets nobody mount a small disk")


@mountable
def test_a_full_disk_leaves_nothing_and_the_next_one_succeeds(tmp_path):
    done = script(textwrap.dedent(SAVING) + textwrap.dedent("""
        system("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder)
        start()
        refused("No space left on device")
        goes_on()
    """), tmp_path, prefix=UNSHARED)
    assert done.stdout == "done\n", done.stderr


@mountable
def test_a_disk_that_turns_read_only_is_told_and_the_next_one_succeeds(tmp_path):
    done = script(textwrap.dedent(SAVING) + textwrap.dedent("""
        system("mount", "-t", "tmpfs", "tmpfs", folder)
        start()
        store.close()
        (folder / "lock").write_text("")
        system("mount", "-o", "remount,ro", folder)
        refused("Read-only file system")
        try:
            FolderStore(folder)
        except SnapshotError as error:
            assert "Read-only file system" in str(error) and str(folder) in str(error)
        else:
            raise AssertionError("it was opened")
        system("mount", "-o", "remount,rw", folder)
        goes_on()
    """), tmp_path, prefix=UNSHARED)
    assert done.stdout == "done\n", done.stderr


def test_a_rename_or_a_sync_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def broken(*arguments: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with FolderStore(tmp_path) as store:
        store.save(blob(1))
        for owner, name in ((os, "fsync"), (Path, "rename")):
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, broken)
                with pytest.raises(SnapshotError, match=r"000000000002.snapshot: Input/output error"):
                    store.save(blob(2))
            assert names(tmp_path) == {"000000000001.snapshot"}
        assert store.save(blob(3)).name == "000000000002.snapshot"


def test_what_cannot_be_removed_is_told_and_does_not_fail_the_save(tmp_path):
    told: list[str] = []
    (tmp_path / "000000000001.snapshot").mkdir()
    with FolderStore(tmp_path, keep=1, tell=told.append) as store:
        store.save(blob(2))
        assert store.load()[1] == {"ordinal": 2}
    assert len(told) == 1 and told[0].startswith(f"{tmp_path / '000000000001.snapshot'}: cannot be removed")


def test_everything_is_synced_before_it_gets_its_name_and_the_folder_after(tmp_path, monkeypatch):
    seen: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").resolve()
        seen.append(f"sync {target.name} {'' if target.is_dir() else os.fstat(descriptor).st_size}".strip())
        fsync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        seen.append(f"rename {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    data = blob(1)
    with FolderStore(tmp_path) as store:
        store.save(data)
    assert seen == [f"sync .000000000001.snapshot.tmp {len(data)}", "rename 000000000001.snapshot", f"sync {tmp_path.name}"]


def test_files_that_are_none_are_refused_by_path(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.write(blob(1)[:32])
        file.truncate(1 << 42)
    for name, kind, said in (("missing", SnapshotError, "No such file"), ("pipe", SnapshotError, "no ordinary file"),
                             ("", SnapshotError, "no ordinary file"), ("huge", SnapshotDamaged, "4,398,046,511,104 bytes")):
        with pytest.raises(kind, match=rf"^{tmp_path / name}: .*{said}"):
            read_snapshot(tmp_path / name)


def test_a_file_that_says_another_size_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(blob(1)[:32] + bytes(4 << 20))
    monkeypatch.setattr(folder_module, "unpack", lambda data: pytest.fail("it was read"))
    with pytest.raises(SnapshotDamaged, match="does not fit its header"):
        read_snapshot(path)
    path.write_bytes(blob(1))
    monkeypatch.setattr(folder_module, "BLOB_LIMIT", 100)
    with pytest.raises(SnapshotDamaged, match="does not fit its header"):
        read_snapshot(path)
