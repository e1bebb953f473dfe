"""A real Prometheus for tests, with the rules of `deploy/prometheus`, that scrapes every second."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT

DEPLOYED = ROOT / "deploy" / "prometheus"
PROGRAMS = ("prometheus", "promtool")
BOARDS = ROOT / "deploy" / "grafana" / "dashboards"


def require_programs(*names: str, variable: str = "STREAMIL_REQUIRE_PROMETHEUS") -> None:
    """Skip without these programs; fail where the variable says that they have to be there."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing and os.environ.get(variable) == "1":
        pytest.fail(f"{' and '.join(missing)} not found; tests/programs.sh installs what is missing")
    if missing:
        pytest.skip(f"{' and '.join(missing)} not found; tests/programs.sh says how to install what is missing")


def promtool(*arguments: object, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, arguments)], input=text, capture_output=True, text=True, timeout=60)


def expressions() -> list[tuple[str, str, str, bool]]:
    """Dashboard, panel, expression, and whether it is asked for one moment, of every query of every panel."""
    return [(file.stem, panel["title"], target["expr"], bool(target.get("instant")))
            for file in sorted(BOARDS.glob("*.json")) for panel in json.loads(file.read_text())["panels"] for target in panel["targets"]]


def panels(board: str) -> list[tuple[str, str, str]]:
    """Title, description and unit of the panels of a dashboard."""
    found = json.loads((BOARDS / f"{board}.json").read_text())["panels"]
    return [(panel["title"], panel["description"], panel["fieldConfig"]["defaults"].get("unit", "")) for panel in found]


def concrete(expr: str, topic: str) -> str:
    """The expression with the dashboard's variables filled in, as Grafana does it."""
    values = {"$experiment": topic, "$arm": ".*", "$challenger": ".*", "$baseline": ".*", "$instance": ".*", "$__rate_interval": "10s"}
    for name, value in values.items():
        expr = expr.replace(name, value)
    assert "$" not in re.sub(r'"\$1"', "", expr), expr
    return expr


class Prometheus:
    """One that runs; `targets` are written by job, and found within a second."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self._folder = url, folder

    def scrape(self, job: str, address: str) -> None:
        (self._folder / f"{job}.json").write_text(json.dumps([{"targets": [address.removeprefix("http://").rstrip("/")]}]))

    def _get(self, path: str, **parameters: object) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=20) as answer:
            found = json.loads(answer.read())
        assert found["status"] == "success", found
        return found["data"]

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of an instant query."""
        data = self._get("query", query=expr)
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    def value(self, expr: str) -> float | None:
        """The value of the one series, None while there is none."""
        found = self.query(expr)
        assert len(found) < 2, found
        return found[0][1] if found else None

    def course(self, expr: str, start: float, end: float) -> list[tuple[dict[str, str], list[float]]]:
        """Labels and values, second by second, of each series of a range query."""
        data = self._get("query_range", query=expr, start=start, end=end, step=1)
        return [(one["metric"], [float(value) for _, value in one["values"]]) for one in data["result"]]

    def alerts(self) -> dict[str, str]:
        """State of each alert that is not inactive."""
        return {one["labels"]["alertname"]: one["state"] for one in self._get("alerts")["alerts"]}

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def healthy(self) -> dict[str, str]:
        """Health of each target by job."""
        return {one["labels"]["job"]: one["health"] for one in self._get("targets")["activeTargets"]}


@contextlib.contextmanager
def prometheus(folder: Path, **of_jobs: Any) -> Iterator[Prometheus]:
    """Run one until the end of the block; `of_jobs` are settings of every scrape job, for TLS and tokens."""
    require_programs(*PROGRAMS)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = ("streamil-consumer", "streamil-producer")
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(DEPLOYED / "rules" / "*.yml")],
        "scrape_configs": [{"job_name": job, "file_sd_configs": [{"files": [str(folder / f"{job}.json")], "refresh_interval": "1s"}], **of_jobs}
                           for job in jobs]}
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"],
            stdout=log, stderr=subprocess.STDOUT)
        try:
            running = Prometheus(f"http://{address}", folder)
            deadline = time.monotonic() + 30
            while True:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{running.url}/-/ready", timeout=2).close()
                    break
                assert time.monotonic() < deadline and process.poll() is None, (folder / "log").read_text()[-2000:]
                time.sleep(0.05)
            yield running
        finally:
            process.terminate()
            process.wait(20)
