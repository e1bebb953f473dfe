"""One partition that is read: its records in order, as pieces to be learned, with the place where it stands."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from streamil.attachment.intake import Intake
from streamil.attachment.options import Options
from streamil.attachment.outbox import Outbox
from streamil.attachment.position import Position
from streamil.attachment.rejects import Rejects
from streamil.attachment.taken import Arrived
from streamil.codec.topic import Decoder
from streamil.errors import TopicMismatch
from streamil.kafka import TopicReader, require_unchanged
from streamil.log import Event, Tell
from streamil.race import PIECE, Race
from streamil.state_entries import entries, text
from streamil.telemetry.metrics import RaceMetrics

POLL_RECORDS = 256


class Tap:
    """A partition of a topic: what it yields, where it stands, and what of it was rejected; part of a snapshot.

    Parameters
    ----------
    race
        What learns.
    topic, partition
        Where from; None: the topic has to have just one partition.
    decoder, cut
        Reads records; and whether one sample can be cut out of one.
    dead
        Where rejects are kept; None: nowhere.
    options, metrics, tell
        As of `Attachment`.
    until
        Samples that the race shall take in, in all; None: no limit.

    Attributes
    ----------
    resumed
        Whether it goes on where an earlier process stood.
    offset, end
        Of the next record to deal with, and after the last committed one.
    """

    def __init__(self, race: Race, topic: str, partition: int | None, decoder: Decoder, dead: Outbox | None,
                 options: Options, metrics: RaceMetrics, tell: Tell, *, cut: bool, until: int | None = None) -> None:
        self.topic, self.partition = topic, partition
        self._race, self._options, self._tell, self._until = race, options, tell, until
        self.rejects = Rejects(race, topic, dead, tell, cut=cut, accepted=options.accept_rejects)
        self._intake = Intake(race, metrics, self.rejects, decoder, until)
        self._reader: TopicReader | None = None
        self._trimmed = 0
        self.topic_id = ""
        self.resumed = False
        self.offset = self.end = 0

    def open(self) -> None:
        """Go to the place where it stands, on the topic that it was; raise as `TopicReader`."""
        kafka = self._race.experiment.kafka
        self.close()  # of a try before
        reader = self._reader = TopicReader(
            kafka, self.topic, self.position.offset if self.resumed else None, group=self._race.experiment.group,
            partition=self.partition, allow_compacted=self._options.compacted, on_trimmed=self._options.on_trimmed)
        self._require_same(reader.found.id)
        self.rejects.topic_id, self.rejects.partition = self.topic_id, self.partition or 0
        self.rejects.max_message_bytes = reader.found.max_message_bytes
        self.offset, self.end = reader.position, reader.end()
        if not self.resumed:
            self._intake.begin(Position(reader.position))
            if reader.position > 0 and kafka.start == "earliest":
                self._tell(Event(f"topic {self.topic}: records before offset {reader.position} are no longer in the "
                                 "log", level="warning", offset=reader.position))
        self._note_trimmed()

    @property
    def reader(self) -> TopicReader:
        """The open reader."""
        assert self._reader is not None, "it is opened"
        return self._reader

    @property
    def position(self) -> Position:
        """Where the first sample stands that is not dealt with."""
        return self._intake.position

    def pieces(self, timeout_ms: int) -> Generator[Arrived, None, None]:
        """Yield what came within so long, in pieces; raise as `Intake` and `TopicReader.poll` do."""
        messages = self.reader.poll(POLL_RECORDS, timeout_ms)
        self._note_trimmed()
        try:
            for message in messages:
                self._intake.take(message)
                if self._intake.waiting >= self._worth or message is messages[-1]:
                    yield from self._intake.pieces()
                    self.offset = self.position.offset
        except BaseException:  # also when whoever asks wants no more
            self.offset = max(self.offset, self.position.offset)
            raise
        self.offset = self.reader.position  # all that came is dealt with, a transaction's marks too

    @property
    def _worth(self) -> int:
        """Samples worth feeding together."""
        return PIECE if self._until is None else max(1, min(PIECE, self._until - self._race.samples))

    def look(self) -> bool:
        """Ask the broker where the log ends; return whether it answers."""
        self.end = self.reader.end()
        return self.reader.reachable

    def require_unchanged(self) -> None:
        """Raise unless the topic is still the one that is read; for the thread that writes snapshots."""
        if self._reader is not None:
            require_unchanged(self._race.experiment.kafka, self._reader.found, one_partition=self.partition is None)

    def close(self) -> None:
        """Let go of the connection."""
        if self._reader is not None:
            self._reader.close()

    def _require_same(self, topic_id: str) -> None:
        if self.topic_id and self.topic_id != topic_id:
            servers = self._race.experiment.kafka.bootstrap_servers
            raise TopicMismatch(
                f"topic {self.topic!r} at {servers} was made anew: the snapshot is of topic id {self.topic_id}, the "
                f"topic's is {topic_id}; to start afresh on it name another service.snapshots.folder")
        self.topic_id = topic_id

    def _note_trimmed(self) -> None:
        reader = self.reader
        if reader.trimmed > self._trimmed:
            gap, self._trimmed = reader.trimmed - self._trimmed, reader.trimmed
            self._tell(Event(
                f"topic {self.topic}: passed over {gap} offsets that were deleted before they were read: going on at "
                f"offset {reader.position}", level="warning", offset=reader.position, passed_over=gap))
            before = self.position
            # on a numbered topic the next record says its ordinal
            self._intake.begin(Position(reader.position, numbered=before.numbered,
                                        next_ordinal=None if before.numbered else before.next_ordinal))

    def state_dict(self) -> dict[str, Any]:
        """Return copies of where it stands and what it rejected."""
        return {"topic_id": self.topic_id, "position": self._intake.state_dict(), "rejects": self.rejects.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where an earlier process stood; raise ValueError where it does not fit."""
        entries(state, ("topic_id", "position", "rejects"))
        self.topic_id = text(state, "topic_id")
        self._intake.load_state_dict(state["position"])
        self.rejects.load_state_dict(state["rejects"])
        self.resumed = True
