"""The producer's loop."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from streamil.codec import encode
from streamil.errors import CodecError, SourceError
from streamil.experiment import Experiment
from streamil.kafka import TopicWriter, ensure_topic
from streamil.log import Event
from streamil.samples import Records
from streamil.streams import open_stream, pack
from streamil.streams.chunks import limit as first_of
from streamil.streams.source import Skipped
from streamil_producer.live import until_stopped
from streamil_producer.pace import Pace
from streamil_producer.wire import Position, headers, next_position

LAST_WORDS_SECONDS = 1.5
"""How long a producer that is told to stop waits for what is in flight; the next start sends what was lost."""


@dataclass(frozen=True, slots=True)
class Published:
    """What one call of `publish` did: samples that the broker has acknowledged, ordinal of the first, seconds.

    `skipped` are the bad rows that the source left out.
    """

    samples: int
    first: int
    seconds: float
    skipped: Skipped = field(default_factory=Skipped)


def publish(experiment: Experiment, *, limit: int | None = None,
            on_progress: Callable[[int, float], None] | None = None, stop: threading.Event | None = None,
            tell: Callable[[str], None] = lambda line: None) -> Published:
    """Publish an experiment's stream to its topic, and go on where an earlier call was interrupted.

    Where that was is read back from the topic. What can be read again is, and what stands on the topic is left out; a
    live source goes on with what comes, numbered from there.

    Parameters
    ----------
    experiment
        Names the stream, the topic (made with one partition when it does not exist), and the broker.
    limit
        Samples of the stream, counted from its first; the file's `stream.limit` holds too.
    on_progress
        Called with the samples acknowledged so far in this call, and the seconds behind the schedule that began with
        the first record (see `Pace`).
    stop
        Ends the call within three seconds once set.
    tell
        Takes one line about each event.

    Raises
    ------
    StreamMismatch
        When the topic holds something else.
    TopicMismatch
        When the topic does not fit, or a record is larger than it takes: names its samples and the limit.
    SourceError
        When the source cannot be read, or has a sample that cannot be sent.
    BrokerUnavailable
        When nobody answers at the start; later outages are waited out.
    """
    stop = stop or threading.Event()
    experiment.require_own_stream()
    experiment.require_topic_names()
    ensure_topic(experiment.kafka, experiment.topic)
    first = at = next_position(experiment)
    limits = [one for one in (limit, experiment.stream.limit) if one is not None]
    left = max(0, min(limits) - first.samples) if limits else None
    stream = experiment.stream.model_copy(update={"limit": None})
    started = time.monotonic()
    stream_hash = experiment.stream_hash
    pace = Pace(stream.rate, by_time=stream.paced_by_time)

    with TopicWriter(experiment.kafka, experiment.topic) as writer:
        ends: deque[int] = deque()  # samples published after each record that the broker has not acknowledged yet
        confirmed = records_confirmed = 0

        def acknowledged() -> int:
            nonlocal confirmed, records_confirmed
            while records_confirmed < writer.acknowledged:
                confirmed, records_confirmed = ends.popleft(), records_confirmed + 1
            return confirmed

        try:
            samples = open_stream(stream, experiment.folder)
            if samples.live and first.samples:
                tell(Event(f"{stream.source.kind} source: it cannot be read again, so sample {first.samples} is the "
                           "next one that comes; what came since the last one was sent is lost", level="warning"))
            rest = until_stopped(samples, stop) if samples.live else _skip(samples, first, stop)
            for records in pack(first_of(rest, left), stream.samples_per_record) if left != 0 else ():
                ahead = pace.ahead(records)
                if ahead > 0 and stop.wait(ahead):
                    break
                while not (room := writer.wait_for_room(0.1)) and not stop.is_set():
                    pass
                if stop.is_set() and not (samples.live and room):  # what came alive would be lost
                    break
                name = _name(records, at)
                writer.send(_encoded(experiment, records, name), headers(experiment, records, at, stream_hash),
                            name=name)
                at = at.after(records)
                ends.append(at.samples - first.samples)
                if on_progress is not None:
                    on_progress(acknowledged(), pace.moved + max(0.0, -ahead))
            while not stop.is_set() and not writer.flush(0.1):
                pass
        finally:
            if stop.is_set() or writer.in_flight:  # a Ctrl-C too
                writer.flush(LAST_WORDS_SECONDS)
        if on_progress is not None:
            on_progress(acknowledged(), 0.0)
        return Published(acknowledged(), first.samples, time.monotonic() - started, samples.skipped)


def _skip(samples: Iterator[Records], before: Position, stop: threading.Event) -> Iterator[Records]:
    """Leave out the samples and the late labels that stand before a position."""
    at = Position()
    for records in samples:
        if stop.is_set():
            return
        missing = before.labels - at.labels if records.late else before.samples - at.samples
        if missing < len(records):
            yield records[missing:] if missing > 0 else records
        at = at.after(records)


def _name(records: Records, at: Position) -> str:
    """Return what the samples or late labels are called in an error."""
    what, first = ("late label", at.labels) if records.late else ("sample", at.samples)
    return f"{what} {first}" if len(records) == 1 else f"{what}s {first} to {first + len(records) - 1}"


def _encoded(experiment: Experiment, records: Records, name: str) -> bytes:
    try:
        return encode(records, experiment.stream.codec)
    except CodecError as error:
        raise SourceError(f"{name} of the stream cannot be sent as {experiment.stream.codec}: {error.detail}") from None
