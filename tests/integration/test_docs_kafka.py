"""The blocks of the documentation that need a broker, against a real one."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import ROOT, Block, blocks, blocks_of_all, run_block
from streamil_consumer import consume

from streamil.codec import decode
from streamil.experiment import Kafka, load_experiment
from streamil.kafka import TopicReader, ensure_topic

pytestmark = pytest.mark.kafka

ADDRESS = "127.0.0.1:9092"
WIRE = ROOT / "docs" / "wire-format.md"
EXPERIMENT = """
stream: {{source: {{kind: elec}}, topic: {topic}, limit: 200}}
network: {{hidden: [8]}}
arms: {{il: {{algorithm: il-prox}}, bp: {{algorithm: bp-sgd}}}}
kafka: {{bootstrap_servers: "{address}"}}
"""


def block_of(page: str) -> Block:
    (found,) = [block for block in blocks(ROOT / page, "python") if block.needs_broker]
    return found


@pytest.mark.parametrize("block", blocks(WIRE, "python"), ids=str)
def test_records_written_without_streamil_are_learned(
        block: Block, kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    ensure_topic(kafka_settings, topic)
    assert ADDRESS in block.text and '"readings"' in block.text
    run_block(block.text.replace(ADDRESS, kafka_settings.bootstrap_servers).replace("readings", topic), tmp_path)

    (page,) = blocks(WIRE, "yaml")
    file = tmp_path / "readings.yaml"
    file.write_text(page.text.replace("topic: readings", f"topic: {topic}")
                    + f'kafka: {{bootstrap_servers: "{kafka_settings.bootstrap_servers}"}}\n', encoding="utf-8")
    result = consume(load_experiment(file), until=100, metrics="127.0.0.1:0")
    assert result["samples"] == 100
    with TopicReader(kafka_settings, topic) as reader:
        records = [decode(message.value) for message in reader.poll(100, 5000)]
    assert {label for one in records for label in one.y} == {"on", "off"}
    assert not any(one.rejected for one in records)


def test_the_two_processes_are_used_from_python_as_their_pages_say(
        kafka_settings: Kafka, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("experiment.yaml").write_text(
        EXPERIMENT.format(topic=topic, address=kafka_settings.bootstrap_servers), encoding="utf-8")
    run_block(block_of("producers/README.md").text, tmp_path)
    assert "Published(samples=200, first=0" in capsys.readouterr().out
    run_block(block_of("consumers/README.md").text, tmp_path)
    assert "100 [('il', '" in capsys.readouterr().out


def test_every_block_that_needs_a_broker_is_run_here_or_with_its_page() -> None:
    pages = {str(block.page.relative_to(ROOT)) for block in blocks_of_all("python") if block.needs_broker}
    assert pages == {"docs/wire-format.md", "docs/custom-streams.md", "producers/README.md", "consumers/README.md",
                     "docs/one-learner.md"}
