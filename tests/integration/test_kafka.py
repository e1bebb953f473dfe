"""Reading and writing topics of a real broker, at their edges."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from streamil.errors import BrokerError, BrokerUnavailable, PositionLost, TopicMismatch, TopicMissing
from streamil.experiment import Kafka
from streamil.kafka import (
    Message,
    TopicReader,
    TopicWriter,
    describe_topic,
    ensure_topic,
    last_message,
)
from streamil.local_kafka import LocalKafka

pytestmark = pytest.mark.kafka


@contextlib.contextmanager
def administrator(kafka: Kafka) -> Iterator[Any]:
    client = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    try:
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def foreign_producer(kafka: Kafka, **settings: Any) -> Iterator[Any]:
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, **settings)
    try:
        yield producer
    finally:
        producer.close()


def put(kafka: Kafka, topic: str, count: int, start: int = 0) -> None:
    with TopicWriter(kafka, topic) as writer:
        for number in range(start, start + count):
            writer.send(b"%d" % number, {"n": b"%d" % number})
        assert writer.flush(20)


def read(reader: TopicReader, count: int, seconds: float = 20) -> list[Message]:
    """Read `count` records, and make sure that no more follow at once."""
    messages: list[Message] = []
    deadline = time.monotonic() + seconds
    while len(messages) < count and time.monotonic() < deadline:
        messages += reader.poll(1000, 200)
    return messages + reader.poll(1000, 200)


def values(messages: list[Message]) -> list[int | None]:
    return [None if one.value is None else int(one.value) for one in messages]


def test_what_was_written_is_read_in_order_from_any_position(kafka_settings: Kafka, topic: str) -> None:
    ensure_topic(kafka_settings, topic)
    put(kafka_settings, topic, 500)
    with TopicReader(kafka_settings, topic) as reader:
        assert reader.position == 0 and reader.end() == 500
        first = reader.poll(7, 5000)
        assert values(first) == list(range(7)) and reader.position == 7
        assert first[3].headers == {"n": b"3"} and first[3].offset == 3
        assert abs(first[3].timestamp_ms / 1000 - time.time()) < 60
        assert values(read(reader, 493)) == list(range(7, 500)) and reader.end() <= reader.position
    with TopicReader(kafka_settings, topic, 490) as reader:
        assert values(read(reader, 10)) == list(range(490, 500))
    with TopicReader(kafka_settings.model_copy(update={"start": "latest"}), topic) as reader:
        assert reader.position == 500
        put(kafka_settings, topic, 1, 500)
        assert values(read(reader, 1)) == [500]


def test_no_broker_is_one_line_within_ten_seconds(capfd: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=r"^[^\n]*127\.0\.0\.1:1 \(the connection was refused\)[^\n]*$"):
        TopicReader(Kafka(bootstrap_servers="127.0.0.1:1"), "any")
    assert time.monotonic() - started < 10
    assert capfd.readouterr() == ("", "")


def test_the_reason_for_no_answer_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silence = f"127.0.0.1:{silent.getsockname()[1]}"
        for address, reason in (("no-such-host.invalid:9092", "the name cannot be resolved"),
                                (silence, "it stays silent")):
            with pytest.raises(BrokerUnavailable, match=rf"{address} \(.*{reason}"):
                describe_topic(Kafka(bootstrap_servers=address), "any", timeout_ms=1000)


def test_a_missing_topic_is_one_line(kafka_settings: Kafka, topic: str) -> None:
    for attempt in (TopicReader, TopicWriter, describe_topic, last_message):
        with pytest.raises(TopicMissing, match=rf"^[^\n]*{topic}[^\n]*{kafka_settings.bootstrap_servers}[^\n]*$"):
            attempt(kafka_settings, topic)


def test_a_topic_that_does_not_fit_is_refused(kafka_settings: Kafka, topic: str) -> None:
    with administrator(kafka_settings) as client:
        client.create_topics({f"{topic}-many": {"num_partitions": 2, "replication_factor": 1}, f"{topic}-compact": {
            "num_partitions": 1, "replication_factor": 1, "configs": {"cleanup.policy": "compact"}}})
    for attempt in (ensure_topic, TopicReader):
        with pytest.raises(TopicMismatch, match="2 partitions"):
            attempt(kafka_settings, f"{topic}-many")
        with pytest.raises(TopicMismatch, match="compact"):
            attempt(kafka_settings, f"{topic}-compact")
    with pytest.raises(TopicMismatch, match="delete it, and it is made with one"):  # --partition is for what is read
        ensure_topic(kafka_settings, f"{topic}-many")
    with TopicReader(kafka_settings, f"{topic}-compact", allow_compacted=True) as reader:
        assert reader.poll(1, 0) == []


def test_ensure_topic_makes_it_once(kafka_settings: Kafka, topic: str) -> None:
    made = ensure_topic(kafka_settings, topic, max_message_bytes=2_000_000)
    assert made.max_message_bytes == 2_000_000 and made.partitions == 1
    assert ensure_topic(kafka_settings, topic) == made
    with pytest.raises(TopicMismatch, match="3000000 are needed"):
        ensure_topic(kafka_settings, topic, max_message_bytes=3_000_000)


def test_a_log_that_ends_in_a_transaction_marker_is_read_to_its_end(kafka_settings: Kafka, topic: str) -> None:
    ensure_topic(kafka_settings, topic)
    with foreign_producer(kafka_settings, transactional_id=topic) as producer:
        producer.init_transactions()
        for last, end in ((9, producer.commit_transaction), (5, producer.abort_transaction)):
            producer.begin_transaction()
            for number in range(last + 1):
                producer.send(topic, b"%d" % number).get(20)
            end()
    with TopicReader(kafka_settings, topic) as reader:
        assert values(read(reader, 10)) == list(range(10))  # and none of the aborted ones
        assert (reader.position, reader.end() - reader.position) == (18, 0)
    with TopicReader(kafka_settings, topic, 18) as reader:
        assert reader.poll(10, 300) == [] and reader.end() <= reader.position
    last = last_message(kafka_settings, topic)
    assert last is not None and last.offset == 9


def test_null_values_keep_their_keys(kafka_settings: Kafka, topic: str) -> None:
    ensure_topic(kafka_settings, topic)
    with TopicWriter(kafka_settings, topic) as writer:
        writer.send(None, key=b"gone")
        writer.send(b"")
        assert writer.flush(10)
    with TopicReader(kafka_settings, topic) as reader:
        assert [(one.key, one.value) for one in read(reader, 2)] == [(b"gone", None), (None, b"")]


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd", "snappy"])
def test_compressed_records_are_read(kafka_settings: Kafka, topic: str, codec: str) -> None:
    ensure_topic(kafka_settings, topic)
    with foreign_producer(kafka_settings, compression_type=codec, linger_ms=100) as producer:
        for number in range(100):
            producer.send(topic, b"%d" % number)
        producer.flush()
    with TopicReader(kafka_settings, topic) as reader:
        assert values(read(reader, 100)) == list(range(100))


def test_a_codec_without_its_library_names_the_package(kafka_settings: Kafka, topic: str,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_topic(kafka_settings, topic)
    with foreign_producer(kafka_settings, compression_type="zstd") as producer:
        producer.send(topic, b"1" * 1000).get(20)
    monkeypatch.setattr("kafka.codec.has_zstd", lambda: False)
    with TopicReader(kafka_settings, topic) as reader, pytest.raises(BrokerError, match=r"pip install zstandard$"):
        read(reader, 1, 5)


class Latin(str):
    """The name of a header in an encoding that is not Kafka's, as clients in C can send it."""

    def encode(self, *_: str) -> bytes:
        return super().encode("latin-1")


def test_names_of_headers_may_be_any_bytes(kafka_settings: Kafka, topic: str) -> None:
    """kafka-python takes such a record for a damaged one, and turns in a circle."""
    ensure_topic(kafka_settings, topic)
    headers = [("gr\xf6\xdfe", b"\xef"), (Latin("na\xefve"), b"\xef")]
    with foreign_producer(kafka_settings, linger_ms=100) as producer:
        for number in range(5):
            producer.send(topic, b"%d" % number, key=b"na\xefve", headers=headers[:number])
        producer.flush()
    with TopicReader(kafka_settings, topic) as reader:
        messages = read(reader, 5)
    assert values(messages) == list(range(5)) and {one.key for one in messages} == {b"na\xefve"}
    assert [one.headers for one in messages[1:3]] == [{"gr\xf6\xdfe": b"\xef"}, {"gr????e": b"\xef", "na?ve": b"\xef"}]


@pytest.mark.parametrize("before", [0, 5])
def test_a_damaged_record_is_one_line_behind_those_before_it(kafka_settings: Kafka, broker: LocalKafka, topic: str,
                                                             before: int) -> None:
    """kafka-python says it once, and its next poll would never end."""
    ensure_topic(kafka_settings, topic)
    if before:
        put(kafka_settings, topic, before)
    log = broker.folder / "data" / f"{topic}-0" / f"{0:020}.log"
    place = log.stat().st_size
    put(kafka_settings, topic, 3, before)
    with log.open("r+b") as file:
        file.seek(place + 70)  # within the first record
        byte = file.read(1)
        file.seek(place + 70)
        file.write(bytes([byte[0] ^ 1]))
    messages: list[Message] = []
    with TopicReader(kafka_settings, topic) as reader, pytest.raises(BrokerError) as caught:
        while True:
            messages += reader.poll(1000, 2000)
    assert values(messages) == list(range(before))
    assert not isinstance(caught.value, BrokerUnavailable) and len(str(caught.value).splitlines()) == 1
    for words in (topic, f"offset {before} ", "damaged", "kafka-delete-records", "--on-trimmed earliest"):
        assert words in str(caught.value)


def test_a_position_that_is_gone_is_an_error_with_both_offsets(kafka_settings: Kafka, topic: str) -> None:
    ensure_topic(kafka_settings, topic)
    put(kafka_settings, topic, 20)
    with TopicReader(kafka_settings, topic, 0) as reader:
        with administrator(kafka_settings) as client:
            client.delete_records({TopicPartition(topic, 0): 12})
        with pytest.raises(PositionLost, match=r"position 0 .* 12"):
            read(reader, 20, 5)
    with pytest.raises(PositionLost, match=r"position 5 .* starts at 12"):
        TopicReader(kafka_settings, topic, 5)
    with pytest.raises(PositionLost, match=r"position 21 .* ends at 20"):
        TopicReader(kafka_settings, topic, 21)
    with administrator(kafka_settings) as client:
        client.delete_records({TopicPartition(topic, 0): -1})
    with pytest.raises(PositionLost, match="before offset 20"):
        last_message(kafka_settings, topic)


def test_the_last_message_of_an_empty_topic_is_none(kafka_settings: Kafka, topic: str) -> None:
    ensure_topic(kafka_settings, topic)
    assert last_message(kafka_settings, topic) is None
    put(kafka_settings, topic, 3)
    last = last_message(kafka_settings, topic)
    assert last is not None and last.value == b"2"


def test_a_commit_shows_the_position_to_others(kafka_settings: Kafka, topic: str) -> None:
    ensure_topic(kafka_settings, topic)
    put(kafka_settings, topic, 5)
    with TopicReader(kafka_settings, topic, group=topic) as reader:
        read(reader, 5)
        reader.commit(reader.position)
    with administrator(kafka_settings) as client:
        committed = client.list_group_offsets({topic: None})[topic]
        assert committed[TopicPartition(topic, 0)].offset == 5


def test_a_record_larger_than_the_topic_takes_is_refused_before_it_is_sent(kafka_settings: Kafka, topic: str) -> None:
    ensure_topic(kafka_settings, topic, max_message_bytes=10_000)
    with TopicWriter(kafka_settings, topic) as writer:
        for _ in range(50):
            writer.send(b"x" * 9_000)  # batches of them would be larger than the topic takes
        assert writer.flush(20)
        with pytest.raises(TopicMismatch, match=r"10000 bytes, found a record of 10101 bytes: raise .*samples_per_record"):
            writer.send(b"x" * 10_001)
    with TopicReader(kafka_settings, topic) as reader:
        assert len(read(reader, 50)) == 50


def test_nothing_follows_a_record_that_failed(kafka_settings: Kafka, topic: str) -> None:
    ensure_topic(kafka_settings, topic)
    with TopicWriter(kafka_settings, topic, linger_ms=0, batch_size=1) as writer:
        with pytest.raises(BrokerError, match=rf"^[^\n]*{topic}[^\n]*InvalidTimestamp[^\n]*$"):
            for number in range(100):
                ahead = 864_000 if number == 50 else 0  # brokers take no time that is ten days ahead
                writer.send(b"%d" % number, timestamp_ms=int(1000 * (time.time() + ahead)))
            time.sleep(1.5)  # nobody looks at the writer while the broker answers
            writer.flush(20)
        for attempt in (lambda: writer.send(b"100"), lambda: writer.flush(1), lambda: writer.wait_for_room(1)):
            with pytest.raises(BrokerError):
                attempt()
    with TopicReader(kafka_settings, topic) as reader:
        assert values(read(reader, 51, 2)) == list(range(50))


def test_importing_loads_no_torch() -> None:
    code = "import sys, streamil.kafka, streamil.local_kafka; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_outage_is_waited_out_by_both_sides(installed_kafka: None, tmp_path: Path,
                                               capfd: pytest.CaptureFixture[str]) -> None:
    """Every record comes once and in order; while the broker is away `send` blocks at its bound, poll is empty."""
    with LocalKafka(tmp_path) as broker:
        kafka = Kafka(bootstrap_servers=broker.address)
        ensure_topic(kafka, "t")
        sent: list[int] = []

        def write(writer: TopicWriter) -> None:
            for number in range(60):
                writer.send(b"%d" % number + b" " * 50_000)
                sent.append(number)

        with TopicReader(kafka, "t", group="g") as reader, TopicWriter(kafka, "t", in_flight_bytes=500_000) as writer:
            writer.send(b"-1")
            assert values(read(reader, 1)) == [-1]
            broker.kill()
            thread = threading.Thread(target=write, args=(writer,))
            thread.start()
            started = time.monotonic()
            assert reader.poll(10, 300) == [] and reader.end() <= reader.position
            reader.commit(reader.position)
            assert time.monotonic() - started < 5
            assert not writer.flush(0.5) and 5 <= len(sent) <= 12
            broker.start()
            assert values(read(reader, 60, 60)) == list(range(60))
            thread.join(20)
            assert writer.flush(20)
            broker.kill()
            writer.send(b"lost")
            started = time.monotonic()
        assert time.monotonic() - started < 4  # closing does not wait for a broker that is away
    out, err = capfd.readouterr()
    assert not out and all("does not answer; waiting for it" in line for line in err.splitlines())


def test_a_topic_deleted_while_written_is_an_error(kafka_settings: Kafka, topic: str,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamil.kafka.writer.QUIET_SECONDS", 1.0)
    ensure_topic(kafka_settings, topic)
    with TopicWriter(kafka_settings, topic) as writer:
        writer.send(b"1")
        assert writer.flush(10)
        with administrator(kafka_settings) as client:
            client.delete_topics([topic])
        writer.send(b"2")
        with pytest.raises(TopicMissing):
            for _ in range(20):
                writer.flush(1)


def fill(kafka: Kafka, topic: str, count: int, size: int) -> None:
    """Put records of so many bytes, each in a batch of its own."""
    ensure_topic(kafka, topic)
    with TopicWriter(kafka, topic, batch_size=1) as writer:
        for _ in range(count):
            writer.send(bytes(size))
        assert writer.flush(20)


def test_the_next_records_come_while_the_last_ones_are_learned(kafka_settings: Kafka, topic: str) -> None:
    """After a look that had to wait the next ones are on their way; the library alone asks for them at the next look."""
    fill(kafka_settings, topic, 100, 10_000)
    few = kafka_settings.model_copy(update={"fetch_bytes": 50_000})
    looks = []
    for _ in range(7):
        with TopicReader(few, topic) as reader:
            assert 1 <= len(reader.poll(1000, 5_000)) <= 12, "as many as are fetched at a time, twice where the machine is busy"
            time.sleep(0.5)  # learning: nobody asks
            looks.append(len(reader.poll(1000, 0)))  # without waiting
    assert looks.count(0) <= 3, looks  # a busy machine may be late now and then


def test_what_is_fetched_ahead_is_bounded(installed_kafka: None, tmp_path: Path) -> None:
    with LocalKafka(tmp_path) as own:
        kafka = Kafka(bootstrap_servers=own.address, fetch_bytes=50_000)
        fill(kafka, "t", 100, 10_000)
        with TopicReader(kafka, "t") as reader:
            assert len(reader.poll(1, 5_000)) == 1
            time.sleep(1)
            own.kill()
            held = 1
            while more := len(reader.poll(1, 200)):
                held += more
            assert 1 <= held <= 12, "two times what is fetched at a time, of 100 that are there"
