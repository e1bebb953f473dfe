"""Writing to one topic in order, with a bound on what is in flight."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Self

from kafka.errors import KafkaError, MessageSizeTooLargeError

from streamil.errors import BrokerError, BrokerUnavailable, TopicMismatch
from streamil.experiment import Kafka
from streamil.kafka.clients import errors, logger, producer
from streamil.kafka.topics import describe_topic

NEVER_MS = 2**31 - 1
"""An outage is waited out: a batch that expired in it while later ones came through would leave a gap in the log."""

QUIET_SECONDS = 10.0
"""After so long without an answer we look whether the topic is still there; the library would wait for ever."""

FRAME_BYTES = 100
"""What the frame of a batch and of a record adds at most to key, value and headers, and a few bytes to each header."""

MAX_REQUEST_BYTES = 2**30
"""More than any topic takes, so that the topic's own limit decides."""


def record_bytes(value: bytes | None, headers: Mapping[str, bytes], key: bytes | None) -> int:
    """Return how many bytes a record takes at most, in a batch of its own."""
    return FRAME_BYTES + len(value or b"") + len(key or b"") + sum(
        len(name.encode()) + len(said) + 10 for name, said in headers.items())


class TopicWriter:
    """Writes records in order and stops at the first one that fails, so that the log has no gap; for one thread.

    One request is on its way at a time, so none follows one that fails. What goes into it is as many records as came
    meanwhile: large batches are what makes kafka-python quick.

    Parameters
    ----------
    kafka
        Where the broker is.
    topic
        An existing topic.
    in_flight_bytes
        How much may be on its way before `send` blocks; the library itself would take any amount.
    linger_ms, batch_size
        How long, and up to how many bytes, small records wait for company; the topic's own limit holds too.

    Attributes
    ----------
    acknowledged
        Records that the broker has, all before any that it has not.
    in_flight
        Bytes on their way.

    Raises
    ------
    TopicMissing, BrokerUnavailable
        From the constructor.
    TopicMissing, TopicMismatch, BrokerError
        From `send`, `wait_for_room` and `flush`: the topic was deleted, a record is too large, the broker refuses one.
        After that nothing more is sent. While the broker is away they wait.
    """

    def __init__(self, kafka: Kafka, topic: str, *, in_flight_bytes: int = 32 << 20, linger_ms: int = 5,
                 batch_size: int = 1 << 20) -> None:
        self.kafka, self.topic = kafka, topic
        self._found = describe_topic(kafka, topic)
        self._room = in_flight_bytes
        self.acknowledged = 0
        self.in_flight = 0
        self._waiting: deque[tuple[Any, int]] = deque()
        self._failure: BaseException | None = None
        self._heard = time.monotonic()
        self._client: Any = producer(kafka, linger_ms=linger_ms, max_request_size=MAX_REQUEST_BYTES,
                                     batch_size=min(batch_size, self._found.max_message_bytes),
                                     delivery_timeout_ms=NEVER_MS, max_in_flight_requests_per_connection=1)

    def send(self, value: bytes | None, headers: Mapping[str, bytes] | None = None, timestamp_ms: int | None = None,
             key: bytes | None = None, *, partition: int = 0, name: str = "a record") -> None:
        """Hand a record over, called `name` in an error; blocks while too much is in flight."""
        pairs = list((headers or {}).items())
        size = record_bytes(value, headers or {}, key)
        if size > self._found.max_message_bytes:
            raise self._too_large(f"{name} of {size} bytes")
        while not self.wait_for_room(1.0):
            pass
        if not self.in_flight:
            self._heard = time.monotonic()
        if value is None and key is None:
            key = b""  # the library takes no record without both
        with errors(self.kafka, self.topic):
            future = self._client.send(self.topic, value, key=key, headers=pairs, timestamp_ms=timestamp_ms,
                                       partition=partition)
        self.in_flight += size
        self._waiting.append((future, size))
        future.add_errback(self._failed)

    def wait_for_room(self, timeout: float) -> bool:
        """Return whether `send` would not block, after waiting for that at most `timeout` seconds."""
        return self._wait(timeout, self._room)

    def flush(self, timeout: float) -> bool:
        """Return whether all that was sent is acknowledged, after waiting for that at most `timeout` seconds."""
        return self._wait(timeout, 1)

    def close(self) -> None:
        """Let go of the connection; what is still in flight is given up: `flush` first."""
        if self.in_flight:
            self._give_up()
        self._client.close(timeout=0.5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, timeout: float, below: int) -> bool:
        self._settle()
        if self.in_flight < below:
            return True
        deadline = time.monotonic() + timeout
        while self.in_flight >= below and (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(KafkaError):  # its own failure is in `_failure`, another one's comes with the next
                self._waiting[0][0].get(left)
            self._settle()
        done = self.in_flight < below
        if not done and time.monotonic() - self._heard > QUIET_SECONDS:
            self._look()
        return done

    def _settle(self) -> None:
        """Take note of what the broker has acknowledged, or raise the first failure."""
        before = self.acknowledged
        while self._waiting and self._waiting[0][0].succeeded():
            self.in_flight -= self._waiting.popleft()[1]
            self.acknowledged += 1
        if self.acknowledged > before:
            self._heard = time.monotonic()
        if self._failure is not None:
            if isinstance(self._failure, MessageSizeTooLargeError):
                with contextlib.suppress(BrokerError):  # the limit has changed since
                    self._found = describe_topic(self.kafka, self.topic)
                raise self._too_large("a larger one")
            raise BrokerError(f"{self._where}: {self._failure}")

    def _look(self) -> None:
        try:
            found = describe_topic(self.kafka, self.topic, timeout_ms=1_000)
        except BrokerUnavailable:
            logger.warning("the broker at %s does not answer; waiting for it", self.kafka.bootstrap_servers)
        else:
            if found.id != self._found.id:
                raise BrokerError(f"{self._where} was deleted and made anew while it was written: start again")
        self._heard = time.monotonic()

    def _failed(self, failure: BaseException) -> None:
        """Stop at once; called in the library's own thread, before it sends anything more."""
        if self._failure is None:
            self._failure = failure
            self._give_up()

    def _give_up(self) -> None:
        """Drop what has not been sent; the library has no public way, and its close() waits once for every batch."""
        self._client._sender.force_close()

    def _too_large(self, what: str) -> TopicMismatch:
        return TopicMismatch(f"{self._where} takes records up to {self._found.max_message_bytes} bytes, found {what}: "
                             "raise the topic's max.message.bytes, or publish less in a record "
                             "(stream.samples_per_record)")

    @property
    def _where(self) -> str:
        return f"topic {self.topic!r} on {self.kafka.bootstrap_servers}"
