"""Publishes a stream to a topic: source -> regime -> pace -> codec -> Kafka."""

from __future__ import annotations

from streamil_producer.publish import Published, publish
from streamil_producer.wire import Position, headers

__all__ = ["Position", "Published", "headers", "publish"]
