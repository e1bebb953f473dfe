"""IL-prox: inference learning whose fixed point is a step of implicit SGD (Alonso et al. 2022, algorithm 1)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from streamil.learners.factors import Factors
from streamil.learners.hyperparameters import RuleHyperparameters
from streamil.learners.inference import Inference
from streamil.learners.proximal import Proximal, ProximalHyperparameters


class ILProxHyperparameters(ProximalHyperparameters):
    """Hyperparameters of `il-prox`."""

    structural: ClassVar[tuple[str, ...]] = ("train_biases", "batch_rule", "inference_steps", "target", "sweep")
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"inference_steps": 25, "gamma_bottom": 0.015, "gamma_top": 0.015},
        "paper-fast": {"inference_steps": 12, "gamma_bottom": 0.025, "gamma_top": 0.0},
    }
    """The authors' settings, by name; what a member sets itself stands."""

    inference_steps: int = Field(default=10, ge=0, description="Inference steps T; 0 learns the output layer alone.")
    gamma_bottom: float = Field(default=0.05, ge=0, description="Rate of the error from above; .05 or below on tables.")
    gamma_top: float = Field(default=0.0, ge=0, description="Rate of the layer's own error.")
    gamma_decay: float = Field(default=0.0, ge=0, description="Rate of decay of activities.")
    target: Literal["lagged", "fresh"] = Field(
        default="lagged", description="Output target from the softmax of the step before (the authors') or of this one."
    )
    sweep: Literal["simultaneous", "sequential"] = Field(
        default="simultaneous", description="All layers at once, or output to input, each with the error just renewed."
    )
    preset: Literal["paper", "paper-fast"] | None = Field(
        default=None, description="The authors' inference_steps, gamma_bottom and gamma_top, where not set."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        preset = values.get("preset") if isinstance(values, dict) else None
        return {**cls.presets.get(preset, {}), **values} if isinstance(preset, str) else values


class ILProx(Inference, Proximal):
    r"""Relax activities towards a soft output target, then solve each layer's least-squares problem.

    Predictions $p_l = W_l f(h_{l-1}) + b_l$ with $f(h_0) = x$; errors $e_l = h_l - p_l$ and $e_L = t - q$ with
    $q = \mathrm{softmax}(p_L)$. The target is $t = q + c\,(y - q)$ with $c = \alpha n / (1 + \alpha n)$ and
    $n = \|f(h_{L-1})\|^2 + 1 + \epsilon$ per sample: the label as far as a proximal step of size $\alpha$ reaches.
    $\alpha$ enters nowhere else. Each of T inference steps moves

    $h_l \leftarrow h_l - \gamma_{top} e_l + \gamma_{bottom} f'(h_l) \odot W_{l+1}^T e_{l+1} - \gamma_{decay} h_l$

    and renews predictions and target. `target: lagged` takes the q in t from the step before, while $e_L$ counts from
    the new q; its first target leaves the bias's 1 out of n (both as in the authors' code). Biases not trained add no
    1 anywhere.

    Shapes: W_l [A, n_l, n_{l-1}], b_l [A, n_l]; A members, B samples.

    References
    ----------
    Alonso, Millidge, Krichmar, Neftci: A Theoretical Framework for Inference Learning. NeurIPS 2022.
    Ozeki, Umeda: An adaptive filtering algorithm using an orthogonal projection to an affine subspace. 1984.

    Examples
    --------
    >>> from streamil.learners import create
    >>> population = create("il-prox", [3, 8, 8, 2], [{"preset": "paper"}])
    >>> population.members[0].inference_steps
    25
    >>> losses = [population.step([[1.0, 0.0, 1.0]], [1]).loss.item() for _ in range(20)]
    >>> losses[-1] < 0.1 < losses[0]
    True
    """

    algorithm = "il-prox"
    family = "il"
    Hyperparameters: ClassVar[type[RuleHyperparameters]] = ILProxHyperparameters

    def _refresh(self) -> None:
        super()._refresh()
        self._structure = cast("ILProxHyperparameters", self.members[0])
        self._gamma_bottom = self._values("gamma_bottom")
        self._gamma_top = -self._values("gamma_top")
        self._keep = 1 - self._values("gamma_decay")
        self._uses_top = bool(self._gamma_top.any())
        self._uses_decay = bool((self._keep != 1).any())

    def _factors(self, predictions: list[Tensor], presynaptic: list[Tensor], labels: Tensor) -> list[Factors]:
        h, errors, _ = self._relax(predictions, presynaptic, labels)
        self._rest = (h, predictions[:-1], errors[-1])
        return [self._local_update(e, r) for e, r in zip(errors, presynaptic, strict=True)]

    def _relax(
        self, p: list[Tensor], r: list[Tensor], labels: Tensor
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Run inference from the feedforward pass; p and r end as its predictions and presynaptic activities.

        Returns the hidden activities h_1 .. h_{L-1}, the errors e_1 .. e_L and the output target. Lists count from 0:
        h[0] is h_1, and r[l] feeds p[l].
        """
        W, WT, b = self.parameters.W, self.parameters.WT, self.parameters.b
        fresh, sequential = self._structure.target == "fresh", self._structure.sweep == "sequential"
        h = [prediction.clone() for prediction in p[:-1]]
        hidden = range(len(h))
        q = self._softmax(p[-1])
        target = self._target(q, r[-1], labels, first=not fresh)
        errors = [torch.zeros_like(activity) for activity in h] + [target - q]
        for _ in range(self._structure.inference_steps):
            if sequential:
                for layer in reversed(hidden):
                    self._move(h[layer], errors[layer], errors[layer + 1], W[layer + 1], r[layer + 1])
                    errors[layer] = h[layer] - p[layer]
            for layer in hidden:
                if not sequential:  # upwards in place: what it reads of the layer above is still of the step before
                    self._move(h[layer], errors[layer], errors[layer + 1], W[layer + 1], r[layer + 1])
                r[layer + 1] = self.activation.apply(h[layer])
                p[layer + 1] = torch.baddbmm(b[layer + 1], r[layer + 1], WT[layer + 1])
            before, q = q, self._softmax(p[-1])
            target = self._target(q if fresh else before, r[-1], labels, first=False)
            errors = [*(activity - prediction for activity, prediction in zip(h, p, strict=False)), target - q]
        return h, errors, target

    def _move(self, h: Tensor, error: Tensor, error_above: Tensor, weight_above: Tensor, activity: Tensor) -> None:
        """One inference step of one layer, in place."""
        feedback = self.activation.backward(torch.bmm(error_above, weight_above), activity)
        if self._uses_decay:
            h.mul_(self._keep)
        if self._uses_top:
            h.addcmul_(error, self._gamma_top)
        h.addcmul_(feedback, self._gamma_bottom)
