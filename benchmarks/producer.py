"""What the producer publishes to a local Kafka, and how it keeps a set rate.

python benchmarks/producer.py rate [--turns 5] [--sizes 8 64]             # as fast as it can: MNIST, shuffled
python benchmarks/producer.py pace [--seconds 30] [--rate 1000]           # at a set rate, by the records' times
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
from streamil_producer import publish

from streamil.experiment import Experiment
from streamil.kafka import TopicReader
from streamil.local_kafka import LocalKafka

SAMPLES = 60_000


def an_experiment(address: str, **stream: object) -> Experiment:
    """Return an experiment on a topic of its own."""
    return Experiment.model_validate({
        "stream": {"source": {"kind": "mnist"}, "topic": f"bench-{uuid.uuid4().hex[:8]}", **stream},
        "arms": {"bp": {"algorithm": "bp-sgd"}}, "kafka": {"bootstrap_servers": address}})


def rate(address: str, sizes: list[int], turns: int) -> None:
    """Publish all of MNIST's training images, shuffled."""
    publish(an_experiment(address))  # the broker's Java is slow at first
    for codec in ("arrow", "json"):
        for size in sizes:
            whole, steady, costs = [], [], []
            for _ in range(turns):
                experiment = an_experiment(address, samples_per_record=size, codec=codec,
                                           regimes=[{"kind": "single-pass"}])
                marks: list[tuple[float, float]] = []

                def note(*_: object, marks: list[tuple[float, float]] = marks) -> None:
                    marks.append((time.perf_counter(), time.process_time()))

                start = time.perf_counter()
                done = publish(experiment, on_progress=note)
                (begin, spent_before), (end, spent) = marks[0], marks[-1]
                whole.append(done.samples / (end - start))
                steady.append(done.samples / (end - begin))
                costs.append(1e6 * (spent - spent_before) * size / done.samples)
            print(f"{codec:5s} {size:2d} a record: {statistics.median(steady):7,.0f} samples/s from the first record "
                  f"to the last acknowledgement ({min(steady):,.0f} to {max(steady):,.0f}), "
                  f"{statistics.median(whole):7,.0f} with reading and shuffling the source, "
                  f"{statistics.median(costs):4.0f} us of processor a record; load {os.getloadavg()[0]:.1f}",
                  flush=True)


def pace(address: str, per_second: float, seconds: float) -> None:
    """Publish at a set rate, and look at the times that the records carry (CreateTime, whole milliseconds)."""
    experiment = an_experiment(address, rate=per_second)
    publish(experiment, limit=int(per_second * seconds))
    times: list[int] = []
    with TopicReader(experiment.kafka, experiment.topic) as reader:
        while reader.position < reader.end():
            times += [one.timestamp_ms for one in reader.poll(10_000)]
    gaps = np.diff(times)
    achieved = experiment.stream.samples_per_record * len(gaps) / (times[-1] - times[0]) * 1000
    print(f"{per_second:g}/s for {seconds:g} s: achieved {achieved:.2f}/s "
          f"({100 * (achieved / per_second - 1):+.2f} %), gaps: median {np.median(gaps):.0f} ms, "
          f"99th percentile {np.percentile(gaps, 99):.0f} ms, largest {gaps.max()} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rate", "pace"))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=1000.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder)) as kafka:
        print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
        if options.what == "rate":
            rate(kafka.address, options.sizes, options.turns)
        else:
            pace(kafka.address, options.rate, options.seconds)
        print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
