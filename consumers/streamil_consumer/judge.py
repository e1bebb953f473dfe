"""The judge: reads what arms said, wherever they learn, and keeps figures, verdicts, metrics and page of their race."""

from __future__ import annotations

import contextlib
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from streamil.codec.prediction_rows import decode_predictions
from streamil.errors import BrokerRefused, BrokerUnavailable, CodecError, TopicMismatch
from streamil.experiment import Experiment
from streamil.judge import Judge
from streamil.kafka import LOOK_MS, TopicReader, describe_topic
from streamil.log import Event, Tell, nobody
from streamil.race import Race
from streamil.report.lines import REJECTS_TOLD
from streamil.results import require_folder, results, summary, write_results
from streamil.telemetry.access import Access
from streamil.telemetry.metrics import RaceMetrics
from streamil.telemetry.server import Server
from streamil_consumer.consume import opened
from streamil_consumer.view import View

POLL_RECORDS = 16
"""Records of an arm taken at a time: with `judge.AHEAD` this bounds what waits."""
IDLE_MS = 500
LOOK_SECONDS = 1.0
RESULTS_SECONDS = 10.0
"""Between two times that results are written."""


def judge(experiment: Experiment, *, until: int | None = None, out: Path | None = None, metrics: str | None = None,
          wait: float = 0.0, stay: bool = False, on_trimmed: Literal["fail", "earliest"] = "fail",
          stop: threading.Event | None = None, tell: Tell = nobody) -> dict[str, Any]:
    """Judge the arms of an experiment by their predictions topic, from its beginning.

    It keeps no state of its own: the topic is its state.

    Parameters
    ----------
    experiment
        Whose arms; all of them, wherever each learns.
    until
        Labelled samples on which each arm is judged before it ends by itself; None: go on until `stop`.
    out
        Folder for `summary.json`, `curve.parquet` and `details.json`, written now and then and at the end.
    metrics
        Address of metrics and page instead of the file's; port 0 takes a free one.
    wait
        Seconds to wait for a broker and a topic that are not there yet.
    stay
        Keep serving metrics and page after the end, until `stop`.
    on_trimmed
        What to do where predictions were deleted before they were read.
    stop
        Set from outside to end it.
    tell
        Takes one line about each event.

    Returns
    -------
    dict
        What `summary.json` holds; what needs more than predictions (log-loss, divergence, forgetting) is not in it.

    Raises
    ------
    StreamilError
        What is wrong and what to do, in one line.
    """
    experiment.require_topic_names()
    if out is not None:
        require_folder(out)
    stop = stop or threading.Event()
    telemetry = RaceMetrics()
    race = Race(experiment, lock=telemetry.lock)
    race.learned_hash = b""  # nothing is learned here
    judging = Judge(race, until, lock=telemetry.lock)
    telemetry.watch(race)
    with contextlib.ExitStack() as held:
        readers = Readers(race, tell)
        held.callback(readers.close)
        view = View(race, telemetry, readers)
        server = held.enter_context(closing(
            Server(metrics or experiment.service.metrics, telemetry, view.status, view.ready, view.pictures,
                   Access.of(experiment.service.http))))
        tell(Event(f"metrics and page at {server.url}/", url=server.url))
        if opened(experiment, readers, lambda: readers.open(on_trimmed), wait, stop, tell,
                  "a consumer writes it where service.predictions is set"):
            view.state = "judging"
            _judge(judging, readers, view, telemetry, stop, out)
        view.state = "stopped" if stop.is_set() else "done"
        result = summary(race) if out is None else write_results(race, out)
        left = ", ".join(f"{count} {cause}" for cause, count in judging.told().items() if count)
        tell(Event(f"{view.state} after {race.samples} samples" + (f"; not judged: {left}" if left else "")
                   + (f"; results in {out}" if out else ""), state=view.state, samples=race.samples))
        if stay and not stop.is_set():
            tell(f"still serving {server.url}/ until Ctrl-C")
            stop.wait()
    return result


class Readers:
    """One reader for each arm, whose rows are on the partition of its place in the file.

    Attributes
    ----------
    broker_away
        Whether the broker did not answer when it was asked last.
    offset
        Records read, of all arms.
    """

    def __init__(self, race: Race, tell: Tell) -> None:
        self._experiment, self._arms, self._tell = race.experiment, race.entrants, tell
        self.broker_away, self.offset = False, 0
        self._of: dict[str, TopicReader] = {}
        self._ends: dict[str, int] = {}
        self._asked, self._rejected = 0.0, 0

    def open(self, on_trimmed: Literal["fail", "earliest"]) -> None:
        """Open the partitions from their beginning; raise as `TopicReader`."""
        self.close()  # of a try before
        topic, kafka = self._experiment.predictions_topic, self._experiment.kafka
        arms, found = self._arms, describe_topic(kafka, topic)
        if found.partitions != len(arms):
            raise TopicMismatch(f"topic {topic!r} has {found.partitions} partitions, one for each arm of another file: "
                                f"this one has {len(arms)} arms")
        for place, arm in enumerate(arms):
            self._of[arm] = TopicReader(kafka, topic, 0, partition=place, on_trimmed=on_trimmed)
            if self._of[arm].trimmed:
                self._tell(Event(f"arm {arm}: the first {self._of[arm].trimmed} records are no longer in the log, and "
                                 "in no figure", level="warning"))
        self._tell(f"judging {len(arms)} arms by topic {topic} at {kafka.bootstrap_servers}, from its beginning")

    def read(self, judging: Judge, arm: str, timeout_ms: int) -> bool:
        """Let the judge take the next records of an arm; return whether there were any."""
        messages = self._of[arm].poll(POLL_RECORDS, timeout_ms)
        if messages and self.broker_away:
            self._asked = 0.0  # it answers: the look after this says so, also where these are the last ones
        for message in messages:
            self.offset += 1
            try:
                rows = decode_predictions(message.value)
                if rows.arm != arm:
                    raise CodecError("foreign", f"rows of arm {rows.arm[:60]!r} on the partition of {arm!r}")
                judging.take(rows)
            except CodecError as error:
                judging.race.rejected[error.reason] += 1
                self._rejected += 1
                if self._rejected <= REJECTS_TOLD:
                    self._tell(Event(f"arm {arm}, offset {message.offset}: rejected ({error.reason}): {error.detail}",
                                     level="warning", reason=error.reason))
        return bool(messages)

    def look(self) -> None:
        """Ask the broker, now and then, where the logs end; tell when it is away and when it is back."""
        if time.monotonic() - self._asked < LOOK_SECONDS * (1 + len(self._of) / 20):
            return
        for arm, reader in self._of.items():
            self._ends[arm] = reader.end()
        self._asked = time.monotonic()
        away = not all(reader.reachable for reader in self._of.values())
        if away != self.broker_away:
            if away:  # a topic that was deleted looks like a broker that is away
                with contextlib.suppress(BrokerUnavailable, BrokerRefused):
                    describe_topic(self._experiment.kafka, self._experiment.predictions_topic, timeout_ms=LOOK_MS)
            self.broker_away = away
            servers = self._experiment.kafka.bootstrap_servers
            self._tell(Event(f"the broker at {servers} does not answer: the judge waits for it", level="warning")
                       if away else Event(f"the broker at {servers} answers again"))

    @property
    def lag(self) -> int:
        """Records that are not read yet."""
        return sum(max(0, end - self._of[arm].position) for arm, end in self._ends.items())

    def close(self) -> None:
        """Let go of the connections."""
        for reader in self._of.values():
            reader.close()


def _judge(judging: Judge, readers: Readers, view: View, telemetry: RaceMetrics, stop: threading.Event,
           out: Path | None) -> None:
    """Let the judge take what comes, of the arms that are not ahead."""
    written, idle = time.monotonic(), False
    while not stop.is_set() and not judging.done:
        arms = judging.behind
        wait = IDLE_MS // len(arms) if idle else 0
        idle = True
        for arm in arms:
            idle &= not readers.read(judging, arm, wait)
            if stop.is_set():
                break
        view.learned()
        telemetry.repeats = judging.repeats
        readers.look()
        if out is not None and time.monotonic() - written > RESULTS_SECONDS:
            results(judging.race, out)()
            written = time.monotonic()
