"""A producer that is killed with SIGKILL at random moments: every sample is on the topic, in order, and learned once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from streamil_consumer import consume
from streamil_producer import publish

from streamil import load_experiment, run
from streamil.codec import decode
from streamil.experiment import Experiment, Kafka
from streamil.kafka import Message, TopicReader, ensure_topic

pytestmark = pytest.mark.kafka

FILE = """\
name: {topic}
stream:
  source: {{kind: elec}}
  limit: {samples}
  samples_per_record: 5
  codec: {codec}
  rate: {rate}
network: {{hidden: [4]}}
arms: {{bp: {{algorithm: bp-sgd, batch_size: 64}}}}
kafka: {{bootstrap_servers: "{address}"}}
service: {{metrics: "127.0.0.1:0", producer_metrics: "127.0.0.1:0", device: cpu}}
"""


def messages(experiment: Experiment) -> list[Message]:
    found: list[Message] = []
    with TopicReader(experiment.kafka, experiment.topic) as reader:
        while reader.position < reader.end():
            found += reader.poll(10_000)
    return found


def killed_at_random(file: Path, experiment: Experiment, kills: int) -> list[int]:
    """Start and kill, while it starts one time in five, otherwise while it sends; return the ends of the log."""
    rng, ends = np.random.default_rng(), [0]
    with TopicReader(experiment.kafka, experiment.topic) as reader:
        for kill in range(kills):
            with subprocess.Popen([sys.executable, "-m", "streamil", "produce", str(file)],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
                assert process.stderr is not None
                if kill % 5 == 1:
                    process.stderr.readline()
                else:
                    while reader.end() == ends[-1] and process.poll() is None:
                        time.sleep(0.02)
                time.sleep(rng.uniform(0, 1))
                assert process.poll() is None, process.stderr.read().decode()
                process.kill()
            ends.append(reader.end())
    return ends


@pytest.mark.parametrize(("kills", "codec"), [
    (3, "arrow"), pytest.param(30, "json", marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_every_sample_is_there_in_order_and_learned_once(kafka_settings: Kafka, topic: str, tmp_path: Path, kills: int,
                                                         codec: str) -> None:
    samples, rate = min(2_000 * kills, 45_000), 1_000
    file = tmp_path / "experiment.yaml"
    file.write_text(FILE.format(topic=topic, samples=samples, codec=codec, rate=rate,
                                address=kafka_settings.bootstrap_servers))
    experiment = load_experiment(file)
    ensure_topic(kafka_settings, topic)
    ends = killed_at_random(file, experiment, kills)
    assert len(set(ends)) > kills / 2 and ends[-1] < samples / 5  # most were killed while they sent, none at the end

    at_once = experiment.model_copy(update={"stream": experiment.stream.model_copy(update={"rate": None})})
    done = publish(at_once)
    assert done.first + done.samples == samples

    following = repeats = 0
    for message in messages(experiment):
        first, count = int(message.headers["streamil-seq"]), int(message.headers["streamil-count"])
        assert count == len(decode(message.value)) and first <= following, f"a gap before offset {message.offset}"
        repeats += following - first
        following = max(following, first + count)
    assert following == samples
    assert repeats < samples / 20  # a last batch of one that was killed may come after the next one has looked
    undisturbed = run(experiment)
    assert undisturbed["samples"] == samples
    assert consume(experiment, until=samples) == undisturbed  # learned_hash, too
