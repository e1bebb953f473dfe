"""Real `streamil` processes for tests: started, watched, and never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil

COMMAND = [sys.executable, "-m", "streamil"]


def quick(seconds: float) -> bool:
    """Whether an end took three seconds at most; more where other programs want the processors, too."""
    return seconds < 3 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def streamil(*arguments: object, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=timeout,
                          env=os.environ | environment)


class Running:
    """A command that runs; `lines` is what it has said on both streams."""

    def __init__(self, arguments: tuple[object, ...], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            stdin=subprocess.DEVNULL, env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment)
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """Return the first line with this text."""
        return until(lambda: next((line for line in self.lines if text in line), None), seconds, self)

    def family(self) -> list[psutil.Process]:
        """The process and all that came from it."""
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def end(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """Send a signal; return exit code and seconds, after making sure that nothing is left behind."""
        family = self.family()
        started = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(30)
        seconds = time.monotonic() - started
        assert not alive(family, 1)
        self.reader.join(5)
        assert not any("Traceback" in line for line in self.lines), "\n".join(self.lines)
        return code, seconds


@contextlib.contextmanager
def running(*arguments: object, **environment: str) -> Iterator[Running]:
    """A command in the background, killed at the end with all that came from it."""
    one = Running(arguments, environment)
    try:
        yield one
    finally:
        with_children = one.family() if one.process.poll() is None else []
        for process in with_children:
            process.kill()
        one.process.wait()
        one.reader.join(10)
        assert one.process.stdout is not None
        one.process.stdout.close()


def words(process: psutil.Process) -> str:
    """The process's command line, nothing for one that is gone."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def alive(family: list[psutil.Process], seconds: float) -> list[str]:
    """Those that still run after so many seconds; one that only its parent has not noticed dead does not."""
    return [found for one in psutil.wait_procs(family, timeout=seconds)[1] if (found := words(one))]


def until(condition: Callable[[], Any], seconds: float = 60, of: Running | None = None) -> Any:
    """Wait until the condition returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        said = "\n".join(of.lines) if of else ""
        assert time.monotonic() < deadline, f"not within {seconds} s; it said:\n{said}"
        assert of is None or of.process.poll() is None, f"it ended with {of.process.poll()}; it said:\n{said}"
        time.sleep(0.02)
    return found
