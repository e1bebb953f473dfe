"""Every block of docs/custom-streams.md, as a reader would use them: files beside each other, records on a real broker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pages import ROOT, Block, blocks, run_block
from streamil_consumer import consume
from test_consumer import consuming

from streamil.codec.topic import load_codec
from streamil.direct import run
from streamil.experiment import Experiment, Kafka, load_experiment
from streamil.kafka import TopicWriter, ensure_topic

pytestmark = pytest.mark.kafka

PAGE = ROOT / "docs" / "custom-streams.md"
ADDRESS = "127.0.0.1:9092"
LANGUAGES = ["yaml", "csv", "python", "yaml", "python", "yaml", "json", "yaml", "yaml", "python", "python", "sh", "python",
             "yaml", "python", "toml"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files, beside each other, in the folder where we are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for block in blocks(PAGE):
        if block.file is not None:
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "csv":
            Path("power.csv").write_text(block.text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def on_broker(kafka_settings: Kafka, topic: str, folder: Path):
    """Return an experiment of the page on the broker of the tests, with a new topic."""
    def experiment(name: str) -> Experiment:
        ensure_topic(kafka_settings, topic)
        path = folder / f"{name}.yaml"
        path.write_text(path.read_text().replace(f"topic: {name}", f"topic: {topic}")
                        + f'kafka: {{bootstrap_servers: "{kafka_settings.bootstrap_servers}"}}\n')
        return load_experiment(path)
    return experiment


def of(language: str, *words: str) -> list[Block]:
    found = [block for block in blocks(PAGE, language) if all(word in block.text for word in words)]
    assert found
    return found


def here(block: Block, name: str, experiment: Experiment) -> str:
    """The block with the topic and the broker of the test."""
    assert ADDRESS in block.text and name in block.text
    text = block.text.replace(ADDRESS, experiment.kafka.bootstrap_servers)
    return re.sub(rf'"{name}"|-t {name}$', lambda found: found[0].replace(name, experiment.topic), text, flags=re.MULTILINE)


def test_the_blocks_are_those_that_are_run_here() -> None:
    assert [block.language for block in blocks(PAGE)] == LANGUAGES


@pytest.mark.parametrize(("file", "samples", "inputs"), [("power", 4, 34), ("turns", 300, 33), ("points", 300, 6)])
def test_files_callables_and_arrays_are_raced(folder: Path, file: str, samples: int, inputs: int) -> None:
    (arrays,) = of("python", "points.npz")
    run_block(arrays.text, folder)
    told: list[str] = []
    races = []
    result = run(load_experiment(f"{file}.yaml"), tell=told.append, on_progress=races.append)
    assert (result["samples"], told) == (samples, [])
    assert races[0].featurizer.inputs == inputs


def test_the_records_of_others_are_learned(on_broker, folder: Path) -> None:
    experiment = on_broker("payments")
    (records,) = of("json")
    with TopicWriter(experiment.kafka, experiment.topic) as writer:
        for line in records.text.splitlines():
            writer.send(line.encode())
        assert writer.flush(20)
    told: list[str] = []
    result = consume(experiment, until=3, metrics="127.0.0.1:0", tell=told.append)
    assert [arm["members"][0]["samples"] for arm in result["arms"].values()] == [2, 2]  # the last has no label
    assert "inputs: 33: payload.after.amount, payload.after.country" in told
    assert [line for line in told if "rejected" in line] == [
        "offset 2: rejected (no-features): payload.after, which holds the label, is null or absent"]


def test_what_is_published_without_streamil_is_learned(on_broker, folder: Path) -> None:
    experiment = on_broker("readings")
    for block in of("python", '"readings"'):
        run_block(here(block, "readings", experiment), folder)
    told: list[str] = []
    result = consume(experiment, until=100, metrics="127.0.0.1:0", tell=told.append)
    assert result["samples"] == 100
    assert "inputs: 33: colour, temp" in told
    assert not any("rejected" in line for line in told)


def test_a_shell_publishes_a_record(on_broker) -> None:
    if shutil.which("kcat") is None:
        if os.environ.get("STREAMIL_REQUIRE_KCAT") == "1":
            pytest.fail("kcat is not installed")
        pytest.skip("kcat is not installed")
    experiment = on_broker("readings")
    (block,) = of("sh")
    subprocess.run(["sh", "-ec", here(block, "readings", experiment)], check=True, timeout=30)
    result = consume(experiment, until=1, metrics="127.0.0.1:0")
    assert result["samples"] == 1


def test_avro_in_a_registrys_frame_is_learned_and_what_is_not_it_is_rejected(
        on_broker, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = on_broker("sales")
    (block,) = of("python", "schemaless_writer")
    monkeypatch.delitem(sys.modules, "sales_avro", raising=False)
    run_block(here(block, "sales", experiment), folder)
    frame = b"\0\0\0\0"
    with TopicWriter(experiment.kafka, experiment.topic) as writer:
        for value in (frame + b"\x08\x02", frame + b"\x07", frame + b"\x07" + bytes(9) + b"\x64", b'{"price": 1}', b""):
            writer.send(value)
        assert writer.flush(20)
    with consuming(experiment) as one:
        one.wait(samples=60, rejected=5, lag=0)
        assert one.rejected() == {"undecodable": 5}
        rejected = [line for line in one.said if "rejected" in line]
        assert one.status()["features"] == ["price", "shop"]
        result = one.end()
    for line, why in zip(rejected, ("ValueError: no frame of a schema registry, or schema 8, which is not known",
                                    "EOFError", "IndexError", "ValueError: no frame", "ValueError: no frame"), strict=True):
        assert f"rejected (undecodable): {why}" in line
    assert [arm["members"][0]["samples"] for arm in result["arms"].values()] == [60, 60]


def test_an_installed_package_offers_the_codec_under_its_name(folder: Path) -> None:
    (block,) = of("toml")
    offered = tomllib.loads(block.text)["project"]["entry-points"]["streamil.codecs"]
    info = folder / "sales-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sales\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[streamil.codecs]\n" + "".join(f"{name} = {value}\n" for name, value in offered.items()))
    assert "codec: sales-avro" in PAGE.read_text()
    with pytest.raises(ValueError, match="no frame"):
        load_codec("sales-avro", Path("/"))(b"{}")
