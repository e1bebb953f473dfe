"""Learns from a topic: Kafka -> codec -> race -> telemetry; and judges arms that learn elsewhere."""

from streamil.attachment import Options
from streamil_consumer.consume import consume
from streamil_consumer.judge import judge

__all__ = ["Options", "consume", "judge"]
