"""Metrics as text (Prometheus' exposition format 0.0.4), in a fifth of the time that prometheus_client's encoder takes.

That one checks every name of every line by a pattern; ours are fixed, and only values of labels come from outside.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from prometheus_client import Metric
from prometheus_client.utils import floatToGoString

KIND = "text/plain; version=0.0.4; charset=utf-8"
"""What the answer says that it is."""
_SUFFIX = {"counter": "_total", "info": "_info"}
_AS = {"info": "gauge", "unknown": "untyped"}


def encode(metrics: Iterable[Metric]) -> bytes:
    """Return the metrics as text.

    Parameters
    ----------
    metrics
        Counters, gauges, histograms and infos, without timestamps and times of creation.

    Examples
    --------
    >>> from prometheus_client.core import CounterMetricFamily
    >>> family = CounterMetricFamily("learned", "Samples.", labels=["arm"])
    >>> family.add_metric(["a"], 3)
    >>> print(encode([family]).decode(), end="")
    # HELP learned_total Samples.
    # TYPE learned_total counter
    learned_total{arm="a"} 3.0
    """
    lines = []
    for metric in metrics:
        name = metric.name + _SUFFIX.get(metric.type, "")
        text = metric.documentation.replace("\\", r"\\").replace("\n", r"\n")
        lines.append(f"# HELP {name} {text}\n# TYPE {name} {_AS.get(metric.type, metric.type)}\n")
        for sample in metric.samples:
            labels = ",".join([f'{key}="{_escaped(value)}"' for key, value in sample.labels.items()])
            place = f"{sample.name}{{{labels}}}" if labels else sample.name
            lines.append(f"{place} {floatToGoString(sample.value)}\n")  # type: ignore[no-untyped-call]
    return "".join(lines).encode("utf-8", "replace")


@lru_cache(maxsize=1 << 14)
def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
