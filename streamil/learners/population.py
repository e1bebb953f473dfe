"""What every learner can do: the interface `Population`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from streamil.errors import LearnerError
from streamil.learners.hyperparameters import MemberHyperparameters
from streamil.learners.outcome import Outcome
from streamil.learners.predictor import Predictor

__all__ = ["Outcome", "Population", "Weights", "count_parameters"]

Weights = list[tuple[Tensor, Tensor]]
"""Per layer, W [A, out, in] and b [A, out]."""


def count_parameters(layers: Sequence[int]) -> int:
    """Return the number of weights and biases of one member, of sizes [F, ..., C].

    Examples
    --------
    >>> count_parameters([4, 8, 3])
    67
    """
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(layers))


class Population(ABC):
    """A members of one learning rule on the same samples; they differ in hyperparameters and seed.

    Attributes
    ----------
    algorithm, family
        Name of the rule; `il`, `bp`, `reference`, `river` or `torch`.
    layers
        Sizes [F, ..., C]; C grows with `growing`.
    members, seeds
        Validated hyperparameters and seed of each member.
    batch_size
        Samples per mini-batch B.
    growing
        Whether classes are met as they come.
    """

    Hyperparameters: ClassVar[type[MemberHyperparameters]]
    algorithm: str
    family: str
    layers: list[int]
    members: Sequence[MemberHyperparameters]
    seeds: list[int]
    batch_size: int
    growing: bool
    _diverged: Tensor
    _live: Tensor

    @classmethod
    def numbers_held(
        cls, layers: Sequence[int], members: Sequence[MemberHyperparameters], batch_size: int
    ) -> int | None:
        """Return how many numbers a population will hold, of its dtype: weights, and state of their size or more.

        None where that is not known beforehand: what river's classes hold is their own affair.

        Parameters
        ----------
        layers
            Sizes [F, ..., C].
        members
            Validated hyperparameters of each member; they may differ in structure.
        batch_size
            Samples per mini-batch B.

        Raises
        ------
        LearnerError
            For what `create` would refuse such a population for, as a layer too wide.
        """
        return None

    @property
    def by_kernel(self) -> bool:
        """Whether kernels do all of its learning."""
        return False

    @abstractmethod
    def learn(self, x: Any, y: Any) -> Outcome:
        """Predict, then learn, mini-batch after mini-batch in order.

        The result does not depend on how samples are cut into calls, bit for bit.

        Parameters
        ----------
        x
            Inputs [N, F], finite; N is a multiple of B.
        y
            Class indices [N].

        Raises
        ------
        LearnerError
            For wrong shapes, non-finite inputs or labels out of range, before any state changed.
        """

    def step(self, x: Any, y: Any) -> Outcome:
        """Predict, then learn, one mini-batch: `learn` with N = B."""
        if np.shape(y) != (self.batch_size,):
            raise LearnerError(f"y: got shape {tuple(np.shape(y))}, a step takes [{self.batch_size}], one mini-batch")
        return self.learn(x, y)

    @abstractmethod
    def predict(self, x: Any) -> Tensor:
        """Return logits [A, N, C] of inputs [N, F]: feedforward, -inf for classes not live; changes nothing."""

    @property
    @abstractmethod
    def weights(self) -> Weights:
        """Copies of the weights, per layer (W [A, out, in], b [A, out]); setting copies in, and resets no state."""

    @weights.setter
    @abstractmethod
    def weights(self, weights: Sequence[tuple[Any, Any]]) -> None: ...

    @property
    def diverged(self) -> Tensor:
        """Members [A] bool that stopped at their last finite weights."""
        return self._diverged.clone()

    @property
    def energy(self) -> Tensor | None:
        """Energy [A] that inference left in the last mini-batch; None: before the first one, and without inference."""
        return None

    @property
    def live(self) -> Tensor:
        """Classes [C] bool that take part."""
        return self._live.clone()

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of everything that has state: weights, optimizer state, masks, counts."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` of a population of the same kind returned.

        Raises
        ------
        LearnerError
            For missing or unknown names and wrong shapes, before any state changed.
        """

    @abstractmethod
    def to_module(self, member: int) -> torch.nn.Module:
        """Return one member as a plain torch module, rows of classes not live included."""

    def predictor(self, member: int) -> torch.nn.Module:
        """Return what predicts as a torch module: inputs [N, F] -> logits [N, C] as `predict`'s, of the live classes.

        It is `to_module` where nothing but the weights decides.
        """
        return Predictor(self.to_module(member), self._live)

    @property
    def parameters_per_member(self) -> int:
        """Number of weights and biases of one member."""
        return count_parameters(self.layers)
