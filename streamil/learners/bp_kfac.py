"""bp-kfac: one explicit step in the K-FAC metric, the twin of il-kfac."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from streamil.learners.kfac import KFac
from streamil.learners.kfac_hyperparameters import KFacHyperparameters


class BPKFacHyperparameters(KFacHyperparameters):
    """Hyperparameters of `bp-kfac`."""

    alpha: float = Field(default=1e-4, gt=0, description="Step size; the first one where it is adaptive.")
    alpha_min: float = Field(default=1e-5, gt=0, description="Smallest step size, if adaptive.")
    alpha_max: float = Field(default=1e-3, gt=0, description="Largest step size, if adaptive.")


class BPKFac(KFac):
    r"""The explicit twin of `il-kfac`: $e_l = a_l g_l$, everything else the same; see `KFac` for the equations.

    Its errors are those of one backward pass, where `il-kfac` lets all of them find their equilibrium. So a race of
    both shows what the implicit step is worth, apart from the metric. `predict` and the outcomes of adaptive members
    are of the mixture of fast and averaged weights; `weights` and `to_module` have the fast weights.

    Shapes: W_l [A, n_l, n_{l-1}], b_l [A, n_l]; A members, B samples.

    References
    ----------
    Martens, Grosse: Optimizing neural networks with Kronecker-factored approximate curvature. ICML 2015.

    Examples
    --------
    >>> from streamil.learners import create
    >>> population = create("bp-kfac", [3, 8, 2], [{"alpha": 1e-4}])
    >>> losses = [population.step([[1.0, 0.0, 1.0]], [1]).loss.item() for _ in range(300)]
    >>> losses[-1] < 0.5 * losses[0]
    True
    """

    algorithm = "bp-kfac"
    family = "bp"
    Hyperparameters = BPKFacHyperparameters

    def _errors(
        self, p: list[Tensor], r: list[Tensor], labels: Tensor, gradients: list[Tensor], steps: list[Tensor]
    ) -> list[Tensor]:
        return [a * g for a, g in zip(steps, gradients, strict=True)]
