"""What the tests share: one real Kafka for a whole run."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from streamil.errors import LocalKafkaError
from streamil.experiment import Kafka
from streamil.local_kafka import LocalKafka

# Machines that run tests are busy: how long an example takes says nothing about the code.
settings.register_profile("streamil", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("streamil")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # tests started in the background: what they start would not hear a Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def installed_kafka() -> None:
    """Have Kafka's jars, or skip; with STREAMIL_REQUIRE_KAFKA=1 not having them is a failure."""
    try:
        LocalKafka(Path("unused")).install()
    except LocalKafkaError as error:
        if os.environ.get("STREAMIL_REQUIRE_KAFKA") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def broker(installed_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """A running broker that all tests share; whoever wants to stop one starts their own."""
    with LocalKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture
def kafka_settings(broker: LocalKafka) -> Kafka:
    """Settings that lead to the shared broker."""
    return Kafka(bootstrap_servers=broker.address)


@pytest.fixture
def topic() -> str:
    """A topic's name that nobody used before."""
    return f"test-{uuid.uuid4().hex[:12]}"
