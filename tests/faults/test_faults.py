"""Each fault of `scenarios.py`, as it is: nothing lost, nothing doubled, nothing mixed up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from scenarios import SCENARIOS

from streamil.experiment import Kafka

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.__name__)
def test_a_consumer_lives_through(scenario: Callable[[Kafka, str, Path], None], kafka_settings: Kafka, topic: str,
                                  tmp_path: Path) -> None:
    scenario(kafka_settings, topic, tmp_path)
