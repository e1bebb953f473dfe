"""Learns from a topic: Kafka -> codec -> race -> telemetry."""

from streamil.attachment import Options
from streamil_consumer.consume import consume

__all__ = ["Options", "consume"]
