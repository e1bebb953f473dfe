"""A real Prometheus beside a real Kafka: what it reads of a race, its rules, and every expression of the dashboards."""

from __future__ import annotations

import json
import math
import re
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from attached import send
from pages import ROOT
from processes import running, until
from prometheus import PROGRAMS, concrete, expressions, prometheus, promtool, require_programs

from streamil.experiment import Experiment, Kafka
from streamil.local_kafka import LocalKafka
from streamil.race import Race
from streamil.samples import Records
from streamil.telemetry.metrics import RaceMetrics
from streamil.telemetry.producer import ProducerMetrics
from streamil.telemetry.server import Server

ARMS = {"il-kfac": {"algorithm": "il-kfac", "batch_size": [1, 4]}, "il-prox": {"algorithm": "il-prox", "batch_size": [1, 4]},
        "bp-adam": {"algorithm": "bp-adam", "batch_size": [1, 4], "learning_rate": [0.001, 0.01]}}


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    require_programs(*PROGRAMS)


def race_file(kafka: Kafka, topic: str, folder: Path, **service: Any) -> Path:
    file = folder / "race.yaml"
    file.write_text(json.dumps({
        "name": topic, "network": {"hidden": [16]}, "arms": ARMS, "evaluation": {"window": 200, "thresholds": [0.3, 0.5, 0.99999]},
        "stream": {"source": {"kind": "elec"}, "limit": 4000, "rate": 250, "samples_per_record": 5,
                   "regimes": [{"kind": "drift", "what": "labels", "how": "abrupt", "every": 1000}]},
        "kafka": {"bootstrap_servers": kafka.bootstrap_servers},
        "service": {"metrics": "127.0.0.1:0", "producer_metrics": "127.0.0.1:0", "snapshots": {"every_samples": 500}, **service}}))
    return file


@pytest.mark.kafka
def test_a_race_that_prometheus_scrapes_fills_every_panel(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    """From before the first record to after a kill: counters from 0, panels, rules, alerts."""
    file = race_file(kafka_settings, topic, tmp_path)
    arguments = ("consume", file, "--wait", 60, "--until", 4000, "--stay", "--out", tmp_path / "out")
    with prometheus(tmp_path / "prometheus") as server, running(*arguments) as consumer:
        url = consumer.wait_for("metrics and page at").split()[-1]
        server.scrape("streamil-consumer", url)
        reasons = until(lambda: server.query("streamil_records_rejected_total"), 30, consumer)
        assert len(reasons) > 10 and {value for _, value in reasons} == {0.0}, "every reason stands at 0 before any record"
        assert server.value("streamil_snapshot_failures_total") == 0
        assert len(server.query("streamil_drift_events_total")) == 6
        began = time.time()
        with running("produce", file) as producer:
            server.scrape("streamil-producer", producer.wait_for("metrics at").split()[-1].removesuffix("/metrics"))
            until(lambda: (server.value("streamil_learned_samples") or 0) > 100, 30, producer)
            send(kafka_settings, topic, [(b"no record of ours", {})])
            until(lambda: producer.process.poll() is not None, 60)
        consumer.wait_for("still serving", 60)
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        until(lambda: server.value("streamil_learned_samples") == 4000, 30, consumer)
        assert until(lambda: server.value("sum(increase(streamil_records_rejected_total[5m]))"), 30, consumer) > 0
        read = {(labels["arm"], labels["member"]): value for labels, value in
                server.query('streamil_prequential_accuracy_ratio{window="cumulative"}')}
        assert read == {(name, str(place)): member["accuracy"] for name, arm in summary["arms"].items()
                        for place, member in enumerate(arm["members"])}
        ended = time.time()
        empty = []
        for board, title, expr, instant in expressions():
            asked = concrete(expr, topic)
            found = [value for _, value in server.query(asked)] if instant else [
                value for _, values in server.course(asked, began, ended) for value in values]
            if not any(map(math.isfinite, found)):
                empty.append((board, title, asked))
        assert not empty, empty
        assert len(server.query(concrete(by_size(), topic))) == 4, "two pairs of algorithms at two sizes"
        assert {rule["health"] for rule in server.rules()} == {"ok"} and len(server.rules()) == 19
        firing = server.alerts()
        assert firing["StreamilRecordsRejected"] == "firing" and "StreamilConsumerDown" not in firing
        assert set(firing) <= {"StreamilRecordsRejected", "StreamilDrift", "StreamilAccuracyFell"}, firing
        consumer.process.send_signal(signal.SIGKILL)
        until(lambda: server.alerts().get("StreamilConsumerDown") == "pending", 30)


def by_size() -> str:
    return next(expr for _, title, expr, _ in expressions() if title == "Advantage against mini-batch size")


@pytest.mark.kafka
def test_prometheus_reads_the_final_accuracies_of_a_whole_demo(installed_kafka: None, tmp_path: Path) -> None:
    arguments = ("demo", "--samples", 6000, "--out", tmp_path / "demo", "--stay", "--metrics", "127.0.0.1:0")
    with prometheus(tmp_path / "prometheus") as server, running(*arguments) as demo:
        page = demo.wait_for("http://127.0.0.1:", 90)
        server.scrape("streamil-consumer", re.search(r"http://[\d.:]+", page)[0])
        until(lambda: (tmp_path / "demo" / "report.html").is_file(), 120, demo)
        summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
        until(lambda: server.value("streamil_learned_samples") == summary["samples"] == 6000, 20, demo)
        time.sleep(2)  # two more scrapes: what is read now was scraped after the end
        for window, key in (("cumulative", "accuracy"), ("windowed", "windowed")):
            read = {(labels["arm"], labels["member"]): value for labels, value in
                    server.query(f'streamil_prequential_accuracy_ratio{{window="{window}"}}')}
            assert read == {(name, str(place)): member[key] for name, arm in summary["arms"].items()
                            for place, member in enumerate(arm["members"])}
        until(lambda: min(len(values) for _, values in
                          server.course("streamil_learned_samples", time.time() - 300, time.time())) > 5, 20, demo)


@pytest.mark.kafka
def test_metrics_are_scraped_by_tls_and_token_alone(broker: LocalKafka, topic: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    (tmp_path / "token").write_text("s3cret-of-the-page\n")
    file = race_file(Kafka(bootstrap_servers=broker.address), topic, tmp_path,
                     http={"tls": {"certificate_file": "server.pem"}, "token_file": "token"})
    safe = {"scheme": "https", "tls_config": {"ca_file": str(tmp_path / "ca.pem")}}
    with (running("consume", file, "--wait", 60) as consumer,
          prometheus(tmp_path / "with", **safe, authorization={"credentials_file": str(tmp_path / "token")}) as server,
          prometheus(tmp_path / "without", **safe) as refused):
        address = consumer.wait_for("metrics and page at https://").split("https://")[1].rstrip("/")
        server.scrape("streamil-consumer", address), refused.scrape("streamil-consumer", address)
        assert until(lambda: server.value("up"), 20, consumer) == 1
        until(lambda: refused.value("up") == 0, 20, consumer)
        assert refused.query("streamil_build_info") == [] and len(server.query("streamil_build_info")) == 1
        assert not any("s3cret" in line for line in consumer.lines)


def test_rules_and_configuration_are_what_prometheus_takes() -> None:
    folder = ROOT / "deploy" / "prometheus"
    for arguments in (("check", "config", folder / "prometheus.yml"), ("test", "rules", folder / "tests" / "alerts.yml")):
        done = promtool(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["consumer", "producer"])
def test_names_help_and_units_are_as_promtool_wants_them(kind: str) -> None:
    if kind == "producer":
        metrics: Any = ProducerMetrics()
    else:
        metrics = RaceMetrics(keeps_snapshots=True)
        race = Race(Experiment.model_validate({
            "stream": {"source": {"kind": "elec"}}, "arms": {"il": {"algorithm": "il-prox"}, "bp": {"algorithm": "bp-sgd"}},
            "evaluation": {"window": 10, "thresholds": [0.0], "diagnostics": {"every": 10}}}), lock=metrics.lock, timed=metrics.timed)
        metrics.watch(race)
        race.feed(Records(y=["a", "b"] * 30, x=np.random.default_rng(0).normal(size=(60, 3))), np.arange(60))
    server = Server("127.0.0.1:0", metrics, dict)
    try:
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    finally:
        server.close()
    assert text.count("# HELP streamil_") > (1 if kind == "producer" else 30)
    done = promtool("check", "metrics", text=text)
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
