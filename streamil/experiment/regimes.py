"""What reshapes a stream: settings of each regime."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from streamil.experiment.model import Model


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
