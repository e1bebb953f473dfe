"""Records on their way to a topic of ours, kept until the broker has them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from streamil.errors import BrokerUnavailable, TopicMissing
from streamil.experiment import Kafka
from streamil.kafka import TopicWriter, ensure_topic, record_bytes
from streamil.log import Event, Tell
from streamil.state_entries import entries

ROOM = 4 << 20
"""Bytes that may wait: past that whoever fills the outbox waits for the broker."""
OBJECT_BYTES = 100
"""What a record takes in memory, beside its bytes."""
PARTITIONS = 1000
"""More than a topic of ours has."""
RETRY_SECONDS = 1.0
"""Between two tries to reach a broker that is away."""


class Letter(NamedTuple):
    """One record to write."""

    value: bytes | None
    headers: dict[str, bytes]
    key: bytes | None = None
    timestamp_ms: int | None = None
    partition: int = 0

    @property
    def size(self) -> int:
        """About how many bytes it occupies."""
        return OBJECT_BYTES + record_bytes(self.value, self.headers, self.key)


class Outbox:
    """Writes records to a topic in order, each at least once: what the broker has not confirmed is part of the state.

    The topic is made, and the connection opened, when the first record comes.

    Parameters
    ----------
    kafka, topic
        Where to.
    tell
        Takes one line about each event.
    max_message_bytes
        Room that the topic's records need; None: the broker's own limit.
    partitions
        How many the topic has.

    Attributes
    ----------
    written
        Records that the broker has confirmed, in this process.
    """

    def __init__(self, kafka: Kafka, topic: str, tell: Tell, *, max_message_bytes: int | None = None,
                 partitions: int = 1) -> None:
        self.kafka, self.topic, self.max_message_bytes, self._partitions = kafka, topic, max_message_bytes, partitions
        self._tell = tell
        self.written = 0
        self._letters: deque[Letter] = deque()
        self._handed = 0  # of these, how many the writer has
        self._bytes = 0
        self._writer: TopicWriter | None = None
        self._again = 0.0
        self._away = False

    def __len__(self) -> int:
        return len(self._letters)

    @property
    def full(self) -> bool:
        """Whether whoever fills it should wait for the broker."""
        return self._bytes > ROOM

    def put(self, letter: Letter) -> None:
        """Take a record, to be written by the next `pump`."""
        self._letters.append(letter)
        self._bytes += letter.size

    def pump(self, seconds: float = 0.0) -> bool:
        """Write what waits, and return whether the broker has confirmed all of it, after at most about `seconds`.

        Raises
        ------
        BrokerError
            When the topic cannot be written to: the broker does not allow it, or it does not take the record.
        """
        deadline = time.monotonic() + seconds
        while self._letters and not self._connected():
            if time.monotonic() >= deadline:
                return False
            time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))
        if self._writer is None:
            return not self._letters
        try:
            return self._write(self._writer, deadline)
        except TopicMissing:
            raise TopicMissing(f"topic {self.topic!r} on {self.kafka.bootstrap_servers} was deleted while it was "
                               "written: start again, and it is made anew; what it did not get is written then"
                               ) from None

    def _write(self, writer: TopicWriter, deadline: float) -> bool:
        while self._handed < len(self._letters) and writer.wait_for_room(0):
            value, headers, key, timestamp_ms, partition = self._letters[self._handed]
            writer.send(value, headers, timestamp_ms, key, partition=partition)
            self._handed += 1
        done = writer.flush(max(0.0, deadline - time.monotonic()))
        while self.written < writer.acknowledged:
            self._bytes -= self._letters.popleft().size
            self._handed -= 1
            self.written += 1
        return done and not self._letters

    def _connected(self) -> bool:
        """Open the topic where it is not open; return False while the broker is away."""
        if self._writer is None and time.monotonic() >= self._again:
            try:
                ensure_topic(self.kafka, self.topic, max_message_bytes=self.max_message_bytes,
                             partitions=self._partitions)
                self._writer = TopicWriter(self.kafka, self.topic, in_flight_bytes=ROOM)
            except BrokerUnavailable as error:
                if not self._away:
                    self._tell(Event(f"{len(self)} records wait for topic {self.topic}: {error}", level="warning"))
                self._again, self._away = time.monotonic() + RETRY_SECONDS, True
        return self._writer is not None

    def close(self) -> None:
        """Let go of the connection; what is not confirmed stays."""
        if self._writer is not None:
            self._writer.close()

    def state_dict(self) -> dict[str, Any]:
        """Return what is not confirmed."""
        return {"letters": [{**one._asdict(), "headers": dict(one.headers)} for one in self._letters]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what an earlier process could not get confirmed; raise ValueError where it does not fit."""
        entries(state, ("letters",))
        for one in state["letters"]:
            entries(one, Letter._fields)
            letter = Letter(**one)
            plain = all(isinstance(value, bytes | None) for value in (letter.value, letter.key))
            if not plain or not all(isinstance(value, bytes) for value in letter.headers.values()):
                raise ValueError("letters: bytes are allowed")
            if type(letter.partition) is not int or not 0 <= letter.partition < PARTITIONS:
                raise ValueError(f"letters: partitions 0 to {PARTITIONS - 1} are allowed")
            self._partitions = max(self._partitions, letter.partition + 1)  # there may have been more arms
            self.put(letter)
