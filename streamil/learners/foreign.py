"""What arms of somebody else's code share: members that learn one after another, as a population."""

from __future__ import annotations

import inspect
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, create_model
from torch import Tensor

from streamil.errors import LearnerError
from streamil.learners import arguments
from streamil.learners.hyperparameters import LARGEST_SEED, MemberHyperparameters, check_seed, read_members
from streamil.learners.outcome import Outcome
from streamil.learners.population import Population, Weights


class ForeignPopulation(Population):
    """Members of somebody else's code, which learn one after another: nothing is stacked.

    Parameters are those of `streamil.learners.create`; hidden layers and activation are the code's own, so of `layers`
    only the first (F) and the last (C) count. A member's seed is the sum of the population's and its own.
    """

    Hyperparameters: ClassVar[type[MemberHyperparameters]]

    def __init__(
        self, layers: Sequence[int], members: Sequence[Mapping[str, Any]] | None, *, batch_size: int, seed: int,
        device: Any, dtype: Any, growing: bool, allow_pickle: bool,
    ) -> None:
        self._options: dict[str, Any] = {
            "members": members, "batch_size": batch_size, "seed": seed, "device": device, "dtype": dtype,
            "growing": growing, "allow_pickle": allow_pickle}
        validated, self.seeds = read_members(self.Hyperparameters, self.algorithm, members)
        self.members = validated
        sizes = arguments.read_layers(layers, growing)
        self.layers = [sizes[0], self._rows(sizes[-1])]
        self.batch_size, self.growing = arguments.read_batch_size(batch_size), bool(growing)
        self.allow_pickle = allow_pickle
        self._like = torch.empty(0, dtype=arguments.read_dtype(dtype), device=self._home(device))
        self._x = self._like.new_zeros(self.batch_size, sizes[0])  # one home: equal bits in any cut
        self._live = torch.full((self.layers[-1],), not growing, dtype=torch.bool)
        self._diverged = torch.zeros(len(validated), dtype=torch.bool)
        whole = check_seed(seed, "seed")
        self._models = [self._build(member, (whole + own) % (LARGEST_SEED + 1))
                        for member, own in zip(validated, self.seeds, strict=True)]

    @abstractmethod
    def _build(self, member: MemberHyperparameters, seed: int) -> Any:
        """Return a member's model, fresh."""

    @abstractmethod
    def _logits(self, model: Any, x: Tensor, live: Tensor) -> Tensor:
        """Return logits [n, C] of inputs [n, F], -inf where a class is not live; changes nothing."""

    @abstractmethod
    def _losses(self, logits: Tensor, labels: Tensor, live: Tensor) -> Tensor:
        """Return the loss [n] of labels [n]."""

    @abstractmethod
    def _train(self, model: Any, x: Tensor, labels: Tensor) -> bool:
        """Learn one mini-batch, whose classes are live; return False where the member diverged."""

    def _rows(self, classes: int) -> int:
        """Return how many rows of logits there are at first."""
        return classes

    def _home(self, device: Any) -> torch.device:
        """Return where the members work."""
        return arguments.read_device(device)

    def _most(self) -> int | None:
        """Return how many classes there can be; None for any number."""
        return None if self.growing else self.layers[-1]

    def learn(self, x: Any, y: Any) -> Outcome:
        """Predict, then learn, mini-batch after mini-batch in order; see `Population.learn`."""
        inputs = arguments.read_inputs(x, self.layers[0], self._like.dtype, self._like.device)
        labels = arguments.read_labels(y, len(inputs), self._most())
        size, count = self.batch_size, len(labels)
        if count % size:
            raise LearnerError(f"x: got {count} samples, a multiple of batch_size = {size} is allowed")
        rows = max(self.layers[-1], int(labels.max(initial=-1)) + 1)
        logits = torch.full((len(self.seeds), count, rows), -math.inf, dtype=torch.float64)
        loss = torch.empty(len(self.seeds), count, dtype=torch.float64)
        for first in range(0, count, size):
            part = slice(first, first + size)
            self._x.copy_(inputs[part])
            own = torch.from_numpy(labels[part])
            for place, model in enumerate(self._models):
                said = self._logits(model, self._x, self._live).to("cpu", torch.float64)
                logits[place, part, : len(self._live)] = said
                loss[place, part] = self._losses(said, own, self._live)
            self._admit(labels[part])
            for place, model in enumerate(self._models):
                if not self._diverged[place]:
                    self._diverged[place] = not self._train(model, self._x, own)
        return Outcome(logits, loss)

    def predict(self, x: Any) -> Tensor:
        """Return logits [A, N, C] of inputs [N, F]; see `Population.predict`."""
        inputs = arguments.read_inputs(x, self.layers[0], self._like.dtype, self._like.device)
        logits = [self._logits(model, inputs, self._live).to("cpu", torch.float64) for model in self._models]
        return torch.stack(logits)

    def _admit(self, labels: NDArray[np.int64]) -> None:
        missing = int(labels.max()) + 1 - len(self._live)
        if missing > 0:
            self._live = torch.cat([self._live, self._live.new_zeros(missing)])
            self.layers[-1] = len(self._live)
        self._live[torch.from_numpy(labels)] = True

    @property
    def weights(self) -> Weights:
        """Not there: raises LearnerError."""
        raise LearnerError(f"weights: {self.algorithm} has none that could be stacked")

    @weights.setter
    def weights(self, weights: Sequence[tuple[Any, Any]]) -> None:
        raise LearnerError(f"weights: {self.algorithm} has none that could be set")

    def _twin(self, state: Mapping[str, Tensor]) -> Any:
        """Return a fresh population of this kind with the state's masks, or raise LearnerError."""
        for name, shape in (("live", None), ("diverged", self._diverged.shape)):
            given = state.get(name)
            if not isinstance(given, Tensor) or given.dtype != torch.bool or given.dim() != 1 or (
                    given.shape != shape if shape else self._most() not in (None, len(given))):
                raise LearnerError(f"state[{name!r}]: that of {len(self.seeds)} members of {self.algorithm} is allowed")
        twin = type(self)([self.layers[0], len(state["live"])], **self._options)
        twin._live, twin._diverged = state["live"].cpu().clone(), state["diverged"].cpu().clone()
        return twin


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_plain(inner) for inner in value)
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("finite numbers are allowed")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{type(value).__name__} is not allowed, only what a file can hold: numbers, texts, lists")


Plain = Annotated[Any, AfterValidator(_plain)]
"""A value that an experiment file can hold."""


def hyperparameters_of(
    call: Callable[..., Any], base: type[MemberHyperparameters], skip: int = 0
) -> type[MemberHyperparameters]:
    """Return a model of a callable's arguments but the first `skip`, whose base's fields are not the callable's.

    Arguments whose default is an object are left out, since no file can hold one; arguments without a default are
    required.

    Examples
    --------
    >>> def build(inputs, outputs, width=3): ...
    >>> hyperparameters_of(build, MemberHyperparameters, skip=2)().width
    3
    """
    fields: dict[str, Any] = {}
    open_ended = False
    for parameter in list(inspect.signature(call).parameters.values())[skip:]:
        open_ended |= parameter.kind is parameter.VAR_KEYWORD
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.name not in ("seed", *base.model_fields) and not parameter.name.startswith("_"):
            try:
                default = ... if parameter.default is parameter.empty else _plain(parameter.default)
            except ValueError:
                continue
            fields[parameter.name] = (Plain, default)
    config = ConfigDict(extra="allow") if open_ended else ConfigDict()
    parent = type(base.__name__, (base,), {"model_config": config, "__module__": __name__})
    return create_model("Hyperparameters", __base__=parent, **fields)
