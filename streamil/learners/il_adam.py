"""Standard inference learning with Adam on each layer's local gradient (IL-Adam of Alonso et al. 2022)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from streamil.learners.adam import Adam, AdamHyperparameters
from streamil.learners.factors import Factors
from streamil.learners.post_inference import PostInference, PostInferenceHyperparameters


class ILAdamHyperparameters(AdamHyperparameters, PostInferenceHyperparameters):
    """Hyperparameters of `il-adam`."""

    structural: ClassVar[tuple[str, ...]] = PostInferenceHyperparameters.structural

    inference_steps: int = Field(default=20, ge=0, description="Inference steps T; 0 learns the output layer alone.")
    gamma_top: float = Field(default=0.01, ge=0, description="Rate of the layer's own error.")
    clamp: float = Field(
        default=0.95, gt=0, le=1, description="How far the output is drawn to the label (the authors: .35 at B = 64)."
    )


class ILAdam(Adam, PostInference):
    """Inference over post-activations, the output drawn towards the label, then Adam on each layer's local gradient.

    The equations stand in `PostInference` and `Adam`. Shapes: W_l [A, n_l, n_{l-1}], b_l [A, n_l]; A members.

    Examples
    --------
    >>> from streamil.learners import create
    >>> create("il-adam", [3, 8, 2]).members[0].clamp
    0.95
    """

    algorithm = "il-adam"
    Hyperparameters = ILAdamHyperparameters

    def _factors(self, predictions: list[Tensor], presynaptic: list[Tensor], labels: Tensor) -> list[Factors]:
        gradients = self._local_gradients(predictions, presynaptic, labels)
        return [Factors(each.errors.div(-self.batch_size), each.presynaptic) for each in gradients]
