"""What is raced on the stream: network, arms, comparisons, and where it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator

from streamil.experiment.http import Http, host_and_port
from streamil.experiment.model import Model


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

    alpha: float = Field(0.05, ge=1e-9, le=0.999, description="error rate of all verdicts of the experiment together")
    controls: tuple[str, ...] = Field(
        (), max_length=20, description="arms that race against themselves with other seeds too (A/A controls)")


class Diagnostics(Model):
    """How often an update itself is looked at."""

    every: int = Field(1000, ge=1, description="updates between two looks; each takes seconds for large networks")
    alpha: float = Field(1.0, gt=0, description="step size of the implicit SGD step that updates are compared with")


class Evaluation(Model):
    """How accuracy is followed over time."""

    window: int = Field(1000, ge=1, le=1_000_000, description="samples in the windowed accuracy")
    fading: float = Field(0.999, ge=0.5, lt=1, description="weight of the past in the fading accuracy, per sample")
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.5, 0.8, 0.9, 0.95), max_length=20, description="windowed accuracies, and how many samples each arm needs")

    held: int = Field(50, ge=0, le=1000, description="samples kept of each of the first 20 segments, to see what is "
                      "forgotten; 0: none")
    diagnostics: Diagnostics | None = Field(None, description="diagnostics of the theory; null: none")

    @field_validator("thresholds")
    @classmethod
    def _thresholds_once(cls, thresholds: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(thresholds)) != len(thresholds):
            raise ValueError("each threshold once")
        return thresholds


class Snapshots(Model):
    """Where the consumer keeps its state and position, to go on from after any end."""

    folder: Path | None = Field(None, description="folder of the snapshots; null: snapshots/ and the experiment's name")
    every_samples: int = Field(5000, ge=1, description="samples, and late labels, between two snapshots")
    every_seconds: float | None = Field(None, gt=0, description="seconds after which one is due earlier; null: never")
    keep: int = Field(3, ge=1, le=1000, description="snapshots that stay")
    fail_after: int | None = Field(None, ge=1, description="failures in a row that end the consumer; null: none does")
    allow_pickle: bool = Field(False, description="save river arms, whose state has no form but pickle")


class PredictionsTopic(Model):
    """How what the arms predict is written to the topic `NAME.predictions`."""

    format: Literal["json", "arrow"] = Field("json", description="of the records")
    probabilities: bool = Field(False, description="of every class, not of the predicted one alone")


class Service(Model):
    """How the two processes serve."""

    metrics: str = Field("127.0.0.1:9108", description="address of the consumer's metrics and page")
    producer_metrics: str = Field("127.0.0.1:9109", description="address of the producer's metrics")
    http: Http = Field(Http(), description="who may ask for metrics and page, and how")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto: a GPU where there is one")
    snapshots: Snapshots | None = Field(Snapshots(), description="null: state is held in memory only")
    dead_letters: bool = Field(True, description="keep what is rejected on the topic `TOPIC.dead`")
    predictions: PredictionsTopic | None = Field(
        None, description="write what the arms predict to the topic `NAME.predictions`; null: do not")
    max_consecutive_rejects: int | None = Field(
        1000, ge=1, description="rejects in a row past which a consumer stops; null: none")
    threads: int = Field(
        1, ge=1, le=256, description="threads of torch and of kernels; part of what makes numbers repeat")
    kernels: Literal["auto", "none"] = Field(
        "auto", description="auto: fused paths where there are any, equal to rounding; none: the plain rules")

    @field_validator("metrics", "producer_metrics")
    @classmethod
    def _address(cls, address: str) -> str:
        host_and_port(address)
        return address
