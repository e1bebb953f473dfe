"""Adam on the mini-batch's mean cross-entropy, by backpropagation."""

from __future__ import annotations

from torch import Tensor

from streamil.learners.adam import Adam, AdamHyperparameters
from streamil.learners.backprop import Backprop
from streamil.learners.factors import Factors


class BPAdam(Adam, Backprop):
    r"""Adam on $\frac{1}{B} \sum_b \mathrm{CE}(y_b, q_b)$, the numbers of `torch.optim.Adam`.

    Shapes: W_l [A, n_l, n_{l-1}], b_l [A, n_l]; A members, B samples.

    Examples
    --------
    >>> from streamil.learners import create
    >>> population = create("bp-adam", [2, 2], [{"betas": [0.9, 0.99]}])
    >>> population.members[0].betas
    (0.9, 0.99)
    """

    algorithm = "bp-adam"
    Hyperparameters = AdamHyperparameters

    def _factors(self, predictions: list[Tensor], presynaptic: list[Tensor], labels: Tensor) -> list[Factors]:
        return self._backward(presynaptic, (self._softmax(predictions[-1]) - labels).div_(self.batch_size))
