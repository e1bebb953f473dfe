"""The broker goes away and comes back: learning waits, readiness says so, nothing is lost and nothing doubled."""

from __future__ import annotations

import json
import os
import random
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from attached import experiment_of, records_of, send
from processes import Running, quick, running, streamil, until

from streamil.attachment.outbox import Letter, Outbox
from streamil.direct import run
from streamil.experiment import Experiment, Kafka
from streamil.kafka import TopicReader, ensure_topic
from streamil.local_kafka import LocalKafka
from streamil.snapshot.folder import read_snapshot
from streamil.telemetry.client import fetch_status

pytestmark = pytest.mark.kafka

SAMPLES, RATE = 3_000, 300


@pytest.fixture
def own(installed_kafka: None, tmp_path: Path) -> Iterator[LocalKafka]:
    """A broker that nobody else uses, to be killed."""
    kafka = LocalKafka(tmp_path / "kafka")
    kafka.reserve()
    yield kafka
    kafka.stop()


def race_file(experiment: Experiment, folder: Path) -> Path:
    file = folder / "race.yaml"
    file.write_text(experiment.model_dump_json(exclude={"stream": {"source": {"part"}}}))
    return file


def published(own: LocalKafka, name: str, folder: Path) -> tuple[Experiment, Path]:
    """Start the broker, and put 100 samples on a topic."""
    experiment = experiment_of(Kafka(bootstrap_servers=own.address), name, folder, stream={"limit": 100})
    file = race_file(experiment, folder)
    own.start()
    assert streamil("produce", file).returncode == 0
    return experiment, file


def url_of(one: Running) -> str:
    return re.search(r"http://[\d.:]+", one.wait_for("metrics and page at"))[0]


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return answer.status == 200
    except urllib.error.HTTPError:
        return False


def outages(own: LocalKafka, folder: Path, times: int) -> None:
    """Kill and restart the broker while a producer publishes and a consumer learns."""
    experiment = experiment_of(Kafka(bootstrap_servers=own.address), "outages", folder, stream={
        "limit": SAMPLES * times, "source": {"kind": "elec"}, "rate": RATE, "samples_per_record": 3},
        service={"predictions": {}})
    file = race_file(experiment, folder)
    moments = random.Random(seed := random.randrange(10**6))
    own.start()
    ensure_topic(experiment.kafka, "outages")  # so that the consumer, which takes longer to start, can be there first
    with running("consume", file, "--until", SAMPLES * times, "--out", folder / "out") as consumer, ExitStack() as begun:
        url = url_of(consumer)
        consumer.wait_for("learning from topic")
        producer = begun.enter_context(running("produce", file))
        until(lambda: (fetch_status(url) or {}).get("samples"), 60, consumer)
        for _ in range(times):
            time.sleep(moments.uniform(0.5, 3))
            assert producer.process.poll() is None and consumer.process.poll() is None, consumer.lines
            own.kill()
            time.sleep(moments.uniform(0, 2))
            own.start()
        assert producer.process.wait(SAMPLES * times / RATE + 120) == 0, producer.lines
        assert consumer.process.wait(120) == 0, consumer.lines
    assert json.loads((folder / "out" / "summary.json").read_text()) == run(experiment), f"moments of seed {seed}"
    with TopicReader(experiment.kafka, "outages.predictions", partition=0) as reader:
        said = []
        while reader.position < reader.end():
            said += [row["ordinal"] for one in reader.poll(10_000) for row in json.loads(one.value or b"")]
    assert list(dict.fromkeys(said)) == list(range(SAMPLES * times)), "each is predicted, in order"


def test_two_outages_lose_and_double_nothing(own: LocalKafka, tmp_path: Path) -> None:
    outages(own, tmp_path, 2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_outages_lose_and_double_nothing(own: LocalKafka, tmp_path: Path) -> None:
    outages(own, tmp_path, 10)


def test_readiness_says_so_and_sigterm_still_saves(own: LocalKafka, tmp_path: Path) -> None:
    experiment, file = published(own, "away", tmp_path)
    with running("consume", file, "--out", tmp_path / "out") as one:
        url = url_of(one)
        until(lambda: (fetch_status(url) or {}).get("samples") == 100, 60, one)
        assert ready(url)
        own.kill()
        one.wait_for("does not answer: learning waits for it", 30)
        assert not ready(url) and (fetch_status(url) or {})["broker_away"]
        own.start()
        one.wait_for("answers again", 60)
        assert ready(url)
        own.kill()
        time.sleep(5)
        code, seconds = one.end(15)
        assert code == 0 and seconds < 15 * max(1, os.getloadavg()[0] / 2), "K10 (c)"
    newest = max((tmp_path / "snapshots").glob("*.snapshot"))
    assert read_snapshot(newest)[1]["samples"] == 100
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == run(experiment)


def test_a_start_without_a_broker_waits_and_says_so(own: LocalKafka, tmp_path: Path) -> None:
    _, file = published(own, "early", tmp_path)
    own.kill()
    with running("consume", file, "--until", 100, "--wait", 60) as one:
        url = url_of(one)
        one.wait_for("does not answer: waiting for it", 30)
        assert b"streamil_broker_available 0.0" in urllib.request.urlopen(f"{url}/metrics", timeout=5).read()
        assert not ready(url) and (fetch_status(url) or {})["broker_away"]
        own.start()
        assert one.process.wait(60) == 0, one.lines
    assert sum("does not answer" in line for line in one.lines) == 1, "told once"


def test_letters_wait_for_the_broker_and_learning_waits_with_them(
        own: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own.start()
    kafka = Kafka(bootstrap_servers=own.address)
    told: list[str] = []
    outbox = Outbox(kafka, "letters", told.append)
    monkeypatch.setattr("streamil.attachment.outbox.ROOM", 10_000)
    outbox.put(Letter(b"0", {}))
    assert outbox.pump(20)
    own.kill()
    count = 1
    while not outbox.full:
        outbox.put(Letter(str(count).encode() * 50, {}))
        outbox.pump()
        count += 1
    assert not outbox.pump(0.5) and len(outbox.state_dict()["letters"]) == count - 1 == len(outbox)
    own.start()
    assert outbox.pump(60) and not outbox.full and outbox.written == count
    outbox.close()
    with TopicReader(kafka, "letters") as reader:
        found = reader.poll(1000, 5000)
    assert [one.value for one in found] == [b"0", *(str(n).encode() * 50 for n in range(1, count))]


@pytest.mark.parametrize("filled", [False, True])
def test_sigterm_on_a_quiet_topic_is_quick_and_saves(
        filled: bool, kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_of(kafka_settings, topic, tmp_path, stream={"limit": 40})
    send(kafka_settings, topic, records_of(experiment) if filled else [])
    with running("consume", race_file(experiment, tmp_path)) as one:
        url = url_of(one)
        until(lambda: (fetch_status(url) or {}).get("samples") == (40 if filled else 0) and ready(url), 60, one)
        time.sleep(1)
        code, seconds = one.end(15)
        assert code == 0 and quick(seconds), "K10 (a) and (b)"
    newest = max((tmp_path / "snapshots").glob("*.snapshot"))
    assert read_snapshot(newest)[1]["samples"] == (40 if filled else 0)


def test_a_second_sigterm_ends_at_once(own: LocalKafka, tmp_path: Path) -> None:
    _, file = published(own, "twice", tmp_path)
    with running("consume", file) as one:
        url = url_of(one)
        until(lambda: (fetch_status(url) or {}).get("samples") == 100, 60, one)
        own.kill()  # so that the first one takes its time
        one.wait_for("does not answer", 30)
        one.process.send_signal(15)
        time.sleep(0.2)
        started = time.monotonic()
        one.process.send_signal(15)
        one.process.wait(20)
        assert quick(time.monotonic() - started), "K10 (d)"
