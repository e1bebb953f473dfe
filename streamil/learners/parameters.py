"""Stacked weights of A members, with the optimizer state that has their shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from streamil.learners.activations import Activation
from streamil.learners.initial import initial_rows


class Parameters:
    """Weights W_l [A, n_l, n_{l-1}], biases b_l [A, 1, n_l], and named slots of the same shapes, at first zero.

    On a CPU those of hidden layers lie transposed in memory: all that one input is multiplied by stands together, and
    what an input of zero would be multiplied by need not be read.

    Parameters
    ----------
    layers
        Sizes [F, ..., C].
    seed, seeds
        Of the population and of its members.
    slots
        Names of the optimizer's state.
    like
        An empty tensor whose dtype and device the weights have.
    """

    def __init__(
        self, layers: Sequence[int], seed: int, seeds: Sequence[int], slots: Sequence[str], like: Tensor
    ) -> None:
        self.layers = list(layers)
        self.seed = seed
        self.seeds = list(seeds)
        self.like = like
        self.W: list[Tensor] = []
        self.b: list[Tensor] = []
        for layer, rows in enumerate(self.layers[1:]):
            weight, bias = self._draw(layer, range(rows))
            self.W.append(weight)
            self.b.append(bias)
        self.slots = {name: [torch.zeros_like(tensor) for tensor in self.flat] for name in slots}
        self._view()

    @property
    def flat(self) -> list[Tensor]:
        """All tensors in the order of the slots: W_1, b_1, W_2, ..."""
        return [tensor for pair in zip(self.W, self.b, strict=True) for tensor in pair]

    def named(self) -> dict[str, Tensor]:
        """Everything by name, each with the members first."""
        named = {}
        for slot, tensors in {"": self.flat, **self.slots}.items():
            for place, tensor in enumerate(tensors):
                kind = "bias" if place % 2 else "weight"
                named[f"{slot}{'.' if slot else ''}{kind}.{place // 2}"] = tensor
        return named

    def forward(self, x: Tensor, activation: Activation) -> tuple[list[Tensor], list[Tensor]]:
        """Return the predictions p_1 .. p_L and what feeds them, f(h_0) = x, f(h_1) .. f(h_{L-1}), of x [A, B, F]."""
        presynaptic, predictions = [x], []
        for layer, (bias, weight) in enumerate(zip(self.b, self.WT, strict=True)):
            predictions.append(torch.baddbmm(bias, presynaptic[layer], weight))
            if layer < len(self.W) - 1:
                presynaptic.append(activation.apply(predictions[layer]))
        return predictions, presynaptic

    def grow(self, rows: int) -> None:
        """Add output rows up to `rows`, with zeros for their optimizer state."""
        weight, bias = self._draw(len(self.W) - 1, range(self.layers[-1], rows))
        self.W[-1] = torch.cat([self.W[-1], weight], dim=1)
        self.b[-1] = torch.cat([self.b[-1], bias], dim=2)
        for tensors in self.slots.values():
            tensors[-2] = torch.cat([tensors[-2], torch.zeros_like(weight)], dim=1)
            tensors[-1] = torch.cat([tensors[-1], torch.zeros_like(bias)], dim=2)
        self.layers[-1] = rows
        self._view()

    def _view(self) -> None:
        self.WT = [weight.mT for weight in self.W]

    def _draw(self, layer: int, rows: range) -> tuple[Tensor, Tensor]:
        drawn = np.stack([initial_rows(self.seed, seed, layer, rows, self.layers[layer]) for seed in self.seeds])
        stacked = torch.from_numpy(drawn).to(self.like)
        weight, bias = stacked[..., :-1], stacked[..., -1].unsqueeze(1).contiguous()
        if self.like.device.type == "cpu" and layer < len(self.layers) - 2:
            return weight.mT.contiguous().mT, bias
        return weight.contiguous(), bias
