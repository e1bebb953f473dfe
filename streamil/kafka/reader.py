"""Reading one partition in order, from a position that we keep ourselves."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal, Self

from kafka import TopicPartition
from kafka.errors import (
    CorruptRecordError,
    KafkaError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    SaslAuthenticationFailedError,
    UnsupportedCodecError,
)
from kafka.record.default_records import DefaultRecordBatch
from kafka.structs import OffsetAndMetadata

from streamil.errors import BrokerError, BrokerUnavailable, ExperimentError, PositionLost
from streamil.experiment import Kafka
from streamil.kafka.clients import consumer, errors, listener
from streamil.kafka.header_names import read_any_name
from streamil.kafka.topics import LOOK_MS, describe_topic, require_fit

ASK_MS = 1_500
"""How long a question to the broker may take while it is away: the learner does not wait for figures."""

CLOSE_MS = 1_000
ANEW_SECONDS = 5.0
"""Between two tries to come in with what the files of passwords and certificates say by then."""
PAUSE_SECONDS = 0.1
"""Between two tries where the library itself does not wait."""
LOOK_RECORDS = 16
ALL_RECORDS = 1000
SILENT_SECONDS = 30.0
"""Past so long without a record whoever wants a whole log is told, instead of waiting for ever."""
CODEC_PACKAGES = {"lz4": "lz4", "zstd": "zstandard", "snappy": "python-snappy"}

read_any_name(DefaultRecordBatch)


@dataclass(frozen=True, slots=True)
class Message:
    """One record of a topic; of several headers with one name the last counts."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]
    timestamp_ms: int


class TopicReader:
    """Reads one partition of a topic in order, committed records only; an outage of the broker is waited out.

    Parameters
    ----------
    kafka
        Where the broker is, and where to start without a position.
    topic
        An existing topic.
    position
        Offset of the first record to read; None starts at `kafka.start`.
    group
        Consumer group for `commit`.
    partition
        Which one; None: the topic has to have just one.
    allow_compacted
        Accept a topic that loses records.
    on_trimmed
        What to do when the position is before the log's beginning: raise, or go on at the earliest record.

    Attributes
    ----------
    found
        The topic when reading began; ask `require_unchanged` whether it still is.
    trimmed
        Offsets that were deleted before they were read, and passed over.
    reachable
        Whether the broker answered when it was asked last.
    refused
        While it does not answer: why it does not let us in any more, and the way out; empty: it is away.

    Raises
    ------
    TopicMissing, TopicMismatch, PositionLost, BrokerUnavailable
        From the constructor; `poll` raises `PositionLost` and `BrokerError`.
    """

    def __init__(self, kafka: Kafka, topic: str, position: int | None = None, *, group: str | None = None,
                 partition: int | None = None, allow_compacted: bool = False,
                 on_trimmed: Literal["fail", "earliest"] = "fail") -> None:
        self.found = describe_topic(kafka, topic)
        require_fit(self.found, partition=partition, compacted=allow_compacted)
        self.kafka, self.topic, self.group, self._on_trimmed = kafka, topic, group, on_trimmed
        self._partition = TopicPartition(topic, partition or 0)
        self._position = self.trimmed = 0
        self._failure: KafkaError | None = None
        self.reachable, self.refused, self._tried = True, "", 0.0
        self._client: Any = consumer(kafka, group_id=group)
        try:
            self._client.assign([self._partition])
            begin, self._end = self._bounds()
            if position is None:
                position = begin if kafka.start == "earliest" else self._end
            elif not begin <= position <= self._end:
                position = self._passed_over(position, begin, self._end)
            self._seek(position)
        except BaseException:
            self.close()
            raise

    def poll(self, max_records: int, timeout_ms: int = 500) -> list[Message]:
        """Return up to `max_records` next records, or none when nothing came in time or the broker is away.

        Those behind them are asked for before it returns, and come while these are learned.
        """
        try:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            records = self._client.poll(timeout_ms=timeout_ms, max_records=max_records)
        except CorruptRecordError as error:  # the library calls it retriable, and would turn in a circle for ever
            raise BrokerError(f"topic {self.topic!r} on {self.kafka.bootstrap_servers}: a record from offset "
                              f"{self._position} on is damaged ({error}): start again; where it stays so, delete the "
                              "records of its batch (kafka-delete-records.sh), and go on behind them with "
                              "--on-trimmed earliest") from None
        except UnsupportedCodecError as error:
            named = re.search("|".join(CODEC_PACKAGES), str(error).lower())
            package = CODEC_PACKAGES[named[0]] if named else "lz4 zstandard python-snappy"
            raise BrokerError(f"topic {self.topic!r} holds compressed records that cannot be read here: {error}; "
                              f"pip install {package}") from None
        except (OffsetOutOfRangeError, LogTruncationError, NoOffsetForPartitionError):
            self._seek(self._passed_over(self._position, *self._bounds()))
            return []
        except KafkaError as error:
            if error.retriable or isinstance(error, SaslAuthenticationFailedError):  # a password may become right again
                time.sleep(min(timeout_ms / 1000, PAUSE_SECONDS))
                return []
            with errors(self.kafka, self.topic):
                raise
        found = list(records.get(self._partition, ()))
        if 0 < len(found) < max_records:
            # A poll that had to wait asks for no more behind it; this one does, so that the next ones come meanwhile.
            try:
                found += self._client.poll(timeout_ms=0, max_records=max_records - len(found)).get(self._partition, ())
            except KafkaError as error:
                self._failure = error  # for the next call: the library says it once
        with contextlib.suppress(KafkaError):
            self._position = int(self._client.position(self._partition, timeout_ms=0))
        return [Message(one.offset, one.key, one.value, {name: text or b"" for name, text in one.headers or ()},
                        one.timestamp) for one in found]

    def up_to(self, end: int) -> Generator[Message, None, None]:
        """Yield the committed records before `end`.

        Raises
        ------
        BrokerUnavailable
            When nothing came for `SILENT_SECONDS`.
        """
        heard = time.monotonic()
        while self.position < end:
            before = self.position
            yield from (one for one in self.poll(ALL_RECORDS) if one.offset < end)
            if self.position > before:
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENT_SECONDS:
                raise BrokerUnavailable(f"topic {self.topic!r} on {self.kafka.bootstrap_servers}: nothing came for "
                                        f"{SILENT_SECONDS:.0f} s, at offset {self.position} of {end}: try again")

    @property
    def position(self) -> int:
        """Offset of the next record to be returned; it steps over the marks that transactions leave in the log."""
        return self._position

    def end(self) -> int:
        """Return the offset after the last committed record, or the last answer while the broker is away."""
        reachable = False
        with contextlib.suppress(KafkaError):
            self._end = int(self._client.end_offsets([self._partition], timeout_ms=ASK_MS)[self._partition])
            reachable = True
        if reachable and not self.reachable:
            listener.said.clear()  # the next outage has reasons of its own
        self.reachable = reachable
        said = None if reachable else listener.refused()
        self.refused = "" if reachable else self.refused or (said.told() if said else "")
        if self.refused and time.monotonic() - self._tried > ANEW_SECONDS:
            self._come_in_anew()
        return self._end

    def _come_in_anew(self) -> None:
        """Read passwords and certificates again: where they let us in now, go on with that connection."""
        with contextlib.suppress(BrokerError, ExperimentError):
            client = consumer(self.kafka, group_id=self.group, bootstrap_timeout_ms=ASK_MS)
            self.close()
            self._client = client
            self._client.assign([self._partition])
            self._seek(self._position)
        self._tried = time.monotonic()

    def commit(self, position: int) -> None:
        """Tell the broker that the group has dealt with all before `position`; failing is no error.

        For those who watch the lag: nothing of ours starts from it.
        """
        if self.group is not None:
            with contextlib.suppress(KafkaError):
                offsets = {self._partition: OffsetAndMetadata(position, "", -1)}
                self._client.commit(offsets, timeout_ms=ASK_MS)

    def close(self) -> None:
        """Let go of the connection; commits nothing."""
        with contextlib.suppress(KafkaError):
            self._client.close(autocommit=False, timeout_ms=CLOSE_MS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _seek(self, position: int) -> None:
        self._position = position
        self._client.seek(self._partition, position)

    def _bounds(self) -> tuple[int, int]:
        with errors(self.kafka, self.topic):
            begin = self._client.beginning_offsets([self._partition], timeout_ms=5_000)[self._partition]
            end = self._client.end_offsets([self._partition], timeout_ms=5_000)[self._partition]
        return int(begin), int(end)

    def _passed_over(self, position: int, begin: int, end: int) -> int:
        """Return where to go on instead of a position that is lost, or raise `PositionLost`."""
        gap = begin - position
        if gap > 0 and self._on_trimmed == "earliest":
            self.trimmed += gap
            return begin
        why = (f"the log now starts at {begin}: {gap} offsets were deleted before they were read; go on there with "
               "--on-trimmed earliest" if gap > 0 else f"the log ends at {end}: it was deleted or made anew")
        where = f"topic {self.topic!r} on {self.kafka.bootstrap_servers}"
        raise PositionLost(f"{where}: position {position} is lost, {why}")


def last_message(kafka: Kafka, topic: str, wanted: Callable[[Message], bool] = lambda one: True) -> Message | None:
    """Return the last committed record of a topic that is wanted, None on a topic that never had one.

    Raises
    ------
    PositionLost
        When the topic had records and all are deleted, so that where its stream stood is not known.
    """
    with TopicReader(kafka, topic) as reader:
        begin, end = reader._bounds()
        back = 1
        while begin < end:  # the marks of transactions stand in the log too, so the last offset may hold no record
            first = max(begin, end - back)
            reader._seek(first)
            last = None
            for message in reader.up_to(end):
                last = message if wanted(message) else last
            if last is not None:
                return last
            if first == begin:
                break
            back *= 4
        if begin:
            raise PositionLost(f"topic {topic!r} on {kafka.bootstrap_servers}: all records before offset {end} are "
                               f"deleted, so where its stream stood is not known: delete the topic or use another one")
        return None


def newest_messages(kafka: Kafka, topic: str, count: int, *, partition: int | None = None,
                    ) -> Generator[Message, None, None]:
    """Yield the committed records among the last `count` offsets of a partition, as it stands now."""
    with TopicReader(kafka, topic, partition=partition, allow_compacted=True) as reader:
        begin, end = reader._bounds()
        reader._seek(max(begin, end - count))
        yield from reader.up_to(end)


def first_messages(kafka: Kafka, topic: str, *, seconds: float = 5.0) -> Generator[Message, None, None]:
    """Yield the committed records that are in the log now, from the first one, as far as they come in `seconds`.

    Raises
    ------
    BrokerError
        When the topic is not there or does not fit, or nobody answers within two seconds.
    """
    describe_topic(kafka, topic, timeout_ms=LOOK_MS)
    deadline = time.monotonic() + seconds
    with TopicReader(kafka.model_copy(update={"start": "earliest"}), topic) as reader:
        end = reader.end()
        while reader.position < end and time.monotonic() < deadline:
            yield from reader.poll(LOOK_RECORDS)
