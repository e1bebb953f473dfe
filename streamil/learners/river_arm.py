"""Any classifier of river as an arm: `river:<module>.<Class>`."""

from __future__ import annotations

import copy
import difflib
import functools
import hashlib
import importlib
import inspect
import math
import pkgutil
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from pydantic import model_validator
from torch import Tensor

from streamil.errors import LearnerError
from streamil.learners.foreign import ForeignPopulation, hyperparameters_of
from streamil.learners.hyperparameters import MemberHyperparameters
from streamil.learners.river_pickle import dump, load

FLOOR = 1e-15
"""Smallest probability that a loss is taken of, river's own: no loss exceeds 34.6."""


class RiverHyperparameters(MemberHyperparameters):
    """What all river arms can set: the arguments of their class."""

    made: ClassVar[Any]

    def build(self, seed: int) -> Any:
        """Return the classifier, with the arguments that were set and the seed where the class has one."""
        seeded = {"seed": seed} if "seed" in inspect.signature(self.made).parameters else {}
        return self.made(**self.model_dump(exclude_unset=True), **seeded)

    @model_validator(mode="after")
    def _try(self) -> Self:
        try:
            self.build(0)
        except Exception as error:
            raise ValueError(f"river refuses it: {error}") from None
        return self


class RiverPopulation(ForeignPopulation):
    r"""A river classifier, sample after sample in Python, on features named 0 .. F-1 and classes 0 .. C-1.

    The whole mini-batch is predicted (`predict_proba_one`), then learned in order (`learn_one`); the CPU does it,
    whatever the device. Logits are $\ln p$ in float64, p normalised over the live classes, -inf for classes that were
    not predicted. A prediction that is empty counts as wrong (-1); its loss is $\ln(K + 1)$, as that of a class not
    met before. Other losses are $-\ln p_y$ with p not below 1e-15.

    A class of river that tells two classes apart learns class 1 as True: with two classes the numbers are river's
    own. A third class makes one learner per class against the rest, from what is there: that of class 1 goes on,
    that of class 0 goes on as a copy with its answer turned round, and each later class starts afresh when first seen.

    The only form of river's state is a pickle. `state_dict` and `load_state_dict` need `allow_pickle=True`, and what
    is loaded has to have its checksum and consist of river's own classes and a fixed list of plain types. A checksum
    tells damage, not malice: load what you wrote.

    Examples
    --------
    >>> from streamil.learners import create
    >>> population = create("river:linear_model.PAClassifier", [2, 2], [{"C": 0.1}, {"C": 1.0}])
    >>> outcome = population.learn([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [0, 1, 0, 1])
    >>> outcome.predicted[1].tolist()
    [0, 0, 0, 1]
    """

    family = "river"

    def _home(self, device: Any) -> torch.device:
        return torch.device("cpu")

    def _build(self, member: MemberHyperparameters, seed: int) -> Any:
        assert isinstance(member, RiverHyperparameters)
        fresh = member.build(seed)
        return fresh if fresh._multiclass else OneVersusRest(fresh)

    def _logits(self, model: Any, x: Tensor, live: Tensor) -> Tensor:
        logits = torch.full((len(x), len(live)), -math.inf, dtype=torch.float64)
        known = live.tolist()
        for place, row in enumerate(x.tolist()):
            said = self._call(model.predict_proba_one, dict(enumerate(row))) or {}
            values = {k: p for k, p in said.items() if 0 <= k < len(known) and known[k] and 0 < p < math.inf}
            total = sum(values.values())
            for k, p in values.items():
                logits[place, k] = math.log(p / total) if p / total > 0 else -math.inf
        return logits

    def _losses(self, logits: Tensor, labels: Tensor, live: Tensor) -> Tensor:
        unmet = math.log(int(live.sum()) + 1)
        if not len(live):
            return torch.full((len(labels),), unmet, dtype=torch.float64)
        inside = labels.clamp(max=len(live) - 1)
        met = (labels < len(live)) & live[inside] & ~logits.isneginf().all(-1)
        chosen = logits.gather(-1, inside.unsqueeze(-1)).squeeze(-1).clamp_min(math.log(FLOOR))
        return torch.where(met, -chosen, unmet)

    def _train(self, model: Any, x: Tensor, labels: Tensor) -> bool:
        try:
            for row, label in zip(x.tolist(), labels.tolist(), strict=True):
                self._call(model.learn_one, dict(enumerate(row)), label)
        except ArithmeticError:  # weights too large for a float: the member goes on predicting, as it is
            return False
        return True

    def _call(self, method: Any, *given: Any) -> Any:
        try:
            return method(*given)
        except ArithmeticError:
            if len(given) == 1:
                return None
            raise
        except Exception as error:
            raise LearnerError(f"{self.algorithm}: {type(error).__name__}: {error}") from error

    def state_dict(self) -> dict[str, Tensor]:
        """Return the masks, the pickled members and their checksum; raises LearnerError without `allow_pickle`."""
        self._require_pickle()
        data = dump(self._models, self.algorithm)
        whole = {"pickle": data, "checksum": hashlib.sha256(data).digest()}
        tensors = {name: torch.frombuffer(bytearray(content), dtype=torch.uint8) for name, content in whole.items()}
        return {**tensors, "live": self.live, "diverged": self.diverged}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over such a state; raises LearnerError without `allow_pickle`, and before anything is unpickled."""
        self._require_pickle()
        if set(state) != {"pickle", "checksum", "live", "diverged"}:
            raise LearnerError(f"state: got {sorted(state)}, checksum, diverged, live and pickle are allowed")
        twin = self._twin(state)
        parts = [state[name] for name in ("pickle", "checksum")]
        if not all(isinstance(part, Tensor) and part.dtype == torch.uint8 and part.dim() == 1 for part in parts):
            raise LearnerError("state: pickle and checksum are tensors of uint8 of one dimension")
        data, checksum = (part.cpu().numpy().tobytes() for part in parts)
        if hashlib.sha256(data).digest() != checksum:
            raise LearnerError("state: the pickle is damaged, its checksum differs")
        models = load(data, self.algorithm)
        if not isinstance(models, list) or [type(model) for model in models] != [type(model) for model in twin._models]:
            raise LearnerError(f"state: {len(self.seeds)} members of {self.algorithm} are allowed")
        twin._models = models
        vars(self).update(vars(twin))

    def _require_pickle(self) -> None:
        if not self.allow_pickle:
            raise LearnerError(
                f"allow_pickle: the state of {self.algorithm} has no form but pickle, which is neither written nor "
                "read unless allow_pickle=True says so (in a file: service.snapshots.allow_pickle: true)")

    def to_module(self, member: int) -> torch.nn.Module:
        """Not there: raises LearnerError."""
        raise LearnerError(f"to_module: {self.algorithm} is no torch module")

    @property
    def parameters_per_member(self) -> int:
        """0: what river's classes hold is their own affair."""
        return 0


class OneVersusRest:
    """Classes told apart by learners of two: one learner for two classes, one per class beyond.

    Parameters
    ----------
    fresh
        A classifier that has learned nothing.
    """

    def __init__(self, fresh: Any) -> None:
        self.fresh, self.learners = fresh, {1: copy.deepcopy(fresh)}

    def predict_proba_one(self, x: dict[int, float]) -> dict[int, float]:
        """Return the probability of each class."""
        if len(self.learners) == 1:
            said = self.learners[1].predict_proba_one(x)
            return {0: said.get(False, 0.0), 1: said.get(True, 0.0)}
        return {k: learner.predict_proba_one(x).get(k != 0, 0.0) for k, learner in sorted(self.learners.items())}

    def learn_one(self, x: dict[int, float], y: int) -> None:
        """Learn one sample; the learner of class 0 learns what is *not* class 0, as that of two classes did."""
        if y > 1 and len(self.learners) == 1:
            self.learners[0] = copy.deepcopy(self.learners[1])
        if y not in self.learners and len(self.learners) > 1:
            self.learners[y] = copy.deepcopy(self.fresh)
        for k, learner in self.learners.items():
            learner.learn_one(x, (y != 0) if k == 0 else (y == k))


@functools.cache
def river_rule(name: str) -> type[RiverPopulation]:
    """Return the arm of a class of river's public modules, `linear_model.PAClassifier`.

    Raises
    ------
    LearnerError
        When river is not there, has no such classifier, or it cannot be built from what a file can hold.
    """
    algorithm = f"river:{name}"
    known = _classifiers()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        raise LearnerError(f"algorithm: got {algorithm!r}, did you mean 'river:{near[0]}'? known: {', '.join(known)}")
    made = known[name]
    parameters = inspect.signature(made).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if needed:
        raise LearnerError(f"algorithm: {algorithm} needs {', '.join(needed)}, which no file can hold; classes whose "
                           "arguments all have defaults are allowed")

    class Given(RiverHyperparameters):
        made = known[name]

    class Rule(RiverPopulation):
        Hyperparameters = hyperparameters_of(made, Given)

    Rule.algorithm, Rule.__name__, Rule.__doc__ = algorithm, made.__name__, RiverPopulation.__doc__
    return Rule


@functools.cache
def _classifiers() -> dict[str, Any]:
    try:
        import river
        from river.base import Classifier
    except ImportError:
        raise LearnerError("algorithm: river is not installed; pip install 'streamil[river]'") from None
    known = {}
    for found in pkgutil.iter_modules(river.__path__):
        if not found.name.startswith("_") and found.name not in ("api", "checks", "compat", "datasets"):
            module = importlib.import_module(f"river.{found.name}")
            for name in getattr(module, "__all__", ()):
                one = getattr(module, name, None)
                if inspect.isclass(one) and issubclass(one, Classifier) and not inspect.isabstract(one):
                    known[f"{found.name}.{name}"] = one
    return known
