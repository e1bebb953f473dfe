"""The experiment file: frozen models of what a person writes in YAML, and errors that name the key.

`load_experiment` reads a file; `Experiment` is what the rest of the house takes. Hyperparameters of an arm are kept
as written here and checked by the learner they belong to (`streamil.race.plan_arms`), so that a producer need not
import torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from streamil.errors import ExperimentError, SourceError, TopicMismatch
from streamil.experiment_file import Lines, nearest, read_yaml
from streamil.field_path import FieldPath, dotted
from streamil.problems import problems
from streamil.samples import label_text

TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]+")
TOPIC_LENGTH = 249
MEMBERS_LIMIT = 1000


class Model(BaseModel):
    """Base of all models of the file: frozen, strict about keys, and helpful about typing errors in them."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_max_length=4096)


class MnistSource(Model):
    """MNIST's 60,000 training images, shipped with the package, in their published order."""

    kind: Literal["mnist"]
    part: Literal["train", "test"] = Field("train", description="training or test images")


class ElecSource(Model):
    """Elec2: electricity prices in time order, shipped with the package."""

    kind: Literal["elec"]


class WeatherSource(Model):
    """NOAA weather: rain or not, in time order, shipped with the package."""

    kind: Literal["weather"]


class IdxSource(Model):
    """Images and labels in two IDX files, plain or gzip."""

    kind: Literal["idx"]
    images: Path
    labels: Path


class TableSource(Model):
    """What CSV and Parquet files have in common."""

    path: Path
    label: str = Field(description="column of the label")
    id: str | None = Field(None, description="column of the identifier")
    time: str | None = Field(None, description="column of the event time")
    segment: str | None = Field(None, description="column of the true segment")
    columns: tuple[str, ...] | None = Field(None, description="columns to use as features; null: all others")
    drop: tuple[str, ...] = Field((), description="columns to leave out")
    on_bad_row: Literal["fail", "skip"] = Field("fail", description="a bad row ends the run, or is counted and skipped")


class CsvSource(TableSource):
    """A CSV file, plain or gzip."""

    kind: Literal["csv"]
    delimiter: str = Field(",", min_length=1, max_length=1)
    decimal: str = Field(".", min_length=1, max_length=1)
    header: bool = True
    encoding: str = "utf-8"
    missing: tuple[str, ...] = Field(("", "?"), description="texts that mean a missing value")


class ParquetSource(TableSource):
    """A Parquet file."""

    kind: Literal["parquet"]


class NpzSource(Model):
    """A numpy archive with arrays `x` [N, F] and `y` [N]."""

    kind: Literal["npz"]
    path: Path


class RiverSource(Model):
    """A data set or generator of river, by its class name."""

    kind: Literal["river"]
    name: str
    options: dict[str, Any] = Field(default_factory=dict, description="arguments of its constructor")


class PythonSource(Model):
    """A Python callable that yields `(x, label)` or `(features, label)`."""

    kind: Literal["python"]
    callable: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="module:function")
    options: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the call")
    live: bool = Field(False, description=(
        "a feed that cannot be read again: a producer that is started again goes on with what comes then"))


class TopicSource(Model):
    """An existing topic that others fill: where the parts of a sample stand in their documents."""

    kind: Literal["topic"]
    label: FieldPath = Field(description="path of the label; a record without it is unlabelled")
    features: Annotated[tuple[FieldPath, ...], Field(min_length=1, max_length=65536)] | None = Field(
        None, description="paths of the features; null: all numbers, texts and booleans beside the label")
    x: FieldPath | None = Field(None, description="path of a list of numbers: dense inputs, instead of features")
    id: FieldPath | None = Field(None, description="path of the identifier")
    time: FieldPath | None = Field(None, description="path of the event time")
    time_unit: Literal["s", "ms", "us", "ns"] = Field("s", description="unit of times that are numbers")
    segment: FieldPath | None = Field(None, description="path of the true segment")
    samples: FieldPath | None = Field(None, description="path of a list of samples within the document, in which all "
                                                        "other paths start; null: the document is one, or a list")
    codec: str = Field("auto", pattern=r"^[\w.-]+(:[A-Za-z_]\w*)?$", description="`json`; `auto`: JSON, Arrow or "
                       "streamil's own; `module:function`, or the name of an installed one")

    @model_validator(mode="after")
    def _each_field_once(self) -> Self:
        if self.x is not None and self.features is not None:
            raise ValueError("a sample has x or features, never both")
        beside = {dotted(path) for path in (self.label, self.id, self.time, self.segment) if path is not None}
        names = [dotted(path) for path in self.features or (self.x,) if path is not None]
        for place, name in enumerate(names):
            if name in beside:
                raise ValueError(f"{name} is the label, id, time or segment, hence no feature")
            if name in names[:place]:
                raise ValueError(f"two features are called {name}")
        return self


Source = Annotated[
    MnistSource | ElecSource | WeatherSource | IdxSource | CsvSource | ParquetSource | NpzSource | RiverSource
    | PythonSource | TopicSource, Field(discriminator="kind"),
]


class NumberFeature(Model):
    """A number: one input, scaled."""

    kind: Literal["number"]


class CategoryFeature(Model):
    """One of several texts: one input each, in order of appearance; those that come last share one."""

    kind: Literal["category"]
    slots: int = Field(32, ge=2, le=4096, description="inputs; the last one is shared by all values beyond")


class TimeFeature(Model):
    """A time: seconds since 1970, standardised whatever `scale` says, and two inputs for each cycle."""

    kind: Literal["time"]
    unit: Literal["s", "ms", "us", "ns"] = Field("s", description="what a number counts since 1970")
    cycles: tuple[Literal["day", "week", "year"], ...] = Field(
        (), description="`day`, `week`, `year`: sine and cosine of the place in each, UTC")

    @field_validator("cycles")
    @classmethod
    def _cycles_once(cls, cycles: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(cycles)) != len(cycles):
            raise ValueError("each cycle once")
        return cycles


Feature = Annotated[NumberFeature | CategoryFeature | TimeFeature, Field(discriminator="kind")]


class SinglePass(Model):
    """Every sample once, in an order shuffled by the stream's seed."""

    kind: Literal["single-pass"]


class Correlated(Model):
    """Runs of one class, as when a thing stays in view."""

    kind: Literal["correlated"]
    dwell: float = Field(ge=1, le=1_000_000, description="mean length of a run, in samples")


class ClassIncremental(Model):
    """A few classes at a time, one block after another."""

    kind: Literal["class-incremental"]
    classes_per_block: int = Field(ge=1, le=65_536, description="classes of a block, those that waited longest")
    samples_per_block: int = Field(ge=1, le=1_000_000_000, description="samples of a block, all its classes together")


class Drift(Model):
    """Labels, features or the view change at known places."""

    kind: Literal["drift"]
    what: Literal["labels", "features", "rotation"] = Field(description="what changes")
    how: Literal["abrupt", "gradual", "recurring"] = Field(
        "abrupt", description="all at once; by a mixture of old and new; or back and forth between two concepts")
    every: int = Field(ge=1, le=1_000_000_000, description="samples from one change to the next")
    width: int | None = Field(None, ge=1, description=(
        "samples over which a change happens, every at most; null: half of every if gradual, else at once"))

    @field_validator("width")
    @classmethod
    def _width_fits(cls, width: int | None, rest: ValidationInfo) -> int | None:
        if width is not None and rest.data.get("how") == "abrupt":
            raise ValueError("an abrupt change has none; leave it out, or set how: gradual")
        if width is not None and width > rest.data.get("every", width):
            raise ValueError(f"at most every ({rest.data['every']}), or one change would begin within another")
        return width

    @property
    def mixture(self) -> int:
        """Samples around a change in which both concepts come."""
        return self.width or (max(1, self.every // 2) if self.how == "gradual" else 0)


class LongTail(Model):
    """A few common classes and many rare ones."""

    kind: Literal["long-tail"]
    exponent: float = Field(ge=0, le=100, description="a class of rank r is r^-exponent as frequent as the first")


class NoisySenses(Model):
    """Gaussian noise on all numbers."""

    kind: Literal["noisy-senses"]
    sigma: float = Field(ge=0, le=1000, description=(
        "deviation of the noise: of uint8 inputs as a share of 255, of others in deviations of the input itself"))


class NoisyLabels(Model):
    """Some labels are wrong."""

    kind: Literal["noisy-labels"]
    rate: float = Field(ge=0, le=1, description="share of labels that are replaced by another class's")


class SparseLabels(Model):
    """A label now and then."""

    kind: Literal["sparse-labels"]
    keep: float = Field(ge=0, le=1, description="share of labels that are kept")


class DelayedLabels(Model):
    """Labels that come later, each by a record of its own."""

    kind: Literal["delayed-labels"]
    samples: int | None = Field(None, ge=1, le=10_000_000, description="further samples that come before a label")
    seconds: float | None = Field(None, gt=0, le=1e9, description="event time that passes before a label")
    together: int = Field(8, ge=1, le=4096, description="due labels come before every so many samples, in one record")

    @model_validator(mode="after")
    def _one_delay(self) -> Self:
        if (self.samples is None) == (self.seconds is None):
            raise ValueError("samples or seconds: one of the two says how long a label takes")
        return self


class Limited(Model):
    """The first samples, again and again."""

    kind: Literal["limited"]
    samples: int = Field(ge=1, le=1_000_000_000, description="samples to take")
    repeats: int = Field(ge=1, le=1_000_000, description="passes through them; each after the first is shuffled anew")


class Bursty(Model):
    """Event times that come in bursts; the producer keeps to them."""

    kind: Literal["bursty"]
    rate: float = Field(gt=0, le=1_000_000_000, description="samples per second, on average")
    burst: int = Field(ge=1, le=1_000_000, description="samples of a burst; 1: a Poisson process")


Regime = Annotated[
    SinglePass | Correlated | ClassIncremental | Drift | LongTail | NoisySenses | NoisyLabels | SparseLabels | Limited
    | Bursty | DelayedLabels, Field(discriminator="kind"),
]
REORDERING = frozenset({"single-pass", "correlated", "class-incremental", "limited", "bursty"})
"""Regimes that move samples or stamp their times; none may follow one that stamped them."""


class Stream(Model):
    """What is put on the topic, and how."""

    source: Source
    limit: int | None = Field(None, ge=1, description="samples to take; null: all")
    seed: int = Field(0, ge=0, lt=2**63, description="of the regimes' random choices")
    classes: tuple[str, ...] | None = Field(None, description="a fixed list closes the set; null: met as they come")
    label_map: dict[str, str] = Field(default_factory=dict, description="renames labels")
    regimes: tuple[Regime, ...] = Field(
        (), max_length=32, description="reshaping of the source, in order; none: source order")
    topic: str | None = Field(None, description="topic of the samples; null: the experiment's name")
    samples_per_record: int = Field(8, ge=1, le=4096)
    codec: Literal["arrow", "json"] = Field("arrow", description="form of the records")
    rate: float | None = Field(None, gt=0, description="samples per second; null: as fast as the broker takes them")
    scale: Literal["auto", "standardise", "none"] = Field("auto", description="done by the race, never by the producer")
    pending_bytes: int = Field(64 << 20, ge=1 << 16, description="room for samples that wait for their label")
    features: dict[str, Feature] = Field(
        default_factory=dict, description="kinds of named features; one that is not named has that of its first value")
    missing_indicators: bool = Field(False, description="one more input for each number or time: 1 where it is missing")

    @field_validator("features", mode="before")
    @classmethod
    def _kinds_alone(cls, features: Any) -> Any:
        if isinstance(features, Mapping):
            return {str(name) if isinstance(name, int) else name: {"kind": kind} if isinstance(kind, str) else kind
                    for name, kind in features.items()}
        return features

    @field_validator("classes", mode="before")
    @classmethod
    def _label_texts(cls, classes: Any) -> Any:
        if isinstance(classes, Sequence) and not isinstance(classes, str):
            texts = [label_text(label) for label in classes]
            if None in texts or len(set(texts)) != len(texts):
                raise ValueError("each class once, none of them null")
            return texts
        return classes

    @field_validator("label_map", mode="before")
    @classmethod
    def _label_map_texts(cls, renamed: Any) -> Any:
        if isinstance(renamed, Mapping):
            return {label_text(old): label_text(new) for old, new in renamed.items()}
        return renamed

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        kinds = [regime.kind for regime in self.regimes]
        after = kinds[kinds.index("bursty") + 1:] if self.paced_by_time else []
        moving = next((kind for kind in after if kind in REORDERING), None)
        if moving is not None:
            raise PydanticCustomError("order", "{message}", {"place": ("stream", "regimes"), "message":
                f"bursty stamps the times of samples as they stand, and {moving} comes after it: put bursty last"})
        if "delayed-labels" in kinds[:-1]:
            raise PydanticCustomError("order", "{message}", {"place": ("stream", "regimes"), "message":
                "delayed-labels parts samples from their labels, so no regime can follow: put it last"})
        if self.paced_by_time and self.rate is not None:
            raise PydanticCustomError("order", "{message}", {"place": ("stream", "rate"), "message":
                "the regime bursty has a rate of its own: leave stream.rate out"})
        return self

    @property
    def paced_by_time(self) -> bool:
        """Whether event times say when samples are due, in seconds after the stream's first one, which is at 0."""
        return any(regime.kind == "bursty" for regime in self.regimes)


class Network(Model):
    """The shape that all arms share."""

    hidden: tuple[Annotated[int, Field(ge=1, le=65536)], ...] = Field((64, 64), max_length=10)
    activation: Literal["relu", "tanh", "leaky-relu", "identity"] = "relu"


class Arm(Model):
    """One algorithm with its hyperparameters; a list-valued hyperparameter is a sweep."""

    model_config = ConfigDict(extra="allow")

    algorithm: str
    batch_size: Annotated[int, Field(ge=1, le=4096)] | tuple[Annotated[int, Field(ge=1, le=4096)], ...] = 1
    seeds: int = Field(1, ge=1, le=100, description="replicates of every candidate")

    @field_validator("batch_size")
    @classmethod
    def _sizes_once(cls, sizes: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if isinstance(sizes, tuple) and (not sizes or len(set(sizes)) != len(sizes)):
            raise ValueError("each batch size once, at least one")
        return sizes

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The hyperparameters as written: values, or lists of values."""
        return dict(self.model_extra or {})


class ComparisonOf(Model):
    """Two arms to compare."""

    challenger: str
    baseline: str


class Verdict(Model):
    """How sure a verdict must be."""

    alpha: float = Field(0.05, gt=0, lt=1, description="error rate of all verdicts of the experiment together")


class Evaluation(Model):
    """How accuracy is followed over time."""

    window: int = Field(1000, ge=1, le=1_000_000, description="samples in the windowed accuracy")
    fading: float = Field(0.999, ge=0.5, lt=1, description="weight of the past in the fading accuracy, per sample")


class Kafka(Model):
    """Where the broker is."""

    bootstrap_servers: str = "127.0.0.1:9092"
    start: Literal["earliest", "latest"] = Field("earliest", description="where a consumer without a position starts")


class Service(Model):
    """How the two processes serve."""

    metrics: str = Field("127.0.0.1:9108", description="address of the consumer's metrics and page")
    producer_metrics: str = Field("127.0.0.1:9109", description="address of the producer's metrics")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto: a GPU where there is one")
    threads: int = Field(1, ge=1, le=256, description="threads of torch; part of what makes numbers repeat")

    @field_validator("metrics", "producer_metrics")
    @classmethod
    def _address(cls, address: str) -> str:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError("host:port, for example 127.0.0.1:9108")
        return address


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

    @model_validator(mode="after")
    def _arms_exist(self) -> Self:
        names = self.arm_names
        for index, pair in enumerate(self.comparisons or ()):
            for side in (pair.challenger, pair.baseline):
                if side not in names:
                    raise PydanticCustomError("unknown_arm", "{message}", {
                        "place": ("comparisons", index), "message":
                        f"found arm {side!r}, which does not exist{nearest(side, names)}; arms: {', '.join(names)}"})
        return self

    @property
    def topic(self) -> str:
        """The topic of the samples."""
        return self.stream.topic or self.name

    @property
    def arm_names(self) -> list[str]:
        """Names of the arms, those with several batch sizes as `name@B`."""
        return [name for arm, settings in self.arms.items() for name, _ in batch_sizes(arm, settings)]

    @property
    def folder(self) -> Path:
        """The folder that relative paths in the file are relative to."""
        return self._path.absolute().parent if self._path else Path()

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
        for key, name, suffix in (("name", self.name, ".predictions"), ("stream.topic", self.topic, ".dead")):
            if not TOPIC_NAME.fullmatch(name) or name in (".", "..") or len(name + suffix) > TOPIC_LENGTH:
                shown = name if len(name) <= 60 else f"{name[:57]}... ({len(name)} letters)"
                raise TopicMismatch(
                    f"{key}: {shown!r} cannot name a Kafka topic; allowed: a-z, A-Z, 0-9, '.', '_' and '-', at most "
                    f"{TOPIC_LENGTH - len(suffix)} of them (with {suffix!r} {TOPIC_LENGTH}), and neither '.' nor '..'")


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
    data, lines = read_yaml(path)
    try:
        experiment = Experiment.model_validate(data)
    except ValidationError as error:
        raise ExperimentError(problems(error, Experiment, data, lines), str(path)) from None
    experiment._path, experiment._lines = path, lines
    return experiment
