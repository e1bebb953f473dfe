"""The metric of a layer: the covariance of what feeds it, and its damped inverse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WIDEST = 2048
"""Most inputs a layer may have: memory grows with their square, time with their cube."""


def recursion(rates: Sequence[float], first: int, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unroll m += max(rate, 1/k) (z_k - m) over k = first, ..., first + count - 1.

    Returns keep [G] and weights [G, count], so that m = keep m + sum_k weights_k z_k.

    Examples
    --------
    >>> keep, weights = recursion([0.0, 0.5], 1, 3)
    >>> keep.tolist(), weights.round(3).tolist()
    ([0.0, 0.0], [[0.333, 0.333, 0.333], [0.25, 0.25, 0.5]])
    """
    rate = np.maximum(np.reshape(rates, (-1, 1)), 1 / np.arange(first, first + count))
    kept = np.cumprod(1 - rate[:, ::-1], axis=1)[:, ::-1]  # what is left of m and z after each sample and all later
    weights = rate
    weights[:, :-1] *= kept[:, 1:]
    return kept[:, 0], weights


class Metric:
    r"""Running covariance $M \leftarrow M + \max(\rho, 1/t)(\tilde r \tilde r^T - M)$ and $P = (M + \delta I)^{-1}$.

    $\tilde r = [r, 1]$, the 1 being 0 where biases are not trained: P then leaves them alone. Samples are gathered
    until P is renewed, and M takes them in one product. What would leave M without a Cholesky factor is left out, so
    that both stay finite.

    Parameters
    ----------
    inputs
        Width n of the layer's input.
    rates, damping
        rho and delta of each of the G groups.
    group
        [A], the group of each member.
    shared
        The rows are the same for all: they are kept once.
    capacity
        Most samples between two renewals.
    bias
        What stands beside r, 1 or 0.
    scratch
        [3 G (n + 1)^2] at least, of the wanted dtype and device: working memory of renewals, which metrics may share.
        Fresh memory in place of it would be half of their cost.
    """

    def __init__(
        self, inputs: int, rates: Sequence[float], damping: Sequence[float], group: Sequence[int], *, shared: bool,
        capacity: int, bias: float, scratch: Tensor,
    ) -> None:
        self.rates = list(rates)
        self.bias = bias
        self.groups = list(group)
        self._group = torch.tensor(group, device=scratch.device) if 1 < len(rates) < len(group) else None
        self._damping = scratch.new_tensor(damping).unsqueeze(-1)
        self.covariance = scratch.new_zeros(len(rates), inputs + 1, inputs + 1)
        self.rows = scratch.new_zeros(1 if shared else len(rates), capacity, inputs + 1)
        self.rows[..., -1] = bias
        self.inverse = torch.empty_like(self.covariance)
        self._scratch = scratch[: 3 * self.covariance.numel()].view(3, *self.covariance.shape)
        self.invert()

    def invert(self) -> None:
        """Find P from M."""
        self._scratch[0].copy_(self.covariance)
        self._invert()
        self.inverse.copy_(self._scratch[2])

    def add(self, r: Tensor, place: int) -> None:
        """Keep r [A, K, n] as the rows from `place` on."""
        self.rows[:, place : place + r.shape[1], :-1] = r[: len(self.rows)]

    def renew(self, first: int, count: int) -> None:
        """Take in the `count` rows kept, the first being sample number `first` of all, and renew P."""
        keep, weights = (torch.from_numpy(each).to(self.covariance) for each in recursion(self.rates, first, count))
        covariance, _, inverse = self._scratch
        rows = self.rows[:, :count] * weights.sqrt().unsqueeze(-1)
        torch.mul(self.covariance, keep.view(-1, 1, 1), out=covariance).baddbmm_(rows.mT, rows)
        whole = self._invert()
        if bool(whole.all()):
            self.covariance.copy_(covariance)
            self.inverse.copy_(inverse)
        else:
            self.covariance[whole] = covariance[whole]
            self.inverse[whole] = inverse[whole]

    def times(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """Return P r~ [A, K, n + 1] and r~^T P r~ [A, K, 1] of r [A, K, n]."""
        r = r[: len(self.rates)] if len(self.rows) == 1 else r
        inputs = self.inverse[:, :-1]
        u = torch.baddbmm(self.inverse[:, -1:], r, inputs) if self.bias else torch.bmm(r, inputs)
        square = (u[..., :-1] * r).sum(-1, keepdim=True)
        if self.bias:
            square += u[..., -1:]
        if self._group is not None:
            return u[self._group], square[self._group]
        return u.expand(len(self.groups), -1, -1), square.expand(len(self.groups), -1, -1)

    def _invert(self) -> Tensor:
        """Leave damped inverses of the scratch's first matrices in its last; return where there is one, [G]."""
        covariance, factor, inverse = self._scratch
        factor.copy_(covariance)
        factor.diagonal(dim1=-2, dim2=-1).add_(self._damping)
        wrong = torch.empty(len(factor), dtype=torch.int32, device=factor.device)
        torch.linalg.cholesky_ex(factor.mT, out=(inverse.mT, wrong))  # column by column, as LAPACK has it: no copies
        whole: Tensor = (wrong == 0) & _finite(inverse) & (inverse.diagonal(dim1=-2, dim2=-1) > 0).all(1)
        if not bool(whole.all()):  # one that cannot be inverted would be an error for all
            inverse[~whole] = torch.eye(inverse.shape[-1], dtype=inverse.dtype, device=inverse.device)
        factor.copy_(inverse)
        torch.cholesky_inverse(factor.mT, out=inverse.mT)
        whole &= _finite(inverse)
        return whole


def _finite(matrices: Tensor) -> Tensor:
    """Return which of the matrices [G, n, n] are finite, [G]; nan stays nan in a maximum, at a tenth of the cost."""
    return torch.isfinite(matrices.amax((1, 2))) & torch.isfinite(matrices.amin((1, 2)))
