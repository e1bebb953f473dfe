"""IL-prox-Adam: IL-prox's inference and normalised local gradient, fed to Adam (Alonso et al. 2022)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from streamil.learners.adam import Adam, AdamHyperparameters
from streamil.learners.factors import Factors
from streamil.learners.il_prox import ILProx, ILProxHyperparameters


class ILProxAdamHyperparameters(AdamHyperparameters, ILProxHyperparameters):
    """Hyperparameters of `il-prox-adam`."""

    structural: ClassVar[tuple[str, ...]] = ILProxHyperparameters.structural
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"inference_steps": 20, "gamma_bottom": 0.02, "gamma_top": 0.015},
    }

    alpha: float = Field(default=100.0, gt=0, description="Step size of the proximal step; enters the target alone.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Step size of Adam.")
    preset: Literal["paper"] | None = Field(
        default=None, description="The authors' inference_steps, gamma_bottom and gamma_top, where not set."
    )


class ILProxAdam(Adam, ILProx):
    r"""IL-prox whose weights follow Adam: $-dW_l$, the normalised local gradient, is what Adam takes for a gradient.

    Two rates: `alpha` says how far the output target goes, `learning_rate` is Adam's. The equations stand in `ILProx`
    and `Adam`. Shapes: W_l [A, n_l, n_{l-1}], b_l [A, n_l]; A members, B samples.

    References
    ----------
    Alonso, Millidge, Krichmar, Neftci: A Theoretical Framework for Inference Learning. NeurIPS 2022.

    Examples
    --------
    >>> from streamil.learners import create
    >>> population = create("il-prox-adam", [3, 8, 2], [{"preset": "paper"}])
    >>> population.members[0].inference_steps, population.members[0].alpha
    (20, 100.0)
    """

    algorithm = "il-prox-adam"
    Hyperparameters = ILProxAdamHyperparameters

    def _factors(self, predictions: list[Tensor], presynaptic: list[Tensor], labels: Tensor) -> list[Factors]:
        steps = super()._factors(predictions, presynaptic, labels)
        return [Factors(each.errors.neg(), each.presynaptic, each.bias) for each in steps]
