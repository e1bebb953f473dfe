"""Putting what was rejected back on its topic, with its origin, so that a consumer learns it once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack

from streamil.dead_letters.letter import DeadLetter
from streamil.experiment import Experiment
from streamil.kafka import Topic, TopicWriter, describe_topic, newest_messages, record_bytes

LOOK_BACK = 10_000
"""Records at the end of a partition among which a sample is looked for that was put back before. A consumer learns
each once anyhow: this spares the topic what a second call, after a first one that was killed, would write again."""
LAST_SECONDS = 2.0
"""How long a call that is told to stop waits for what is on its way."""
LEFT_OUT = {
    "elsewhere": "of a topic that is not the experiment's",
    "made anew": "of its topic before that was made anew",
    "shortened": "shortened: the value was too large for a letter; the record may still stand at its offset",
    "too large": "larger than the topic takes, with the header that says where it came from",
    "there": f"put back before, among the last {LOOK_BACK:,} records",
}
"""Why a letter is not put back."""


def replay(experiment: Experiment, letters: Iterable[DeadLetter], *, dry_run: bool = False, look_back: bool = True,
           stop: threading.Event | None = None) -> Counter[str]:
    """Put samples back on the topic that they came from, in order.

    Parameters
    ----------
    experiment
        Whose topics.
    letters
        What to put back.
    dry_run
        Write nothing.
    look_back
        Leave out what stands at the end of its topic already and was not rejected since.
    stop
        Ends it once set; what it did not come to is put back by the next call.

    Returns
    -------
    Counter
        How many were put back (`back`), and left out by each word of `LEFT_OUT`.

    Raises
    ------
    BrokerError
        When a topic does not exist or cannot be written to.
    """
    stop, counts = stop or threading.Event(), Counter[str]()
    labels = experiment.stream.labels
    names = {experiment.topic} | ({labels.topic} if labels is not None else set())
    topics: dict[str, Topic] = {name: describe_topic(experiment.kafka, name) for name in sorted(names)}
    there: dict[tuple[str, int], dict[str, int]] = {}
    writers: dict[str, TopicWriter] = {}
    with ExitStack() as opened:
        for letter in letters:
            if stop.is_set():
                break
            name, partition = letter.topic, letter.origin.partition
            why = _misfit(letter, topics.get(name))
            if why is None and look_back:
                if (name, partition) not in there:
                    there[name, partition] = _put_back(experiment, name, partition)
                # one that was rejected again has the time of the record that put it back
                why = "there" if there[name, partition].get(str(letter.origin), -1) > letter.time_ms else None
            counts[why or "back"] += 1
            if why is not None or dry_run:
                continue
            if name not in writers:
                writers[name] = opened.enter_context(TopicWriter(experiment.kafka, name))
            while not (room := writers[name].wait_for_room(0.1)) and not stop.is_set():
                pass
            if not room:
                break
            # the time is now: how long it lay among the dead letters is no latency of the consumer's
            writers[name].send(letter.value, letter.headers_back, None, letter.key, partition=partition)
        for writer in writers.values():
            while not writer.flush(LAST_SECONDS) and not stop.is_set():
                pass
        if not dry_run:
            counts["back"] = sum(writer.acknowledged for writer in writers.values())
    return counts


def _misfit(letter: DeadLetter, topic: Topic | None) -> str | None:
    """Return why a letter cannot be put back, as a word of `LEFT_OUT`; None: it can."""
    if topic is None:
        return "elsewhere"
    if letter.origin.topic_id != topic.id or letter.origin.partition >= topic.partitions:
        return "made anew"
    if letter.shortened is not None:
        return "shortened"
    size = record_bytes(letter.value, letter.headers_back, letter.key)
    return "too large" if size > topic.max_message_bytes else None


def _put_back(experiment: Experiment, topic: str, partition: int) -> dict[str, int]:
    """Return the samples that were put back on a partition lately: origin -> time of the newest record."""
    found: dict[str, int] = {}
    for message in newest_messages(experiment.kafka, topic, LOOK_BACK, partition=partition):
        origin = message.headers.get("streamil-origin")
        if origin is not None and len(origin) < 200:
            found[origin.decode("utf-8", "replace")] = message.timestamp_ms
    return found
