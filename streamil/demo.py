"""`streamil demo`: a local Kafka, a producer process and a consumer process, watched until the race is over."""

from __future__ import annotations

import json
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import IO

from streamil.errors import StreamilError
from streamil.experiment import Kafka
from streamil.kafka import ensure_topic
from streamil.local_kafka import LocalKafka
from streamil.report.lines import result_lines
from streamil.telemetry.server import fetch_status
from streamil.views import console, download_progress, live_status

QUIT_SECONDS = 1.5
"""What a child may take to end by itself; then it is killed."""
TOPIC = "streamil-demo"


class Child:
    """A process of the demo: its standard error is read line by line, so that it never waits for us."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.name = name
        # Its own session: a Ctrl-C meant for the demo must not reach it before the demo has said what to do.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamil", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.lines: list[str] = []
        self.new: queue.SimpleQueue[str] = queue.SimpleQueue()
        assert self.process.stderr is not None
        threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True).start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self.lines = [*self.lines[-50:], line.rstrip()]
            self.new.put(line.rstrip())

    def require_no_failure(self) -> None:
        """Raise what the process said last, if it has failed."""
        code = self.process.poll()
        if code not in (None, 0):
            time.sleep(0.1)
            last = next((line for line in reversed(self.lines) if line), f"exit code {code}")
            raise StreamilError(f"the {self.name} ended: {last.removeprefix('error: ')}")

    def end(self) -> None:
        """Ask it to end, and make it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(QUIT_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


def run_demo(out: Path, *, samples: int, stay: bool, metrics: str, stop: threading.Event) -> None:
    """Run the whole demo; results go to `out`.

    Raises
    ------
    StreamilError
        What one of the processes said when it failed.
    """
    screen = console()
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        kafka = LocalKafka(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamil-demo-"))))
        with download_progress() as report:
            kafka.install(report)
        started = time.monotonic()
        stack.enter_context(kafka)
        screen.print(f"{time.monotonic() - started:5.1f} s  Kafka runs at {kafka.address}")
        file = out / "experiment.yaml"
        text = files("streamil").joinpath("demo.yaml").read_text()
        file.write_text(f"{text}kafka: {{bootstrap_servers: \"{kafka.address}\"}}\n")
        ensure_topic(Kafka(bootstrap_servers=kafka.address), TOPIC)
        consumer = stack.enter_context(_child("consumer", [
            "consume", str(file), "--until", str(samples), "--out", str(out), "--metrics", metrics,
            *(["--stay"] if stay else [])]))
        producer = stack.enter_context(_child("producer", [
            "produce", str(file), "--limit", str(samples), "--metrics", "127.0.0.1:0"]))
        url = _address(consumer, stop)
        if url is None:
            return
        screen.print(f"{time.monotonic() - started:5.1f} s  page and metrics at {url}/ and {url}/metrics")
        _watch(consumer, producer, url, stop, lambda line: screen.print(f"{time.monotonic() - started:5.1f} s  {line}"))
        if stop.is_set():
            return
        from streamil.report.plot import plot_accuracy

        plot_accuracy(out)
        for line in result_lines(json.loads((out / "summary.json").read_text())):
            print(line)
        print(f"done in {time.monotonic() - started:.0f} s; results in {out}/: "
              f"summary.json, curve.parquet, accuracy.png, experiment.yaml")
        if stay:
            print(f"page and metrics stay at {url}/ until Ctrl-C", flush=True)
            while not stop.wait(0.5):
                consumer.require_no_failure()


@contextmanager
def _child(name: str, arguments: list[str]) -> Iterator[Child]:
    child = Child(name, arguments)
    try:
        yield child
    finally:
        child.end()


def _address(consumer: Child, stop: threading.Event) -> str | None:
    """Wait until the consumer says where it serves; None when stopped before."""
    while not stop.is_set():
        try:
            found = re.search(r"metrics and page at (http://\S+?)/$", consumer.new.get(timeout=0.2))
        except queue.Empty:
            consumer.require_no_failure()
            continue
        if found:
            return found[1]
    return None


def _watch(consumer: Child, producer: Child, url: str, stop: threading.Event, tell: Callable[[str], None]) -> None:
    """Show the race until the consumer is done."""
    first = True
    with live_status() as show:
        while not stop.is_set():
            status = fetch_status(url)
            if status is not None and status["samples"]:
                if first and any(arm["samples"] for arm in status["arms"]):
                    tell("first accuracies")
                    first = False
                show(status)
            if consumer.process.poll() == 0 or (status is not None and status["state"] == "done"):
                break
            consumer.require_no_failure()
            producer.require_no_failure()
            stop.wait(0.3)
    if not stop.is_set():
        _wait_for_results(consumer, stop)


def _wait_for_results(consumer: Child, stop: threading.Event) -> None:
    """Wait until the consumer has said that its results are written."""
    while not stop.is_set() and not any("; results in " in line for line in consumer.lines):
        consumer.require_no_failure()
        if consumer.process.poll() == 0:
            time.sleep(0.1)
            return
        stop.wait(0.1)
