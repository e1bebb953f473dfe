"""The producer's loop."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from streamil.codec import encode
from streamil.errors import CodecError, SourceError
from streamil.experiment import Experiment
from streamil.kafka import TopicWriter, ensure_topic
from streamil.samples import Records
from streamil.streams import open_stream, pack
from streamil_producer.wire import Position, headers, next_position

LAST_WORDS_SECONDS = 1.5
"""How long a producer that is told to stop waits for what is in flight; the next start sends what was lost."""


@dataclass(frozen=True, slots=True)
class Published:
    """What one call of `publish` did: samples that the broker has acknowledged, ordinal of the first, seconds."""

    samples: int
    first: int
    seconds: float


def publish(experiment: Experiment, *, limit: int | None = None,
            on_progress: Callable[[int, float], None] | None = None, stop: threading.Event | None = None) -> Published:
    """Publish an experiment's stream to its topic, and go on where an earlier call was interrupted.

    Parameters
    ----------
    experiment
        Names the stream, the topic (made with one partition when it does not exist), and the broker.
    limit
        Samples of the stream, counted from its first; the file's `stream.limit` holds too.
    on_progress
        Called with the samples acknowledged so far in this call, and the seconds behind schedule.
    stop
        Ends the call within three seconds once set.

    Raises
    ------
    StreamMismatch
        When the topic holds something else.
    TopicMismatch
        When the topic does not fit, or a record is larger than it takes.
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
    stream = experiment.stream.model_copy(update={"limit": min(limits, default=None)})
    started = time.monotonic()
    size, rate = stream.samples_per_record, stream.rate

    with TopicWriter(experiment.kafka, experiment.topic) as writer:
        ends: deque[int] = deque()  # samples published after each record that the broker has not acknowledged yet
        confirmed = records_confirmed = 0

        def acknowledged() -> int:
            nonlocal confirmed, records_confirmed
            while records_confirmed < writer.acknowledged:
                confirmed, records_confirmed = ends.popleft(), records_confirmed + 1
            return confirmed

        try:
            rest = _skip(open_stream(stream, experiment.folder), first)
            origin = time.monotonic()
            for records in pack(rest, size):
                after = at.after(records)
                ahead = origin + (after.samples - first.samples) / rate - time.monotonic() if rate else 0.0
                if ahead > 0 and stop.wait(ahead):
                    break
                while not stop.is_set() and not writer.wait_for_room(0.1):
                    pass
                if stop.is_set():
                    break
                ends.append(after.samples - first.samples)
                writer.send(_encoded(experiment, records, at), headers(experiment, records, at))
                at = after
                if on_progress is not None:
                    on_progress(acknowledged(), max(0.0, -ahead))
            while not stop.is_set() and not writer.flush(0.1):
                pass
        finally:
            if stop.is_set() or writer.in_flight:  # a Ctrl-C too
                writer.flush(LAST_WORDS_SECONDS)
        if on_progress is not None:
            on_progress(acknowledged(), 0.0)
        return Published(acknowledged(), first.samples, time.monotonic() - started)


def _skip(stream: Iterator[Records], before: Position) -> Iterator[Records]:
    """Leave out the samples and the late labels that stand before a position."""
    at = Position()
    for records in stream:
        missing = before.labels - at.labels if records.late else before.samples - at.samples
        if missing < len(records):
            yield records[max(0, missing):]
        at = at.after(records)


def _encoded(experiment: Experiment, records: Records, at: Position) -> bytes:
    try:
        return encode(records, experiment.stream.codec)
    except CodecError as error:
        what, first = ("late labels", at.labels) if records.late else ("samples", at.samples)
        raise SourceError(f"{what} {first} to {first + len(records) - 1} of the stream cannot be sent as "
                          f"{experiment.stream.codec}: {error.detail}") from None
