"""Standard inference learning with a gradient step per layer (IL-SGD of Alonso et al. 2022)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from streamil.learners.factors import Factors
from streamil.learners.post_inference import PostInference, PostInferenceHyperparameters


class ILSGDHyperparameters(PostInferenceHyperparameters):
    """Hyperparameters of `il-sgd`."""

    learning_rate: float = Field(default=0.3, gt=0, description="Step size of the local gradient step.")


class ILSGD(PostInference):
    """Inference over post-activations, the output clamped to the label, then a local gradient step per layer.

    The equations stand in `PostInference`. Shapes: W_l [A, n_l, n_{l-1}], b_l [A, n_l]; A members, B samples.

    Examples
    --------
    >>> from streamil.learners import create
    >>> create("il-sgd", [3, 8, 2]).members[0].inference_steps
    25
    """

    algorithm = "il-sgd"
    Hyperparameters = ILSGDHyperparameters

    def _refresh(self) -> None:
        super()._refresh()
        self._scale = self._values("learning_rate") / self.batch_size

    def _factors(self, predictions: list[Tensor], presynaptic: list[Tensor], labels: Tensor) -> list[Factors]:
        gradients = self._local_gradients(predictions, presynaptic, labels)
        return [Factors(each.errors * self._scale, each.presynaptic) for each in gradients]
