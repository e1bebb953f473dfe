"""One member as a torch module that predicts as its population does."""

from __future__ import annotations

import torch
from torch import Tensor


class Predictor(torch.nn.Module):
    """One member's network, the columns of the classes that are live.

    Parameters
    ----------
    network
        Inputs [N, F] -> logits [N, C].
    live
        Classes [C] bool that take part.
    """

    def __init__(self, network: torch.nn.Module, live: Tensor) -> None:
        super().__init__()
        self.network = network
        self.live: Tensor
        self.register_buffer("live", live.nonzero().flatten())

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, live] of inputs [N, F]."""
        return self.network(x).index_select(1, self.live)  # type: ignore[no-any-return]


class Mixture(Predictor):
    """Predicts by a mixture of the fast weights and their average, as `StepSize` has it.

    Parameters
    ----------
    fast, slow
        Inputs [N, F] -> logits [N, C].
    share
        The fast weights' part.
    live
        Classes [C] bool that take part.
    """

    def __init__(self, fast: torch.nn.Module, slow: torch.nn.Module, share: Tensor, live: Tensor) -> None:
        super().__init__(fast, live)
        self.slow = slow
        self.share: Tensor
        self.register_buffer("share", share)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logarithm of the mixture's probabilities [N, live] of inputs [N, F]."""
        fast = torch.softmax(super().forward(x), 1)
        slow = torch.softmax(self.slow(x).index_select(1, self.live), 1)
        return torch.log(torch.lerp(slow, fast, self.share) + 1e-12)
