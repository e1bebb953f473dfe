"""`streamil dead-letters replay` killed while it writes: called again, each sample is learned once."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from attached import experiment_of, learn, messages, send
from processes import COMMAND, streamil, until

from streamil import load_experiment
from streamil.attachment import Attachment
from streamil.experiment import Kafka
from streamil.kafka import TopicReader

pytestmark = pytest.mark.kafka

CODEC = "import json\n\n\ndef read(value):\n    found = json.loads(value)\n    if 'new' in found{more}:\n        raise ValueError('a field that is not known')\n    return found\n"


def killed_while_it_writes(reader: TopicReader, *arguments: object) -> int:
    """Start a replay and kill it as soon as something of it stands on the topic; return where the log ends then."""
    before = reader.end()
    with subprocess.Popen([*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE) as process:
        until(lambda: reader.end() > before)
        process.kill()
        process.wait()
    return reader.end()


def test_each_sample_is_learned_once_however_often_it_is_put_back(
        kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    """Records that a codec did not know; then it does."""
    count = 12_000
    (tmp_path / "ours.py").write_text(CODEC.format(more=""))
    file = tmp_path / "experiment.yaml"
    settings = experiment_of(
        kafka_settings, topic, tmp_path, arms={"bp": {"algorithm": "bp-adam", "batch_size": 64}}, snapshots={"every_samples": 3000},
        stream={"source": {"kind": "topic", "label": "y", "codec": "ours:read"}, "limit": None}, service={"max_consecutive_rejects": None})
    file.write_text(settings.model_dump_json(exclude_unset=True))
    send(kafka_settings, topic, [(json.dumps({"a": n, "y": n % 2, "new": "x" * 300}).encode(), {}) for n in range(count)])
    send(kafka_settings, topic, [(b'{"a": 1, "y": 1}', {})])
    done = streamil("consume", file, "--until", 1, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(messages(kafka_settings, f"{topic}.dead")) == count

    (tmp_path / "ours.py").write_text(CODEC.format(more=" and False"))
    out = tmp_path / "letters.jsonl"
    assert streamil("dead-letters", "export", file, "--out", out).returncode == 0
    with TopicReader(kafka_settings, topic) as reader:
        ends = [count + 1, killed_while_it_writes(reader, "dead-letters", "replay", file)]
        ends.append(killed_while_it_writes(reader, "dead-letters", "replay", file, "--from", out))
    assert ends[0] < ends[1] < ends[0] + count, "it was killed while it wrote"
    for arguments in ((), ("--from", out)):
        assert streamil("dead-letters", "replay", file, *arguments, timeout=120).returncode == 0
    send(kafka_settings, topic, [(b'{"a": 1, "y": 1}', {})])
    last: list[Attachment] = []
    found = learn(load_experiment(file), count + 2, each=last.append)
    assert found["samples"] == count + 2
    assert len(messages(kafka_settings, topic)) > 2 * count and last[-1].lag == 0
