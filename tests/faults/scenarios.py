"""Faults that a consumer lives through, each as a function that fails where a sample is lost, doubled or mixed up.

`test_faults.py` runs them as they are; `test_protections.py` takes a protection out and wants them to fail.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from attached import Crash, Sent, experiment_of, learn, made_anew, messages, records_of, send
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from streamil.attachment import Attachment, Options
from streamil.codec import decode
from streamil.direct import run
from streamil.errors import (
    PositionLost,
    SnapshotError,
    StateError,
    StreamMismatch,
    TooManyRejects,
    TopicMismatch,
)
from streamil.experiment import Kafka
from streamil.kafka import ensure_topic
from streamil.race import Race
from streamil.results import summary
from streamil.snapshot.folder import read_snapshot

# -- killed


def crashes(kafka: Kafka, topic: str, folder: Path) -> None:
    """It crashes again and again, within records and between them, with bad samples on the way."""
    experiment = experiment_of(kafka, topic, folder)
    sent = records_of(experiment)
    broken = [(b"not json", sent[place][1]) if place % 9 == 4 else one for place, one in enumerate(sent)]
    send(kafka, topic, broken)
    wanted = sum(400 % 7 if place == 57 else 7 for place in range(58) if place % 9 != 4)
    undisturbed = learn(experiment_of(kafka, topic, folder / "undisturbed"), wanted)
    moments = random.Random(7)
    at = 0
    while at < wanted - 60:
        at += moments.randrange(10, 80)
        learn(experiment, until=at, crash_at=at)
        at = max(at, 0)
    assert learn(experiment, wanted) == undisturbed


def crash_within_a_record(kafka: Kafka, topic: str, folder: Path) -> None:
    """Stops that fall within records of more samples than are learned together."""
    experiment = experiment_of(kafka, topic, folder, stream={"samples_per_record": 200}, snapshots={"every_samples": 1})
    send(kafka, topic, records_of(experiment))
    for at in (3, 64, 150, 230):
        learn(experiment, at, crash_at=at)
    assert learn(experiment, 400) == run(experiment)


def crash_in_the_middle_of_learning(kafka: Kafka, topic: str, folder: Path) -> None:
    """An exception while samples are learned: what is half learned is not saved."""
    experiment = experiment_of(kafka, topic, folder)
    send(kafka, topic, records_of(experiment))
    race = Race(experiment)
    with pytest.raises(Crash), Attachment(race) as attachment:
        for arrived in attachment:
            if race.samples >= 100:
                race.feed(arrived.records[:5], arrived.ordinals[:5])
                raise Crash
            arrived.feed(race)
            attachment.commit()
    assert learn(experiment, 400) == run(experiment)


def second_process(kafka: Kafka, topic: str, folder: Path) -> None:
    """Another consumer of the same experiment is kept out."""
    experiment = experiment_of(kafka, topic, folder)
    send(kafka, topic, records_of(experiment))

    def another(attachment: Attachment) -> None:
        with pytest.raises(SnapshotError, match="keeps its snapshots here"):
            learn(experiment, 20)

    learn(experiment, 40, each=another)


# -- what is on the topic


def repeats(kafka: Kafka, topic: str, folder: Path) -> None:
    """A killed producer's last records came twice, and late."""
    experiment = experiment_of(kafka, topic, folder)
    sent = records_of(experiment)
    send(kafka, topic, [*sent[:10], *sent[5:10], *sent[10:], sent[3]])
    learn(experiment, 60)
    assert learn(experiment, 400) == run(experiment)


def gap(kafka: Kafka, topic: str, folder: Path) -> None:
    """A record is missing from the log."""
    experiment = experiment_of(kafka, topic, folder)
    sent = records_of(experiment)
    send(kafka, topic, [*sent[:10], *sent[11:]])
    with pytest.raises(StreamMismatch, match="7 of them are missing"):
        learn(experiment, 393)


def another_stream(kafka: Kafka, topic: str, folder: Path) -> None:
    """Records of another stream stand on the topic."""
    send(kafka, topic, records_of(experiment_of(kafka, topic, folder, stream={"seed": 5})))
    with pytest.raises(StreamMismatch, match="another stream"):
        learn(experiment_of(kafka, topic, folder), 400)


def aborted_transactions(kafka: Kafka, topic: str, folder: Path) -> None:
    """Others' producers are transactional: what they took back is not learned, and the marks are stepped over."""
    experiment = experiment_of(kafka, topic, folder, stream={"limit": None})
    ensure_topic(kafka, topic)
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=topic)
    producer.init_transactions()
    for number, end in enumerate((producer.commit_transaction, producer.abort_transaction, producer.commit_transaction)):
        producer.begin_transaction()
        for place in range(10):
            producer.send(topic, json.dumps({"x": [number, place], "y": number}).encode()).get(20)
        end()
    producer.close()
    learn(experiment, 10)
    learned = learn(experiment, 20)
    race = Race(experiment)
    whole = [(json.dumps({"x": [number, place], "y": number}).encode(), {}) for number in (0, 2) for place in range(10)]
    for ordinal, (value, _) in enumerate(whole):
        race.feed(decode(value), np.array([ordinal]))
    assert learned["samples"] == 20 and learned["learned_hash"] == summary(race)["learned_hash"]


def flood(kafka: Kafka, topic: str, folder: Path) -> None:
    """One bad record after another: it stops, again at each start, and goes on when it is told to."""
    experiment = experiment_of(kafka, topic, folder, stream={"limit": None}, service={"max_consecutive_rejects": 100})
    good = [(json.dumps({"x": [number], "y": number % 2}).encode(), {}) for number in range(20)]
    send(kafka, topic, [*good[:10], *[(b"\xff", {})] * 500, *good[10:]])
    for _ in range(3):
        with pytest.raises(TooManyRejects, match=r"101 rejects in a row.*offset 10: rejected \(not-json\)"):
            learn(experiment, 20)
    assert len(messages(kafka, f"{topic}.dead")) == 101
    assert learn(experiment, 20, options=Options(accept_rejects=True))["samples"] == 20
    assert len(messages(kafka, f"{topic}.dead")) == 500


def put_back_twice(kafka: Kafka, topic: str, folder: Path) -> None:
    """A rejected sample is put back twice, with a crash between: it is learned once."""
    experiment = experiment_of(kafka, topic, folder, stream={"limit": None, "classes": ["0", "1"]})
    good = [(json.dumps({"x": [number], "y": number % 2}).encode(), {}) for number in range(50)]
    send(kafka, topic, [*good[:10], (b'{"x": [3], "y": 7}', {}), *good[10:30]])
    learn(experiment, 30)
    (dead,) = messages(kafka, f"{topic}.dead")
    again = {"streamil-origin": dead.headers["streamil-origin"]}
    send(kafka, topic, [(b'{"x": [3], "y": 1}', again), *good[30:35], (b'{"x": [3], "y": 1}', again), *good[35:]])
    learn(experiment, 33, crash_at=33)
    learn(experiment, 40, crash_at=40)
    last: list[Attachment] = []
    assert learn(experiment, 51, each=last.append)["samples"] == 51
    assert last[-1].offset == 53 and last[-1].lag == 0, "one was learned twice, and another left"


def dead_letters_of_a_crash(kafka: Kafka, topic: str, folder: Path) -> None:
    """It crashes before the broker has confirmed a dead letter: that is written by the next start."""
    experiment = experiment_of(kafka, topic, folder, stream={"limit": None}, snapshots={"every_samples": 1})
    good = [(json.dumps({"x": [number], "y": number % 2}).encode(), {}) for number in range(30)]
    send(kafka, topic, [*good[:10], (b"bad", {}), *good[10:]])

    def saved(attachment: Attachment) -> None:
        attachment._keeper._writing.result()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamil.attachment.outbox.Outbox.pump", lambda outbox, seconds=0.0: False)
        learn(experiment, 20, crash_at=20, each=saved)
    learn(experiment, 30)
    assert [one.headers["streamil-offset"] for one in messages(kafka, f"{topic}.dead")] == [b"10"]


# -- the log changes


def trimmed(kafka: Kafka, topic: str, folder: Path) -> None:
    """Records are deleted before they were read: K04 (a)."""
    experiment = experiment_of(kafka, topic, folder, stream={"limit": None})
    send(kafka, topic, [(json.dumps({"x": [number], "y": number % 2}).encode(), {}) for number in range(20)])
    learn(experiment, 5)
    client = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    client.delete_records({TopicPartition(topic, 0): 12})
    client.close()
    with pytest.raises(PositionLost, match=r"position 5 is lost, the log now starts at 12: 7 offsets.*--on-trimmed"):
        learn(experiment, 20)
    assert learn(experiment, 13, options=Options(on_trimmed="earliest"))["samples"] == 13


def topic_made_anew(kafka: Kafka, topic: str, folder: Path) -> None:
    """The topic is deleted and made anew, with a longer log, while nobody reads: K04 (b)."""
    experiment = experiment_of(kafka, topic, folder, stream={"limit": None})
    sent: Sent = [(json.dumps({"x": [number], "y": number % 2}).encode(), {}) for number in range(30)]
    send(kafka, topic, sent[:20])
    learn(experiment, 5)
    made_anew(kafka, topic)
    send(kafka, topic, sent)
    with pytest.raises(TopicMismatch, match="was made anew: the snapshot is of topic id"):
        learn(experiment, 30)


def topic_made_anew_while_it_is_read(kafka: Kafka, topic: str, folder: Path) -> None:
    """The topic is made anew, with a longer log, under a consumer that runs: nothing of the new one is saved."""
    experiment = experiment_of(kafka, topic, folder, stream={"limit": None}, snapshots={"every_samples": 1000})
    sent: Sent = [(json.dumps({"x": [number], "y": number % 2}).encode(), {}) for number in range(300)]
    send(kafka, topic, sent[:20])

    def swap(attachment: Attachment) -> None:
        if attachment._race.samples == 20:
            made_anew(kafka, topic)
            send(kafka, topic, sent)

    with pytest.raises(TopicMismatch, match="deleted and made anew while it was read"):
        learn(experiment, 200, each=swap)
    assert not list((folder / "snapshots").glob("*.snapshot"))


# -- the folder


def damaged_snapshot(kafka: Kafka, topic: str, folder: Path) -> None:
    """One byte of a weight in the newest snapshot changes: the one before is taken, and the rest learned again."""
    experiment = experiment_of(kafka, topic, folder)
    send(kafka, topic, records_of(experiment))
    for until in (100, 200):
        learn(experiment, until)
    newest = max((folder / "snapshots").glob("*.snapshot"))
    state, _ = read_snapshot(newest)
    weights = state["race"]["arms"]["bp@1"]["population"]["weight.0"]
    content = bytearray(newest.read_bytes())
    content[content.index(weights.numpy().tobytes()) + 3] ^= 1
    newest.write_bytes(content)
    assert learn(experiment, 400) == run(experiment)


def nothing_whole(kafka: Kafka, topic: str, folder: Path) -> None:
    """All snapshots are damaged: an error, and never a fresh start."""
    experiment = experiment_of(kafka, topic, folder)
    send(kafka, topic, records_of(experiment))
    learn(experiment, 100)
    for path in (folder / "snapshots").glob("*.snapshot"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SnapshotError, match="none of"):
        learn(experiment, 400)


def another_configuration(kafka: Kafka, topic: str, folder: Path) -> None:
    """The file changes what may not change."""
    send(kafka, topic, records_of(experiment_of(kafka, topic, folder)))
    learn(experiment_of(kafka, topic, folder), 100)
    for changed, named in (({"network": {"hidden": [9]}}, "network"), ({"verdict": {"alpha": 0.01}}, "verdict"),
                           ({"arms": {"bp": {"algorithm": "bp-adam", "batch_size": [1, 5], "learning_rate": 0.5}}}, "learning_rate")):
        with pytest.raises(StateError, match=named):
            learn(experiment_of(kafka, topic, folder, **changed), 400)


SCENARIOS: list[Callable[[Kafka, str, Path], None]] = [
    crashes, crash_within_a_record, crash_in_the_middle_of_learning, second_process, repeats, gap, another_stream,
    aborted_transactions, flood, put_back_twice, dead_letters_of_a_crash, trimmed, topic_made_anew,
    topic_made_anew_while_it_is_read, damaged_snapshot, nothing_whole, another_configuration]
