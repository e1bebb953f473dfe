"""Where samples come from: settings of each source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from streamil.experiment.model import Model
from streamil.field_path import FieldPath, dotted

CODEC = r"^[\w.-]+(:[A-Za-z_]\w*)?$"


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


class LabelsTopic(Model):
    """An existing topic of labels, apart from the samples that they belong to."""

    topic: str = Field(description="its name; it has one partition")
    id: FieldPath = Field(description="path of the identifier of the sample")
    label: FieldPath = Field(description="path of the label")
    codec: str = Field("auto", pattern=CODEC, description="as of `source.codec`")


class TopicSource(Model):
    """An existing topic that others fill: where the parts of a sample stand in their documents."""

    kind: Literal["topic"]
    label: FieldPath | None = Field(None, description="path of the label; a record without it is unlabelled; may be "
                                    "left out where `labels` is given")
    features: Annotated[tuple[FieldPath, ...], Field(min_length=1, max_length=65536)] | None = Field(
        None, description="paths of the features; null: all numbers, texts and booleans beside the label")
    x: FieldPath | None = Field(None, description="path of a list of numbers: dense inputs, instead of features")
    id: FieldPath | None = Field(None, description="path of the identifier")
    time: FieldPath | None = Field(None, description="path of the event time")
    time_unit: Literal["s", "ms", "us", "ns"] = Field("s", description="unit of times that are numbers")
    segment: FieldPath | None = Field(None, description="path of the true segment")
    samples: FieldPath | None = Field(None, description="path of a list of samples within the document, in which all "
                                                        "other paths start; null: the document is one, or a list")
    labels: LabelsTopic | None = Field(None, description="labels that have a topic of their own, joined by `id`")
    codec: str = Field("auto", pattern=CODEC, description="`json`; `auto`: JSON, Arrow or "
                       "streamil's own; `module:function`, or the name of an installed one")

    @model_validator(mode="after")
    def _each_field_once(self) -> Self:
        if self.x is not None and self.features is not None:
            raise ValueError("a sample has x or features, never both")
        if self.label is None and self.labels is None:
            raise ValueError("label is missing: the path of the label, or labels, the topic that has them")
        if self.labels is not None and self.id is None:
            raise ValueError("labels are joined by id: name the path of the identifier")
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
