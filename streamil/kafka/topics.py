"""Topics: what a topic is like, and making one."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import InvalidTopicError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from streamil.errors import BrokerRefused, BrokerUnavailable, TopicMismatch, TopicMissing
from streamil.experiment import Kafka
from streamil.kafka.clients import BOOTSTRAP_MS, admin, missing

CREATED_MS = 10_000
LOOK_MS = 2_000
"""How long a mere look at a topic waits for a broker."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the broker describes it; `id` is another one when it was deleted and made anew."""

    name: str
    id: str
    partitions: int
    compacted: bool
    max_message_bytes: int


def describe_topic(kafka: Kafka, topic: str, *, timeout_ms: int = BOOTSTRAP_MS) -> Topic:
    """Ask the broker about a topic.

    Raises
    ------
    TopicMissing
        When it does not exist.
    BrokerUnavailable
        When nobody answers.
    BrokerRefused
        When the broker does not let us in, or not look.
    """
    with admin(kafka, topic, timeout_ms) as client:
        found = client.describe_topics([topic])[0]
        if found["error_code"]:
            error = for_code(found["error_code"])
            if issubclass(error, UnknownTopicOrPartitionError | InvalidTopicError):
                raise missing(kafka, topic)
            raise error("to describe it")
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        settings = client.describe_configs([resource], config_filter="all")["topic"][topic]
        return Topic(topic, str(found["topic_id"]), len(found["partitions"]),
                     "compact" in str(settings["cleanup.policy"]["value"]),
                     int(settings["max.message.bytes"]["value"]))


def require_unchanged(kafka: Kafka, before: Topic, *, one_partition: bool) -> None:
    """Raise `TopicMismatch` when the topic was made anew since, or has more partitions; nothing while nobody answers.

    Parameters
    ----------
    kafka, before
        Where it is, and what it was like.
    one_partition
        Whether a second partition matters.
    """
    try:
        found = describe_topic(kafka, before.name, timeout_ms=LOOK_MS)
    except (BrokerUnavailable, BrokerRefused):
        return
    if found.id != before.id:
        raise TopicMismatch(f"topic {before.name!r} on {kafka.bootstrap_servers} was deleted and made anew while it "
                            f"was read: its id was {before.id}, it is {found.id}; what was learned since the last "
                            "snapshot is dropped: to start afresh on the new one name another service.snapshots.folder")
    if one_partition and found.partitions > before.partitions:
        raise TopicMismatch(f"topic {before.name!r} on {kafka.bootstrap_servers} now has {found.partitions} "
                            "partitions, and this process learns one: name it with --partition 0, and learn the others "
                            "in processes of their own")


def ensure_topic(kafka: Kafka, topic: str, *, max_message_bytes: int | None = None, partitions: int = 1) -> Topic:
    """Make the topic, or check that the one that exists fits: with one partition, or with so many at least.

    Raises
    ------
    TopicMismatch
        When it exists with other partitions, with compaction, or with room for smaller records only.
    BrokerUnavailable
        When nobody answers.
    """
    try:
        found = describe_topic(kafka, topic)
    except TopicMissing:
        configs = {} if max_message_bytes is None else {"max.message.bytes": str(max_message_bytes)}
        with admin(kafka, topic) as client:
            with contextlib.suppress(TopicAlreadyExistsError):  # made by another process a moment ago
                client.create_topics({topic: {"num_partitions": partitions, "replication_factor": -1,
                                              "configs": configs}})
            client.wait_for_topics([topic], timeout_ms=CREATED_MS)
        found = describe_topic(kafka, topic)
    if found.partitions < partitions:
        with admin(kafka, topic) as client:
            client.create_partitions({topic: partitions})
        found = replace(found, partitions=partitions)
    if partitions == 1 and found.partitions > 1:
        raise TopicMismatch(f"topic {topic!r} has {found.partitions} partitions, and what is written to it has one "
                            "order: delete it, and it is made with one partition, or use another topic")
    require_fit(found, partition=partitions - 1)
    if max_message_bytes is not None and found.max_message_bytes < max_message_bytes:
        raise TopicMismatch(f"topic {topic!r} takes records up to {found.max_message_bytes} bytes, but "
                            f"{max_message_bytes} are needed: raise its max.message.bytes, or use another topic")
    return found


def require_fit(topic: Topic, *, partition: int | None = None, compacted: bool = False) -> None:
    """Raise `TopicMismatch` unless the topic has the partition, or just one, and keeps every record."""
    if partition is None and topic.partitions != 1:
        raise TopicMismatch(f"topic {topic.name!r} has {topic.partitions} partitions, and one process learns one: use "
                            f"a topic with one, or name it with --partition 0 to {topic.partitions - 1}")
    if partition is not None and not 0 <= partition < topic.partitions:
        raise TopicMismatch(f"topic {topic.name!r} has no partition {partition}; it has 0 to {topic.partitions - 1}")
    if topic.compacted and not compacted:
        raise TopicMismatch(f"topic {topic.name!r} is compacted (cleanup.policy), which loses samples: use one with "
                            f"cleanup.policy=delete, or accept the loss with --compacted")
