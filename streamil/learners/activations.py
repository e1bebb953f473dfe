"""Nonlinearities of hidden layers, with their slopes written in terms of the activity itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from streamil.errors import LearnerError

LEAK = 0.01


@dataclass(frozen=True, slots=True)
class Activation:
    """A nonlinearity f.

    Attributes
    ----------
    apply
        h -> f(h).
    backward
        (gradient, f(h)) -> f'(h) * gradient; may overwrite the gradient. The slope of relu at 0 is 0, as torch's.
    module
        The same as a torch module.
    """

    apply: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    module: Callable[[], nn.Module]


ACTIVATIONS = {
    "relu": Activation(
        torch.relu, lambda gradient, activity: torch.ops.aten.threshold_backward(gradient, activity, 0), nn.ReLU
    ),
    "tanh": Activation(torch.tanh, lambda gradient, activity: gradient.mul_(1 - activity.square()), nn.Tanh),
    "leaky-relu": Activation(
        lambda h: nn.functional.leaky_relu(h, LEAK),
        lambda gradient, activity: torch.where(activity > 0, gradient, LEAK * gradient),
        lambda: nn.LeakyReLU(LEAK),
    ),
    "identity": Activation(torch.clone, lambda gradient, activity: gradient, nn.Identity),
}


def find_activation(name: str) -> Activation:
    """Return the nonlinearity of that name, or raise LearnerError."""
    if name not in ACTIVATIONS:
        raise LearnerError(f"activation: got {name!r}, one of {', '.join(ACTIVATIONS)} is allowed")
    return ACTIVATIONS[name]
