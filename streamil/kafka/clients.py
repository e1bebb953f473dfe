"""kafka-python's clients with the settings that `docs/architecture.md` explains, and its errors in our words."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Iterator
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import AuthorizationError, KafkaError, KafkaTimeoutError

from streamil.errors import BrokerError, BrokerUnavailable, TopicMissing
from streamil.experiment import Kafka

BOOTSTRAP_MS = 5_000
"""How long a client looks for a broker before it gives up; the library's own 30 s are too long to stare at."""

RECONNECT_MS = 1_000
"""The longest pause between two tries to reconnect; the library's own 30 s would pass after the broker is back."""

REASONS = {
    "SaslAuthenticationFailed": "the broker refuses the user or the password",
    "UnsupportedSaslMechanism": "the broker does not know this way to log in",
    "CERTIFICATE_VERIFY_FAILED": "the broker's certificate is not trusted",
    "WRONG_VERSION_NUMBER": "the broker does not speak TLS there",
    "No such file": "a file of certificates does not exist",
    "DNS Resolution failure": "the name cannot be resolved",
    "ECONNREFUSED": "the connection was refused",
}
"""What the library says while it connects, and what that means."""

logger = logging.getLogger("streamil.kafka")


class Listener(logging.Handler):
    """Takes in the library's chatter (756 lines for three outages), and knows from it why connecting failed.

    The reason stands nowhere else. With the logger `streamil.kafka` at level DEBUG all of it goes on to there, but for
    the library's own DEBUG, which prints passwords.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.said: deque[str] = deque(maxlen=200)

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a line."""
        self.said.append(record.getMessage())
        if logger.isEnabledFor(logging.DEBUG):
            logger.handle(record)

    def reason(self) -> str:
        """Return why connecting failed, as far as the library said so."""
        return next((reason for line in reversed(self.said) for sign, reason in REASONS.items() if sign in line), "")


listener = Listener()
logging.getLogger("kafka").addHandler(listener)
logging.getLogger("kafka").propagate = False


def consumer(kafka: Kafka, **settings: Any) -> KafkaConsumer:
    """Return a consumer that is told what to read and where, and that never commits or resets by itself."""
    with connecting(kafka):
        return KafkaConsumer(**_common(kafka), auto_offset_reset="none", enable_auto_commit=False,
                             allow_auto_create_topics=False, isolation_level="read_committed", **settings)


def producer(kafka: Kafka, **settings: Any) -> KafkaProducer:
    """Return a producer: idempotent, acknowledged by all replicas, in order (the library's defaults)."""
    with connecting(kafka):
        return KafkaProducer(**_common(kafka), **settings)


@contextlib.contextmanager
def admin(kafka: Kafka, timeout_ms: int = BOOTSTRAP_MS) -> Iterator[KafkaAdminClient]:
    """Lend an admin client for a few calls; what they raise comes out as ours."""
    with connecting(kafka):
        client = KafkaAdminClient(**_common(kafka) | {"bootstrap_timeout_ms": timeout_ms})
    try:
        with errors(kafka):
            yield client
    finally:
        client.close()


@contextlib.contextmanager
def connecting(kafka: Kafka) -> Iterator[None]:
    """Turn a failure to connect into `BrokerUnavailable`, with the reason where the library's log tells it."""
    listener.said.clear()
    try:
        yield
    except (KafkaError, OSError, ValueError) as error:
        other = {KafkaTimeoutError: "it stays silent", ValueError: "host:port is wanted"}.get(type(error), str(error))
        reason = listener.reason() or other
        raise BrokerUnavailable(f"no Kafka broker answers at {kafka.bootstrap_servers} ({reason}): start one there, "
                                f"for example with `streamil broker`, or correct kafka.bootstrap_servers") from None


@contextlib.contextmanager
def errors(kafka: Kafka, topic: str | None = None) -> Iterator[None]:
    """Turn what kafka-python raises into our errors, in one line each with the address."""
    try:
        yield
    except KafkaError as error:
        what = f"{f'topic {topic!r} on ' if topic else ''}{kafka.bootstrap_servers}"
        text = " ".join(str(error).split())
        if isinstance(error, AuthorizationError):
            raise BrokerUnavailable(f"{what}: the broker does not allow it: {text}") from None
        if getattr(error, "errno", None) == 3 and topic:
            raise missing(kafka, topic) from None
        if error.retriable:
            raise BrokerUnavailable(f"{what}: the broker does not answer: {text}") from None
        raise BrokerError(f"{what}: {text}") from None


def missing(kafka: Kafka, topic: str) -> TopicMissing:
    """Return the error for a topic that does not exist."""
    return TopicMissing(f"topic {topic!r} does not exist on {kafka.bootstrap_servers}; make it with one "
                        f"partition (`streamil produce` does, from a source of its own), or correct stream.topic")


def _common(kafka: Kafka) -> dict[str, Any]:
    return {"bootstrap_servers": [server.strip() for server in kafka.bootstrap_servers.split(",")],
            "client_id": "streamil", "bootstrap_timeout_ms": BOOTSTRAP_MS, "reconnect_backoff_max_ms": RECONNECT_MS}
