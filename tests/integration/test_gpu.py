"""A consumer on a real GPU: killed and resumed bit for bit, near the CPU's figures, and its state goes on on a CPU."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import running, streamil, until

from streamil.experiment import Kafka
from streamil.telemetry.client import fetch_status

pytestmark = [pytest.mark.gpu, pytest.mark.kafka, pytest.mark.timeout(400),
              pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]

SAMPLES = 1200
ARMS = {name: {"algorithm": name, "batch_size": [1, 8]} for name in ("il-prox", "il-kfac", "bp-kfac", "bp-adam", "bp-sgd")}


def consume(file: Path, device: str, folder: str, *more: object, kill_at: int | None = None) -> dict[str, Any]:
    """Learn with snapshots in a folder of its own; kill it on the way where told, and go on."""
    own = file.with_name(f"{folder}.yaml")
    experiment = json.loads(file.read_text())
    experiment["service"] |= {"device": device, "snapshots": {"folder": str(file.parent / "snapshots" / folder), "every_samples": 100}}
    own.write_text(json.dumps(experiment))
    arguments = ("consume", own, "--until", SAMPLES, "--out", file.parent / folder, *more)
    if kill_at is not None:
        with running(*arguments) as one:
            url = one.wait_for("metrics and page at", 120).split()[-1].rstrip("/")
            until(lambda: (status := fetch_status(url)) and status["samples"] > kill_at, 200, one)
            one.process.send_signal(signal.SIGKILL)
            one.process.wait()
    done = streamil(*arguments, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((file.parent / folder / "summary.json").read_text())
    return found


def test_a_consumer_on_a_gpu_is_killed_resumed_and_moved_to_a_cpu(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    file = tmp_path / "race.yaml"
    file.write_text(json.dumps({
        "name": topic, "stream": {"source": {"kind": "mnist"}, "limit": SAMPLES, "samples_per_record": 8, "regimes": [{"kind": "single-pass"}]},
        "arms": ARMS, "kafka": {"bootstrap_servers": kafka_settings.bootstrap_servers},
        "service": {"metrics": "127.0.0.1:0", "producer_metrics": "127.0.0.1:0"}}))
    assert streamil("produce", file, timeout=120).returncode == 0
    undisturbed = consume(file, "cuda", "undisturbed")
    assert consume(file, "cuda", "killed", kill_at=SAMPLES // 2) == undisturbed, "bit for bit"
    on_cpu = consume(file, "cpu", "cpu")
    assert on_cpu["learned_hash"] == undisturbed["learned_hash"]
    for name, arm in on_cpu["arms"].items():
        for ours, theirs in zip(undisturbed["arms"][name]["members"], arm["members"], strict=True):
            assert abs(ours["accuracy"] - theirs["accuracy"]) <= 0.005, name
    newest = sorted((tmp_path / "snapshots" / "killed").glob("*"))[-1]
    for kept in (tmp_path / "snapshots" / "killed").glob("*"):  # back to an earlier state, so that something is left to learn
        if kept.suffix == newest.suffix and kept == newest:
            kept.unlink()
    own = tmp_path / "killed.yaml"
    own.write_text(own.read_text().replace('"device": "cuda"', '"device": "cpu"'))
    refused = streamil("consume", own, "--until", SAMPLES, timeout=120)
    assert refused.returncode == 1 and "--replan" in refused.stderr, refused.stderr
    moved = streamil("consume", own, "--until", SAMPLES, "--replan", "--out", tmp_path / "moved", timeout=300)
    assert moved.returncode == 0, moved.stderr
    assert json.loads((tmp_path / "moved" / "summary.json").read_text())["learned_hash"] == undisturbed["learned_hash"]
