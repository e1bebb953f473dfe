"""A consumer in this process, for tests that stop it at a chosen sample and look at what it left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient
from streamil_producer import Position, headers

from streamil.attachment import Attachment, Options
from streamil.codec import encode
from streamil.experiment import Experiment, Kafka
from streamil.kafka import TopicReader, TopicWriter, ensure_topic
from streamil.race import Race
from streamil.results import summary
from streamil.streams import open_stream, pack

PLAIN = Options()
LIMIT_SECONDS = 60.0
"""A consumer that waits longer waits for samples that it has lost."""
Sent = list[tuple[bytes | None, dict[str, bytes]]]


class Crash(Exception):
    """Ends a consumer where it stands: like a kill it saves nothing, and unlike one it comes at a chosen sample."""


def experiment_of(kafka: Kafka, topic: str, folder: Path, **more: Any) -> Experiment:
    service = {"metrics": "127.0.0.1:0", "device": "cpu", **more.pop("service", {}), "snapshots": {
        "folder": str(folder / "snapshots"), "every_samples": 20, **more.pop("snapshots", {})}}
    stream = {"source": {"kind": "elec"}, "limit": 400, "samples_per_record": 7, **more.pop("stream", {})}
    return Experiment.model_validate({
        "name": topic, "stream": stream, "arms": {"bp": {"algorithm": "bp-adam", "batch_size": [1, 5]}},
        "network": {"hidden": [8]}, "kafka": kafka.model_dump(), "service": service, **more})


def learn(experiment: Experiment, until: int | None = None, *, crash_at: int | None = None, options: Options = PLAIN,
          each: Callable[[Attachment], None] = lambda attachment: None) -> dict[str, Any]:
    """Learn from the topic until so many samples are taken in; crash once there are `crash_at`."""
    kept = experiment.service.snapshots
    race, stop = Race(experiment, allow_pickle=kept is not None and kept.allow_pickle), threading.Event()
    limit = threading.Timer(LIMIT_SECONDS, stop.set)
    limit.start()
    try:
        with Attachment(race, options, until=until, stop=stop) as attachment:
            for arrived in attachment:
                arrived.feed(race)
                attachment.commit()
                each(attachment)
                if crash_at is not None and race.samples >= crash_at:
                    raise Crash
    except Crash:
        pass
    finally:
        limit.cancel()
    assert not stop.is_set(), f"{race.samples} samples came in {LIMIT_SECONDS} s, {until} were wanted"
    return summary(race)


def records_of(experiment: Experiment) -> Sent:
    """What a producer would send."""
    sent: Sent = []
    ordinal = 0
    for records in pack(open_stream(experiment.stream, experiment.folder), experiment.stream.samples_per_record):
        sent.append((encode(records, experiment.stream.codec), headers(experiment, records, Position(ordinal))))
        ordinal += len(records)
    return sent


def send(kafka: Kafka, topic: str, sent: Sent) -> None:
    ensure_topic(kafka, topic)
    with TopicWriter(kafka, topic) as writer:
        for value, found in sent:
            writer.send(value, found, key=b"gone" if value is None else None)
        assert writer.flush(20)


def messages(kafka: Kafka, topic: str) -> list[Any]:
    with TopicReader(kafka, topic) as reader:
        return list(reader.up_to(reader.end()))


def made_anew(kafka: Kafka, topic: str) -> None:
    """Delete a topic and make it again."""
    client = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    client.delete_topics([topic])
    client.close()
    for _ in range(100):
        try:
            ensure_topic(kafka, topic)
            return
        except Exception:
            time.sleep(0.1)
