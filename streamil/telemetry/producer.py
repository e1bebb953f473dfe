"""What a producer tells while it publishes; free of torch, as the producer is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

REDRAW_SECONDS = 0.1
NOTABLE_SECONDS = 0.1
"""What is less behind schedule than this is not worth a word."""


class ProducerMetrics(Collector):
    """Samples published so far, and how far behind its schedule the producer is."""

    def __init__(self) -> None:
        self.samples = 0
        self.lag_seconds = 0.0
        self._start = time.monotonic()
        self._drawn = 0.0
        self._bar: Progress | None = None

    def progress(self, samples: int, lag_seconds: float = 0.0) -> None:
        """Note that so many samples have been published by this process."""
        self.samples, self.lag_seconds = samples, lag_seconds
        now = time.monotonic()
        if self._bar is not None and now - self._drawn > REDRAW_SECONDS:  # to draw costs more than to send a record
            self._drawn = now
            behind = f"{lag_seconds:.1f} s behind schedule" if lag_seconds > NOTABLE_SECONDS else ""
            self._bar.update(self._bar.task_ids[0], completed=samples, rate=samples / (now - self._start),
                             behind=behind)

    @contextmanager
    def shown(self, visible: bool) -> Iterator[None]:
        """Show progress on the terminal, where there is one."""
        if not visible:
            yield
            return
        columns = (TextColumn("{task.completed:,.0f} samples published"),
                   TextColumn("{task.fields[rate]:,.0f} a second"), TimeElapsedColumn(),
                   TextColumn("{task.fields[behind]}"))
        with Progress(*columns, console=Console(stderr=True), transient=True) as self._bar:
            self._bar.add_task("", total=None, rate=0.0, behind="")
            yield
        self._bar = None

    def status(self) -> dict[str, Any]:
        """Return what `/status.json` shows."""
        return {"samples": self.samples, "lag_seconds": self.lag_seconds}

    def collect(self) -> Iterable[Metric]:
        """Yield every metric; called once per scrape."""
        yield CounterMetricFamily("streamil_producer_samples", "Samples published.", self.samples)
        yield GaugeMetricFamily("streamil_producer_lag_seconds", "How far behind its schedule the producer is.",
                                self.lag_seconds)
