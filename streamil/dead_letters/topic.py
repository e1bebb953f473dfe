"""The topic of an experiment's dead letters, read so that each sample comes once."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from streamil.dead_letters.letter import DeadLetter
from streamil.errors import TopicMissing
from streamil.experiment import Experiment
from streamil.kafka import TopicReader, describe_topic
from streamil.log import Tell, nobody
from streamil.origin import Origin

INDEXED = 500_000
"""Samples of which repeats are known, in about 130 MB; letters of further samples are taken as they come."""
TELL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are wanted: of a reason, of a partition of the topic that they come from; None: all."""

    reason: str | None = None
    partition: int | None = None

    def __contains__(self, letter: DeadLetter) -> bool:
        return self.reason in (None, letter.reason) and self.partition in (None, letter.origin.partition)


class DeadTopic:
    """What was rejected for an experiment: the newest letter of each sample, in the order in which they were written.

    A consumer that was killed writes some letters again, and a sample that was put back may be rejected again. The
    topic is read twice: for the newest letter of each sample, then for the letters.

    Parameters
    ----------
    experiment
        Whose letters; other experiments may learn from its topic, too, and reject other samples.
    wanted
        Which of them.
    tell
        Takes a line about how far it is, now and then.

    Attributes
    ----------
    name
        Of the topic.
    missing
        Whether it does not exist, hence nothing was rejected.
    repeats, others, strange
        Letters that were left out: older ones of a sample, of other experiments, and records that are none.
    beyond
        Letters of samples past the first `INDEXED`: a repeat among them is taken for another one.

    Raises
    ------
    TopicMissing
        When the topic of the samples does not exist either.
    BrokerError
        When nobody answers, while it is read, too.
    """

    def __init__(self, experiment: Experiment, wanted: Wanted, tell: Tell = nobody) -> None:
        self._experiment, self.wanted, self._tell = experiment, wanted, tell
        self.name = f"{experiment.topic}.dead"
        self.repeats = self.others = self.strange = self.beyond = 0
        try:
            describe_topic(experiment.kafka, self.name)
            self.missing = False
        except TopicMissing:
            describe_topic(experiment.kafka, experiment.topic)  # or else the name is wrong
            self.missing = True

    def __iter__(self) -> Iterator[DeadLetter]:
        self.repeats = self.others = self.strange = self.beyond = 0
        newest: dict[Origin, int] = {}
        for offset, letter in self._letters():
            if letter is None:
                self.strange += 1
            elif letter.experiment != self._experiment.name:
                self.others += 1
            elif letter.origin in newest or len(newest) < INDEXED:
                self.repeats += letter.origin in newest and letter in self.wanted
                newest[letter.origin] = offset
        for offset, letter in self._letters():
            if letter is not None and letter.experiment == self._experiment.name and letter in self.wanted:
                if newest.get(letter.origin, offset) != offset:
                    continue
                self.beyond += letter.origin not in newest
                yield letter

    def _letters(self) -> Generator[tuple[int, DeadLetter | None], None, None]:
        """Yield each record's offset, and the letter that it holds; None where it holds none."""
        if self.missing:
            return
        kafka, told = self._experiment.kafka.model_copy(update={"start": "earliest"}), time.monotonic()
        with TopicReader(kafka, self.name, allow_compacted=True, on_trimmed="earliest") as reader:
            begin, end = reader.position, reader.end()
            for message in reader.up_to(end):
                if time.monotonic() - told > TELL_SECONDS:
                    told = time.monotonic()
                    self._tell(f"topic {self.name}: looked at {message.offset - begin:,} of {end - begin:,} records")
                try:
                    yield message.offset, DeadLetter.read(message)
                except ValueError:
                    yield message.offset, None
