"""One learner on one topic, without an experiment file: `Learner`, `attach`, and what `streamil learn` stands on."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from streamil.attachment import Arrived, Attachment, Options
from streamil.codec.topic import decoder
from streamil.errors import CodecError, ExperimentError, LearnerError, SnapshotError
from streamil.experiment import Experiment, Kafka
from streamil.experiment.sources import TopicSource
from streamil.experiment_file import nearest
from streamil.features import Featurizer
from streamil.field_path import dotted
from streamil.kafka import first_messages
from streamil.learners.population import Population
from streamil.log import Event, Tell, nobody
from streamil.predictions import Predictions
from streamil.problems import problems
from streamil.race import Race
from streamil.samples import Records
from streamil.snapshot.folder import read_snapshot
from streamil.suspects import suspects

ARM = "learner"
"""Name of the one arm."""
WIDEST = 2048
"""Inputs up to which il-kfac's metric is worth its memory."""
LOOKED_AT = 256
"""Samples that are looked at before anything is guessed."""
SMALLEST_TIME = 1e8
"""Numbers below are no times, in no unit, of the last decades."""
NAMES_OF_IDS = re.compile(r"(^|[._ -])(id|key|uuid|row|seq|index|number|nr|no)$", re.IGNORECASE)
PLAIN = Options()


class Learner:
    """One online learner, to be attached to a topic.

    Parameters
    ----------
    algorithm
        Any of `streamil.learners`; None: il-kfac, or il-prox above 2,048 inputs.
    hidden
        Sizes of the hidden layers.
    features
        Names, or paths, of the features; None: all beside the label, but for what looks like an id or a time.
    classes, label_map
        A fixed list of labels, after renaming; None: labels are met as they come.
    batch_size
        Samples of an update.
    device
        `auto`, `cpu` or `cuda`.
    **hyperparameters
        Of the algorithm.

    Raises
    ------
    LearnerError
        From its methods, before it is attached.

    Examples
    --------
    >>> learner = Learner("il-prox", hidden=[16], features=["amount", "age"], classes=["false", "true"], alpha=5.0)
    >>> learner.accuracy
    Traceback (most recent call last):
    streamil.errors.LearnerError: the learner is not attached to a topic yet: streamil.attach(learner, topic=...)
    """

    def __init__(self, algorithm: str | None = None, *, hidden: Sequence[int] = (64, 64),
                 features: Sequence[str] | None = None, classes: Sequence[str] | None = None,
                 label_map: Mapping[str, str] | None = None, batch_size: int = 1, device: str = "auto",
                 **hyperparameters: Any) -> None:
        self.algorithm, self.hidden, self.features, self.classes = algorithm, hidden, features, classes
        self.label_map, self.batch_size, self.device = label_map, batch_size, device
        self.hyperparameters = hyperparameters
        self._race: Race | None = None
        self._said: list[Predictions] = []

    @property
    def race(self) -> Race:
        """The race of one arm that it is, once it is attached."""
        if self._race is None:
            raise LearnerError("the learner is not attached to a topic yet: streamil.attach(learner, topic=...)")
        return self._race

    @property
    def population(self) -> Population:
        """Its population, of one member; raises LearnerError before the first good sample."""
        population = self.race.arms[ARM].population
        if population is None:
            raise LearnerError("the learner has not met a good sample yet, so its number of inputs is not known")
        return population

    @property
    def accuracy(self) -> float:
        """Test-then-train accuracy over all samples so far; nan before the first one."""
        return float(self.race.arms[ARM].figures.cumulative[0])

    def learn(self, arrived: Arrived) -> list[Predictions]:
        """Predict samples, then learn them; return what was said of them before.

        Parameters
        ----------
        arrived
            What iterating over an attachment yields.

        Returns
        -------
        list of Predictions
            In order; of a sample that came without its label when it came, of one in a mini-batch once that is full.
        """
        self._said = []
        arrived.feed(self.race)
        return self._said

    def predict(self, samples: Sequence[Mapping[str, Any]] | NDArray[Any]) -> Predictions:
        """Return what it says of samples that it does not learn, named features or dense inputs [N, F].

        Raises
        ------
        LearnerError
            For a sample that it would reject, with the reason.
        """
        population, count = self.population, len(samples)
        featurizer = copy.deepcopy(self.race.featurizer)  # to look at a sample must not move its statistics
        y: list[str | None] = [None] * count
        if isinstance(samples, np.ndarray):
            records = Records(y=y, x=samples)
        else:
            names = dict.fromkeys(name for one in samples for name in one)
            records = Records(y=y, columns={name: [one.get(name) for one in samples] for name in names})
        batch, rejected = featurizer.transform(records, np.arange(count))
        if rejected:
            raise LearnerError(f"sample {rejected[0].index}: {rejected[0].reason}: {rejected[0].detail}")
        return Predictions(ARM, batch, population.predict(batch.x).cpu(), featurizer.labels.names)

    def to_module(self) -> torch.nn.Module:
        """Return the network as a plain torch module; its inputs are those of the featurizer."""
        return self.population.to_module(0)

    def _attached(self, race: Race) -> None:
        others = race.told

        def told(said: Predictions) -> None:
            self._said.append(said)
            if others is not None:
                others(said)

        self._race, race.told = race, told


def attach(learner: Learner, *, topic: str, label: str | None = None, x: str | None = None, id: str | None = None,
           time: str | None = None, labels: Mapping[str, Any] | None = None, bootstrap_servers: str = "127.0.0.1:9092",
           kafka: Kafka | None = None, snapshots: str | Path | None = None, until: int | None = None,
           options: Options = PLAIN, stop: threading.Event | None = None, tell: Tell = nobody) -> Attachment:
    """Bind a learner to a topic that others fill; weights and position are kept together.

    Parameters
    ----------
    learner
        What learns.
    topic, label, x, id, time, labels
        Where samples come from, and the paths of their parts; see `stream.source` of kind topic.
    bootstrap_servers, kafka
        Where the broker is; `kafka` has all settings, and goes before the address.
    snapshots
        Folder of the snapshots; None: state is in memory only.
    until, options, stop, tell
        As of `Attachment`.

    Returns
    -------
    Attachment
        Iterate, `learner.learn` what it yields, `commit`. What is not learned when the next piece is asked for is
        skipped.

    Raises
    ------
    StreamilError
        What is wrong and what to do, in one line.
    """
    where = kafka or Kafka(bootstrap_servers=bootstrap_servers)
    experiment = experiment_of(learner, topic, label=label, x=x, id=id, time=time, labels=labels,
                               kafka=where, snapshots=snapshots, tell=tell)
    race = Race(experiment)
    race.prepare(tell)
    attachment = Attachment(race, options, until=until, stop=stop, tell=tell)
    learner._attached(race)
    return attachment


def experiment_of(learner: Learner, topic: str, *, kafka: Kafka, label: str | None = None, x: str | None = None,
                  id: str | None = None, time: str | None = None, labels: Mapping[str, Any] | None = None,
                  snapshots: str | Path | None = None, service: Mapping[str, Any] | None = None,
                  tell: Tell = nobody) -> Experiment:
    """Return the experiment of one arm that a learner on a topic is; what nobody said is guessed, and told.

    A guess is taken from the newest snapshot where there is one, so that it stays.
    """
    kept = None if snapshots is None else {"folder": str(Path(snapshots).absolute())}
    source = _given(kind="topic", label=label, features=learner.features, x=x, id=id, time=time, labels=labels)
    arm = {"algorithm": learner.algorithm or "il-kfac", "batch_size": learner.batch_size, **learner.hyperparameters}
    written = {
        "name": topic,
        "stream": {"source": source, "topic": topic, "classes": learner.classes, **_given(label_map=learner.label_map)},
        "network": {"hidden": learner.hidden},
        "arms": {ARM: arm},
        "kafka": kafka.model_dump(), "service": {"device": learner.device, **(service or {}), "snapshots": kept}}
    experiment = _validated(written)
    experiment.require_topic_names()
    if learner.features is not None and learner.algorithm is not None:
        return experiment
    before = None if snapshots is None else _newest(Path(snapshots))
    if before is None:
        guess = _guess(experiment, learner, tell)
    else:
        try:
            guess = {"features": before["stream"]["source"]["features"],
                     "algorithm": before["arms"][ARM]["algorithm"]}
        except (KeyError, TypeError):
            raise ExperimentError(f"snapshots: {snapshots}: holds those of another race, not of one learner on a "
                                  "topic: name another folder") from None
    if learner.features is None and guess["features"] is not None:
        source["features"] = guess["features"]
    if learner.algorithm is None:
        arm["algorithm"] = guess["algorithm"]
    return _validated(written)


@dataclass
class _Seen:
    """What the first samples on a topic hold."""

    count: int = 0
    first: Records | None = None
    columns: dict[str, list[Any]] = field(default_factory=dict)
    labels: dict[str, None] = field(default_factory=dict)

    def take(self, records: Records) -> None:
        self.count += len(records)
        self.labels.update(dict.fromkeys(label for label in records.y if label is not None))
        self.first = self.first or records
        for name, values in records.columns.items():
            self.columns.setdefault(name, []).extend(values)


def _guess(experiment: Experiment, learner: Learner, tell: Tell) -> dict[str, Any]:
    """Look at the first samples, and return features and algorithm."""
    source = experiment.stream.source
    assert isinstance(source, TopicSource)
    seen, decode = _Seen(), decoder(experiment.stream, experiment.folder)
    with closing(first_messages(experiment.kafka, experiment.topic)) as messages:
        for place, message in enumerate(messages):
            try:
                records = decode(message.value, message.headers)
            except CodecError:
                records = Records(y=())
            if len(records) and not records.late:
                seen.take(records)
            if seen.count >= LOOKED_AT or place >= LOOKED_AT:
                break
    if not seen.count:
        tell(Event(f"topic {experiment.topic} holds no sample yet: its first one will say what the "
                   "inputs are"))
        return {"features": None, "algorithm": "il-kfac"}
    if source.labels is None and source.label is not None and not seen.labels and source.id is None:
        label, fields = dotted(source.label), sorted(seen.columns)
        raise ExperimentError(f"label: none of the first {seen.count} samples on topic {experiment.topic} has "
                              f"{label!r}{nearest(label, fields)}; their fields: {', '.join(fields[:20])}")
    _require_known(experiment, seen)
    doubtful = {name: line.partition(" looks like ")[2].partition(":")[0].partition(", and")[0]
                for name, values in seen.columns.items() if _no_measurement(name, values)
                for line in suspects({name: values}, experiment.stream)}
    features, names = None, sorted(seen.columns)
    if seen.columns and learner.features is None:
        names = [name for name in sorted(seen.columns) if name not in doubtful] or sorted(seen.columns)
        holder = (source.label or source.id or ())[:-1]
        prefix = f"{dotted(holder)}." if holder else ""
        features = [[*holder, name.removeprefix(prefix)] for name in names]
        for name in sorted(set(doubtful) - set(names)):
            tell(Event(f"left out: {name}, which looks like {doubtful[name]}; to keep it name the features",
                       level="warning"))
        tell(Event(f"features, from the first {seen.count} samples: {', '.join(names)}"))
    width = _width(experiment, seen, names)
    if learner.algorithm is None and width > WIDEST:
        tell(Event(f"{width} inputs: il-prox is taken, il-kfac's metric is for up to {WIDEST}"))
    return {"features": features, "algorithm": "il-prox" if width > WIDEST else "il-kfac"}


def _width(experiment: Experiment, seen: _Seen, names: Sequence[str]) -> int:
    """Return how many inputs the first record's samples have; 0 where all of them are bad."""
    assert seen.first is not None
    columns = {name: seen.first.columns[name] for name in names if name in seen.first.columns}
    featurizer = Featurizer(experiment.stream)
    featurizer.transform(replace(seen.first, columns=columns), np.arange(len(seen.first)))
    return featurizer.inputs or 0


def _no_measurement(name: str, values: Sequence[Any]) -> bool:
    """Return whether to leave a suspect out: an age may rise from sample to sample, a row number begins at 0 or 1."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    small = bool(numbers) and max(map(abs, numbers)) < SMALLEST_TIME
    return not small or numbers[0] in (0, 1) or NAMES_OF_IDS.search(name) is not None


def _require_known(experiment: Experiment, seen: _Seen) -> None:
    """Raise where no label of the first samples is one of the classes: all of them would be rejected."""
    classes, renamed = experiment.stream.classes, experiment.stream.label_map
    if classes is not None and seen.labels and not any(renamed.get(label, label) in classes for label in seen.labels):
        found = ", ".join(list(seen.labels)[:10])
        raise ExperimentError(f"classes: none of the labels of the first {seen.count} samples ({found}) is one of "
                              f"{', '.join(classes)}; name these, or rename them with label_map")


def _newest(folder: Path) -> Mapping[str, Any] | None:
    """Return the configuration in the newest whole snapshot."""
    for path in sorted(folder.glob("**/*.snapshot"), reverse=True):
        try:
            return dict(read_snapshot(path)[0]["race"]["configuration"])
        except (SnapshotError, KeyError, TypeError):
            continue
    return None


def _validated(written: Mapping[str, Any]) -> Experiment:
    try:
        return Experiment.model_validate(written)
    except ValidationError as error:
        raise ExperimentError(problems(error, Experiment, written)) from None


def _given(**settings: Any) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else value
            for name, value in settings.items() if value is not None}
