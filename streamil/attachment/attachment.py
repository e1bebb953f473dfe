"""A race on a topic: samples come in order, each once; state and position stay together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any, Self

from streamil.attachment.keeper import Keeper, Later, Stateful
from streamil.attachment.options import DEFAULT, Options
from streamil.attachment.outbox import Outbox
from streamil.attachment.position import Position
from streamil.attachment.prediction_rows import PredictionRows
from streamil.attachment.rejects import MORE_BYTES
from streamil.attachment.taken import Arrived
from streamil.attachment.tap import Tap
from streamil.codec.topic import decoder, labels_decoder, lists_samples
from streamil.errors import ExperimentError, TooManyRejects
from streamil.log import Event, Tell, nobody
from streamil.race import Race
from streamil.snapshot import FolderStore
from streamil.telemetry.metrics import RaceMetrics

IDLE_MS = 500
"""How long one look for records waits; where two topics are read, each of them a tenth of it."""
LOOK_SECONDS = 1.0
"""Between two looks at the broker: is it there, and where does the log end."""
LAST_SECONDS = 2.0
"""How long the end waits for the broker to confirm what was written."""


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
        experiment, metrics = race.experiment, metrics or RaceMetrics()
        service, kafka, folder = experiment.service, experiment.kafka, experiment.folder
        self._race, self._options, self._until, self._tell = race, options, until, tell
        self._stop = stop or threading.Event()
        self.broker_away = self.resumed = self._opened = False
        self._refused = ""
        self._asked = 0.0
        # Both of them always: what an earlier process could not write is written, whatever the file says now.
        dead = Outbox(kafka, f"{experiment.topic}.dead", tell)
        predicted = Outbox(kafka, experiment.predictions_topic, tell, partitions=len(race.entrants))
        self._outboxes = {"dead_letters": dead, "predictions": predicted}
        self._predictions: PredictionRows | None = None
        if service.predictions is not None:
            race.told = self._predictions = PredictionRows(service.predictions, race.entrants, predicted)
        kept = dead if service.dead_letters else None
        self._samples = Tap(race, experiment.topic, options.partition, decoder(experiment.stream, folder), kept,
                            options, metrics, tell, cut=lists_samples(experiment.stream.source), until=until)
        self._taps = {"samples": self._samples}
        labels = experiment.stream.labels
        if labels is not None:
            self._taps["labels"] = Tap(race, labels.topic, None, labels_decoder(labels, folder), kept, options,
                                       metrics, tell, cut=lists_samples(labels))
        self._keeper: Keeper | None = None
        with ExitStack() as opened:
            for outbox in self._outboxes.values():
                opened.callback(outbox.close)
            for tap in self._taps.values():
                opened.callback(tap.close)
            if service.snapshots is not None:
                store = opened.enter_context(open_store(race, options, tell))
                parts: dict[str, Stateful] = {**self._taps, **self._outboxes}
                self._keeper = opened.enter_context(Keeper(
                    race, metrics, parts, service.snapshots, store, tell, places=self._places, meta=self._meta,
                    check=self._require_unchanged, beside=beside))
                self.resumed = self._keeper.restore(replan=options.replan)
            self._closing = opened.pop_all()

    @property
    def offset(self) -> int:
        """Offset of the next record of the samples to deal with."""
        return self._samples.offset

    @property
    def lag(self) -> int:
        """Offsets on the topics that are not dealt with yet."""
        return sum(max(0, tap.end - tap.offset) for tap in self._taps.values())

    def __iter__(self) -> Iterator[Arrived]:
        """Yield pieces until enough samples are taken in, or it is stopped; the broker is asked for on the way."""
        self.open()
        try:
            for tap in self._taps.values():
                tap.rejects.require_few()
            yield from self._pieces()
        except TooManyRejects:  # the next start has to stop at once, too
            self._finish()
            raise

    def _pieces(self) -> Iterator[Arrived]:
        idle = True
        while not self._over():
            self._look_around()
            self._wait_for_room()
            wait, idle = (IDLE_MS // (1 if len(self._taps) == 1 else 10) if idle else 0), True
            for tap in self._taps.values():
                with closing(tap.pieces(wait)) as pieces:
                    for arrived in pieces:
                        idle = False
                        yield arrived
                        self._wait_for_room()
                        if self._over():
                            return

    def commit(self) -> bool:
        """Save a snapshot if one is due; to be called after a piece was learned. Return whether one was begun."""
        if self._keeper is None:
            return False
        saved = self._keeper.look()
        committed, self._keeper.committed = self._keeper.committed, None
        if committed is not None and self._opened:
            for tap, position in zip(self._taps.values(), committed, strict=True):
                tap.reader.commit(position.offset)
        return saved

    def open(self) -> None:
        """Open the topics, unless they are, and require that they are those of the snapshot.

        May be tried again after `BrokerUnavailable` and `TopicMissing`.
        """
        if self._opened:
            return
        for tap in self._taps.values():
            tap.open()
        self._opened = True
        samples, experiment = self._samples, self._race.experiment
        self._outboxes["dead_letters"].max_message_bytes = MORE_BYTES + max(
            tap.reader.found.max_message_bytes for tap in self._taps.values())
        if self._predictions is not None:
            self._predictions.topic_id, self._predictions.partition = samples.topic_id, self._options.partition or 0
        where = f"topic {experiment.topic} at {experiment.kafka.bootstrap_servers}"
        self._tell(Event(f"learning from {where}, from offset {samples.offset}, "
                         + (f"after {self._race.samples} samples of the snapshot" if self.resumed
                            else "with fresh weights"), offset=samples.offset, samples=self._race.samples))

    def stop(self) -> None:
        """End the iteration before the next piece."""
        self._stop.set()

    def close(self, *, save: bool = True) -> None:
        """Save what is not saved, unless told otherwise, and let go of everything."""
        with self._closing:
            if save and self._opened:
                self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *reason: Any) -> None:
        self.close(save=kind is None)

    # -- on the way

    def _look_around(self) -> None:
        """Ask the broker, now and then, where the logs end, and tell when it is away and when it is back."""
        if time.monotonic() - self._asked < LOOK_SECONDS:
            return
        answers = True
        for tap in self._taps.values():
            answers &= tap.look()
        self._asked = time.monotonic()
        refused = next((tap.reader.refused for tap in self._taps.values() if tap.reader.refused), "")
        if (not answers, refused) != (self.broker_away, self._refused):
            self.broker_away, self._refused = not answers, refused
            servers = self._race.experiment.kafka.bootstrap_servers
            if answers:
                self._tell(Event(f"the broker at {servers} answers again"))
            elif refused:
                self._tell(Event(f"the broker at {servers} is there, but {refused}; learning waits, and the files of "
                                 "passwords and certificates are read again until it lets us in", level="error"))
            else:
                self._require_unchanged()  # a topic that was deleted looks like a broker that is away
                self._tell(Event(f"the broker at {servers} does not answer: learning waits for it", level="warning"))
        if self._keeper is None:
            self._commit_offsets()
        else:
            self.commit()

    def _wait_for_room(self) -> None:
        """Write what waits to be written, until there is room for more or it is stopped."""
        while True:
            for outbox in self._outboxes.values():
                outbox.pump()
            if not any(outbox.full for outbox in self._outboxes.values()) or self._stop.wait(0.05):
                return
            self._look_around()

    def _finish(self) -> None:
        """Write, then save, what is not written and saved yet: what stays unconfirmed is in the snapshot."""
        for outbox in self._outboxes.values():
            outbox.pump(0 if self.broker_away else LAST_SECONDS)
        for tap in self._taps.values():
            tap.look()
        if self._keeper is not None:
            self._keeper.finish()
        self._commit_offsets()

    def _commit_offsets(self) -> None:
        """Tell the broker where we are, for those who watch the lag: all of it is saved, or never will be."""
        for tap in self._taps.values():
            tap.reader.commit(tap.offset)

    def _places(self) -> tuple[Position, ...]:
        return tuple(tap.position for tap in self._taps.values())

    def _meta(self) -> dict[str, str | int]:
        samples = self._samples
        return {"topic": samples.topic, "topic_id": samples.topic_id, "partition": self._options.partition or 0,
                "offset": samples.position.offset}

    def _require_unchanged(self) -> None:
        """Raise unless the topics are still those that are read; called in the thread that writes snapshots."""
        for tap in self._taps.values():
            tap.require_unchanged()

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
