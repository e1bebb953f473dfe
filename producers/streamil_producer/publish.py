"""The producer's loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from streamil.codec import encode
from streamil.errors import CodecError, SourceError
from streamil.experiment import Experiment
from streamil.kafka import TopicWriter, ensure_topic
from streamil.samples import Records
from streamil.streams import open_stream, pack
from streamil.streams.source import Skipped
from streamil_producer.wire import headers, next_ordinal

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
    experiment.require_topic_names()
    ensure_topic(experiment.kafka, experiment.topic)
    first = next_ordinal(experiment)
    limits = [one for one in (limit, experiment.stream.limit) if one is not None]
    stream = experiment.stream.model_copy(update={"limit": min(limits, default=None)})
    started = time.monotonic()
    size, rate, ordinal = stream.samples_per_record, stream.rate, first

    with TopicWriter(experiment.kafka, experiment.topic) as writer:

        def acknowledged() -> int:
            return min(ordinal - first, writer.acknowledged * size)

        try:
            samples = open_stream(stream, experiment.folder)
            rest = _skip(samples, first)
            origin = time.monotonic()
            for records in pack(rest, size):
                ahead = origin + (ordinal - first + len(records)) / rate - time.monotonic() if rate else 0.0
                if ahead > 0 and stop.wait(ahead):
                    break
                while not stop.is_set() and not writer.wait_for_room(0.1):
                    pass
                if stop.is_set():
                    break
                writer.send(_encoded(experiment, records, ordinal), headers(experiment, records, ordinal))
                ordinal += len(records)
                if on_progress is not None:
                    on_progress(acknowledged(), max(0.0, -ahead))
            while not stop.is_set() and not writer.flush(0.1):
                pass
        finally:
            if stop.is_set() or writer.in_flight:  # a Ctrl-C too
                writer.flush(LAST_WORDS_SECONDS)
        if on_progress is not None:
            on_progress(acknowledged(), 0.0)
        return Published(acknowledged(), first, time.monotonic() - started, samples.skipped)


def _skip(stream: Iterator[Records], count: int) -> Iterator[Records]:
    """Leave out the first `count` samples."""
    for records in stream:
        if count < len(records):
            yield records[count:] if count else records
        count = max(0, count - len(records))


def _encoded(experiment: Experiment, records: Records, ordinal: int) -> bytes:
    try:
        return encode(records, experiment.stream.codec)
    except CodecError as error:
        raise SourceError(f"samples {ordinal} to {ordinal + len(records) - 1} of the stream cannot be sent as "
                          f"{experiment.stream.codec}: {error.detail}") from None
