"""Learns from a topic: Kafka -> codec -> race -> telemetry."""

from streamil_consumer.consume import consume

__all__ = ["consume"]
