"""The consumer: Kafka -> codec -> race -> telemetry."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from streamil.codec.topic import Decoder, decoder
from streamil.errors import BrokerUnavailable, TopicMissing
from streamil.experiment import Experiment
from streamil.kafka import TopicReader, describe_topic
from streamil.race import PIECE, Race
from streamil.report.lines import inputs_line
from streamil.results import standings, strict, summary, write_results
from streamil.telemetry.metrics import RaceMetrics
from streamil.telemetry.server import Server
from streamil_consumer.intake import Intake, Position
from streamil_consumer.keeper import Keeper, open_store

POLL_RECORDS = 256
LAG_EVERY_SECONDS = 1.0
FEATURES_SHOWN = 100
"""Names of features that `/status.json` lists."""
WAIT_SECONDS = 0.2
"""Pause between two looks for a topic that is not there yet."""


def consume(experiment: Experiment, *, until: int | None = None, out: Path | None = None, metrics: str | None = None,
            wait: float = 0.0, stay: bool = False, replan: bool = False, stop: threading.Event | None = None,
            tell: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Learn from the experiment's topic until so many samples are taken in, or for ever.

    Parameters
    ----------
    experiment
        What to learn, and where from.
    until
        Samples to take in before it ends by itself; None: go on until `stop`.
    out
        Folder for `summary.json` and `curve.parquet`, written at the end.
    metrics
        Address of metrics and page instead of the file's; port 0 takes a free one.
    wait
        Seconds to wait for a broker and a topic that are not there yet.
    stay
        Keep serving metrics and page after the end, until `stop`.
    replan
        Go on from a snapshot of another plan (versions, device, threads): numbers no longer repeat bit for bit.
    stop
        Set from outside to end it: what was begun is finished, results are written.
    tell
        Takes one line about each event.

    Returns
    -------
    dict
        What `summary.json` holds.

    Raises
    ------
    StreamilError
        What is wrong and what to do, in one line.
    """
    experiment.require_topic_names()
    stop = stop or threading.Event()
    decode = decoder(experiment.stream, experiment.folder)
    telemetry = RaceMetrics()
    snapshots = experiment.service.snapshots
    race = Race(experiment, lock=telemetry.lock, timed=telemetry.timed,
                allow_pickle=snapshots is not None and snapshots.allow_pickle)
    address = metrics or experiment.service.metrics
    with contextlib.ExitStack() as held:
        keeper = position = None
        if snapshots is not None:
            store = held.enter_context(open_store(experiment, race, tell))
            keeper = held.enter_context(Keeper(race, telemetry, store, tell))
            position = keeper.restore(replan=replan)
        telemetry.watch(race)
        view = View(race, telemetry)
        server = held.enter_context(closing(
            Server(address, telemetry, view.status, lambda: view.state == "learning")))
        tell(f"metrics and page at {server.url}/")
        if _topic_is_there(experiment, wait, stop):
            _learn(race, decode, telemetry, view, until, stop, tell, keeper, position)
        view.state = "stopped" if stop.is_set() else "done"
        result = summary(race) if out is None else write_results(race, out)
        tell(f"{view.state} after {race.samples} samples" + (f"; results in {out}" if out else ""))
        if stay and not stop.is_set():
            tell(f"still serving {server.url}/ until Ctrl-C")
            stop.wait()
    return result


def _topic_is_there(experiment: Experiment, seconds: float, stop: threading.Event) -> bool:
    """Return whether the topic is there, once it is, or False when stopped; raise what is wrong after `seconds`."""
    deadline = time.monotonic() + seconds
    while not stop.is_set():
        try:
            describe_topic(experiment.kafka, experiment.topic)
            return True
        except (BrokerUnavailable, TopicMissing):
            if time.monotonic() > deadline:
                raise
            stop.wait(WAIT_SECONDS)
    return False


def _learn(race: Race, decode: Decoder, telemetry: RaceMetrics, view: View, until: int | None, stop: threading.Event,
           tell: Callable[[str], None], keeper: Keeper | None, position: Position | None) -> None:
    """Read the topic and feed the race, until so many samples are taken in or `stop` is set."""
    experiment = race.experiment
    offset = None if position is None else position.offset
    with TopicReader(experiment.kafka, experiment.topic, offset, group=experiment.name) as reader:
        if keeper is not None:
            keeper.require_topic(reader.topic_id)
        tell(f"learning from topic {experiment.topic} at {experiment.kafka.bootstrap_servers}, "
             f"from offset {reader.position}, "
             + ("with fresh weights" if position is None else f"after {race.samples} samples of the snapshot"))
        if position is None and reader.position > 0 and experiment.kafka.start == "earliest":
            tell(f"records before offset {reader.position} are no longer in the log")
        view.state, view.offset = "learning", reader.position
        intake, asked = Intake(race, telemetry, stop, decode, tell, position or Position(reader.position)), 0.0
        while not stop.is_set() and (until is None or race.samples < until):
            if time.monotonic() - asked > LAG_EVERY_SECONDS:
                asked, view.end = time.monotonic(), reader.end()
                reader.commit(view.offset)
            messages = reader.poll(POLL_RECORDS)
            for message in messages:
                intake.take(message)
                wanted = PIECE if until is None else min(PIECE, until - race.samples)
                if intake.waiting < wanted and message is not messages[-1]:
                    continue
                begun = race.featurizer.inputs is not None
                intake.feed(until)
                for line in _beginning(race) if not begun else ():
                    tell(line)
                view.learned(message.offset + 1)
                if keeper is not None:
                    keeper.look(intake)
                if stop.is_set() or (until is not None and race.samples >= until):
                    break
            if not messages or message is messages[-1]:
                view.offset = reader.position  # all that came is dealt with, a transaction's marks too
        if keeper is not None:
            keeper.finish(intake)
        view.end = reader.end()
        reader.commit(view.offset)


def _beginning(race: Race) -> Iterator[str]:
    """Yield what the first good sample has fixed."""
    if race.featurizer.inputs is not None:
        yield inputs_line(race.featurizer.inputs, race.featurizer.names)
        yield from race.featurizer.doubts


class View:
    """What the consumer shows of itself while it runs."""

    def __init__(self, race: Race, telemetry: RaceMetrics) -> None:
        self.state = "starting"
        self.offset = self.end = 0
        self._race, self._telemetry = race, telemetry
        self._marks: list[tuple[float, int]] = []
        telemetry.lag, telemetry.offset = (lambda: self.lag), (lambda: self.offset)

    @property
    def lag(self) -> int:
        """Offsets on the topic that are not dealt with yet."""
        return max(0, self.end - self.offset)

    def learned(self, offset: int) -> None:
        """Note that all before `offset` has been dealt with."""
        now = time.time()
        self.offset = offset
        if not self._marks or now - self._marks[-1][0] >= 0.5:
            self._marks = [*self._marks[-10:], (now, self._race.samples)]

    def _rate(self) -> float:
        if self.state != "learning" or len(self._marks) < 2:
            return 0.0
        (start, before), (end, after) = self._marks[0], self._marks[-1]
        return (after - before) / (end - start) if time.time() - end < 5 else 0.0

    def status(self) -> dict[str, Any]:
        """Return what `/status.json` shows; called from another thread."""
        race = self._race
        with self._telemetry.lock:
            comparisons = [{"challenger": pair[0], "baseline": pair[1], **comparison.summary()}
                           for pair, comparison in race.comparisons.items()]
            return {
                "experiment": race.experiment.name, "topic": race.experiment.topic, "state": self.state,
                "inputs": race.featurizer.inputs,
                "features": [name[:80] for name in race.featurizer.names[:FEATURES_SHOWN]],
                "samples": race.samples, "samples_per_second": self._rate(), "segment": race.segment,
                "unlabelled": race.unlabelled,
                "offset": self.offset, "lag": self.lag, "rejected": sum(race.rejected.values()),
                "repeats": self._telemetry.repeats, "waiting_for_labels": len(race.late), "arms": standings(race),
                "comparisons": strict(comparisons),
            }
