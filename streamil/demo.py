"""`streamil demo`: a local Kafka, a producer process and a consumer process, watched until the race is over."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import IO

from streamil import orphan
from streamil.credentials import TOKEN
from streamil.demo_regimes import DEMO_REGIMES, SHORTER
from streamil.errors import ExperimentError, StreamilError
from streamil.experiment import Kafka
from streamil.experiment_file import nearest
from streamil.kafka import ensure_topic
from streamil.kernels import READYING
from streamil.live_view import live_race
from streamil.local_kafka import LocalKafka
from streamil.report.lines import result_lines
from streamil.telemetry.client import fetch_pictures, fetch_status
from streamil.views import console, download_progress

QUIT_SECONDS = 1.2
"""What the children may take to end by themselves; then they are killed."""
TOPIC = "streamil-demo"


class Child:
    """A process of the demo: its standard error is read line by line, so that it never waits for us."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.name = name
        # Its own session: a Ctrl-C meant for the demo must not reach it before the demo has said what to do.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamil", *arguments], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={key: value for key, value in os.environ.items() if key != TOKEN}  # the demo asks without one
            | {orphan.VARIABLE: "1", "STREAMIL_LOG": "text"})  # ends even when we are killed
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


@contextmanager
def children() -> Iterator[Callable[[str, list[str]], Child]]:
    """Start processes; at the end ask them all to end, and make them."""
    started: list[Child] = []

    def start(name: str, arguments: list[str]) -> Child:
        started.append(Child(name, arguments))
        return started[-1]

    try:
        yield start
    finally:
        for child in started:
            child.process.terminate()
        deadline = time.monotonic() + QUIT_SECONDS
        for child in started:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()


def run_demo(out: Path, *, samples: int, regime: str, stay: bool, metrics: str,
             stopping: Callable[[], AbstractContextManager[threading.Event]]) -> None:
    """Run the whole demo; results go to `out`.

    Parameters
    ----------
    out
        Folder for the results and the experiment file.
    samples
        How many to race over.
    regime
        Name of the regime that reshapes the stream, out of `DEMO_REGIMES`.
    stay
        Keep page and metrics up after the end.
    metrics
        Address of page and metrics.
    stopping
        Entered once Kafka runs; the event that it lends ends the demo. Before that an exception does.

    Raises
    ------
    ExperimentError
        When there is no such regime, or its stream is shorter than that.
    StreamilError
        What one of the processes said when it failed.
    """
    text = demo_file(regime, samples)
    screen = console()
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        kafka = LocalKafka(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamil-demo-"))))
        with download_progress() as report:
            kafka.install(report)
        started = time.monotonic()

        def told(line: str) -> None:
            screen.print(f"{time.monotonic() - started:5.1f} s  {line}", soft_wrap=True)

        file = out / "experiment.yaml"
        file.write_text(f"{text}kafka: {{bootstrap_servers: \"{kafka.reserve()}\"}}\n")
        start = stack.enter_context(children())
        consumer = start("consumer", [  # first, as torch takes as long to import as Kafka to start
            "consume", str(file), "--until", str(samples), "--out", str(out), "--metrics", metrics,
            "--wait", "90", *(["--stay"] if stay else [])])
        stack.enter_context(kafka)
        stop = stack.enter_context(stopping())
        told(f"Kafka runs at {kafka.address}")
        ensure_topic(Kafka(bootstrap_servers=kafka.address), TOPIC)
        producer = start("producer", ["produce", str(file), "--limit", str(samples), "--metrics", "127.0.0.1:0"])
        url = _address(consumer, stop)
        if url is None:
            return
        told(f"page and metrics at {url}/ and {url}/metrics")
        _watch(consumer, producer, url, stop, told)
        if stop.is_set():
            return
        from streamil.report.page import write_report
        from streamil.report.plot import plot_accuracy

        plot_accuracy(out)
        write_report(out)
        for line in result_lines(json.loads((out / "summary.json").read_text())):
            print(line)
        print(f"done in {time.monotonic() - started:.0f} s; results in {out}/: "
              f"report.html, accuracy.png, summary.json, curve.parquet, details.json, experiment.yaml")
        if stay:
            print(f"page and metrics stay at {url}/ until Ctrl-C", flush=True)
            while not stop.wait(0.5):
                consumer.require_no_failure()


def demo_file(regime: str, samples: int) -> str:
    """Return the demo's experiment file with a regime after the shuffle, still without Kafka's address.

    Raises
    ------
    ExperimentError
        When there is no such regime: names the nearest; when its stream has fewer samples than are wanted.

    Examples
    --------
    >>> [line for line in demo_file("noisy-labels", 100).splitlines() if "regimes" in line]
    ['  regimes: [{kind: single-pass}, {"kind": "noisy-labels", "rate": 0.2}]']
    """
    if regime not in DEMO_REGIMES:
        raise ExperimentError(f"--regime: found {regime[:40]!r}{nearest(regime, DEMO_REGIMES)}; "
                              f"allowed: {', '.join(DEMO_REGIMES)}")
    text = files("streamil").joinpath("demo.yaml").read_text()
    more = "".join(f", {json.dumps(settings)}" for settings in DEMO_REGIMES[regime])
    text = text.replace("{kind: single-pass}", "{kind: single-pass}" + more)
    if regime in SHORTER and samples > SHORTER[regime]:
        raise ExperimentError(f"--samples: found {samples}; the demo's digits have {SHORTER[regime]} samples left "
                              f"under {regime}")
    return text


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
    with live_race() as show:
        while not stop.is_set():
            while first and not consumer.new.empty():
                if consumer.new.get().endswith(READYING):
                    tell(READYING)
            status = fetch_status(url)
            if status is not None and status["samples"]:
                if first and any(arm["samples"] for arm in status["arms"]):
                    tell("first accuracies")
                    first = False
                show(status, fetch_pictures(url))
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
