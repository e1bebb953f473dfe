"""kafka-python's clients with the settings that `docs/architecture.md` explains, and its errors in our words."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Iterator
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import AuthorizationError, KafkaError, KafkaTimeoutError, SaslAuthenticationFailedError

from streamil.errors import BrokerError, BrokerRefused, BrokerUnavailable, TopicMissing
from streamil.experiment import Kafka
from streamil.kafka.access import REFUSED_LOGIN, Refusal, access, refusal

BOOTSTRAP_MS = 5_000
"""How long a client looks for a broker before it gives up; the library's own 30 s are too long to stare at."""

RECONNECT_MS = 1_000
"""The longest pause between two tries to reconnect; the library's own 30 s would pass after the broker is back."""

REASONS = {
    "DNS Resolution failure": "the name cannot be resolved",
    "ECONNREFUSED": "the connection was refused",
    "UNEXPECTED_EOF": "it closes the connection, perhaps as it speaks no TLS on this port",
    "socket disconnected": "it closes the connection",
}
"""What the library says while it connects to nobody, and what that means."""

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
        """Return why nobody answers, as far as the library said so."""
        return next((reason for line in reversed(self.said) for sign, reason in REASONS.items() if sign in line), "")

    def refused(self) -> Refusal | None:
        """Return why somebody who answers does not let us in; None: nobody said so."""
        return refusal(tuple(self.said))


listener = Listener()
logging.getLogger("kafka").addHandler(listener)
logging.getLogger("kafka").propagate = False


def consumer(kafka: Kafka, **settings: Any) -> KafkaConsumer:
    """Return a consumer that is told what to read and where, and that never commits or resets by itself."""
    with connecting(kafka):
        return KafkaConsumer(**_common(kafka) | {
            "auto_offset_reset": "none", "enable_auto_commit": False, "allow_auto_create_topics": False,
            "isolation_level": "read_committed", "max_partition_fetch_bytes": kafka.fetch_bytes,
            "fetch_max_bytes": kafka.fetch_bytes} | settings)


def producer(kafka: Kafka, **settings: Any) -> KafkaProducer:
    """Return a producer: idempotent, acknowledged by all replicas, in order (the library's defaults)."""
    with connecting(kafka):
        return KafkaProducer(**_common(kafka), **settings)


@contextlib.contextmanager
def admin(kafka: Kafka, topic: str, timeout_ms: int = BOOTSTRAP_MS) -> Iterator[KafkaAdminClient]:
    """Lend an admin client for a few calls about a topic; what they raise comes out as ours."""
    with connecting(kafka):
        client = KafkaAdminClient(**_common(kafka) | {"bootstrap_timeout_ms": timeout_ms})
    try:
        with errors(kafka, topic):
            yield client
    finally:
        client.close()


@contextlib.contextmanager
def connecting(kafka: Kafka) -> Iterator[None]:
    """Turn a failure to connect into `BrokerRefused` or `BrokerUnavailable`, with the reason that the log tells."""
    listener.said.clear()
    try:
        yield
    except (KafkaError, OSError, ValueError) as error:
        if refused := listener.refused():
            raise BrokerRefused(f"the Kafka broker at {kafka.bootstrap_servers} is there, but "
                                f"{refused.told(_who(kafka))}") from None
        other = {KafkaTimeoutError: "it stays silent", ValueError: "host:port is wanted"}.get(type(error), str(error))
        reason = listener.reason() or other
        if reason == REASONS["socket disconnected"] and kafka.login is None:
            reason += ", perhaps for want of a login: see kafka.login"
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
        if isinstance(error, SaslAuthenticationFailedError):
            raise BrokerRefused(f"{what}: {REFUSED_LOGIN.told(_who(kafka))}") from None
        if isinstance(error, AuthorizationError):
            raise BrokerRefused(f"{what}: the broker does not allow it{_who(kafka)}: {text}") from None
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
            "client_id": "streamil", "bootstrap_timeout_ms": BOOTSTRAP_MS, "reconnect_backoff_max_ms": RECONNECT_MS,
            **access(kafka)}


def _who(kafka: Kafka) -> str:
    return f" (user {kafka.login.username!r}, {kafka.login.mechanism})" if kafka.login else ""
