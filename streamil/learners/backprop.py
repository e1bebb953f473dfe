"""What the explicit rules share: one backward pass of the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from streamil.learners.factors import Factors
from streamil.learners.stacked import StackedPopulation


class Backprop(StackedPopulation):
    r"""Errors by backpropagation: $g_L = s\,(y - q)$, $g_l = f'(h_l) \odot W_{l+1}^T g_{l+1}$.

    s carries the rule's scale (the step size, the 1/B of a mean) through the pass, which is linear in it.
    """

    family = "bp"

    def _backward(self, presynaptic: list[Tensor], output_error: Tensor) -> list[Factors]:
        errors = [output_error]
        for weight, activity in zip(self.parameters.W[:0:-1], presynaptic[:0:-1], strict=True):
            errors.append(self.activation.backward(torch.bmm(errors[-1], weight), activity))
        return [Factors(e, r) for e, r in zip(reversed(errors), presynaptic, strict=True)]
