"""A look at the first samples of a stream, and of a topic that others fill: what a race would make of them."""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from streamil.codec.topic import decoder, labels_decoder
from streamil.errors import BrokerError, CodecError
from streamil.experiment import Experiment, Stream
from streamil.experiment.sources import LabelsTopic, TopicSource
from streamil.experiment_file import nearest
from streamil.features import Featurizer
from streamil.field_path import dotted
from streamil.kafka import Message, first_messages
from streamil.samples import Batch, Records, Rejected

PUBLISHING = ("limit", "regimes", "samples_per_record", "codec", "rate")
"""Keys of a stream that say how it is published."""
LOOK_AHEAD = 256
"""Samples, and records, that are looked at."""


def see(featurizer: Featurizer, records: Records, seen: int) -> tuple[Records, Batch, tuple[Rejected, ...]] | None:
    """Let a featurizer see the next samples of a look, as a race would, `LOOK_AHEAD` of them in all.

    Returns the samples that it saw, and what became of them; None for late labels, whose classes it has met then.
    """
    if records.late:
        featurizer.meet(records)
        return None
    part = records[:LOOK_AHEAD - seen]
    return part, *featurizer.transform(part, np.arange(seen, seen + len(part), dtype=np.int64))


@dataclass
class Look:
    """What was found: lines that say it, a featurizer that has seen the samples, and their number."""

    featurizer: Featurizer
    samples: int = 0
    unlabelled: int = 0
    records: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    first_detail: str = ""
    lines: list[str] = field(default_factory=list)

    def take(self, message: Message, records: Records) -> None:
        """See one record, and count what it holds."""
        found = see(self.featurizer, records, self.samples)
        if found is None:
            return
        _, batch, rejected = found
        self.samples += len(batch)
        self.unlabelled += int((batch.y < 0).sum())
        for one in (*records.rejected, *rejected):
            self.reject(message, one)

    def reject(self, message: Message, one: Rejected) -> None:
        """Count a record or sample that a consumer would reject."""
        self.first_detail = self.first_detail or f"offset {message.offset}: {one.detail}"
        self.rejected[one.reason] += 1


def look_at_topic(experiment: Experiment) -> Look:
    """Read the first records as a consumer would, if a broker answers soon.

    Raises
    ------
    ExperimentError
        When the codec that the file names is not there.
    """
    source, where = experiment.stream.source, f"{experiment.topic} at {experiment.kafka.bootstrap_servers}"
    assert isinstance(source, TopicSource)
    look = Look(Featurizer(experiment.stream))
    decode = decoder(experiment.stream, experiment.folder)
    look.lines += _mapping(source, f"{experiment.name}: topic {where}, which others fill")
    stream, defaults = experiment.stream, Stream.model_fields
    unused = [f"stream.{key}" for key in PUBLISHING if getattr(stream, key) != defaults[key].default]
    if unused:
        look.lines.append(f"of no use here, since others fill the topic: {', '.join(unused)}")
    try:
        with closing(first_messages(experiment.kafka, experiment.topic)) as messages:
            for message in messages:
                look.records += 1
                try:
                    look.take(message, decode(message.value, message.headers))
                except CodecError as error:
                    look.reject(message, Rejected(0, error.reason, error.detail))
                if look.samples >= LOOK_AHEAD or look.records >= LOOK_AHEAD:
                    break
    except BrokerError as error:
        look.lines.append(f"could not look at the topic: {error}")
        return look
    look.lines += _found(look, source)
    if source.labels is not None:
        look.lines.append(_labels_found(experiment, source.labels))
    return look


def _labels_found(experiment: Experiment, labels: LabelsTopic) -> str:
    """Return what the first records of a topic of labels are."""
    decode, found, rejected, first = labels_decoder(labels, experiment.folder), 0, 0, ""
    try:
        with closing(first_messages(experiment.kafka, labels.topic)) as messages:
            for message in itertools.islice(messages, LOOK_AHEAD):
                try:
                    found += len(decode(message.value, message.headers))
                except CodecError as error:
                    rejected += 1
                    first = first or f" (the first, offset {message.offset}: {error.detail})"
    except BrokerError as error:
        return f"could not look at the topic of the labels: {error}"
    return f"first labels on topic {labels.topic}: {found}; records rejected: {rejected or 'none'}{first}"


def _mapping(source: TopicSource, head: str) -> list[str]:
    parts = {"label": source.label, "x": source.x, "id": source.id, "time": source.time, "segment": source.segment}
    told = [f"{key} {dotted(path)}" for key, path in parts.items() if path is not None]
    named = "features as named" if source.features else "features all beside the label"
    lines = [head, ", ".join([f"codec {source.codec}", *told, *([] if source.x else [named])])]
    if source.labels is not None:
        lines.append(f"labels on topic {source.labels.topic}: id {dotted(source.labels.id)}, label "
                     f"{dotted(source.labels.label)}")
    return lines


def _found(look: Look, source: TopicSource) -> list[str]:
    rejected = ", ".join(f"{reason} {count}" for reason, count in look.rejected.items())
    lines = [f"first records: {look.records} with {look.samples} samples, {look.unlabelled} of them without a label; "
             f"rejected: {f'{rejected} (the first, {look.first_detail})' if rejected else 'none'}"]
    if look.samples and look.unlabelled == look.samples and source.label is not None and source.labels is None:
        label = dotted(source.label)
        lines.append(f"warning: no sample has the label {label}{nearest(label, look.featurizer.names)}, so nothing "
                     "would be learned")
    return lines
