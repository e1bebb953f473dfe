"""What rules that relax activities share: a look at the activities after inference."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from streamil.learners.stacked import StackedPopulation


class Inference(StackedPopulation):
    """A rule whose activities relax before its weights move."""

    _rest: tuple[Sequence[Tensor], Sequence[Tensor], Tensor] | Tensor | None = None
    """Activities and predictions of the hidden layers, and the output's error, as inference left them last; or, of a
    kernel, the energy [A] of that."""

    @torch.no_grad()
    def infer(self, x: Any, y: Any) -> list[Tensor]:
        """Return the activities after inference, [h_0 = x, h_1, ..., h_{L-1}, output target], each [A, B, n_l].

        For diagnostics; changes nothing. All classes of y must be live.
        """
        inputs, labels = self._read(x, y)
        predictions, presynaptic = self.parameters.forward(inputs.expand(len(self.seeds), -1, -1), self.activation)
        one_hot = self._one_hot[torch.from_numpy(labels).to(inputs.device)]
        h, _, target = self._relax(predictions, presynaptic, one_hot)
        return [presynaptic[0].clone(), *h, target]

    @property
    def energy(self) -> Tensor | None:
        r"""Energy [A] that inference left in the last mini-batch, $\sum_l \|e_l\|^2 / 2$, mean over its samples.

        None before the first mini-batch that was learned.
        """
        if self._rest is None:
            return None
        if isinstance(self._rest, Tensor):
            return self._rest.clone()
        activities, predictions, output_error = self._rest
        errors = [*(h - p for h, p in zip(activities, predictions, strict=True)), output_error]
        return 0.5 * torch.stack([e.square().sum(-1).mean(-1) for e in errors]).sum(0)

    @abstractmethod
    def _relax(
        self, p: list[Tensor], r: list[Tensor], labels: Tensor
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Run inference from the feedforward pass: predictions p_1 .. p_L and what feeds them, labels one-hot.

        Returns the hidden activities h_1 .. h_{L-1}, errors of all layers as the rule needs them, the output target.
        """
