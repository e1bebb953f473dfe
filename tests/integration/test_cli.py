"""The command line as a user meets it: exit codes, one clear line for each error, and an end within three seconds."""

from __future__ import annotations

import gzip
import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from processes import quick, running, streamil, words

from streamil.errors import SourceError
from streamil.experiment import Kafka
from streamil.kafka import ensure_topic
from streamil.streams.idx import DATA, MNIST, mnist, read_idx

NOBODY = Kafka(bootstrap_servers="127.0.0.1:1")
COMMANDS = ("demo", "init", "check", "broker", "produce", "consume", "run", "bench")


def written(folder: Path, kafka: Kafka = NOBODY, **more: Any) -> Path:
    """An experiment file on free ports."""
    experiment = {
        "name": "cli", "stream": {"source": {"kind": "elec"}, **more.pop("stream", {})}, "network": {"hidden": [8]},
        "arms": {"bp": {"algorithm": "bp-sgd", "learning_rate": [0.01, 0.1], "seeds": 2}},
        "kafka": kafka.model_dump(), "service": {"metrics": "127.0.0.1:0", "producer_metrics": "127.0.0.1:0"}}
    path = folder / "experiment.yaml"
    path.write_text(json.dumps(experiment | more))  # JSON is YAML
    return path


def one_line(result: subprocess.CompletedProcess[str], code: int, *texts: object) -> None:
    """The command failed with one line that holds the texts."""
    assert result.returncode == code, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in result.stderr + result.stdout
    assert all(str(text) in lines[0] for text in texts), lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_usage(command: str) -> None:
    shown = streamil(command, "--help")
    assert shown.returncode == 0 and "Usage:" in shown.stdout and "--help" in shown.stdout
    wrong = streamil(command, "--no-such-option")
    assert wrong.returncode == 2 and "no-such-option" in wrong.stderr and "Traceback" not in wrong.stderr


@pytest.mark.parametrize("code", [
    "from streamil.cli import app", "import streamil_producer, streamil.telemetry.producer, streamil.telemetry.server",
    "import streamil.demo"])
def test_torch_is_imported_only_where_it_is_used(code: str) -> None:
    assert subprocess.run([sys.executable, "-c", f"import sys; {code}; sys.exit('torch' in sys.modules)"]).returncode == 0


def test_help_is_quick() -> None:
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    shown = streamil("--help").stdout
    assert all(command in shown for command in COMMANDS)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - used < 0.5


@pytest.mark.parametrize("command", ["check", "run", "produce", "consume"])
def test_a_wrong_file_names_key_and_nearest(tmp_path: Path, command: str) -> None:
    one_line(streamil(command, written(tmp_path, stream={"limt": 5})), 2, "stream.limt", "nearest known: limit")
    one_line(streamil(command, tmp_path / "absent.yaml"), 2, "absent.yaml", "cannot be read")


def test_a_wrong_hyperparameter_names_arm_and_nearest(tmp_path: Path) -> None:
    arms = {"bp": {"algorithm": "bp-sgd", "learning_rat": 0.1}}
    one_line(streamil("check", written(tmp_path, arms=arms)), 2, "arms.bp.learning_rat", "nearest known: learning_rate")


@pytest.mark.parametrize("command", ["produce", "consume"])
def test_no_broker_is_one_line_within_ten_seconds(tmp_path: Path, command: str) -> None:
    started = time.monotonic()
    one_line(streamil(command, written(tmp_path)), 1, "127.0.0.1:1", "no Kafka broker")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("command", ["check", "produce", "consume"])
def test_a_name_that_is_no_topic_is_refused(tmp_path: Path, command: str) -> None:
    one_line(streamil(command, written(tmp_path, stream={"topic": "two words"})), 1, "stream.topic", "two words")


@pytest.mark.kafka
def test_a_missing_topic_is_one_line(tmp_path: Path, kafka_settings: Kafka, topic: str) -> None:
    one_line(streamil("consume", written(tmp_path, kafka_settings, stream={"topic": topic})), 1, topic, "does not exist")


def test_a_damaged_file_is_named_with_the_reason(tmp_path: Path) -> None:
    images, labels = (tmp_path / name for name, _ in MNIST["test"])
    content = (DATA / "mnist" / images.name).read_bytes()
    images.write_bytes(content[:len(content) // 2])
    shutil.copy(DATA / "mnist" / labels.name, labels)
    file = written(tmp_path, stream={"source": {"kind": "idx", "images": str(images), "labels": str(labels)}})
    one_line(streamil("check", file), 1, images.name, "damaged")
    images.write_bytes(gzip.compress(gzip.decompress(content)[:-10], 1))
    with pytest.raises(SourceError, match=rf"{images.name}: damaged: 7840000 bytes claimed"):
        read_idx(images)


def test_damaged_digits_of_the_package_name_both_checksums(tmp_path: Path) -> None:
    for name, _ in MNIST["test"]:
        shutil.copy(DATA / "mnist" / name, tmp_path / name)
    images, expected = MNIST["test"][0]
    pixels = bytearray(gzip.decompress((tmp_path / images).read_bytes()))
    pixels[5000] ^= 1
    (tmp_path / images).write_bytes(gzip.compress(pixels, 1))
    with pytest.raises(SourceError, match=rf"{images}: damaged: MD5 .* expected {expected}"):
        next(mnist("test", tmp_path))


def test_a_file_to_begin_with_is_written_once_and_runs(tmp_path: Path) -> None:
    file = tmp_path / "race.yaml"
    done = streamil("init", file)
    assert done.returncode == 0 and f"streamil check {file}" in done.stderr, done.stderr
    before = file.read_text()
    one_line(streamil("init", file), 2, file, "already")
    assert file.read_text() == before
    done = streamil("run", file, "--limit", 300)
    assert done.returncode == 0 and "race: 300 samples" in done.stdout, done.stderr


def test_check_says_what_the_file_means(tmp_path: Path) -> None:
    shown = streamil("check", written(tmp_path)).stdout
    for text in ("inputs: 6: ", "nswprice", "classes: ", "network: 6-8-2", "4 members", "learning_rate 0.01, 0.1",
                 "2 seeds", "74 parameters each", "memory of all arms", "comparisons: none"):
        assert text in shown, shown
    controlled = streamil("check", written(tmp_path, verdict={"controls": ["bp"]})).stdout
    assert "arm bp (control)" in controlled and "A/A control of bp, with other seeds" in controlled


def test_check_names_the_regimes_and_looks_at_what_they_leave(tmp_path: Path) -> None:
    drift = {"kind": "drift", "what": "features", "how": "recurring", "every": 100, "width": 10}
    bursty = {"kind": "bursty", "rate": 20, "burst": 5}
    shown = streamil("check", written(tmp_path, stream={"regimes": [{"kind": "single-pass"}, drift, bursty]})).stdout
    for text in ("elec, single-pass, drift (what features, how recurring, every 100, width 10), bursty (rate 20.0, burst 5), "
                 "all samples", "paced by event times", "inputs: 6: ", "classes: "):
        assert text in shown, shown
    shown = streamil("check", written(tmp_path, stream={"regimes": [{"kind": "sparse-labels", "keep": 0}]})).stdout
    assert "classes:  (met in the first 256 samples; more may come)" in shown
    one_line(streamil("check", written(tmp_path, stream={"regimes": [drift | {"what": "rotation"}]})), 1,
             "drift: what: rotation turns square images, and 6 named features are none")


def test_run_ends_within_three_seconds_and_keeps_what_it_has(tmp_path: Path) -> None:
    slow = {"il": {"algorithm": "il-prox", "seeds": 60, "inference_steps": 40}}
    with running("run", written(tmp_path, arms=slow, stream={"source": {"kind": "mnist"}}), "--out", tmp_path) as one:
        while one.process.poll() is None and one.family()[0].cpu_times().user < 5:
            time.sleep(0.05)
        code, seconds = one.end()
    assert (code, quick(seconds)) == (130, True), seconds
    assert json.loads((tmp_path / "summary.json").read_text())["samples"] > 0


@pytest.mark.parametrize("seconds", [2.0, pytest.param(0.8, marks=pytest.mark.slow), pytest.param(1.4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("command", ["run", "consume", "produce"])
def test_a_start_can_be_interrupted(tmp_path: Path, command: str, seconds: float) -> None:
    """While modules are imported, the source is read, the broker looked for: one can always leave."""
    with running(command, written(tmp_path, stream={"source": {"kind": "mnist"}})) as one:
        time.sleep(seconds)
        code, took = one.end()
    assert code in (130, -signal.SIGINT) and quick(took), (code, took, one.lines)  # the latter: Python itself started


@pytest.mark.kafka
def test_produce_ends_within_three_seconds(tmp_path: Path, kafka_settings: Kafka, topic: str) -> None:
    stream = {"topic": topic, "rate": 20}
    with running("produce", written(tmp_path, kafka_settings, stream=stream)) as one:
        assert "127.0.0.1:" in one.wait_for("publishing to topic")
        time.sleep(1)
        code, seconds = one.end()
    assert (code, quick(seconds)) == (130, True) and "published" in one.lines[-1]


@pytest.mark.kafka
@pytest.mark.parametrize(("state", "number"), [
    ("idle", signal.SIGINT), ("learning", signal.SIGTERM),
    *(pytest.param(*one, marks=pytest.mark.slow) for one in (("idle", signal.SIGTERM), ("learning", signal.SIGINT)))])
def test_consume_ends_within_three_seconds_with_its_results(
        tmp_path: Path, kafka_settings: Kafka, topic: str, state: str, number: int) -> None:
    stream = {"topic": topic, "samples_per_record": 4096}
    file = written(tmp_path, kafka_settings, stream=stream)
    if state == "learning":
        assert streamil("produce", file).returncode == 0
    else:
        ensure_topic(kafka_settings, topic)
    with running("consume", file, "--out", tmp_path / "out") as one:
        one.wait_for("learning from topic")
        time.sleep(1.5)
        code, seconds = one.end(number)
    assert (code, quick(seconds)) == (130 if number == signal.SIGINT else 0, True), seconds
    samples = json.loads((tmp_path / "out" / "summary.json").read_text())["samples"]
    assert samples > 0 if state == "learning" else samples == 0


@pytest.mark.kafka
@pytest.mark.usefixtures("installed_kafka")
@pytest.mark.parametrize("when", ["starting", "running"])
def test_broker_ends_within_three_seconds(tmp_path: Path, when: str) -> None:
    with running("broker", "--folder", tmp_path / "kafka") as one:
        if when == "running":
            assert one.wait_for("Kafka at 127.0.0.1:") == one.lines[0]
        else:
            time.sleep(1.0)
        family = one.family()
        code, seconds = one.end()
    assert (code, quick(seconds)) == (130, True), seconds
    assert len(family) >= (3 if when == "running" else 1)  # with guard and Java, all gone


@pytest.mark.kafka
def test_a_taken_port_is_one_line(tmp_path: Path, kafka_settings: Kafka, topic: str) -> None:
    file = written(tmp_path, kafka_settings, stream={"topic": topic, "limit": 8})
    ensure_topic(kafka_settings, topic)
    with running("consume", file) as one:
        address = one.wait_for("metrics and page at").split("//")[1].rstrip("/")
        one_line(streamil("produce", file, "--metrics", address), 1, address, "in use")
        (tmp_path / "other").mkdir()
        other = written(tmp_path / "other", kafka_settings, stream={"topic": topic, "limit": 8})
        one_line(streamil("consume", other, "--metrics", address, "--until", 8), 1, address, "in use")


@pytest.mark.kafka
@pytest.mark.parametrize("others", [[], pytest.param(["check", "run"], marks=pytest.mark.slow)])
def test_the_multiprocess_folder_of_some_other_service_is_left_alone(
        tmp_path: Path, kafka_settings: Kafka, topic: str, others: list[str]) -> None:
    file = written(tmp_path, kafka_settings, stream={"topic": topic, "limit": 100})
    folder = tmp_path / "multiprocess"  # it does not exist
    for command in (["produce", file], ["consume", file, "--until", "100"], *([other, file] for other in others)):
        done = streamil(*command, PROMETHEUS_MULTIPROC_DIR=str(folder))
        assert done.returncode == 0 and str(folder) not in done.stderr, done.stderr
    folder.mkdir()
    assert streamil("produce", file, PROMETHEUS_MULTIPROC_DIR=str(folder)).returncode == 0
    assert not list(folder.iterdir()) and sorted(tmp_path.iterdir()) == [file, folder, tmp_path / "snapshots"]


def test_nothing_of_these_tests_is_left_behind() -> None:
    """Runs last in this file: no `python -m streamil` that we started still runs."""
    mine = psutil.Process().children(recursive=True)
    assert not [one for one in mine if "-m streamil" in words(one)]
