"""A user's own torch module and optimizer as an arm: `torch:<module>:<callable>`."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from streamil.errors import LearnerError
from streamil.learners.foreign import ForeignPopulation, hyperparameters_of
from streamil.learners.hyperparameters import MemberHyperparameters
from streamil.learners.outcome import cross_entropy
from streamil.user_code import first_line, load_module


class TorchHyperparameters(MemberHyperparameters):
    """What all torch arms can set; the callable's own arguments come on top."""

    outputs: int | None = Field(default=None, ge=1, description="Room for classes; null: as many as are known")


class _Member:
    """A module, its optimizer, and the generator that its dropout draws from."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, random: list[Tensor]) -> None:
        self.module, self.optimizer, self.random = module, optimizer, random


class TorchPopulation(ForeignPopulation):
    r"""A callable's `(module, optimizer)`, learning the mini-batch's mean cross-entropy, member after member.

    `callable(inputs, outputs, **hyperparameters)` returns an `nn.Module` that makes logits [B, outputs] of [B, inputs],
    and an `Optimizer` of its parameters. It is called under `torch.manual_seed` of the member's seed; module and state
    then go to the population's device and dtype. The module predicts in `eval` mode and learns in `train` mode; dropout
    draws from the member's own generator, which is part of the state.

    The output layer never grows: it has `outputs` rows, by default the classes that are known beforehand (a closed
    list, the last of `layers`). Rows of classes not met are masked: they take no part in softmax, loss or prediction.
    Where classes are met as they come, say `outputs`; a class beyond them is an error. Logits of a sample that are nan
    or infinite count as none: the prediction is wrong (-1), its loss $\ln(K + 1)$, as that of a class not met before.

    Batch normalisation at mini-batches of one is refused: it would normalise each sample to zero.

    Examples
    --------
    >>> from streamil.learners import learner_class
    >>> learner_class("torch:torch.nn:Linear").family
    'torch'
    """

    family = "torch"
    call: ClassVar[Any]

    @classmethod
    def numbers_held(cls, layers: Sequence[int], members: Sequence[MemberHyperparameters], batch_size: int) -> int:
        """Return the count of all parameters, from members built once; the optimizer's state is its own affair."""
        population = cls(
            [max(layers[0], 1), layers[-1]], [member.model_dump(exclude_unset=True) for member in members],
            batch_size=batch_size, seed=0, device="cpu", dtype="float32", growing=False, allow_pickle=False)
        return sum(parameter.numel() for model in population._models for parameter in model.module.parameters())

    def _rows(self, classes: int) -> int:
        rooms = {getattr(member, "outputs", None) or classes for member in self.members}
        if len(rooms) != 1 or not min(rooms):
            raise LearnerError(f"outputs: got {sorted(rooms)}, one number of at least 1 for all members is allowed: "
                               f"the room for classes in {self.algorithm}, whose output layer does not grow")
        return int(max(rooms))

    def _most(self) -> int:
        return self.layers[-1]

    def _build(self, member: MemberHyperparameters, seed: int) -> _Member:
        inputs, outputs = self.layers
        given = member.model_dump(exclude_unset=True, exclude={"outputs"})
        with torch.random.fork_rng(self._devices()):
            torch.manual_seed(seed)
            try:
                module, optimizer = self.call(inputs, outputs, **given)
            except (Exception, SystemExit) as error:
                raise LearnerError(f"{self.algorithm}({inputs}, {outputs}, **{given}): {first_line(error)}") from error
            if not isinstance(module, nn.Module) or not isinstance(optimizer, torch.optim.Optimizer):
                raise LearnerError(f"{self.algorithm}: returned ({type(module).__name__}, {type(optimizer).__name__}), "
                                   "(nn.Module, Optimizer) is allowed")
            random = self._random()
        if any(isinstance(parameter, nn.parameter.UninitializedParameter) for parameter in module.parameters()):
            raise LearnerError(f"{self.algorithm}: the module has parameters without a shape, which no seed reaches; "
                               f"call it once, module(torch.zeros(1, {inputs})), before it is returned")
        module.to(device=self._like.device, dtype=self._like.dtype)
        own = {id(parameter) for parameter in module.parameters()}
        if not all(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
            raise LearnerError(f"{self.algorithm}: the optimizer has parameters that are not the module's")
        for name, part in module.named_modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and self.batch_size == 1:
                raise LearnerError(f"batch_size: got 1, but {self.algorithm} has batch normalisation "
                                   f"({name or 'itself'}: {type(part).__name__}), which needs 2 or more")
        return _Member(module, optimizer, random)

    def _logits(self, model: _Member, x: Tensor, live: Tensor) -> Tensor:
        model.module.eval()
        with torch.no_grad():
            said = self._masked(self._forward(model.module, x), live)
        # nan would be the largest, and the loss nan for ever
        return said.masked_fill((said.isnan() | said.isposinf()).any(-1, keepdim=True), -torch.inf)

    def _losses(self, logits: Tensor, labels: Tensor, live: Tensor) -> Tensor:
        loss = cross_entropy(logits.unsqueeze(0), labels, live)[0]
        return loss.masked_fill(logits.isneginf().all(-1), math.log(int(live.sum()) + 1))

    def _train(self, model: _Member, x: Tensor, labels: Tensor) -> bool:
        if int(self._live.sum()) < 2:  # one class alone has nothing to be told from: nothing moves
            return True
        labels = labels.to(x.device)
        before = copy.deepcopy(model.module.state_dict())

        def closure() -> Tensor:
            model.optimizer.zero_grad()
            logits = self._masked(self._forward(model.module, x), self._live)
            loss = nn.functional.cross_entropy(logits, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        model.module.train()
        with torch.random.fork_rng(self._devices()), torch.enable_grad():
            self._set_random(model.random)
            try:
                model.optimizer.step(closure)  # type: ignore[arg-type]
            except LearnerError:
                raise
            except Exception as error:
                raise LearnerError(f"{self.algorithm}: learning failed: {first_line(error)}") from error
            model.random = self._random()
        held = model.module.state_dict().values()
        if all(bool(torch.isfinite(tensor).all()) for tensor in held if isinstance(tensor, Tensor)):
            return True
        model.module.load_state_dict(before)
        return False

    def _forward(self, module: nn.Module, x: Tensor) -> Tensor:
        try:
            logits = module(x)
        except Exception as error:
            raise LearnerError(f"{self.algorithm}: the module failed: {first_line(error)}") from error
        if not isinstance(logits, Tensor) or logits.shape != (len(x), self.layers[-1]):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise LearnerError(f"{self.algorithm}: the module returned {got}, logits of shape "
                               f"{(len(x), self.layers[-1])} are allowed")
        return logits

    def _masked(self, logits: Tensor, live: Tensor) -> Tensor:
        return logits.masked_fill(~live.to(logits.device), -torch.inf)

    def _devices(self) -> list[torch.device]:
        return [self._like.device] if self._like.is_cuda else []

    def _random(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._devices())]

    def _set_random(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        for device, state in zip(self._devices(), states[1:], strict=False):
            torch.cuda.set_rng_state(state, device)

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of masks, modules, optimizers and generators: tensors, and numbers as tensors.

        `3.module.<name>`, `3.optimizer.<parameter>.<name>`, `3.group.<group>.<name>`, `3.random.0` of member 3; numbers
        that are no tensors have a name that ends in `:number`.
        """
        state = {"live": self.live, "diverged": self.diverged}
        for place, model in enumerate(self._models):
            parts: dict[str, Any] = {f"module.{name}": tensor for name, tensor in model.module.state_dict().items()}
            moves = model.optimizer.state_dict()
            for index, values in moves["state"].items():
                parts |= {f"optimizer.{index}.{name}": value for name, value in values.items() if value is not None}
            for number, group in enumerate(moves["param_groups"]):
                numbers = {name: value for name, value in group.items() if isinstance(value, bool | int | float)}
                parts |= {f"group.{number}.{name}": value for name, value in numbers.items()}
            parts |= {f"random.{number}": tensor for number, tensor in enumerate(model.random)}
            for name, value in parts.items():
                if isinstance(value, bool | int | float):
                    dtype = torch.float64 if isinstance(value, float) else None
                    state[f"{place}.{name}:number"] = torch.tensor(value, dtype=dtype)
                elif isinstance(value, Tensor):
                    state[f"{place}.{name}"] = value.detach().clone()
                else:
                    raise LearnerError(f"state: {self.algorithm}: {name} of the optimizer is {type(value).__name__}; "
                                       "only tensors and numbers can be saved")
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over such a state; see `Population.load_state_dict`."""
        twin = self._twin(state)
        shares: list[dict[str, Any]] = [{} for _ in self.seeds]
        for name, tensor in state.items():
            number, _, rest = name.partition(".")
            if name in ("live", "diverged"):
                continue
            if not number.isdecimal() or int(number) >= len(shares) or not isinstance(tensor, Tensor):
                raise LearnerError(f"state: got {name!r}, tensors named 0. to {len(shares) - 1}. are allowed")
            own = tensor.item() if name.endswith(":number") else tensor.clone()  # optimizers learn in place
            shares[int(number)][rest.removesuffix(":number")] = own
        for model, share in zip(twin._models, shares, strict=True):
            try:
                _take_over(model, share)
            except LearnerError:
                raise
            except Exception as error:
                raise LearnerError(f"state: {first_line(error)}") from None
        for name in sorted(twin.state_dict().keys() ^ state.keys()):
            raise LearnerError(f"state: {name!r} is {'unknown' if name in state else 'missing'}")
        vars(self).update(vars(twin))

    def to_module(self, member: int) -> nn.Module:
        """Return a copy of one member's module; see `Population.to_module`."""
        if not 0 <= member < len(self.members):
            raise LearnerError(f"member: got {member}, 0 to {len(self.members) - 1} is allowed")
        module: nn.Module = copy.deepcopy(self._models[member].module)
        return module.eval()

    @property
    def parameters_per_member(self) -> int:
        """Number of elements of one member's parameters."""
        return sum(parameter.numel() for parameter in self._models[0].module.parameters())


def _take_over(model: _Member, share: dict[str, Any]) -> None:
    """Write one member's part of a state into a fresh member."""
    module, moves = {}, model.optimizer.state_dict()
    random: dict[int, Tensor] = {}
    for name, value in share.items():
        kind, _, rest = name.partition(".")
        number, _, key = rest.partition(".")
        if kind == "module":
            module[rest] = value
        elif kind == "optimizer":
            moves["state"].setdefault(int(number), {})[key] = value
        elif kind == "group":
            moves["param_groups"][int(number)][key] = value
        elif kind == "random":
            random[int(number)] = value.cpu()
        else:
            raise LearnerError(f"state: got {name!r}, module, optimizer, group and random are allowed")
    parameters = [parameter for group in model.optimizer.param_groups for parameter in group["params"]]
    for index, values in moves["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != parameters[index].shape:
                raise LearnerError(f"state: optimizer.{index}.{key} has shape {tuple(value.shape)}, "
                                   f"{tuple(parameters[index].shape)} is allowed")
    if [random[number].shape for number in sorted(random)] != [own.shape for own in model.random]:
        raise LearnerError(f"state: got {len(random)} generators, {len(model.random)} of torch's own are allowed")
    model.module.load_state_dict(module)
    model.optimizer.load_state_dict(moves)
    model.random = [random[number].clone() for number in sorted(random)]


@functools.cache
def torch_rule(name: str, folder: Path | None) -> type[TorchPopulation]:
    """Return the arm of `<module>:<callable>`, the module looked for in `folder` first, then on the import path.

    Raises
    ------
    LearnerError
        When module or callable is not there, or cannot be called with (inputs, outputs).
    """
    algorithm = f"torch:{name}"
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
        raise LearnerError(f"algorithm: got {algorithm!r}, torch:<module>:<callable> is allowed")
    module, _, function = name.partition(":")
    found: Any = getattr(load_module(module, folder, f"algorithm: {algorithm}", LearnerError), function, None)
    if not callable(found):
        raise LearnerError(f"algorithm: {algorithm}: module {module!r} has no callable {function!r}")
    try:
        inspect.signature(found).bind(1, 2, **_required(found))
    except (TypeError, ValueError) as error:
        raise LearnerError(f"algorithm: {algorithm} cannot be called with (inputs, outputs): {error}") from None

    class Rule(TorchPopulation):
        Hyperparameters = hyperparameters_of(found, TorchHyperparameters, skip=2)
        call = staticmethod(found)

    Rule.algorithm, Rule.__name__, Rule.__doc__ = algorithm, function, TorchPopulation.__doc__
    return Rule


def _required(call: Any) -> dict[str, None]:
    """Return the names of the callable's further arguments that have no default."""
    further = list(inspect.signature(call).parameters.values())[2:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {one.name: None for one in further if one.default is one.empty and one.kind in named}
