"""The consumer beside `streamil run`: rate through Kafka, snapshots, predictions, memory over time.

python benchmarks/consumer.py rate [--samples 4000] [--runs 3]       # on the demo's file, topic filled beforehand
python benchmarks/consumer.py snapshots [--samples 20500]            # their share at 784-256-256-10, default interval
python benchmarks/consumer.py predictions [--samples 2000]           # the share of a topic of predictions, demo's file
python benchmarks/consumer.py memory [--samples 200000]              # resident memory of `streamil consume`, small nets
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import psutil
import pytest
from streamil_consumer import consume
from streamil_producer import publish

from streamil import load_experiment, run
from streamil.attachment.keeper import Keeper
from streamil.attachment.outbox import Outbox
from streamil.attachment.prediction_rows import PredictionRows
from streamil.experiment import Experiment
from streamil.local_kafka import LocalKafka
from streamil.racing_arm import RacingArm
from streamil.telemetry.client import fetch_status

SMALL = """\
name: small
stream: {source: {kind: mnist}, regimes: [{kind: limited, samples: 60000, repeats: 4}], samples_per_record: 1}
network: {hidden: [32]}
arms:
  il-prox: {algorithm: il-prox, batch_size: [1, 8], alpha: [1, 5]}
  bp-sgd: {algorithm: bp-sgd, batch_size: [1, 8], learning_rate: [0.01, 0.03]}
  bp-adam: {algorithm: bp-adam, batch_size: [1, 8], learning_rate: [0.0003, 0.001]}
"""
"""A race with everything that the demo's has, on a network small enough to see 200,000 samples in minutes."""
WIDE = """\
name: wide
stream: {source: {kind: mnist}, codec: arrow, samples_per_record: 64}
network: {hidden: [256, 256]}
arms:
  il-prox: {algorithm: il-prox, batch_size: 8}
  bp-adam: {algorithm: bp-adam, batch_size: 8}
"""


def race_file(folder: Path, address: str, text: str) -> Path:
    """Write an experiment file for this broker."""
    file = folder / "race.yaml"
    file.write_text(f'{text}kafka: {{bootstrap_servers: "{address}"}}\n')
    return file


def rate(experiment: Experiment, samples: int, runs: int) -> None:
    """Compare `run` and `consume` of the same samples, in turns."""
    publish(experiment, limit=samples)
    seconds: dict[str, list[float]] = {"run": [], "consume": []}
    for turn in range(runs):
        start = time.perf_counter()
        direct = run(experiment, limit=samples)
        middle = time.perf_counter()
        consumed = consume(experiment, until=samples, metrics="127.0.0.1:0")
        end = time.perf_counter()
        seconds["run"].append(middle - start)
        seconds["consume"].append(end - middle)
        same = "equal" if direct == consumed else "DIFFERENT"
        print(f"turn {turn + 1}: run {samples / (middle - start):.0f}/s, consume {samples / (end - middle):.0f}/s, "
              f"summaries {same}", flush=True)
    ratios = [one / other for one, other in zip(seconds["run"], seconds["consume"], strict=True)]
    print(f"consume / run: median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")


class Learning:
    """Notes when the first learner starts, and when the last update ends."""

    def __init__(self) -> None:
        self.begin = self.end = 0.0

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Have every learner that is built from now on say when it learns."""
        start = RacingArm.start

        def started(arm: RacingArm, inputs: int) -> None:
            start(arm, inputs)
            assert arm.population is not None
            learn = arm.population.learn
            self.begin = time.perf_counter()

            def timed(*batch: Any) -> Any:
                outcome = learn(*batch)
                self.end = time.perf_counter()
                return outcome

            patch.setattr(arm.population, "learn", timed)

        patch.setattr(RacingArm, "start", started)


def shares(experiment: Experiment, samples: int, parts: dict[str, tuple[type, str]]) -> None:
    """Print what parts of the consumer take of its time: whole runs differ by more than that on a busy machine.

    Parameters
    ----------
    experiment, samples
        What is learned.
    parts
        Name -> a method, whose processor time counts where it runs beside learning.
    """
    publish(experiment, limit=samples)
    used = dict.fromkeys(parts, 0.0)
    with pytest.MonkeyPatch.context() as patch:
        learning = Learning()
        learning.watch(patch)
        for name, (owner, method) in parts.items():
            patch.setattr(owner, method, clocked(getattr(owner, method), name, used))
        consume(experiment, until=samples, metrics="127.0.0.1:0")
    seconds = learning.end - learning.begin
    print(f"{samples / seconds:.0f} samples a second")
    for name, spent in used.items():
        print(f"{name}: {100 * spent / seconds:.2f} % of the time, {spent / samples * 1e6:.1f} us a sample", flush=True)


def clocked(method: Callable[..., Any], name: str, used: dict[str, float]) -> Callable[..., Any]:
    """Return the method, adding up the processor time of its thread."""
    def call(*given: Any, **named: Any) -> Any:
        before = time.thread_time()
        try:
            return method(*given, **named)
        finally:
            used[name] += time.thread_time() - before

    return call


def memory(file: Path, experiment: Experiment, samples: int) -> None:
    """Print the resident memory of a consumer process as samples come in."""
    publish(experiment, limit=samples)
    with subprocess.Popen(
            [sys.executable, "-m", "streamil", "consume", str(file), "--until", str(samples),
             "--metrics", "127.0.0.1:0"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = process.stderr.readline().split()[-1].rstrip("/")
        watched, marks, at = psutil.Process(process.pid), {}, 10_000
        while process.poll() is None:
            status = fetch_status(url)
            if status is not None and status["samples"] >= at:
                marks[status["samples"]] = watched.memory_info().rss / 2**20
                print(f"{status['samples']:6d} samples: {marks[status['samples']]:.1f} MiB", flush=True)
                at += 10_000
            time.sleep(0.2)
    first, last = next(iter(marks.values())), list(marks.values())[-1]
    print(f"from {min(marks)} to {max(marks)} samples: {100 * (last / first - 1):+.1f} %")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rate", "snapshots", "predictions", "memory"))
    parser.add_argument("--samples", type=int)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, LocalKafka(Path(name) / "kafka") as kafka:
        folder, samples = Path(name), options.samples
        demo = files("streamil").joinpath("demo.yaml").read_text()
        texts = {"memory": SMALL, "snapshots": f"{WIDE}service: {{snapshots: {{folder: {name}/snapshots}}}}\n",
                 "predictions": demo.replace("{snapshots: null}", "{snapshots: null, predictions: {}}")}
        file = race_file(folder, kafka.address, texts.get(options.what, demo))
        experiment = load_experiment(file)
        if options.what == "rate":
            rate(experiment, samples or 4_000, options.runs)
        elif options.what == "snapshots":
            shares(experiment, samples or 20_500, {
                "the copy, while learning waits": (Keeper, "_save"), "packing and writing, beside": (Keeper, "_write")})
        elif options.what == "predictions":
            shares(experiment, samples or 2_000, {"making rows": (PredictionRows, "__call__"),
                                                  "handing them to Kafka": (Outbox, "pump")})
        else:
            memory(file, experiment, samples or 200_000)


if __name__ == "__main__":
    main()
