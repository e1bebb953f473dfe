"""What may stand in for a rule's own mini-batches: a fused path that gives the same numbers, to rounding."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from streamil.learners.stacked import StackedPopulation

Kernels = Literal["auto", "none"]
"""Whether fused paths are taken where there are any."""
CHOICE = "streamil.kernels:choose"
"""Who finds one; by name, since kernels know the rules that they are made from."""


class Kernel(Protocol):
    """A fused path of one rule; what a population is, it holds itself.

    Attributes
    ----------
    name
        What it is made of, with versions: numbers repeat bit for bit under the same one alone.
    """

    name: str

    def learn(self, population: Any, x: Tensor, y: Tensor, logits: Tensor) -> None:
        """Predict, then learn, whole mini-batches in order.

        Parameters
        ----------
        population
            The one that it was chosen for, or one of the same kind.
        x, y
            Inputs [N, F] and class indices [N], on its device; all classes are live, two at least.
        logits
            Filled [A, N, C], from before each mini-batch was learned.
        """


def find_kernel(population: StackedPopulation) -> Kernel | None:
    """Return a fused path for a population, or None where there is none, or nothing is gained."""
    module, _, attribute = CHOICE.partition(":")
    found: Kernel | None = getattr(importlib.import_module(module), attribute)(population)
    return found
