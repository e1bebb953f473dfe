"""What il-sgd and il-adam share: inference over post-activations, and the local gradient of each layer."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from streamil.learners.factors import Factors
from streamil.learners.hyperparameters import RuleHyperparameters
from streamil.learners.inference import Inference


class PostInferenceHyperparameters(RuleHyperparameters):
    """Hyperparameters of standard inference learning."""

    structural: ClassVar[tuple[str, ...]] = ("train_biases", "inference_steps")

    inference_steps: int = Field(default=25, ge=0, description="Inference steps T; 0 learns the output layer alone.")
    gamma_bottom: float = Field(default=0.02, ge=0, description="Rate of the error from above.")
    gamma_top: float = Field(default=0.015, ge=0, description="Rate of the layer's own error.")
    gamma_decay: float = Field(default=0.0, ge=0, description="Rate of decay of activities.")
    clamp: float = Field(default=1.0, gt=0, le=1, description="How far the output is drawn to the label.")
    preset: Literal["paper"] | None = Field(default=None, description="The authors' settings; they are the defaults.")


class PostInference(Inference):
    r"""Relax activities $h_l$ around predictions $p_l = f(W_l h_{l-1} + b_l)$, the last linear, then descend locally.

    $e_l = h_l - p_l$, $e_L = t - q$, $t = n y + (1 - n) q$ with n the clamp and the q of the step before. Each step

    $h_l \leftarrow h_l - \gamma_{top} e_l + \gamma_{bottom} W_{l+1}^T (f'(p_{l+1}) \odot e_{l+1}) - \gamma_{decay} h_l$

    where the output's error counts half (as in the authors' code). Then each layer descends
    $-\nabla_{W_l} = \mathrm{mean}_b\,(f'(p_l) \odot e_l)\,h_{l-1}^T$.
    """

    family = "il"

    def _refresh(self) -> None:
        super()._refresh()
        self._inference_steps = cast("PostInferenceHyperparameters", self.members[0]).inference_steps
        self._gamma_bottom, self._clamp = self._values("gamma_bottom"), self._values("clamp")
        self._gamma_top, self._keep = -self._values("gamma_top"), 1 - self._values("gamma_decay")

    def _local_gradients(self, predictions: list[Tensor], presynaptic: list[Tensor], labels: Tensor) -> list[Factors]:
        """Return what descends each layer's own error, summed over the mini-batch."""
        h, errors, _ = self._relax(predictions, presynaptic, labels)
        self._rest = (h, presynaptic[1:], errors[-1])
        return [Factors(e, r) for e, r in zip(errors, [presynaptic[0], *h], strict=True)]

    def _relax(
        self, p: list[Tensor], r: list[Tensor], labels: Tensor
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Run inference from the feedforward pass; r = [x, f(p_1), ..., f(p_{L-1})] ends as the last predictions.

        Returns the hidden activities h_1 .. h_{L-1}, the local errors f'(p_l) e_l of all layers and the output target.
        """
        W, WT, b = self.parameters.W, self.parameters.WT, self.parameters.b
        h = [prediction.clone() for prediction in r[1:]]
        logits = p[-1]
        q = self._softmax(logits)
        target = torch.lerp(q, labels, self._clamp)
        errors = [torch.zeros_like(activity) for activity in h]
        local = [*errors, target - q]
        for _ in range(self._inference_steps):
            local[-1] = 0.5 * local[-1]
            for layer, activity in enumerate(h):  # upwards in place: errors are still those of the step before
                feedback = torch.bmm(local[layer + 1], W[layer + 1])
                activity.mul_(self._keep).addcmul_(errors[layer], self._gamma_top)
                activity.addcmul_(feedback, self._gamma_bottom)
                logits = torch.baddbmm(b[layer + 1], activity, WT[layer + 1])
                if layer + 1 < len(h):
                    r[layer + 2] = self.activation.apply(logits)
            before, q = q, self._softmax(logits)
            target = torch.lerp(before, labels, self._clamp)
            errors = [activity - prediction for activity, prediction in zip(h, r[1:], strict=True)]
            slopes = zip(errors, r[1:], strict=True)
            local = [*(self.activation.backward(error.clone(), prediction) for error, prediction in slopes), target - q]
        return h, local, target
