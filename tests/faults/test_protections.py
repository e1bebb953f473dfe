"""Each protection taken out, in the test alone: its fault test has to go red, or it proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import scenarios
from kafka import KafkaConsumer

from streamil.attachment import Attachment, Position, numbers
from streamil.attachment.intake import Intake
from streamil.attachment.outbox import Outbox
from streamil.attachment.rejects import Rejects
from streamil.attachment.tap import Tap
from streamil.errors import SnapshotDamaged, StreamMismatch, TopicMissing
from streamil.experiment import Kafka
from streamil.kafka import TopicReader
from streamil.race_state import Changes
from streamil.snapshot import blob
from streamil.snapshot.folder import FolderStore, read_snapshot

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

Patch = pytest.MonkeyPatch
Scenario = Callable[[Kafka, str, Path], None]


def the_position_knows_no_row(patch: Patch) -> None:
    patch.setattr(Intake, "state_dict", lambda intake: intake.position._replace(row=0)._asdict())


def the_position_is_that_of_the_broker(patch: Patch) -> None:
    """The group's committed offset, as consumers have it by default, instead of the one in the snapshot."""
    whole = TopicReader.__init__

    def begin(reader: TopicReader, *arguments: Any, **options: Any) -> None:
        whole(reader, *arguments, **options)
        committed = reader._client.committed(reader._partition)
        if committed is not None:
            reader._seek(committed)

    patch.setattr(TopicReader, "__init__", begin)


def a_position_a_record_late(patch: Patch) -> None:
    begin = Intake.begin
    patch.setattr(Intake, "begin", lambda intake, position: begin(
        intake, position if position.offset <= 0 else position._replace(offset=position.offset + 1, row=0)))


def saved_after_an_exception_too(patch: Patch) -> None:
    patch.setattr(Attachment, "__exit__", lambda attachment, *reason: attachment.close(save=True))


def no_lock(patch: Patch) -> None:
    patch.setattr(FolderStore, "_take_lock", lambda store: None)


def ordinals_are_not_compared(patch: Patch) -> None:
    whole = Intake._advance
    patch.setattr(Intake, "_advance", lambda intake, *record: (whole(intake, *record)[0], 0))


def gaps_pass(patch: Patch) -> None:
    whole = numbers._after

    def after(what: str, expected: int | None, first: int | None, where: str) -> Any:
        try:
            return whole(what, expected, first, where)
        except StreamMismatch:
            return whole(what, first, first, where)

    patch.setattr(numbers, "_after", after)


def streams_are_not_compared(patch: Patch) -> None:
    patch.setattr("streamil.experiment.Experiment.stream_hash", property(lambda experiment: "one for all"))


def uncommitted_records_are_read(patch: Patch) -> None:
    whole = KafkaConsumer.__init__
    patch.setattr(KafkaConsumer, "__init__", lambda client, *topics, **settings: whole(
        client, *topics, **settings | {"isolation_level": "read_uncommitted"}))


def no_limit_on_rejects(patch: Patch) -> None:
    patch.setattr(Rejects, "require_few", lambda rejects: None)


def the_count_of_rejects_is_not_saved(patch: Patch) -> None:
    whole = Rejects.state_dict
    patch.setattr(Rejects, "state_dict", lambda rejects: whole(rejects) | {"in_a_row": 0})


def what_was_put_back_stays_open(patch: Patch) -> None:
    patch.setattr(Rejects, "learned", lambda rejects, origin: None)


def dead_letters_are_not_saved(patch: Patch) -> None:
    patch.setattr(Outbox, "state_dict", lambda outbox: {"letters": []})


def a_lost_position_is_moved(patch: Patch) -> None:
    patch.setattr(TopicReader, "_passed_over", lambda reader, position, begin, end: begin)


def topic_ids_are_not_compared(patch: Patch) -> None:
    patch.setattr(Tap, "_require_same", lambda tap, topic_id: setattr(tap, "topic_id", topic_id))


def topics_are_not_looked_at_again(patch: Patch) -> None:
    patch.setattr(Tap, "require_unchanged", lambda tap: None)


def checksums_are_not_looked_at(patch: Patch) -> None:
    class Agreeable(bytes):
        def __eq__(self, other: object) -> bool:
            return True

        def __ne__(self, other: object) -> bool:
            return False

        __hash__ = bytes.__hash__

    class Sum:
        def __init__(self, content: bytes = b"") -> None:
            self.digest_size = 32

        def digest(self) -> bytes:
            return Agreeable(32)

        def update(self, content: bytes) -> None: ...

    patch.setattr(blob, "hashlib", SimpleNamespace(sha256=Sum))


def a_damaged_snapshot_is_a_fresh_start(patch: Patch) -> None:
    def load(store: FolderStore) -> Any:
        try:
            return read_snapshot(store.paths()[-1])
        except Exception:
            return None

    patch.setattr(FolderStore, "load", load)


def no_snapshot_before_the_newest(patch: Patch) -> None:
    patch.setattr(FolderStore, "load", lambda store: read_snapshot(store.paths()[-1]) if store.paths() else None)


def configurations_are_not_compared(patch: Patch) -> None:
    patch.setattr("streamil.race_state.changes", lambda *compared, **how: Changes((), (), ()))


TAKEN_OUT: list[tuple[Callable[[Patch], None], Scenario]] = [
    (the_position_knows_no_row, scenarios.crash_within_a_record),
    (the_position_is_that_of_the_broker, scenarios.crashes),
    (a_position_a_record_late, scenarios.crashes),
    (saved_after_an_exception_too, scenarios.crash_in_the_middle_of_learning),
    (no_lock, scenarios.second_process),
    (ordinals_are_not_compared, scenarios.repeats),
    (gaps_pass, scenarios.gap),
    (streams_are_not_compared, scenarios.another_stream),
    (uncommitted_records_are_read, scenarios.aborted_transactions),
    (no_limit_on_rejects, scenarios.flood),
    (the_count_of_rejects_is_not_saved, scenarios.flood),
    (what_was_put_back_stays_open, scenarios.put_back_twice),
    (dead_letters_are_not_saved, scenarios.dead_letters_of_a_crash),
    (a_lost_position_is_moved, scenarios.trimmed),
    (topic_ids_are_not_compared, scenarios.topic_made_anew),
    (topics_are_not_looked_at_again, scenarios.topic_made_anew_while_it_is_read),
    (checksums_are_not_looked_at, scenarios.damaged_snapshot),
    (a_damaged_snapshot_is_a_fresh_start, scenarios.nothing_whole),
    (no_snapshot_before_the_newest, scenarios.damaged_snapshot),
    (configurations_are_not_compared, scenarios.another_configuration),
]


def test_positions_are_places_in_the_log() -> None:
    assert Position()._fields[:2] == ("offset", "row")


RED: dict[Callable[[Patch], None], type[Exception]] = {
    a_position_a_record_late: StreamMismatch, dead_letters_are_not_saved: TopicMissing, no_snapshot_before_the_newest: SnapshotDamaged}
"""What a scenario ends with instead of a failed assertion; any other error would be the patch's own."""


@pytest.mark.parametrize(("take_out", "scenario"), TAKEN_OUT, ids=lambda one: one.__name__)
def test_without_a_protection_its_fault_test_goes_red(
        take_out: Callable[[Patch], None], scenario: Scenario, kafka_settings: Kafka, topic: str, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    take_out(monkeypatch)
    with pytest.raises(RED.get(take_out, (AssertionError, pytest.fail.Exception))):
        scenario(kafka_settings, topic, tmp_path)
