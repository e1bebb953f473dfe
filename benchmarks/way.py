"""Where a sample's time goes in a consumer: from the broker's bytes to the figures, in microseconds a sample.

    python benchmarks/way.py [--samples 16000] [--runs 3]

Two arms at mini-batches of one, il-prox and bp-adam, 784-256-256-10, on MNIST through a local Kafka; the topic is
filled beforehand. Each part's own time, without what it calls of the others; medians of the runs. The clock itself
takes under half a microsecond a call, at one sample a record up to two a sample.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from streamil_consumer import consume
from streamil_consumer.view import View
from streamil_producer import publish

from streamil.attachment import attachment
from streamil.attachment.attachment import Attachment
from streamil.attachment.intake import Intake
from streamil.compared import Comparisons
from streamil.experiment import Experiment
from streamil.features import Featurizer
from streamil.kafka import TopicReader
from streamil.learners.stacked import StackedPopulation
from streamil.local_kafka import LocalKafka
from streamil.race import Race
from streamil.racing_arm import RacingArm
from streamil.telemetry.metrics import RaceMetrics

PARTS: dict[str, list[tuple[type, str]]] = {
    "fetch": [(TopicReader, "poll")],
    "decode": [],  # a function that the attachment is given
    "take in": [(Intake, "take")],
    "inputs": [(Featurizer, "transform")],
    "race": [(Race, "feed")],
    "learn": [(StackedPopulation, "learn")],
    "evaluate": [(RacingArm, "score"), (Comparisons, "tell")],
    "metrics": [(RaceMetrics, "observe_latency"), (View, "learned")],
    "save, look": [(Attachment, "commit"), (Attachment, "_look_around")],
}


class Clock:
    """Adds up the own time of each part of one thread: what a part calls of another counts there alone."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(PARTS, 0.0)
        self._inside: list[float] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is done within."""
        self._inside.append(0.0)
        begin = time.perf_counter()
        try:
            yield
        finally:
            whole = time.perf_counter() - begin
            self.spent[name] += whole - self._inside.pop()
            if self._inside:
                self._inside[-1] += whole

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call, counted."""
        def measured(*given: Any, **named: Any) -> Any:
            with self.part(name):
                return call(*given, **named)

        return measured


def own_times(experiment: Experiment, samples: int) -> dict[str, float]:
    """Return the seconds of each part while so many samples are consumed, and of all else, from the first look on."""
    clock, marks = Clock(), []
    with pytest.MonkeyPatch.context() as patch:
        for name, methods in PARTS.items():
            for owner, method in methods:
                patch.setattr(owner, method, clock.timed(name, getattr(owner, method)))
        made = attachment.decoder
        patch.setattr(attachment, "decoder", lambda *given: clock.timed("decode", made(*given)))
        iterate = Attachment.__iter__

        def bracketed(self: Attachment) -> Iterator[Any]:
            for arrived in iterate(self):
                if not marks:  # the arms are built and kernels loaded at the first piece: not counted
                    yield arrived
                    clock.spent = dict.fromkeys(PARTS, 0.0)
                    marks.append(time.perf_counter())
                else:
                    yield arrived
            marks.append(time.perf_counter())

        patch.setattr(Attachment, "__iter__", bracketed)
        consume(experiment, until=samples, metrics="127.0.0.1:0")
    return {**clock.spent, "rest": marks[1] - marks[0] - sum(clock.spent.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=16_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print("| codec, samples a record | " + " | ".join([*PARTS, "rest", "all"]) + " |")
    print("|---" * (len(PARTS) + 3) + "|")
    with tempfile.TemporaryDirectory() as name, LocalKafka(Path(name) / "kafka") as kafka:
        for codec in ("json", "arrow"):
            for packing in (1, 8, 64):
                experiment = Experiment.model_validate({
                    "name": f"way-{codec}-{packing}", "network": {"hidden": [256, 256]}, "service": {"snapshots": None},
                    "stream": {"source": {"kind": "mnist"}, "codec": codec, "samples_per_record": packing},
                    "arms": {"il-prox": {"algorithm": "il-prox"}, "bp-adam": {"algorithm": "bp-adam"}},
                    "kafka": {"bootstrap_servers": kafka.address}})
                publish(experiment, limit=options.samples)
                turns = [own_times(experiment, options.samples) for _ in range(options.runs)]
                found = [*(statistics.median(turn[part] for turn in turns) for part in turns[0]),
                         statistics.median(sum(turn.values()) for turn in turns)]
                cells = (f"{seconds / options.samples * 1e6:.1f}" for seconds in found)
                print(f"| {codec}, {packing} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
