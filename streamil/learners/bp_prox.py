"""BP-prox: backpropagation towards IL-prox's target, with its normalised update (Alonso et al. 2022, section 5)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from streamil.learners.backprop import Backprop
from streamil.learners.factors import Factors
from streamil.learners.proximal import Proximal, ProximalHyperparameters


class BPProxHyperparameters(ProximalHyperparameters):
    """Hyperparameters of `bp-prox`."""

    epsilon: float = Field(default=5.0, gt=0, description="Added to squared norms: an all-zero input divides by it.")


class BPProx(Proximal, Backprop):
    r"""IL-prox with backpropagation for inference: $e_L = t - q$, $e_l = f'(h_l) \odot W_{l+1}^T e_{l+1}$.

    For one sample $dW_l = e_l f(h_{l-1})^T / (\|f(h_{l-1})\|^2 + 1 + \epsilon)$: the gradient, divided by the squared
    norm of the layer's input. For more, `batch_rule` as in `il-prox`, so that the two differ in the errors alone.

    Shapes: W_l [A, n_l, n_{l-1}], b_l [A, n_l]; A members, B samples.

    References
    ----------
    Alonso, Millidge, Krichmar, Neftci: A Theoretical Framework for Inference Learning. NeurIPS 2022.

    Examples
    --------
    >>> from streamil.learners import create
    >>> population = create("bp-prox", [3, 8, 2], [{"alpha": 5.0}])
    >>> losses = [population.step([[1.0, 0.0, 1.0]], [1]).loss.item() for _ in range(20)]
    >>> losses[-1] < 0.1 < losses[0]
    True
    """

    algorithm = "bp-prox"
    Hyperparameters = BPProxHyperparameters

    def _factors(self, predictions: list[Tensor], presynaptic: list[Tensor], labels: Tensor) -> list[Factors]:
        q = self._softmax(predictions[-1])
        gradients = self._backward(presynaptic, self._target(q, presynaptic[-1], labels) - q)
        return [self._local_update(each.errors, each.presynaptic) for each in gradients]
