"""The one place that knows kafka-python: topics, reading and writing them, errors in our words."""

from __future__ import annotations

from streamil.kafka.reader import Message, TopicReader, first_messages, last_message, newest_messages
from streamil.kafka.topics import LOOK_MS, Topic, describe_topic, ensure_topic, require_unchanged
from streamil.kafka.writer import TopicWriter, record_bytes

__all__ = [
    "LOOK_MS", "Message", "Topic", "TopicReader", "TopicWriter", "describe_topic", "ensure_topic", "first_messages",
    "last_message", "newest_messages", "record_bytes", "require_unchanged",
]
