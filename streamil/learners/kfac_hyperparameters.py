"""Hyperparameters that il-kfac and bp-kfac share."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from streamil.learners.hyperparameters import RuleHyperparameters


class KFacHyperparameters(RuleHyperparameters):
    """Hyperparameters of both rules in the K-FAC metric."""

    structural: ClassVar[tuple[str, ...]] = ("train_biases", "adaptive", "batch_rule", "refresh")

    alpha: float = Field(default=5e-4, gt=0, description="Step size; the first one where it is adaptive.")
    adaptive: bool = Field(default=True, description="The step size follows the stream; predict by a mixture.")
    alpha_min: float = Field(default=2e-5, gt=0, description="Smallest step size, if adaptive.")
    alpha_max: float = Field(default=1e-2, gt=0, description="Largest step size, if adaptive.")
    alpha_gain: float = Field(default=0.01, ge=0, description="How quickly the step size follows.")
    average_rate: float = Field(default=0.003, gt=0, le=1, description="Rate of the running average of the weights.")
    share: float = Field(default=0.01, ge=0, le=0.5, description="Least part of either in the mixture of predictions.")
    forget: float = Field(default=0.98, ge=0, le=1, description="What a sample leaves of the lead.")
    epsilon: float = Field(default=0.25, gt=0, description="Added to each squared norm.")
    damping: float = Field(default=0.3, gt=0, description="Added to the metric's diagonal.")
    metric_rate: float = Field(default=2e-4, ge=0, le=1, description="Rate of the covariance of each layer's input.")
    precision_rate: float = Field(default=1e-3, ge=0, le=1, description="Rate of each unit's mean squared error.")
    precision_damping: float = Field(default=0.1, ge=0, le=1, description="Part of the mean in a unit's square.")
    refresh: int = Field(
        default=512, ge=1, le=1_000_000, description="Most samples between two inversions of the metric.")
    batch_rule: Literal["sequential", "affine-projection", "mean"] = Field(
        default="sequential", description="Learn a mini-batch one by one, jointly, or by the mean of its steps."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.alpha_min > self.alpha_max:
            raise ValueError(f"alpha_min = {self.alpha_min} must not exceed alpha_max = {self.alpha_max}")
        return self
