"""What all rules share: the loop over mini-batches, classes met as they come, divergence, state."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamil.errors import LearnerError
from streamil.learners import arguments
from streamil.learners.activations import find_activation
from streamil.learners.factors import Factors, bias_step
from streamil.learners.hyperparameters import MemberHyperparameters, RuleHyperparameters
from streamil.learners.kernel import Kernels, find_kernel
from streamil.learners.outcome import Outcome, cross_entropy
from streamil.learners.parameters import Parameters
from streamil.learners.population import Population, Weights, count_parameters


class StackedPopulation(Population):
    """Members of one rule that share its structure, their weights stacked.

    A rule is a subclass: `Hyperparameters`, `algorithm`, `family`, and `_factors`, which says what one mini-batch
    changes. What is no plain sum (Adam) overrides `_apply` too, with `slots` for its state and `_reach`. What predicts
    by more than its weights (K-FAC) overrides `_answer`; state of other shapes stands in `_by_member` and `_tensors`.
    """

    Hyperparameters: ClassVar[type[RuleHyperparameters]]
    members: Sequence[RuleHyperparameters]
    slots: tuple[str, ...] = ()

    def __init__(
        self, layers: Sequence[int], members: Sequence[RuleHyperparameters], seeds: Sequence[int], *, batch_size: int,
        seed: int, device: torch.device, dtype: torch.dtype, activation: str, growing: bool, kernels: Kernels = "auto",
    ) -> None:
        self._options: dict[str, Any] = {
            "members": members, "seeds": seeds, "batch_size": batch_size, "seed": seed, "device": device,
            "dtype": dtype, "activation": activation, "growing": growing, "kernels": kernels,
        }
        self.members = list(members)
        self.seeds = list(seeds)
        self.batch_size = batch_size
        self.growing = growing
        self.activation = find_activation(activation)
        self.steps = 0
        like = torch.empty(0, dtype=dtype, device=device)
        self._like = like
        self.parameters = Parameters(layers, seed, seeds, self.slots, like)
        self._diverged = torch.zeros(len(seeds), dtype=torch.bool, device=device)
        self._live = torch.full((self.layers[-1],), not growing, dtype=torch.bool, device=device)
        self._x = like.new_zeros(batch_size, layers[0])  # one aligned home for every mini-batch: equal bits in any cut
        self._x_members = self._x.expand(len(seeds), -1, -1)
        self._limit = torch.finfo(dtype).max / 4
        self._refresh()
        self.kernel = find_kernel(self) if kernels == "auto" else None

    @classmethod
    def numbers_held(cls, layers: Sequence[int], members: Sequence[MemberHyperparameters], batch_size: int) -> int:
        """Return the count of weights, biases and slots; see `Population.numbers_held`."""
        return len(members) * count_parameters(layers) * (1 + len(cls.slots))

    @property
    def layers(self) -> list[int]:  # type: ignore[override]
        """Sizes [F, ..., C]."""
        return self.parameters.layers

    @property
    def by_kernel(self) -> bool:
        """Whether kernels do all of its learning."""
        return self.kernel is not None

    @torch.no_grad()
    def learn(self, x: Any, y: Any) -> Outcome:
        """Predict, then learn, mini-batch after mini-batch in order; see `Population.learn`."""
        inputs, labels = self._read(x, y)
        size, count = self.batch_size, len(labels)
        indices = torch.from_numpy(labels).to(self._like.device)
        rows = max(self.layers[-1], int(labels.max(initial=-1)) + 1)
        logits = self._like.new_full((len(self.seeds), count, rows), -math.inf)
        loss = self._like.new_empty(len(self.seeds), count)
        if not count:
            return Outcome(logits, loss)
        newcomers = self._newcomers(labels)
        begin = 0
        for end in sorted({part + 1 for part in newcomers} | {count // size}):  # the live classes change after each run
            live, learned = self._live.clone(), end - (end - 1 in newcomers)
            old, new = slice(begin * size, learned * size), slice(learned * size, end * size)
            if begin < learned and self.kernel is not None and self._known > 1:
                self.kernel.learn(self, inputs[old], indices[old], logits[:, old, : len(live)])
            elif begin < learned:
                self.learn_plainly(inputs[old], indices[old], logits[:, old, : len(live)])
            if learned < end:
                self._mini_batch(inputs[new], indices[new], logits[:, new, : len(live)], newcomers[learned])
            run = slice(begin * size, end * size)
            loss[:, run] = cross_entropy(logits[:, run, : len(live)], indices[run], live)
            begin = end
        return Outcome(logits, loss)

    def learn_plainly(self, x: Tensor, y: Tensor, logits: Tensor) -> None:
        """Predict, then learn, mini-batches [N, F] and [N] without a new class; fills logits [A, N, C]."""
        size = self.batch_size
        parts = (torch.split(tensor, size, dim) for tensor, dim in ((x, 0), (y, 0), (logits, 1)))
        for x_part, y_part, out in zip(*parts, strict=True):
            self._mini_batch(x_part, y_part, out, None)

    @torch.no_grad()
    def predict(self, x: Any) -> Tensor:
        """Return logits [A, N, C] of inputs [N, F]; see `Population.predict`."""
        inputs = arguments.read_inputs(x, self.layers[0], self._like.dtype, self._like.device)
        inputs = inputs.expand(len(self.seeds), -1, -1)
        predictions, _ = self.parameters.forward(inputs, self.activation)
        return self._answer(predictions, inputs)

    @abstractmethod
    def _factors(self, predictions: list[Tensor], presynaptic: list[Tensor], labels: Tensor) -> list[Factors]:
        """Return what the mini-batch changes in each layer.

        `predictions` p_1 .. p_L [A, B, n_l] and `presynaptic` f(h_0) .. f(h_{L-1}) come from the feedforward pass and
        may be overwritten, but for the input; `labels` [B, C] are one-hot.
        """

    def _answer(self, predictions: list[Tensor], x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits [A, B, C] of x [A, B, F] with predictions p_1 .. p_L; `labels` [B] if x is of the stream."""
        return self._masked(predictions[-1])

    def _learn(self, predictions: list[Tensor], presynaptic: list[Tensor], labels: Tensor) -> None:
        """Learn one mini-batch; arguments as of `_factors`."""
        self._commit(self._factors(predictions, presynaptic, labels))

    def _wait(self, presynaptic: list[Tensor]) -> None:
        """Take in a mini-batch while fewer than two classes are live: what depends on the inputs alone."""

    def _apply(self, factors: list[Factors]) -> None:
        """Add the products to the weights, in place."""
        for weight, bias, each in zip(self.parameters.W, self.parameters.b, factors, strict=True):
            weight.baddbmm_(each.errors.mT, each.presynaptic)
            if self._train_biases:
                bias.add_(bias_step(each.errors, each.bias))

    def _reach(self, step: float) -> float:
        """Return how far `_apply` can move a weight or its state if no product's element exceeds `step`."""
        return step

    def _refresh(self) -> None:
        """Renew what follows from the state: after its creation, growth, loading, setting, divergence."""
        self._train_biases = self.members[0].train_biases
        self._stopped = bool(self._diverged.any())
        self._known = int(self._live.sum())
        self._dead = None if self._known == len(self._live) else ~self._live
        self._one_hot = torch.eye(len(self._live), dtype=self._like.dtype, device=self._like.device)
        moving = [t[~self._diverged] for t in self.parameters.named().values()]
        self._bound = max((t.abs().max().item() for t in moving if t.numel()), default=0.0)

    def _values(self, name: str) -> Tensor:
        """Return a numeric hyperparameter of all members, [A, 1, 1]."""
        values = [getattr(member, name) for member in self.members]
        return self._like.new_tensor(values).view(-1, 1, 1)

    def _masked(self, logits: Tensor) -> Tensor:
        return logits if self._dead is None else logits.masked_fill(self._dead, -math.inf)

    def _softmax(self, logits: Tensor) -> Tensor:
        """Probabilities over the live classes; 0 for the others."""
        return torch.softmax(self._masked(logits), -1)

    def _mini_batch(self, x: Tensor, y: Tensor, out: Tensor, newcomers: NDArray[np.int64] | None) -> None:
        self._x.copy_(x)
        predictions, presynaptic = self.parameters.forward(self._x_members, self.activation)
        out.copy_(self._answer(predictions, self._x_members, y))
        if newcomers is not None:
            self._admit(newcomers)
            predictions, presynaptic = self.parameters.forward(self._x_members, self.activation)
        if self._known > 1:  # one class alone has nothing to be told from: nothing moves
            self.steps += 1
            self._learn(predictions, presynaptic, self._one_hot[y])
        else:
            self._wait(presynaptic)

    def _commit(self, factors: list[Factors]) -> None:
        """Apply an update, unless it would leave a member non-finite: that one stops where it is."""
        factors = self._stilled(factors)
        elements = torch.cat([t.reshape(-1) for t in self._moves(factors)])
        largest = elements.abs_().amax().clamp_min_(1).item()  # nan stays nan
        self._bound += self._reach(largest * largest * factors[0].errors.shape[1])
        if self._bound < self._limit:
            self._apply(factors)
            return
        tensors = self._by_member()
        before = {name: tensor.clone() for name, tensor in tensors.items()}
        self._apply(factors)
        bad = self._diverged.clone()
        for tensor in tensors.values():
            bad |= ~torch.isfinite(tensor).flatten(1).all(1)
        for name, tensor in tensors.items():
            tensor[bad] = before[name][bad]
        self._diverged |= bad
        self._refresh()

    def _stilled(self, factors: list[Factors]) -> list[Factors]:
        """Put zeros in place of whatever the stopped members came up with: 0 * inf would be nan."""
        if not self._stopped:
            return factors
        still = self._diverged.view(-1, 1, 1)
        return [Factors(*(None if t is None else t.masked_fill(still, 0) for t in each)) for each in factors]  # type: ignore[arg-type]

    def _moves(self, factors: list[Factors]) -> list[Tensor]:
        """Return what must be finite for the update to be."""
        return [t for each in factors for t in each if t is not None]

    def _by_member(self) -> dict[str, Tensor]:
        """Return all state that a member has of its own, by name, each with the members first."""
        return self.parameters.named()

    def _newcomers(self, labels: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
        """Return the classes that are not live, by the mini-batch that brings them first."""
        if self._known > labels.max(initial=-1) and self._dead is None:
            return {}
        classes, first = np.unique(labels, return_index=True)
        live = self._live.cpu().numpy()
        unseen = np.array([name >= len(live) or not live[name] for name in classes])
        parts = first // self.batch_size
        return {int(part): classes[unseen & (parts == part)] for part in set(parts[unseen].tolist())}

    def _admit(self, newcomers: NDArray[np.int64]) -> None:
        rows, missing = self.layers[-1], int(newcomers.max()) + 1 - self.layers[-1]
        if missing > 0:
            self.parameters.grow(rows + missing)
            self._live = torch.cat([self._live, self._live.new_zeros(missing)])
        self._live[torch.from_numpy(newcomers).to(self._live.device)] = True
        self._refresh()

    def _read(self, x: Any, y: Any) -> tuple[Tensor, NDArray[np.int64]]:
        inputs = arguments.read_inputs(x, self.layers[0], self._like.dtype, self._like.device)
        labels = arguments.read_labels(y, len(inputs), None if self.growing else self.layers[-1])
        if len(labels) % self.batch_size:
            raise LearnerError(f"x: got {len(labels)} samples, a multiple of batch_size = {self.batch_size} is allowed")
        return inputs, labels

    @property
    def weights(self) -> Weights:
        """Copies of the weights; see `Population.weights`."""
        pairs = zip(self.parameters.W, self.parameters.b, strict=True)
        return [(weight.clone(), bias.squeeze(1).clone()) for weight, bias in pairs]

    @weights.setter
    def weights(self, weights: Sequence[tuple[Any, Any]]) -> None:
        given = [torch.as_tensor(tensor).detach().to(self._like) for pair in weights for tensor in pair]
        expected = [tuple(tensor.shape) for pair in self.weights for tensor in pair]
        if [tuple(tensor.shape) for tensor in given] != expected:
            raise LearnerError(f"weights: got shapes {[tuple(t.shape) for t in given]}, {expected} are allowed")
        if not all(bool(torch.isfinite(tensor).all()) for tensor in given):
            raise LearnerError("weights: got values that are not finite")
        for ours, tensor in zip(self.parameters.flat, given, strict=True):
            ours.copy_(tensor.view_as(ours))
        self._refresh()

    def _tensors(self) -> dict[str, Tensor]:
        steps = torch.tensor(self.steps)
        return {**self._by_member(), "live": self._live, "diverged": self._diverged, "steps": steps}

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of everything that has state; see `Population.state_dict`."""
        return {name: tensor.clone() for name, tensor in self._tensors().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over the state of a population of the same kind; see `Population.load_state_dict`."""
        vars(self).update(vars(self.loaded(state)))

    def loaded(self, state: Mapping[str, Tensor]) -> Self:
        """Return a new population of this kind with that state; raise as `load_state_dict` does."""
        rows = len(state["live"]) if "live" in state and self.growing else self.layers[-1]
        twin = type(self)([*self.layers[:-1], rows], **self._options)
        ours = twin._tensors()
        if set(ours) != set(state):
            raise LearnerError(f"state: got {sorted(state)}, {sorted(ours)} are allowed")
        for name, tensor in ours.items():
            given = state[name]
            if not isinstance(given, Tensor):
                raise LearnerError(f"state[{name!r}]: got {type(given).__name__}, a tensor is allowed")
            if given.shape != tensor.shape or given.dtype != tensor.dtype:
                got, allowed = (f"{tuple(t.shape)} of {t.dtype}" for t in (given, tensor))
                raise LearnerError(f"state[{name!r}]: got {got}, {allowed} is allowed")
            tensor.copy_(given)
        twin._restored(ours)
        return twin

    def _restored(self, counts: dict[str, Tensor]) -> None:
        """Renew what follows from the state loaded; `counts` has those that no tensor of ours holds."""
        self.steps = int(counts["steps"])
        self._refresh()

    def to_module(self, member: int) -> torch.nn.Sequential:
        """Return one member as a plain torch module; see `Population.to_module`."""
        if not 0 <= member < len(self.members):
            raise LearnerError(f"member: got {member}, 0 to {len(self.members) - 1} is allowed")
        modules: list[torch.nn.Module] = []
        for weight, bias in self.weights:
            linear = torch.nn.Linear(weight.shape[2], weight.shape[1], device="meta", dtype=self._like.dtype)
            linear.load_state_dict({"weight": weight[member], "bias": bias[member]}, assign=True)
            modules += [linear, self.activation.module()]
        return torch.nn.Sequential(*modules[:-1])
