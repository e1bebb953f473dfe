"""`streamil bench` as a user meets it: a table, a file, one clear line for each error, and an end with what there is."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from processes import quick, running, streamil
from streamil_consumer import consume
from streamil_producer import publish

from streamil.bench import Findings, Plan, measure_end_to_end, result_text
from streamil.experiment import Experiment

TINY = ("bench", "--quick", "--seconds", "1", "--hidden", "8", "--device", "cpu")


def test_a_quick_look_is_a_table_and_a_file(tmp_path: Path) -> None:
    done = streamil(*TINY, "--algorithm", "il-prox", "--algorithm", "il-sgd,inference_steps=3", "--batch-size", "2",
                    "--members", "3", "--threads", "1", "--json", tmp_path / "bench.json", timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0].startswith("measuring for about a minute") and "\x1b" not in done.stdout + done.stderr
    result = json.loads((tmp_path / "bench.json").read_text(), parse_constant=pytest.fail)
    assert result["complete"] and result["setting"] == {"hidden": [8], "device": "cpu", "threads": 1}
    ours = {(row["rule"], row["way"], row["members"], row["batch_size"]) for row in result["learners"] if row["rule"].startswith("il")}
    assert ours == {(rule, way, 3, 2) for rule in ("il-prox", "il-sgd,inference_steps=3") for way in ("kernel", "plain")}
    assert {"cpu", "cores", "python", "versions"} <= set(result["machine"]) and result["machine"]["versions"]["torch"]
    assert result_text(result) == done.stdout.rstrip("\n")


@pytest.mark.parametrize(("arguments", "said"), [
    (["--algorithm", "il-prx"], "did you mean 'il-prox'"), (["--hidden", "8,x"], "--hidden"), (["--hidden", "0"], "--hidden"),
    (["--json", "/no/such/folder/file"], "--json: /no/such/folder/file"), (["--samples", "200"], "--samples"),
    (["--end-to-end", "--members", "2"], "--members")])
def test_a_wrong_argument_is_one_line(arguments: list[str], said: str) -> None:
    done = streamil("bench", *arguments)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: ") and said in line


def test_a_device_that_is_not_there_is_one_line() -> None:
    done = streamil("bench", "--device", "cuda", CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, done.stderr) == (
        2, "error: --device: found cuda, but there is no CUDA device here; allowed: auto, cpu\n")


def test_an_interrupted_one_tells_what_it_has(tmp_path: Path) -> None:
    sizes = [str(size) for size in range(1, 41)]
    asked = [part for size in sizes for part in ("--batch-size", size)]
    with running("bench", "--quick", "--algorithm", "il-prox", "--algorithm", "bp-sgd", "--seconds", "600", "--json", tmp_path / "bench.json", *asked) as one:
        one.wait_for("measuring")
        used = one.family()[0].cpu_times().user
        while one.process.poll() is None and one.family()[0].cpu_times().user < used + 6:
            time.sleep(0.05)
        code, seconds = one.end()
    assert (code, quick(seconds)) == (130, True), seconds
    assert "interrupted: this is what was measured so far" in one.lines
    result = json.loads((tmp_path / "bench.json").read_text())
    measured = {row["batch_size"] for row in result["learners"]}
    assert not result["complete"] and 1 in measured and 40 not in measured


@pytest.mark.kafka
@pytest.mark.usefixtures("installed_kafka")
def test_the_way_through_kafka_is_measured() -> None:
    findings, told, learned = Findings(), [], []

    def tell(part: float, what: str) -> None:
        told.append(part)

    def counted(experiment: Experiment, **given: Any) -> None:
        learned.append(consume(experiment, **given)["samples"])

    measure_end_to_end(findings, device="cpu", samples=100, codec_samples=640, turns=1, publish=publish, consume=counted,
                       stop=threading.Event(), tell=tell)
    races: list[dict[str, Any]] = findings.result(Plan([]))["end_to_end"]
    assert [(race["race"], race["samples"]) for race in races] == [
        ("demo, kernels none", 100), ("demo, kernels auto", 100), ("json, 1 a record", 640), ("json, 64 a record", 640),
        ("arrow, 1 a record", 640), ("arrow, 64 a record", 640)]
    for race in races:
        base = next(one for one in races if one["race"] == race["first"])
        rate, ratio = race["samples_per_second"]["median"], race["ratio_to_first"]
        assert ratio == pytest.approx(rate / base["samples_per_second"]["median"]) and race["race"] in result_text(findings.result(Plan([])))
    assert learned == [64, 64, 100, 100, 64, 64, 64, 64, 640, 640, 640, 640]  # each warm before it is measured
    assert told == sorted(told) and told[-1] <= 1
