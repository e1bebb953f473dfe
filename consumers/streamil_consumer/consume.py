"""The consumer: a race attached to its topic, with metrics, page and results."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from streamil.attachment import Attachment, Options
from streamil.errors import BrokerUnavailable, TopicMissing
from streamil.experiment import Experiment
from streamil.field_path import dotted
from streamil.log import Event, Tell, nobody
from streamil.race import Race
from streamil.report.lines import inputs_line
from streamil.results import require_folder, results, summary, write_results
from streamil.telemetry.access import Access
from streamil.telemetry.metrics import RaceMetrics
from streamil.telemetry.server import Server
from streamil_consumer.view import Place, View

DEFAULT = Options()
DOUBT_SAMPLES = 100
"""After so many samples without a label, or at the end before, a word is due: its name may be misspelt."""
WAIT_SECONDS = 0.2
"""Pause between two looks for a topic that is not there yet."""


def consume(experiment: Experiment, *, until: int | None = None, options: Options = DEFAULT, out: Path | None = None,
            metrics: str | None = None, wait: float = 0.0, stay: bool = False, stop: threading.Event | None = None,
            tell: Tell = nobody) -> dict[str, Any]:
    """Learn from the experiment's topic until so many samples are taken in, or for ever.

    Parameters
    ----------
    experiment
        What to learn, and where from.
    until
        Samples to take in before it ends by itself, over all restarts; None: go on until `stop`.
    options
        What to do where two answers are sane.
    out
        Folder for `summary.json` and `curve.parquet`, written with every snapshot and at the end.
    metrics
        Address of metrics and page instead of the file's; port 0 takes a free one.
    wait
        Seconds to wait for a broker and a topic that are not there yet.
    stay
        Keep serving metrics and page after the end, until `stop`.
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
    if out is not None:
        require_folder(out)
    stop = stop or threading.Event()
    snapshots = experiment.service.snapshots
    telemetry = RaceMetrics(keeps_snapshots=snapshots is not None)
    race = Race(experiment, lock=telemetry.lock, timed=telemetry.timed,
                allow_pickle=snapshots is not None and snapshots.allow_pickle)
    with contextlib.ExitStack() as held:
        attachment = Attachment(race, options, until=until, metrics=telemetry, stop=stop, tell=tell,
                                beside=lambda: results(race, out) if out is not None else lambda: None)
        with attachment:
            telemetry.watch(race)
            view = View(race, telemetry, attachment)
            server = held.enter_context(closing(
                Server(metrics or experiment.service.metrics, telemetry, view.status, view.ready, view.pictures,
                       Access.of(experiment.service.http))))
            tell(Event(f"metrics and page at {server.url}/", url=server.url))
            race.prepare(tell)
            if opened(experiment, attachment, attachment.open, wait, stop, tell):
                _learn(race, attachment, view, tell)
        view.state = "stopped" if stop.is_set() else "done"
        result = summary(race) if out is None else write_results(race, out)
        tell(Event(f"{view.state} after {race.samples} samples" + (f"; results in {out}" if out else ""),
                   state=view.state, samples=race.samples))
        if stay and not stop.is_set():
            tell(f"still serving {server.url}/ until Ctrl-C")
            stop.wait()
    return result


def opened(experiment: Experiment, place: Place, open_it: Callable[[], None], seconds: float, stop: threading.Event,
           tell: Tell, hint: str = "") -> bool:
    """Open the topic, tried for so many seconds; return False when stopped meanwhile, raise what is wrong at last.

    Whoever watches `place` meanwhile sees whether the broker is away; the log is told once.
    """
    deadline, servers = time.monotonic() + seconds, experiment.kafka.bootstrap_servers
    while not stop.is_set():
        try:
            open_it()
            place.broker_away = False
            return True
        except (BrokerUnavailable, TopicMissing) as error:
            if time.monotonic() > deadline:
                raise type(error)(f"{error}; {hint}" if hint else str(error)) from None
            away = isinstance(error, BrokerUnavailable)
            if away and not place.broker_away:
                tell(Event(f"the broker at {servers} does not answer: waiting for it", level="warning"))
            place.broker_away = away
            stop.wait(WAIT_SECONDS)
    return False


def _learn(race: Race, attachment: Attachment, view: View, tell: Callable[[str], None]) -> None:
    """Feed the race what comes."""
    view.state, fresh = "learning", not race.samples
    for arrived in attachment:
        begun = race.featurizer.inputs is not None
        arrived.feed(race)
        for line in _beginning(race) if not begun else ():
            tell(line)
        view.learned()
        attachment.commit()
        if fresh and race.samples >= DOUBT_SAMPLES:
            fresh = False
            _doubt(race, tell)
    if fresh:
        _doubt(race, tell)


def _doubt(race: Race, tell: Tell) -> None:
    """Say so where no sample has a label, nor waits for one: nothing else would."""
    if race.samples and race.unlabelled == race.samples and not any(race.late.counts.values()) and not len(race.late):
        path = getattr(race.experiment.stream.source, "label", None)
        where = f" ({dotted(path)})" if isinstance(path, tuple) else ""
        tell(Event(f"none of the first {race.samples} samples has a label{where}, so nothing is learned",
                   level="warning", samples=race.samples))


def _beginning(race: Race) -> Iterator[str]:
    """Yield what the first good sample has fixed."""
    if race.featurizer.inputs is not None:
        yield inputs_line(race.featurizer.inputs, race.featurizer.names)
        yield from (Event(line, level="warning") for line in race.featurizer.doubts)
