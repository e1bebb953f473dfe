"""BP-aProx: the truncated proximal step (Asi and Duchi 2019), a Polyak step that is never longer than alpha."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from streamil.learners.backprop import Backprop
from streamil.learners.factors import Factors
from streamil.learners.hyperparameters import RuleHyperparameters
from streamil.learners.norms import squared_norm


class BPAProxHyperparameters(RuleHyperparameters):
    """Hyperparameters of `bp-aprox`."""

    alpha: float = Field(default=0.3, gt=0, description="Longest step.")


class BPAProx(Backprop):
    r"""Proximal step on the loss's tangent, cut off at 0, below which no cross-entropy is.

    $\theta' = \arg\min_\theta \max(0,\, \ell_t + g^T (\theta - \theta_t)) + \frac{1}{2 \alpha}
    \|\theta - \theta_t\|^2$, which is $\theta \leftarrow \theta - \min(\alpha, \ell / \|g\|^2)\, g$ with
    $\ell$ the mini-batch's mean cross-entropy and g its gradient.

    Shapes: W_l [A, n_l, n_{l-1}], b_l [A, n_l]; A members, B samples.

    References
    ----------
    Asi, Duchi: Stochastic (Approximate) Proximal Point Methods: Convergence, Optimality, and Adaptivity. SIAM Journal
    on Optimization 29 (3), 2019.

    Examples
    --------
    >>> from streamil.learners import create
    >>> population = create("bp-aprox", [2, 2], [{"alpha": 1e6}], dtype="float64")
    >>> losses = [population.step([[1.0, 0.0]], [0]).loss.item() for _ in range(20)]
    >>> losses[-1] < 0.1 < losses[0]
    True
    """

    algorithm = "bp-aprox"
    Hyperparameters = BPAProxHyperparameters

    def _refresh(self) -> None:
        super()._refresh()
        self._alpha = self._values("alpha")
        self._smallest = torch.finfo(self._like.dtype).tiny

    def _factors(self, predictions: list[Tensor], presynaptic: list[Tensor], labels: Tensor) -> list[Factors]:
        logits = self._masked(predictions[-1])
        chosen = logits.gather(-1, labels.argmax(-1).expand(len(logits), -1).unsqueeze(-1))
        loss = (torch.logsumexp(logits, -1, keepdim=True) - chosen).clamp_min_(0).mean(1, keepdim=True)
        descent = self._backward(presynaptic, (labels - torch.softmax(logits, -1)).div_(self.batch_size))
        square = squared_norm(descent, self._train_biases).clamp_min_(self._smallest)
        step = (loss / square).minimum(self._alpha)
        return [Factors(each.errors * step, each.presynaptic) for each in descent]
