"""BP-ObGD: overshooting-bounded gradient descent (Elsayed, Vasan and Mahmood 2024), for the cross-entropy."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from streamil.learners.backprop import Backprop
from streamil.learners.factors import Factors
from streamil.learners.hyperparameters import RuleHyperparameters
from streamil.learners.norms import absolute_norm


class BPObGDHyperparameters(RuleHyperparameters):
    """Hyperparameters of `bp-obgd`."""

    alpha: float = Field(default=0.1, gt=0, description="Longest step.")
    kappa: float = Field(default=0.03, gt=0, description="How far a step stays from where it could overshoot.")


class BPObGD(Backprop):
    r"""Gradient descent whose step shrinks where it could overshoot.

    $\theta \leftarrow \theta - \frac{\alpha}{\max(1, \alpha \kappa \|g\|_1)}\, g$ with g the gradient of the
    mini-batch's mean cross-entropy: all of theta moves by at most $1 / \kappa$ in the 1-norm. The original bounds
    temporal-difference errors with eligibility traces; here g takes their place.

    Shapes: W_l [A, n_l, n_{l-1}], b_l [A, n_l]; A members, B samples.

    References
    ----------
    Elsayed, Vasan, Mahmood: Streaming Deep Reinforcement Learning Finally Works. 2024.

    Examples
    --------
    >>> from streamil.learners import create
    >>> population = create("bp-obgd", [2, 2], [{"alpha": 1e6, "kappa": 2.0}])
    >>> before = population.weights[0][0]
    >>> outcome = population.step([[1.0, 0.0]], [0])
    >>> bool((population.weights[0][0] - before).abs().sum() <= 0.5)
    True
    """

    algorithm = "bp-obgd"
    Hyperparameters = BPObGDHyperparameters

    def _refresh(self) -> None:
        super()._refresh()
        self._inverse_alpha, self._kappa = self._values("alpha").reciprocal(), self._values("kappa")

    def _factors(self, predictions: list[Tensor], presynaptic: list[Tensor], labels: Tensor) -> list[Factors]:
        descent = self._backward(presynaptic, (labels - self._softmax(predictions[-1])).div_(self.batch_size))
        divisor = (self._kappa * absolute_norm(descent, self._train_biases)).maximum(self._inverse_alpha)
        return [Factors(each.errors / divisor, each.presynaptic) for each in descent]
