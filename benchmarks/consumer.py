"""The consumer beside `streamil run`: rate through Kafka, equality of results, memory over time.

python benchmarks/consumer.py rate [--samples 4000] [--runs 3]     # on the demo's file, topic filled beforehand
python benchmarks/consumer.py memory [--samples 60000]             # resident memory of `streamil consume`, small nets
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import psutil
from streamil_consumer import consume
from streamil_producer import publish

from streamil import load_experiment, run
from streamil.experiment import Experiment
from streamil.local_kafka import LocalKafka
from streamil.telemetry.server import fetch_status

SMALL = """\
name: small
stream: {source: {kind: mnist}, regimes: [{kind: single-pass}]}
network: {hidden: [32]}
arms:
  il-prox: {algorithm: il-prox, batch_size: [1, 8], alpha: [1, 5]}
  bp-sgd: {algorithm: bp-sgd, batch_size: [1, 8], learning_rate: [0.01, 0.03]}
  bp-adam: {algorithm: bp-adam, batch_size: [1, 8], learning_rate: [0.0003, 0.001]}
"""
"""A race with everything that the demo's has, on a network small enough to see 60,000 samples in minutes."""


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
    parser.add_argument("what", choices=("rate", "memory"))
    parser.add_argument("--samples", type=int)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder) / "kafka") as kafka:
        text = files("streamil").joinpath("demo.yaml").read_text() if options.what == "rate" else SMALL
        file = race_file(Path(folder), kafka.address, text)
        if options.what == "rate":
            rate(load_experiment(file), options.samples or 4_000, options.runs)
        else:
            memory(file, load_experiment(file), options.samples or 60_000)


if __name__ == "__main__":
    main()
