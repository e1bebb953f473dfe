"""What a mini-batch changes in one layer, as a product of two thin matrices."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Factors(NamedTuple):
    """One layer's update as a product, dW = errors^T presynaptic, db = errors^T bias.

    errors [A, K, n_l] and presynaptic [A, K, n_{l-1}], mostly K = B; bias [A, K, 1], None for ones.
    """

    errors: Tensor
    presynaptic: Tensor
    bias: Tensor | None = None


def bias_step(errors: Tensor, ones: Tensor | None) -> Tensor:
    """Sum the errors over the mini-batch, weighted by the bias's factor: [A, 1, n_l]."""
    if ones is not None:
        return torch.bmm(ones.mT, errors)
    return errors if errors.shape[1] == 1 else errors.sum(1, keepdim=True)
