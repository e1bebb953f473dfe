"""Stochastic gradient descent on the mini-batch's mean cross-entropy, by backpropagation."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from streamil.learners.backprop import Backprop
from streamil.learners.factors import Factors
from streamil.learners.hyperparameters import RuleHyperparameters


class BPSGDHyperparameters(RuleHyperparameters):
    """Hyperparameters of `bp-sgd`."""

    learning_rate: float = Field(default=0.03, gt=0, description="Step size of the explicit gradient step.")


class BPSGD(Backprop):
    r"""Explicit SGD, the numbers of `torch.optim.SGD`.

    $\theta \leftarrow \theta - \eta\,\nabla_\theta \frac{1}{B} \sum_b \mathrm{CE}(y_b, q_b)$, q = softmax of logits.

    Shapes: W_l [A, n_l, n_{l-1}], b_l [A, n_l]; A members, B samples.

    Examples
    --------
    >>> from streamil.learners import create
    >>> population = create("bp-sgd", [2, 2], [{"learning_rate": 0.1}])
    >>> outcome = population.step([[1.0, 0.0]], [0])
    >>> bool(population.step([[1.0, 0.0]], [0]).loss < outcome.loss)
    True
    """

    algorithm = "bp-sgd"
    Hyperparameters = BPSGDHyperparameters

    def _refresh(self) -> None:
        super()._refresh()
        self._scale = self._values("learning_rate") / self.batch_size

    def _factors(self, predictions: list[Tensor], presynaptic: list[Tensor], labels: Tensor) -> list[Factors]:
        return self._backward(presynaptic, (labels - self._softmax(predictions[-1])).mul_(self._scale))
