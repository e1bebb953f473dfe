"""What learners said of samples before they learned from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the members said of samples *before* they learned from their mini-batch.

    Attributes
    ----------
    logits
        [A, N, C]; -inf for classes that were not live.
    loss
        Cross-entropy [A, N] over the classes live before the mini-batch; ln(K + 1) where the sample's class was not
        among those K.

    Examples
    --------
    >>> minus = -torch.inf
    >>> Outcome(torch.tensor([[[1.0, 2.0, minus], [minus] * 3]]), torch.zeros(1, 2)).predicted
    tensor([[ 1, -1]])
    """

    logits: Tensor
    loss: Tensor

    @property
    def predicted(self) -> Tensor:
        """Class indices [A, N] int64: the largest logit among the live classes, -1 where no class was live."""
        if not self.logits.shape[-1]:
            return torch.full(self.logits.shape[:-1], -1, dtype=torch.int64, device=self.logits.device)
        return self.logits.argmax(-1).masked_fill_(self.logits.isneginf().all(-1), -1)


def cross_entropy(logits: Tensor, labels: Tensor, live: Tensor) -> Tensor:
    """Return the cross-entropy [A, n] over the live classes; ln(K + 1) where the label is none of the K."""
    unmet = math.log(int(live.sum()) + 1)
    if not len(live):
        return logits.new_full(logits.shape[:-1], unmet)
    met = (labels < len(live)) & live[labels.clamp(max=len(live) - 1)]
    chosen = labels.clamp(max=len(live) - 1).expand(len(logits), -1).unsqueeze(-1)
    loss = -torch.log_softmax(logits, -1).gather(-1, chosen).squeeze(-1)
    return torch.where(met, loss, unmet)
