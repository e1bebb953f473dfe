"""Adam (Kingma and Ba 2015, algorithm 1) on whatever gradient a rule finds."""

from __future__ import annotations

import math
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor
from torch.optim.adam import adam

from streamil.learners.factors import Factors, bias_step
from streamil.learners.hyperparameters import RuleHyperparameters
from streamil.learners.stacked import StackedPopulation

Decay = Annotated[float, Field(ge=0, lt=1)]


class AdamHyperparameters(RuleHyperparameters):
    """Hyperparameters of rules that feed Adam."""

    learning_rate: float = Field(default=0.001, gt=0, description="Step size.")
    betas: tuple[Decay, Decay] = Field(
        default=(0.9, 0.999), strict=False, description="Decay of the running mean of gradients, and of their squares."
    )
    eps: float = Field(default=1e-8, ge=1e-30, description="Added to the root of the mean square.")


class Adam(StackedPopulation):
    r"""$\theta \leftarrow \theta - \eta\,\hat m / (\sqrt{\hat v} + \epsilon)$, a rule's `_factors` being the gradient.

    $m \leftarrow m + (1 - \beta_1)(g - m)$, $v \leftarrow v + (1 - \beta_2)(g^2 - v)$, $\hat m = m / (1 - \beta_1^t)$,
    $\hat v = v / (1 - \beta_2^t)$, t the mini-batches learned. A class met later starts with m = v = 0 at that t, as it
    would have been had its row been there, masked, from the start.
    """

    slots = ("mean", "square")

    def _refresh(self) -> None:
        super()._refresh()
        members = [cast("AdamHyperparameters", member) for member in self.members]
        self._moving = [(place, m) for place, m in enumerate(members) if not self._diverged[place]]
        self._gradients = [torch.empty_like(tensor) for tensor in self.parameters.flat]
        self._counts = [torch.zeros((), dtype=torch.float32, device=self._like.device) for _ in self._gradients]
        # the corrected mean is at most the largest gradient, the divisor at least eps: no move exceeds peak * stretch
        means = [mean[~self._diverged] for mean in self.parameters.slots["mean"]]
        largest = max((mean.abs().max().item() for mean in means if mean.numel()), default=0.0)
        self._peak = largest / min(1 - m.betas[0] for m in members)
        self._stretch = max(max(m.learning_rate, 1.0) / ((1 - m.betas[0]) * m.eps) for m in members)

    def _reach(self, step: float) -> float:
        if not step * step < self._limit:
            return math.inf
        self._peak = max(self._peak, step)
        return self._peak * self._stretch + step * step

    def _apply(self, factors: list[Factors]) -> None:
        self._apply_at(factors, self.steps - 1)

    def _apply_at(self, factors: list[Factors], before: int | Tensor) -> None:
        """Apply the update after so many earlier ones; a CUDA graph has their number on the device."""
        for place, (errors, presynaptic, ones) in enumerate(factors):
            torch.bmm(errors.mT, presynaptic, out=self._gradients[2 * place])
            self._gradients[2 * place + 1].copy_(bias_step(errors, ones))
        taken = slice(None) if self._train_biases else slice(0, None, 2)
        slots = self.parameters.slots
        # torch's fused step reads and writes each weight once; one call per member, whose rates differ
        for place, member in self._moving:
            counts = [count.fill_(before) for count in self._counts[taken]]
            weights, gradients, means, squares = (
                [tensor[place] for tensor in tensors[taken]]
                for tensors in (self.parameters.flat, self._gradients, slots["mean"], slots["square"]))
            adam(weights, gradients, means, squares, [], counts, foreach=False, fused=True, amsgrad=False,
                 beta1=member.betas[0], beta2=member.betas[1], lr=member.learning_rate, weight_decay=0.0,
                 eps=member.eps, maximize=False)
