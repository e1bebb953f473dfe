"""il-kfac: inference learning as the proximal step in the K-FAC metric."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from streamil.learners.kfac import KFac
from streamil.learners.kfac_hyperparameters import KFacHyperparameters
from streamil.learners.ray import gain

FIRST_NEWTON, LATER_NEWTON, LONGEST_NEWTON = 3, 2, 4.0


class ILKFacHyperparameters(KFacHyperparameters):
    """Hyperparameters of `il-kfac`."""

    structural: ClassVar[tuple[str, ...]] = (*KFacHyperparameters.structural, "inference", "inference_steps")

    inference: Literal["ray", "sweeps"] = Field(
        default="ray", description="Errors exactly along the first-order direction, or relaxed by sweeps."
    )
    inference_steps: int = Field(default=3, ge=0, description="Sweeps.")
    gamma: float = Field(default=0.5, gt=0, le=1, description="Rate of the errors in a sweep.")


class ILKFac(KFac):
    r"""Find the errors that minimise $\mathrm{CE}(y, \mathrm{output}) + \sum_l e_l^2 / 2 a_l$, then move the weights.

    The step sizes $a_l$ and the weights' step are those of `KFac`. `inference: ray`: exactly, along $e_l = \tau a_l
    g_l$, the slopes of the hidden units held as in the feedforward pass. With k the change of the output at
    $\tau = 1$, $k_1 = a_1 g_1$, $k_{l+1} = W_{l+1} (f'(p_l) k_l) + a_{l+1} g_{l+1}$, the gain is the root in (0, 1] of

    $k \cdot (y - \mathrm{softmax}(p_L + \tau k)) = \tau\, k \cdot g_L$.

    With two classes that is the equilibrium, with one layer implicit SGD of a generalised linear model; $\tau = 1$ is
    `bp-kfac`. `inference: sweeps`: all errors as variables, the output's solved by Newton,
    $e_l \leftarrow e_l + \gamma (a_l f'(h_l) W_{l+1}^T \cdots (y - q) - e_l)$ for the hidden ones.

    `predict` and the outcomes of adaptive members are of the mixture of fast and averaged weights; `weights` and
    `to_module` have the fast weights.

    Shapes: W_l [A, n_l, n_{l-1}], b_l [A, n_l]; A members, B samples.

    References
    ----------
    Alonso, Millidge, Krichmar, Neftci: A Theoretical Framework for Inference Learning. NeurIPS 2022.
    Martens, Grosse: Optimizing neural networks with Kronecker-factored approximate curvature. ICML 2015.
    Toulis, Airoldi: Asymptotic and finite-sample properties of estimators based on stochastic gradients. 2017 (the
    implicit update of a generalised linear model as one root).

    Examples
    --------
    >>> from streamil.learners import create
    >>> population = create("il-kfac", [3, 8, 8, 2], [{"alpha": 1e-3}, {"inference": "sweeps"}])
    >>> losses = [population.step([[1.0, 0.0, 1.0]], [1]).loss[:, 0] for _ in range(100)]
    >>> bool((losses[-1] < 0.5 * losses[0]).all())
    True
    """

    algorithm = "il-kfac"
    family = "il"
    Hyperparameters = ILKFacHyperparameters
    _rest: tuple[list[Tensor], list[Tensor]] | Tensor | None = None
    """Errors and step sizes of the layers, as inference left them last; or, of a kernel, the energy [A] of that."""

    def _refresh(self) -> None:
        super()._refresh()
        self._inference = cast("ILKFacHyperparameters", self.members[0])
        self._gamma = self._values("gamma")

    def _errors(
        self, p: list[Tensor], r: list[Tensor], labels: Tensor, gradients: list[Tensor], steps: list[Tensor]
    ) -> list[Tensor]:
        errors = self._found(p, r, labels, gradients, steps)
        self._rest = (errors, steps)
        return errors

    @property
    def energy(self) -> Tensor | None:
        r"""Energy [A] that inference left in the last sample, or mini-batch if joint: $\sum_l e_l^2 / 2 a_l$.

        None before the first mini-batch that was learned.
        """
        if self._rest is None:
            return None
        if isinstance(self._rest, Tensor):
            return self._rest.clone()
        energies = [(e.square() / a).sum(-1).mean(-1) for e, a in zip(*self._rest, strict=True)]
        return 0.5 * torch.stack(energies).sum(0)

    def _found(
        self, p: list[Tensor], r: list[Tensor], labels: Tensor, gradients: list[Tensor], steps: list[Tensor]
    ) -> list[Tensor]:
        """Return the errors by the wanted way of inference; see `KFac._errors`."""
        if self._inference.inference == "sweeps":
            return self._relax(p, labels, steps)
        direction = [a * g for a, g in zip(steps, gradients, strict=True)]
        k = direction[0]
        for activity, weight, own in zip(r[1:], self.parameters.WT[1:], direction[1:], strict=True):
            k = torch.baddbmm(own, self.activation.backward(k.clone(), activity), weight)
        if self._dead is not None:
            k = k.masked_fill(self._dead, 0)
        found = gain(self._masked(p[-1]).numpy(force=True), k.numpy(force=True), labels.numpy(force=True))
        tau = torch.from_numpy(found).to(k)
        return [tau * e for e in direction]

    def _relax(self, p: list[Tensor], labels: Tensor, steps: list[Tensor]) -> list[Tensor]:
        """Return the errors after `inference_steps` sweeps from e = 0."""
        W, WT, b, f = self.parameters.W, self.parameters.WT, self.parameters.b, self.activation
        p, h = list(p), p[:-1]
        hidden = range(len(h))
        errors = [torch.zeros_like(each) for each in p]
        errors[-1] = self._output_error(p[-1], errors[-1], labels, steps[-1], FIRST_NEWTON)
        for _ in range(self._inference.inference_steps):
            back = [labels - self._softmax(p[-1] + errors[-1])]
            for layer in reversed(hidden):
                back.insert(0, f.backward(torch.bmm(back[0], W[layer + 1]), f.apply(h[layer])))
            for layer in hidden:
                errors[layer] = torch.lerp(errors[layer], steps[layer] * back[layer], self._gamma)
                h[layer] = p[layer] + errors[layer]
                p[layer + 1] = torch.baddbmm(b[layer + 1], f.apply(h[layer]), WT[layer + 1])
            errors[-1] = self._output_error(p[-1], errors[-1], labels, steps[-1], LATER_NEWTON)
        return errors

    def _output_error(self, logits: Tensor, error: Tensor, labels: Tensor, step: Tensor, iterations: int) -> Tensor:
        """Move towards the root of e / a + softmax(p + e) - y; its Jacobian is diag(1/a + z) - z z^T."""
        stiffness = step.reciprocal()
        for _ in range(iterations):
            z = self._softmax(logits + error)
            inverse = (stiffness + z).reciprocal_()
            moved = (error * stiffness + z - labels) * inverse
            tilt = z * inverse  # 1 - z . z / (1/a + z) written without cancellation, as sum z = 1
            moved += tilt * ((z * moved).sum(-1, keepdim=True) / (tilt * stiffness).sum(-1, keepdim=True))
            error = error - moved.clamp_(-LONGEST_NEWTON, LONGEST_NEWTON)
        return error
