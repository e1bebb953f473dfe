"""Writes docs/dashboards.md: every panel with what a Prometheus read for it while it scraped a race; `python docs/dashboards.py`."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from screenshots import COMMAND, address

from streamil.local_kafka import LocalKafka

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
from prometheus import Prometheus, concrete, expressions, panels, prometheus  # noqa: E402

PAGE = HERE / "dashboards.md"
SAMPLES = 10_000
RACE = HERE / "pictures" / "drift.yaml"
INTRODUCTION = f"""# The dashboards, panel by panel

Two dashboards for Grafana, [race.json](../deploy/grafana/dashboards/race.json) and [service.json](../deploy/grafana/dashboards/service.json), written by
`python deploy/grafana/dashboards.py`; [how to get them](../deploy/README.md#your-own-prometheus-and-grafana). Variables at the top choose Prometheus, experiment, arms, challenger and
baseline, instance. Marks on curves are changes of the stream.

The last column is what a Prometheus that scraped every second read for the panel's expressions: at the end of a race for "Race", the median over its course for "Service"; of up to three series, or
how many rows a table has. The race is
[pictures/drift.yaml](pictures/drift.yaml), {SAMPLES:,} samples, with a producer and a consumer on one machine; `python docs/dashboards.py` repeats it and writes this page (accuracies repeat, rates and
times do not). That every expression returns data is a test (`tests/integration/test_prometheus.py`).
"""


def main() -> None:
    """Run the race under a Prometheus, and write the page."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        with LocalKafka(out / "kafka") as kafka, prometheus(out / "prometheus") as server:
            file = out / "drift.yaml"
            text = RACE.read_text().replace("snapshots: null", "snapshots: {every_samples: 1000}")
            file.write_text(text + f'kafka: {{bootstrap_servers: "{kafka.address}"}}\n')
            consumer = subprocess.Popen([*COMMAND, "consume", str(file), "--wait", "60", "--until", str(SAMPLES), "--metrics", "127.0.0.1:0",
                                         "--stay"], stderr=subprocess.PIPE, text=True)
            server.scrape("streamil-consumer", address(consumer))
            began = time.time()
            producer = subprocess.Popen([*COMMAND, "produce", str(file), "--metrics", "127.0.0.1:29109"], stderr=subprocess.DEVNULL)
            server.scrape("streamil-producer", "127.0.0.1:29109")
            try:
                while (server.value("streamil_learned_samples") or 0) < SAMPLES:
                    time.sleep(0.5)
                time.sleep(3)  # the last scrape has the end
                rows = table(server, began, time.time())
            finally:
                for process in (producer, consumer):
                    process.terminate()
                    process.wait(30)
    PAGE.write_text(INTRODUCTION + rows)
    sys.stdout.write(f"{PAGE} written\n")


def table(server: Prometheus, began: float, ended: float) -> str:
    """Return the tables of both dashboards."""
    lines: list[str] = []
    name = server.query("streamil_learned_samples")[0][0]["experiment"]
    picks: list[tuple[str, str, Callable[[list[float]], float]]] = [
        ("race", "Race", lambda values: values[-1]), ("service", "Service", statistics.median)]
    for board, title, pick in picks:
        lines += [f"\n## {title}\n", "| panel | what it shows | read |", "|---|---|---|"]
        for panel, text, unit in panels(board):
            asked = [(expr, instant) for of, one, expr, instant in expressions() if (of, one) == (board, panel)]
            lines.append(f"| {panel} | {text} | {read(server, asked, name, unit, began, ended, pick)} |")
    return "\n".join(lines) + "\n"


def read(server: Prometheus, asked: list[tuple[str, bool]], name: str, unit: str, began: float, ended: float,
         pick: Callable[[list[float]], float]) -> str:
    """Return what the panel shows at the end, in words."""
    told: list[str] = []
    for expr, instant in asked:
        full = concrete(expr, name)
        if instant:
            told.append(f"{len(server.query(full))} rows")
            continue
        courses = [(labels, [value for value in values if math.isfinite(value)]) for labels, values in server.course(full, began, ended)]
        told += [f"{series(labels)}{shown(pick(values), unit)}" for labels, values in courses if values]
    return ", ".join(told[:3]) + (f", and {len(told) - 3} more" if len(told) > 3 else "")


def series(labels: dict[str, str]) -> str:
    """Return what tells a series from its neighbours."""
    keys = ("arm", "challenger", "baseline", "bound", "reason", "result")
    found = [labels[key] for key in keys if key in labels]
    if not found and "job" in labels:
        found = [labels["job"].removeprefix("streamil-")]
    return f"{' / '.join(found)} " if found else ""


def shown(value: float, unit: str) -> str:
    """Return a value in the unit of its panel."""
    if unit == "percentunit":
        return f"{100 * value:.2f} %"
    if unit == "bytes":
        return f"{value / 1e6:.0f} MB"
    return f"{value * 1e6:.0f} µs" if unit == "s" and value < 1e-3 else f"{value:.3g} s" if unit == "s" else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


if __name__ == "__main__":
    main()
