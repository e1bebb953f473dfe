"""The whole way through a local Kafka: what the demo's arms learn a second, with kernels and without; the codecs."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Protocol

from ruamel.yaml import YAML

from streamil.bench.findings import Findings
from streamil.bench.turns import Progress
from streamil.demo import TOPIC, demo_file
from streamil.experiment import Experiment
from streamil.local_kafka import LocalKafka
from streamil.log import Tell

WARM = 64
"""Samples that each way learns before it is measured: what is compiled is compiled then."""
CODECS = [(codec, size) for codec in ("json", "arrow") for size in (1, 64)]


class Publish(Protocol):
    """As `streamil_producer.publish`."""

    def __call__(self, experiment: Experiment, *, limit: int, stop: threading.Event) -> Any:
        """Fill the topic."""


class Consume(Protocol):
    """As `streamil_consumer.consume`."""

    def __call__(self, experiment: Experiment, *, until: int, metrics: str, stop: threading.Event,
                 tell: Tell) -> Any:
        """Learn from the topic."""


def measure_end_to_end(findings: Findings, *, device: str, samples: int, codec_samples: int, turns: int,
                       publish: Publish, consume: Consume, stop: threading.Event, tell: Progress) -> None:
    """Measure what comes out of a topic a second, into `findings`.

    Parameters
    ----------
    findings
        Where it goes.
    device
        Where the arms learn.
    samples, codec_samples
        Of the demo's race, and of each codec's, whose one small arm learns in no time.
    turns
        How often each is measured, turn about.
    publish, consume
        The producer and the consumer.
    stop
        Ends it.
    tell
        Is told how far it is.
    """
    with tempfile.TemporaryDirectory(prefix="streamil-bench-") as folder:
        kafka = LocalKafka(Path(folder))
        tell(0.0, "starting Kafka")
        kafka.install()
        with kafka:
            demo = YAML(typ="safe", pure=True).load(demo_file("single-pass", samples))
            service = {"snapshots": None, "device": device}
            races = {f"demo, kernels {kernels}": _race(demo | {"service": service | {"kernels": kernels}},
                                                       kafka.address, TOPIC) for kernels in ("none", "auto")}
            _measure(findings, races, samples, turns, publish, consume, stop,
                     lambda part, what: tell(0.1 + 0.6 * part, what))
            small = {"name": "codecs", "network": {"hidden": [16]}, "service": service,
                     "arms": {"bp": {"algorithm": "bp-sgd", "batch_size": 64}}}
            races = {}
            for codec, size in CODECS:
                stream = {"source": {"kind": "mnist"}, "codec": codec, "samples_per_record": size}
                races[f"{codec}, {size} a record"] = _race(small | {"stream": stream}, kafka.address, f"{codec}-{size}")
            _measure(findings, races, codec_samples, turns, publish, consume, stop,
                     lambda part, what: tell(0.7 + 0.3 * part, what))


def _race(written: dict[str, Any], address: str, topic: str) -> Experiment:
    stream = written["stream"] | {"topic": topic}
    return Experiment.model_validate(written | {"stream": stream, "kafka": {"bootstrap_servers": address}})


def _measure(findings: Findings, races: dict[str, Experiment], samples: int, turns: int, publish: Publish,
             consume: Consume, stop: threading.Event, tell: Progress) -> None:
    """Measure races of equally many samples turn about; the first is what ratios are to."""
    seconds: dict[str, list[float]] = {name: [] for name in races}
    for experiment in races.values():
        publish(experiment, limit=samples, stop=stop)
        if not stop.is_set():
            consume(experiment, until=min(WARM, samples), metrics="127.0.0.1:0", stop=stop, tell=lambda line: None)
    try:
        for turn in range(turns):
            for place, (name, experiment) in enumerate(races.items()):
                tell((turn * len(races) + place) / turns / len(races), f"turn {turn + 1}, {name}")
                clock = Clock()
                if not stop.is_set():
                    consume(experiment, until=samples, metrics="127.0.0.1:0", stop=stop, tell=clock)
                if stop.is_set():
                    return
                seconds[name].append(clock.seconds)
    finally:
        findings.races += rates(seconds, samples)


class Clock:
    """Hears when a consumer begins to read, and when it has ended."""

    def __init__(self) -> None:
        self._begin = self._end = 0.0

    def __call__(self, line: str) -> None:
        """Take one line about what happens."""
        if line.startswith("learning from"):
            self._begin = time.perf_counter()
        elif line.startswith("done after"):
            self._end = time.perf_counter()

    @property
    def seconds(self) -> float:
        """What lies between."""
        assert self._begin and self._end
        return self._end - self._begin


def rates(seconds: dict[str, list[float]], samples: int) -> list[dict[str, Any]]:
    """Return what was measured as plain data: the first median over each, then samples a second.

    Examples
    --------
    >>> [race["ratio_to_first"] for race in rates({"a": [2.0, 4.0, 3.0], "b": [1.5], "c": []}, 6)]
    [1.0, 2.0]
    """
    measured = {name: own for name, own in seconds.items() if own}
    medians = {name: statistics.median(own) for name, own in measured.items()}
    first = next(iter(medians), "")
    return [{"race": name, "ratio_to_first": medians[first] / medians[name], "first": first, "samples": samples,
             "samples_per_second": {"median": samples / medians[name], "lowest": samples / max(own),
                                    "highest": samples / min(own)}, "turns": len(own)}
            for name, own in measured.items()]
