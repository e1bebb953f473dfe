"""What the proximal rules share: a soft output target, and the normalised update of one layer."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from streamil.learners.factors import Factors
from streamil.learners.hyperparameters import RuleHyperparameters
from streamil.learners.stacked import StackedPopulation


class ProximalHyperparameters(RuleHyperparameters):
    """Hyperparameters of rules that approximate a proximal step."""

    structural: ClassVar[tuple[str, ...]] = ("train_biases", "batch_rule")

    alpha: float = Field(default=1.0, gt=0, description="Step size of the proximal step; enters the target alone.")
    epsilon: float = Field(default=1.0, ge=0, description="Added to squared norms.")
    batch_rule: Literal["affine-projection", "nlms-mean"] = Field(
        default="affine-projection", description="Minimum-norm solution of the mini-batch, or the authors' mean."
    )


class Proximal(StackedPopulation):
    r"""Target $t = q + c\,(y - q)$ with $c = \alpha n / (1 + \alpha n)$, and each layer's regression of its errors.

    $n = \|f(h_{L-1})\|^2 + 1 + \epsilon$ per sample; biases that are not trained add no 1, here and in the update.
    """

    def _refresh(self) -> None:
        super()._refresh()
        self._batch_rule = cast("ProximalHyperparameters", self.members[0]).batch_rule
        self._bias_norm = 1.0 if self._train_biases else 0.0
        self._inverse_alpha = self._values("alpha").reciprocal()
        self._epsilon = self._values("epsilon")
        self._padding = self._epsilon + self._bias_norm
        # the smallest divisor: all-zero inputs with epsilon = 0 and no bias ask for nothing and get nothing
        self._smallest = math.sqrt(torch.finfo(self._like.dtype).tiny)

    def _target(self, q: Tensor, presynaptic: Tensor, labels: Tensor, *, first: bool = False) -> Tensor:
        n = self._norm(presynaptic, first)
        return torch.lerp(q, labels, n / (n + self._inverse_alpha))  # alpha n / (1 + alpha n), without overflow

    def _norm(self, presynaptic: Tensor, first: bool) -> Tensor:
        """Squared norm n of what feeds the output, [A, B, 1]; `first` leaves out the bias's 1."""
        return _squares(presynaptic).add_(self._epsilon if first else self._padding)

    def _local_update(self, errors: Tensor, presynaptic: Tensor) -> Factors:
        r"""Solve one layer's regression of errors [A, B, n_l] on $\tilde r = [r, 1]$, r [A, B, n_{l-1}].

        One sample: normalised LMS, $d\tilde W = e \tilde r^T / (\|r\|^2 + 1 + \epsilon)$. More: the regularised affine
        projection, the minimum-norm solution $d\tilde W = E^T (\tilde R \tilde R^T + \epsilon I)^{-1} \tilde R$, by its
        dual $E^T \tilde R (\tilde R^T \tilde R + \epsilon I)^{-1}$ where B exceeds the inputs; or the authors'
        $\mathrm{mean}_b(e \tilde r^T) / (\mathrm{mean}_b \|r\|^2 + 1 + \epsilon)$.
        """
        size, inputs = presynaptic.shape[1:]
        if size == 1 or self._batch_rule == "nlms-mean":
            norm = _squares(presynaptic).mean(1, keepdim=True).add_(self._padding)
            return Factors(errors / norm.clamp_min_(self._smallest).mul_(size), presynaptic)
        if size <= inputs + self._bias_norm:
            gram = torch.bmm(presynaptic, presynaptic.mT).add_(self._bias_norm)
            return Factors(self._solve(gram, errors), presynaptic)
        wide = torch.nn.functional.pad(presynaptic, (0, 1), value=self._bias_norm)
        unit = torch.eye(inputs + 1, dtype=wide.dtype, device=wide.device).expand(len(wide), -1, -1)
        solution = self._solve(torch.bmm(wide.mT, wide), torch.bmm(wide.mT, errors))
        return Factors(solution, unit[..., :-1], unit[..., -1:])

    def _solve(self, gram: Tensor, right: Tensor) -> Tensor:
        """Solve (gram + epsilon I) z = right; where epsilon is below what the precision resolves, with that instead."""
        diagonal = gram.diagonal(dim1=-2, dim2=-1)
        resolved = diagonal.sum(-1, keepdim=True).mul_(torch.finfo(gram.dtype).eps)
        diagonal.add_(torch.maximum(self._epsilon.squeeze(-1), resolved).clamp_min_(self._smallest))
        solution: Tensor = torch.linalg.solve_ex(gram, right).result
        return solution


def _squares(values: Tensor) -> Tensor:
    return values.square().sum(-1, keepdim=True)
