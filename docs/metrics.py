"""Writes the tables of metrics in consumers/README.md and producers/README.md: `python docs/metrics.py`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from prometheus_client import Metric

from streamil.experiment import Experiment
from streamil.race import Race
from streamil.streams import open_stream
from streamil.telemetry.metrics import RaceMetrics
from streamil.telemetry.producer import ProducerMetrics

ROOT = Path(__file__).parent.parent
HEAD = "| metric | type | labels | meaning |\n|---|---|---|---|\n"
SUFFIXES = {"counter": "_total", "info": "_info"}
EXPERIMENT = {
    "stream": {"source": {"kind": "elec"}, "limit": 100},
    "arms": {"bp": {"algorithm": "bp-sgd"}, "il": {"algorithm": "il-prox"}},
    "evaluation": {"window": 50, "thresholds": [0], "diagnostics": {"every": 10}}}
"""A race that has something to say in every metric."""


def consumer_rows() -> list[list[str]]:
    """Return the rows of what a consumer tells, in the order in which it does."""
    telemetry = RaceMetrics(keeps_snapshots=True)
    experiment = Experiment.model_validate(EXPERIMENT)
    race = Race(experiment, lock=telemetry.lock, timed=telemetry.timed)
    telemetry.watch(race)
    (records,) = open_stream(experiment.stream, Path())
    race.feed(records, np.arange(len(records)))
    return rows(telemetry.collect())


def producer_rows() -> list[list[str]]:
    """Return the rows of what a producer tells."""
    return rows(ProducerMetrics().collect())


def rows(metrics: Iterable[Metric]) -> list[list[str]]:
    """Return the cells of each metric's row: name, type, labels, meaning."""
    found = []
    for metric in metrics:
        labels = list(dict.fromkeys(label for sample in metric.samples for label in sample.labels if label != "le"))
        shown = {"streamil_build": "versions", "streamil_arm": "one per hyperparameter"}.get(
            metric.name, ", ".join(f"`{label}`" for label in labels))
        name = f"`{metric.name}{SUFFIXES.get(metric.type, '')}`"
        found.append([name, metric.type, shown, metric.documentation])
    return found


TABLES = {ROOT / "consumers" / "README.md": consumer_rows, ROOT / "producers" / "README.md": producer_rows}


if __name__ == "__main__":
    for page, made in TABLES.items():
        lines = "".join(f"| {' | '.join(row)} |\n" for row in made())
        text, count = re.subn(re.escape(HEAD) + r"(?:^\|.*\|\n)*", lambda _, lines=lines: HEAD + lines,
                              page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert count == 1, f"{page}: {count} tables of metrics"
        page.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{page} written\n")
