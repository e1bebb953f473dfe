"""What arms said of samples that they had not learned: for topics, callers and judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from streamil.samples import Batch


@dataclass(frozen=True, slots=True)
class Predictions:
    """What one arm said of N samples, each before it learned from it.

    Attributes
    ----------
    arm
        Its name.
    batch
        The samples, as the arm saw them; `origin` and `ids` say which they are.
    logits
        [A, N, C] on the CPU; -inf for classes not met then.
    labels
        Names of the classes [C] and of others met since.

    Examples
    --------
    >>> import numpy as np
    >>> batch = Batch(np.zeros((1, 2), np.float32), np.array([-1]), np.array([7]), np.array([0]))
    >>> said = Predictions("il", batch, torch.tensor([[[0.0, 0.0, -torch.inf]]]), ["up", "down", "level"])
    >>> said.predicted, said.probabilities.tolist()
    ([['up']], [[[0.5, 0.5, 0.0]]])
    """

    arm: str
    batch: Batch
    logits: Tensor
    labels: Sequence[str]

    @property
    def known(self) -> Tensor:
        """Whether a class was known [N] bool: without one there is no prediction."""
        return ~self.logits.isneginf().all(-1).all(0)

    @property
    def predicted(self) -> list[list[str | None]]:
        """Label that each member said of each sample [A][N]; None before a class was met."""
        if not self.logits.shape[-1]:
            return [[None] * len(self.batch) for _ in self.logits]
        known = self.known.tolist()
        return [[self.labels[index] if known[row] else None for row, index in enumerate(member)]
                for member in self.logits.argmax(-1).tolist()]

    @property
    def probabilities(self) -> Tensor:
        """Probabilities of the classes [A, N, C]; 0 for those not met, and for all of them where none was."""
        return torch.softmax(self.logits, -1).nan_to_num_(0.0)


Told = Callable[[Predictions], None]
"""Takes predictions as soon as they are made."""
