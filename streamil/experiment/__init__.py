"""The experiment file: frozen models of what a person writes in YAML, and errors that name the key.

`load_experiment` reads a file, `load_kafka` one of the broker alone; `Experiment` is what the rest of the house takes.
Hyperparameters of an arm are kept as written here and checked by the learner they belong to
(`streamil.race.plan_arms`), so that a producer need not import torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self, TypeVar

from pydantic import Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from streamil.errors import ExperimentError, SourceError, TopicMismatch
from streamil.experiment.kafka import Kafka
from streamil.experiment.model import Model
from streamil.experiment.race import Arm, ComparisonOf, Evaluation, Network, Service, Verdict
from streamil.experiment.sources import TableSource, TopicSource
from streamil.experiment.stream import Stream
from streamil.experiment_file import Lines, nearest, read_yaml
from streamil.problems import problems

__all__ = ["Arm", "ComparisonOf", "Experiment", "Kafka", "Stream", "batch_sizes", "control_name",
           "load_experiment", "load_kafka"]

TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]+")
TOPIC_LENGTH = 249
M = TypeVar("M", bound=Model)


class Experiment(Model):
    """One experiment: a stream, a network, arms that learn it side by side, and what is compared.

    Examples
    --------
    >>> experiment = Experiment.model_validate({"stream": {"source": {"kind": "mnist"}}, "arms": {
    ...     "bp": {"algorithm": "bp-sgd", "learning_rate": [0.01, 0.1]}}})
    >>> experiment.name, experiment.topic, experiment.arms["bp"].hyperparameters
    ('streamil', 'streamil', {'learning_rate': [0.01, 0.1]})
    """

    name: str = Field("streamil", min_length=1, max_length=512)
    stream: Stream
    network: Network = Network()
    arms: dict[str, Arm] = Field(min_length=1, max_length=100)
    comparisons: tuple[ComparisonOf, ...] | None = Field(None, max_length=1000)
    verdict: Verdict = Verdict()
    evaluation: Evaluation = Evaluation()
    kafka: Kafka = Kafka()
    service: Service = Service()
    _path: Path | None = PrivateAttr(default=None)
    _lines: Lines = PrivateAttr(default_factory=dict)
    _only: tuple[str, ...] | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _arms_exist(self) -> Self:
        names = self.arm_names
        for name, count in Counter(names).items():
            if count > 1:
                raise PydanticCustomError("arm_twice", "{message}", {"place": ("arms",), "message":
                    f"two arms are called {name!r}, which is how one size of a list of batch sizes is called"})
        pairs = [(pair.challenger, pair.baseline) for pair in self.comparisons or ()]
        for index, pair in enumerate(self.comparisons or ()):
            if pair.challenger == pair.baseline or pairs[index] in pairs[:index]:
                raise PydanticCustomError("comparison", "{message}", {"place": ("comparisons", index), "message":
                    f"found {pair.challenger!r} against {pair.baseline!r}: each pair of two arms once, since each has "
                    "its share of verdict.alpha; for an arm against itself see verdict.controls"})
            for side in (pair.challenger, pair.baseline):
                if side not in names:
                    raise PydanticCustomError("unknown_arm", "{message}", {
                        "place": ("comparisons", index), "message":
                        f"found arm {side!r}, which does not exist{nearest(side, names)}; arms: {', '.join(names)}"})
        for index, name in enumerate(self.verdict.controls):
            wrong = (f"which does not exist{nearest(name, names)}; arms: {', '.join(names)}" if name not in names else
                     "which is there already" if name in self.verdict.controls[:index] else
                     f"whose control cannot be called {control_name(name)!r}: an arm is" if control_name(name) in names
                     else None)
            if wrong:
                raise PydanticCustomError("unknown_arm", "{message}", {
                    "place": ("verdict", "controls", index), "message": f"found arm {name!r}, {wrong}"})
        return self

    @property
    def topic(self) -> str:
        """The topic of the samples."""
        return self.stream.topic or self.name

    @property
    def arm_names(self) -> list[str]:
        """Names of the arms, those with several batch sizes as `name@B`."""
        return [name for arm, settings in self.arms.items() for name, _ in batch_sizes(arm, settings)]

    def only(self, arms: Sequence[str]) -> Experiment:
        """Return the same experiment where a process learns some of its arms alone; others learn the rest.

        Raises
        ------
        ExperimentError
            For an arm that it does not have.
        """
        names = [*self.arm_names, *map(control_name, self.verdict.controls)]
        for arm in arms:
            if arm not in names:
                raise ExperimentError(f"--arm: found {arm[:60]!r}{nearest(arm, names)}; arms: {', '.join(names)}")
        part = self.model_copy()
        part._only = tuple(name for name in names if name in arms)
        return part

    @property
    def learned_here(self) -> tuple[str, ...] | None:
        """The arms that this process learns; None: all."""
        return self._only

    @property
    def part(self) -> str:
        """What tells the processes that learn arms of one experiment apart; empty where one learns all of them."""
        if self._only is None:
            return ""
        return "arms-" + hashlib.sha256(json.dumps(self._only).encode()).hexdigest()[:12]

    @property
    def group(self) -> str:
        """The consumer group under which positions are told to the broker."""
        return ".".join(filter(None, (self.name, self.part)))

    @property
    def predictions_topic(self) -> str:
        """The topic of what the arms predict."""
        return f"{self.name}.predictions"

    @property
    def folder(self) -> Path:
        """The folder that relative paths in the file are relative to."""
        return self._path.absolute().parent if self._path else Path()

    @property
    def snapshot_folder(self) -> Path | None:
        """The folder of the snapshots; None: there are none."""
        kept = self.service.snapshots
        return None if kept is None else self.folder / (kept.folder or Path("snapshots", self.name)) / self.part

    def error(self, found: Sequence[str]) -> ExperimentError:
        """Return the error about problems found after the file was read (hyperparameters, for example)."""
        return ExperimentError(found, str(self._path) if self._path else "experiment")

    @property
    def lines(self) -> Lines:
        """The line of every key of the file."""
        return self._lines

    @property
    def stream_hash(self) -> str:
        """Identifies what is on the topic: equal for two files whose samples and their order are equal."""
        stream = self.stream.model_dump(mode="json", include={"source", "seed", "regimes"},
                                        exclude={"source": {"live"}})
        if self.stream.features and isinstance(self.stream.source, TableSource):  # which rows are bad, they decide too
            stream["kinds"] = [[name, feature.kind, getattr(feature, "unit", None)]
                               for name, feature in sorted(self.stream.features.items())]
        return hashlib.sha256(json.dumps(stream, sort_keys=True).encode()).hexdigest()[:32]

    def require_own_stream(self) -> None:
        """Raise `SourceError` where others fill the topic, so that there is nothing to publish or to run."""
        if isinstance(self.stream.source, TopicSource):
            raise SourceError(f"stream.source: others fill the topic {self.topic}, so there are no samples to publish "
                              "or to run here; `streamil consume` learns from it")

    def require_topic_names(self) -> None:
        """Raise `TopicMismatch` unless all topics of the experiment can have the names that follow from the file."""
        labels = self.stream.labels
        names = [("name", self.name, ".predictions"), ("stream.topic", self.topic, ".dead")]
        for key, name, suffix in names + ([("stream.source.labels.topic", labels.topic, "")] if labels else []):
            if not TOPIC_NAME.fullmatch(name) or name in (".", "..") or len(name + suffix) > TOPIC_LENGTH:
                shown = name if len(name) <= 60 else f"{name[:57]}... ({len(name)} letters)"
                room = f" (with {suffix!r} {TOPIC_LENGTH})" if suffix else ""
                raise TopicMismatch(
                    f"{key}: {shown!r} cannot name a Kafka topic; allowed: a-z, A-Z, 0-9, '.', '_' and '-', at most "
                    f"{TOPIC_LENGTH - len(suffix)} of them{room}, and neither '.' nor '..'")
        if labels is not None and labels.topic == self.topic:
            raise TopicMismatch(f"stream.source.labels.topic: {self.topic!r} is the topic of the samples; late labels "
                                "on it need no `labels`: name stream.source.label and id")


def control_name(arm: str) -> str:
    """Return the name of an arm's A/A control: the same arm with other seeds."""
    return f"{arm} (control)"


def batch_sizes(name: str, arm: Arm) -> Iterator[tuple[str, int]]:
    """Yield the arms that one entry stands for: `(name, batch_size)`, or one `name@B` per size of a list."""
    if isinstance(arm.batch_size, int):
        yield name, arm.batch_size
    else:
        for size in arm.batch_size:
            yield f"{name}@{size}", size


def load_experiment(path: str | Path) -> Experiment:
    """Read an experiment file.

    Raises
    ------
    ExperimentError
        When the file cannot be read or is no valid experiment: one line per problem, with the line it stands in.
    """
    path = Path(path)
    experiment, lines = _read(path, Experiment)
    experiment._path, experiment._lines = path, lines
    return experiment


def load_kafka(path: str | Path) -> Kafka:
    """Read a file of what stands under `kafka` in an experiment file; raise as `load_experiment`."""
    return _read(Path(path), Kafka)[0]


def _read(path: Path, model: type[M]) -> tuple[M, Lines]:
    data, lines = read_yaml(path)
    try:
        return model.model_validate(data, context={"folder": path.absolute().parent}), lines
    except ValidationError as error:
        raise ExperimentError(problems(error, model, data, lines), str(path)) from None
