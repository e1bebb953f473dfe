"""The demo: the whole way from digits to a verdict, and nothing left behind however it ends."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from matplotlib import image
from processes import Running, alive, quick, running, streamil, until, words

from streamil.direct import run
from streamil.experiment import load_experiment

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("installed_kafka")]

MEMBERS = {"il-kfac": 1, "il-prox": 1, "bp-kfac": 1, "bp-adam": 3, "bp-sgd": 3}
ARMS = [f"{name}@{size}" for name in MEMBERS for size in (1, 8)]


def parts(demo: Running) -> list[psutil.Process]:
    """The demo's processes once all are there: itself, guard, Java, consumer, producer."""
    def found() -> list[psutil.Process]:
        family = demo.family()
        commands = [words(one) for one in family]
        whole = all(any(part in command for command in commands) for part in ("kafka.Kafka", " consume ", " produce "))
        return family if whole else []

    family: list[psutil.Process] = until(found, 60, demo)
    return family


def test_the_demo_races_and_leaves_its_results(tmp_path: Path) -> None:
    done = streamil("demo", "--samples", 600, "--out", tmp_path, timeout=150)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["samples"] == 600 and list(summary["arms"]) == ARMS
    for name, arm in summary["arms"].items():
        scored = 600 if name.endswith("@1") else 600 // 8 * 8
        assert [member["samples"] for member in arm["members"]] == [scored] * MEMBERS[name[:-2]]
        assert max(member["accuracy"] for member in arm["members"]) > 0.3  # three times chance
    curve = pq.read_table(tmp_path / "curve.parquet")
    assert set(curve["arm"].to_pylist()) == set(ARMS) and max(curve["ordinal"].to_pylist()) == 599
    pixels = image.imread(tmp_path / "accuracy.png")
    assert min(pixels.shape[:2]) > 300 and float(np.std(pixels)) > 0.05
    for text in (*ARMS, "il-kfac@1 against bp-kfac@1", "il-prox@8 against bp-sgd@8", f"results in {tmp_path}/"):
        assert text in done.stdout, done.stdout
    assert run(load_experiment(tmp_path / "experiment.yaml"), limit=600) == summary


@pytest.mark.parametrize(("arguments", "text"), [
    (["--regime", "corelated"], "--regime: found 'corelated' (nearest known: correlated); allowed: single-pass, "),
    (["--regime", "long-tail", "--samples", "60000"], "--samples: found 60000; the demo's digits have 19749 samples left")])
def test_a_regime_that_the_demo_cannot_show_is_one_line(tmp_path: Path, arguments: list[str], text: str) -> None:
    done = streamil("demo", *arguments, "--out", tmp_path / "out")
    assert done.returncode == 2 and done.stderr.startswith(f"error: {text}") and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["class-incremental", "sparse-labels", "bursty"])  # segments, no labels, times
def test_the_demo_shows_a_regime(tmp_path: Path, name: str) -> None:
    done = streamil("demo", "--samples", 400, "--regime", name, "--out", tmp_path, timeout=150)
    assert done.returncode == 0, done.stderr
    file = load_experiment(tmp_path / "experiment.yaml")
    assert [regime.kind for regime in file.stream.regimes] == ["single-pass", name]
    assert run(file, limit=400) == json.loads((tmp_path / "summary.json").read_text())


def test_ctrl_c_ends_everything_within_three_seconds(tmp_path: Path) -> None:
    with running("demo", "--out", tmp_path) as demo:
        parts(demo)
        demo.wait_for("first accuracies")
        code, seconds = demo.end()
    assert (code, quick(seconds)) == (130, True), seconds


@pytest.mark.parametrize("seconds", [2.0, *(pytest.param(one, marks=pytest.mark.slow) for one in (0.3, 1.0, 5.0))])
def test_ctrl_c_while_it_starts(tmp_path: Path, seconds: float) -> None:
    with running("demo", "--out", tmp_path) as demo:
        time.sleep(seconds)
        code, took = demo.end()
    assert (code, quick(took)) == (130, True), (took, demo.lines)


def test_a_killed_demo_leaves_no_process(tmp_path: Path) -> None:
    with running("demo", "--out", tmp_path) as demo:
        family = parts(demo)
        demo.wait_for("first accuracies")  # from now on its processes have nothing to say, and no pipe to break
        demo.process.send_signal(signal.SIGKILL)
        assert not alive(family, 10)


@pytest.mark.slow
def test_stay_keeps_page_and_metrics_until_ctrl_c(tmp_path: Path) -> None:
    with running("demo", "--samples", 200, "--stay", "--out", tmp_path) as demo:
        url = demo.wait_for("page and metrics stay at", 150).split(" at ")[1].split("/ until")[0]
        time.sleep(1)
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            assert b'streamil_samples_total{experiment="streamil-demo",arm="il-prox@1",member="0"} 200.0' in answer.read()
        with urllib.request.urlopen(f"{url}/status.json", timeout=10) as answer:
            assert json.load(answer)["state"] == "done"
        code, seconds = demo.end()
    assert (code, quick(seconds)) == (130, True), seconds


@pytest.mark.slow
def test_a_taken_port_ends_it_with_the_consumers_words(tmp_path: Path) -> None:
    with running("demo", "--samples", 100, "--out", tmp_path, "--metrics", "192.0.2.1:1") as demo:
        code = demo.process.wait(60)
        demo.reader.join(5)
    assert code == 1 and "192.0.2.1:1" in demo.lines[-1] and demo.lines[-1].startswith("error: the consumer ended")
