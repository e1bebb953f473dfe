"""Norms of a mini-batch's gradient, from its factors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from streamil.learners.factors import Factors


def squared_norm(gradient: Sequence[Factors], biases: bool) -> Tensor:
    r"""Return $\|g\|^2$ of each member [A, 1, 1], over all layers.

    For $G = E^T R$ it is $\langle E E^T, R R^T \rangle$: two Gram matrices [B, B], never G itself; for one sample
    $\|e\|^2 \|r\|^2$. Biases, where they count, add 1 to every element of $R R^T$.

    Examples
    --------
    >>> layer = Factors(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[1.0, 2.0]]]))
    >>> squared_norm([layer], biases=True).item()  # (9 + 16) * (1 + 4 + 1)
    150.0
    """
    total = gradient[0].errors.new_zeros(())
    for errors, presynaptic, _ in gradient:
        inputs = torch.bmm(presynaptic, presynaptic.mT)
        total = total + (torch.bmm(errors, errors.mT) * (inputs + 1 if biases else inputs)).sum((1, 2), keepdim=True)
    return total


def absolute_norm(gradient: Sequence[Factors], biases: bool) -> Tensor:
    r"""Return $\|g\|_1$ of each member [A, 1, 1], over all layers.

    For one sample it is $\|e\|_1 \|r\|_1$; more samples can cancel, so there G is formed.

    Examples
    --------
    >>> layer = Factors(torch.tensor([[[3.0, -4.0]]]), torch.tensor([[[1.0, -2.0]]]))
    >>> absolute_norm([layer], biases=True).item()  # (3 + 4) * (1 + 2 + 1)
    28.0
    """
    total = gradient[0].errors.new_zeros(())
    for errors, presynaptic, _ in gradient:
        if errors.shape[1] == 1:
            inputs = presynaptic.abs().sum(-1, keepdim=True)
            total = total + errors.abs().sum(-1, keepdim=True) * (inputs + 1 if biases else inputs)
        else:
            total = total + torch.bmm(errors.mT, presynaptic).abs().sum((1, 2), keepdim=True)
            if biases:
                total = total + errors.sum(1, keepdim=True).abs().sum(-1, keepdim=True)
    return total
