"""Kinds of named features, as declared."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from streamil.experiment.model import Model


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
