"""Members whose structure differs, as one population of several stacked ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from streamil.errors import LearnerError
from streamil.learners import arguments
from streamil.learners.activations import find_activation
from streamil.learners.hyperparameters import check_seed, read_members
from streamil.learners.kernel import Kernels
from streamil.learners.population import Outcome, Population, Weights
from streamil.learners.stacked import StackedPopulation


def assemble(
    rule: type[StackedPopulation], layers: Sequence[int], members: Sequence[Mapping[str, Any]] | None, *,
    batch_size: int, seed: int, device: Any, dtype: Any, activation: str, growing: bool, kernels: Kernels = "auto",
) -> Population:
    """Return one stacked population, or a composite of one for each structure; see `streamil.learners.create`."""
    validated, seeds = read_members(rule.Hyperparameters, rule.algorithm, members)
    find_activation(activation)
    options: dict[str, Any] = {
        "batch_size": arguments.read_batch_size(batch_size), "seed": check_seed(seed, "seed"),
        "device": arguments.read_device(device), "dtype": arguments.read_dtype(dtype), "activation": activation,
        "growing": bool(growing), "kernels": kernels,
    }
    sizes = arguments.read_layers(layers, growing)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, member in enumerate(validated):
        groups.setdefault(member.structure, []).append(place)
    parts = [
        rule(sizes, [validated[place] for place in places], [seeds[place] for place in places], **options)
        for places in groups.values()
    ]
    return parts[0] if len(parts) == 1 else Composite(parts, list(groups.values()))


class Composite(Population):
    """Several stacked populations that take the same samples, their members in the order given.

    Parameters
    ----------
    parts
        The stacked populations, of one rule and the same sizes.
    places
        For each part, the places of its members in the composite.

    Examples
    --------
    >>> from streamil.learners import create
    >>> population = create("il-prox", [4, 8, 3], [{"inference_steps": steps} for steps in (3, 5, 3)])
    >>> type(population).__name__, [member.inference_steps for member in population.members]
    ('Composite', [3, 5, 3])
    """

    def __init__(self, parts: Sequence[StackedPopulation], places: Sequence[Sequence[int]]) -> None:
        self.parts = list(parts)
        self._rows = [list(rows) for rows in places]
        self._where = {place: (part, row) for part, rows in enumerate(places) for row, place in enumerate(rows)}
        order = [place for rows in places for place in rows]
        self._order = torch.tensor(order, device=self.parts[0].live.device).argsort()
        first = self.parts[0]
        self.algorithm, self.family = first.algorithm, first.family
        self.batch_size, self.growing = first.batch_size, first.growing
        owners = [self._where[place] for place in range(len(order))]
        self.members = [self.parts[part].members[row] for part, row in owners]
        self.seeds = [self.parts[part].seeds[row] for part, row in owners]

    @property
    def layers(self) -> list[int]:  # type: ignore[override]
        """Sizes [F, ..., C]."""
        return self.parts[0].layers

    @property
    def by_kernel(self) -> bool:
        """Whether kernels do all of its learning."""
        return all(part.by_kernel for part in self.parts)

    def learn(self, x: Any, y: Any) -> Outcome:
        """Predict, then learn; see `Population.learn`. The first part checks what the others then take."""
        outcomes = [part.learn(x, y) for part in self.parts]
        return Outcome(self._join([o.logits for o in outcomes]), self._join([o.loss for o in outcomes]))

    def predict(self, x: Any) -> Tensor:
        """Return logits [A, N, C]; see `Population.predict`."""
        return self._join([part.predict(x) for part in self.parts])

    @property
    def weights(self) -> Weights:
        """Copies of the weights; see `Population.weights`."""
        layers = zip(*(part.weights for part in self.parts), strict=True)
        return [(self._join([w for w, _ in layer]), self._join([b for _, b in layer])) for layer in layers]

    @weights.setter
    def weights(self, weights: Sequence[tuple[Any, Any]]) -> None:
        given = [(torch.as_tensor(weight), torch.as_tensor(bias)) for weight, bias in weights]
        expected = [tuple(tensor.shape) for pair in self.weights for tensor in pair]
        if [tuple(tensor.shape) for pair in given for tensor in pair] != expected:
            raise LearnerError(f"weights: got other shapes than {expected}")
        if not all(bool(torch.isfinite(tensor).all()) for pair in given for tensor in pair):
            raise LearnerError("weights: got values that are not finite")
        for part, rows in zip(self.parts, self._rows, strict=True):
            part.weights = [(weight[rows], bias[rows]) for weight, bias in given]

    @property
    def diverged(self) -> Tensor:
        """Members [A] bool that stopped at their last finite weights."""
        return self._join([part.diverged for part in self.parts])

    @property
    def energy(self) -> Tensor | None:
        """Energy [A] that inference left in the last mini-batch; see `Population.energy`."""
        energies = [part.energy for part in self.parts]
        known = [energy for energy in energies if energy is not None]
        return self._join(known) if len(known) == len(energies) else None

    @property
    def live(self) -> Tensor:
        """Classes [C] bool that take part."""
        return self.parts[0].live

    def state_dict(self) -> dict[str, Tensor]:
        """Return every part's state under its number: `0.weight.0`, ..."""
        states = enumerate(part.state_dict() for part in self.parts)
        return {f"{number}.{name}": tensor for number, state in states for name, tensor in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over the state of a composite of the same kind; see `Population.load_state_dict`."""
        states: list[dict[str, Tensor]] = [{} for _ in self.parts]
        for name, tensor in state.items():
            number, _, rest = name.partition(".")
            if not number.isdecimal() or int(number) >= len(states):
                raise LearnerError(f"state: got {name!r}, names that start with 0. to {len(states) - 1}. are allowed")
            states[int(number)][rest] = tensor
        self.parts = [part.loaded(own) for part, own in zip(self.parts, states, strict=True)]

    def to_module(self, member: int) -> torch.nn.Sequential:
        """Return one member as a plain torch module; see `Population.to_module`."""
        if member not in self._where:
            raise LearnerError(f"member: got {member}, 0 to {len(self.members) - 1} is allowed")
        part, row = self._where[member]
        return self.parts[part].to_module(row)

    def predictor(self, member: int) -> torch.nn.Module:
        """Return what predicts as a torch module; see `Population.predictor`."""
        self.to_module(member)  # raises for a member that is not there
        part, row = self._where[member]
        return self.parts[part].predictor(row)

    def _join(self, tensors: list[Tensor]) -> Tensor:
        return torch.cat(tensors)[self._order]
