"""The stream: source, regimes, and how it is put on its topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from streamil.experiment.features import Feature
from streamil.experiment.model import Model
from streamil.experiment.regimes import REORDERING, Regime
from streamil.experiment.sources import LabelsTopic, Source, TopicSource
from streamil.samples import label_text


class Stream(Model):
    """What is put on the topic, and how."""

    source: Source
    limit: int | None = Field(None, ge=1, description="samples to take; null: all")
    seed: int = Field(0, ge=0, lt=2**63, description="of the regimes' random choices")
    classes: tuple[str, ...] | None = Field(
        None, min_length=1, description="a fixed list closes the set; null: met as they come")
    label_map: dict[str, str] = Field(default_factory=dict, description="renames labels")
    regimes: tuple[Regime, ...] = Field(
        (), max_length=32, description="reshaping of the source, in order; none: source order")
    topic: str | None = Field(None, description="topic of the samples; null: the experiment's name")
    samples_per_record: int = Field(8, ge=1, le=4096)
    codec: Literal["arrow", "json"] = Field("arrow", description="form of the records")
    rate: float | None = Field(None, gt=0, description="samples per second; null: as fast as the broker takes them")
    scale: Literal["auto", "standardise", "none"] = Field("auto", description="done by the race, never by the producer")
    max_classes: int = Field(1000, ge=2, le=65536, description="classes that may be met as they come; a sample with "
                             "one more is rejected: labels come from strangers, and each costs every arm a row of "
                             "weights")
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
            texts = {label_text(old): label_text(new) for old, new in renamed.items()}
            if len(texts) < len(renamed):
                raise ValueError("each label once: true and \"true\", 1 and \"1\" are one")
            return texts
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
    def labels(self) -> LabelsTopic | None:
        """The topic of the labels, where they have one of their own."""
        return self.source.labels if isinstance(self.source, TopicSource) else None

    @property
    def paced_by_time(self) -> bool:
        """Whether event times say when samples are due, in seconds after the stream's first one, which is at 0."""
        return any(regime.kind == "bursty" for regime in self.regimes)
