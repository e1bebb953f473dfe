"""A race on a topic: samples come in order, each once; state and position stay together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal, Self

from streamil.attachment.intake import Arrived, Intake
from streamil.attachment.keeper import Keeper, Later, Stateful
from streamil.attachment.outbox import Outbox
from streamil.attachment.position import Position
from streamil.attachment.prediction_rows import PredictionRows
from streamil.attachment.rejects import MORE_BYTES, Rejects
from streamil.codec.topic import decoder
from streamil.errors import ExperimentError, TooManyRejects
from streamil.kafka import TopicReader, require_unchanged
from streamil.log import Event, Tell, nobody
from streamil.race import PIECE, Race
from streamil.snapshot import FolderStore
from streamil.telemetry.metrics import RaceMetrics

POLL_RECORDS = 256
LOOK_SECONDS = 1.0
"""Between two looks at the broker: is it there, and where does the log end."""
LAST_SECONDS = 2.0
"""How long the end waits for the broker to confirm what was written."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the person who starts it decides, and no file.

    Attributes
    ----------
    partition
        Partition to learn; None: the topic has to have just one.
    replan
        Go on from a snapshot of another plan (versions, device, threads): numbers no longer repeat bit for bit.
    on_trimmed
        What to do where records were deleted before they were read.
    compacted
        Accept a topic that loses records.
    accept_rejects
        Pass over the bad records that come next, however many, until a good one comes.
    """

    partition: int | None = None
    replan: bool = False
    on_trimmed: Literal["fail", "earliest"] = "fail"
    compacted: bool = False
    accept_rejects: bool = False


DEFAULT = Options()


class Attachment:
    """A race on the topic of its experiment: iterate, feed the race, commit.

    What cannot be learned goes to the dead letters. A context manager: left without an exception, it saves what is not
    saved; after one it saves nothing, and the next start repeats what came after the last snapshot.

    Parameters
    ----------
    race
        What learns; its experiment says where from, and where snapshots are kept.
    options
        What the person who starts it decides.
    until
        Samples to take in before it ends by itself, over all restarts; None: go on until it is stopped.
    metrics
        Where repeats, latencies and snapshots are counted.
    stop
        Ends the iteration between two pieces when it is set.
    tell
        Takes one line about each event.
    beside
        As of `Keeper`.

    Attributes
    ----------
    resumed
        Whether it goes on from a snapshot.
    offset, end
        Of the next record to deal with, and after the last committed one.
    broker_away
        Whether the broker did not answer when it was asked last; learning waits then.

    Raises
    ------
    StreamilError
        From the constructor: snapshots that cannot be used, a codec that is not there. From the iteration: topic,
        broker, stream or snapshots are not what they should be; too many rejects in a row.

    Examples
    --------
    >>> def learn(race: Race) -> None:
    ...     with Attachment(race, until=1000) as attachment:
    ...         for arrived in attachment:
    ...             arrived.feed(race)
    ...             attachment.commit()
    """

    def __init__(self, race: Race, options: Options = DEFAULT, *, until: int | None = None,
                 metrics: RaceMetrics | None = None, stop: threading.Event | None = None,
                 tell: Tell = nobody, beside: Callable[[], Later] = lambda: lambda: None) -> None:
        experiment = race.experiment
        metrics = metrics or RaceMetrics()
        self._race, self._options, self._until, self._tell = race, options, until, tell
        self._stop = stop or threading.Event()
        self.offset = self.end = 0
        self.broker_away = False
        self.resumed = False
        self._reader: TopicReader | None = None
        service, kafka = experiment.service, experiment.kafka
        # Both of them always: what an earlier process could not write is written, whatever the file says now.
        dead = Outbox(kafka, f"{experiment.topic}.dead", tell)
        predicted = Outbox(kafka, f"{experiment.name}.predictions", tell, partitions=len(race.arms))
        self._outboxes = {"dead_letters": dead, "predictions": predicted}
        self._predictions: PredictionRows | None = None
        if service.predictions is not None:
            race.told = self._predictions = PredictionRows(service.predictions, list(race.arms), predicted)
        self._rejects = Rejects(race, dead if service.dead_letters else None, service.max_consecutive_rejects, tell,
                                accepted=options.accept_rejects)
        self._intake = Intake(race, metrics, self._rejects, decoder(experiment.stream, experiment.folder), until)
        self._asked = 0.0
        self._closing = ExitStack()
        self._keeper: Keeper | None = None
        self._trimmed = 0
        with ExitStack() as opened:
            if service.snapshots is not None:
                store = opened.enter_context(open_store(race, options, tell))
                parts: dict[str, Stateful] = {"position": self._intake, "rejects": self._rejects, **self._outboxes}
                self._keeper = opened.enter_context(Keeper(race, metrics, parts, service.snapshots, store, tell,
                                                           check=self._require_same_topic, beside=beside))
                self._keeper.partition = options.partition or 0
                self.resumed = self._keeper.restore(replan=options.replan)
            self._closing = opened.pop_all()

    def __iter__(self) -> Iterator[Arrived]:
        """Yield pieces until enough samples are taken in, or it is stopped; the broker is asked for on the way."""
        reader = self._open()
        try:
            self._rejects.require_few()
            yield from self._pieces(reader)
        except TooManyRejects:  # the next start has to stop at once, too
            self._finish(reader)
            raise

    def _pieces(self, reader: TopicReader) -> Iterator[Arrived]:
        while not self._over():
            self._look_around(reader)
            self._wait_for_room(reader)
            messages = reader.poll(POLL_RECORDS)
            self._note_trimmed(reader)
            for message in messages:
                self._intake.take(message)
                if self._intake.waiting < self._piece and message is not messages[-1]:
                    continue
                for arrived in self._intake.pieces():
                    yield arrived
                    self._wait_for_room(reader)
                    if self._over():
                        break
                self.offset = self._intake.position.offset
                if self._over():
                    break
            else:
                self.offset = reader.position  # all that came is dealt with, a transaction's marks too

    def commit(self) -> bool:
        """Save a snapshot if one is due; to be called after a piece was learned. Return whether one was begun."""
        saved = self._keeper is not None and self._keeper.look()
        if self._reader is not None and self._keeper is not None and self._keeper.committed is not None:
            offset, self._keeper.committed = self._keeper.committed, None
            self._reader.commit(offset)
        return saved

    def stop(self) -> None:
        """End the iteration before the next piece."""
        self._stop.set()

    def close(self, *, save: bool = True) -> None:
        """Save what is not saved, unless told otherwise, and let go of everything."""
        try:
            if save and self._reader is not None:
                self._finish(self._reader)
        finally:
            for outbox in self._outboxes.values():
                outbox.close()
            if self._reader is not None:
                self._reader.close()
            self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *reason: Any) -> None:
        self.close(save=kind is None)

    # -- on the way

    def _open(self) -> TopicReader:
        """Open the topic, and require that it is the one of the snapshot."""
        experiment, position = self._race.experiment, self._intake.position
        reader = self._reader = TopicReader(
            experiment.kafka, experiment.topic, position.offset if self.resumed else None, group=experiment.name,
            partition=self._options.partition, allow_compacted=self._options.compacted,
            on_trimmed=self._options.on_trimmed)
        if self._keeper is not None:
            self._keeper.require_topic(reader.found.id)
        self._rejects.topic_id, self._rejects.partition = reader.found.id, self._options.partition or 0
        self._rejects.max_message_bytes = reader.found.max_message_bytes
        self._outboxes["dead_letters"].max_message_bytes = reader.found.max_message_bytes + MORE_BYTES
        if self._predictions is not None:
            self._predictions.topic_id, self._predictions.partition = reader.found.id, self._options.partition or 0
        self.offset, self.end = reader.position, reader.end()
        where = f"topic {experiment.topic} at {experiment.kafka.bootstrap_servers}"
        self._tell(Event(f"learning from {where}, from offset {reader.position}, "
                         + (f"after {self._race.samples} samples of the snapshot" if self.resumed
                            else "with fresh weights"), offset=reader.position, samples=self._race.samples))
        if not self.resumed:
            self._intake.begin(Position(reader.position))
            if reader.position > 0 and experiment.kafka.start == "earliest":
                self._tell(Event(f"records before offset {reader.position} are no longer in the log", level="warning"))
        self._note_trimmed(reader)
        return reader

    def _look_around(self, reader: TopicReader) -> None:
        """Ask the broker, now and then, where the log ends, and tell when it is away and when it is back."""
        if time.monotonic() - self._asked < LOOK_SECONDS:
            return
        self._asked, self.end = time.monotonic(), reader.end()
        if reader.reachable == self.broker_away:
            self.broker_away = not reader.reachable
            servers = self._race.experiment.kafka.bootstrap_servers
            self._tell(Event(f"the broker at {servers} does not answer: learning waits for it", level="warning")
                       if self.broker_away else Event(f"the broker at {servers} answers again"))
        if self._keeper is None:
            reader.commit(self.offset)
        else:
            self.commit()

    def _wait_for_room(self, reader: TopicReader) -> None:
        """Write what waits to be written, until there is room for more or it is stopped."""
        while True:
            for outbox in self._outboxes.values():
                outbox.pump()
            if not any(outbox.full for outbox in self._outboxes.values()) or self._stop.wait(0.05):
                return
            self._look_around(reader)

    def _note_trimmed(self, reader: TopicReader) -> None:
        if reader.trimmed > self._trimmed:
            gap = reader.trimmed - self._trimmed
            self._tell(Event(f"passed over {gap} offsets that were deleted before they were read: going on at offset "
                             f"{reader.position}", level="warning", offset=reader.position))
            self._trimmed = reader.trimmed
            self._intake.begin(Position(reader.position, numbered=self._intake.position.numbered,
                                        next_ordinal=self._ordinal_after_gap()))

    def _ordinal_after_gap(self) -> int | None:
        """Return the ordinal of the next sample: on a numbered topic the record says it."""
        position = self._intake.position
        return None if position.numbered else position.next_ordinal

    def _finish(self, reader: TopicReader) -> None:
        """Write, then save, what is not written and saved yet: what stays unconfirmed is in the snapshot."""
        for outbox in self._outboxes.values():
            outbox.pump(0 if self.broker_away else LAST_SECONDS)
        self.offset, self.end = max(self.offset, self._intake.position.offset), reader.end()
        if self._keeper is not None:
            self._keeper.finish()
        reader.commit(self.offset)

    def _require_same_topic(self) -> None:
        """Raise unless the topic is still the one that is read; called in the thread that writes snapshots."""
        if self._reader is not None:
            require_unchanged(self._race.experiment.kafka, self._reader.found,
                              one_partition=self._options.partition is None)

    @property
    def _piece(self) -> int:
        """Samples worth feeding together."""
        return PIECE if self._until is None else max(1, min(PIECE, self._until - self._race.samples))

    def _over(self) -> bool:
        return self._stop.is_set() or (self._until is not None and self._race.samples >= self._until)


def open_store(race: Race, options: Options, tell: Tell) -> FolderStore:
    """Return the folder of the experiment's snapshots, locked for this process; one for each partition that is named.

    Raises
    ------
    ExperimentError
        When an arm cannot be saved.
    SnapshotError
        When the folder cannot be used, or another process has it.
    """
    folder, settings = race.experiment.snapshot_folder, race.experiment.service.snapshots
    assert folder is not None and settings is not None
    reasons = race.unsavable()
    if reasons:
        raise ExperimentError([f"service.snapshots: {reason}" for reason in reasons])
    if options.partition is not None:
        folder = folder / f"partition-{options.partition}"
    return FolderStore(folder, settings.keep, tell)
