"""Hyperparameters of a rule's members, and pydantic's complaints as ours."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamil.errors import LearnerError

LARGEST_SEED = 2**32 - 1
"""Seeds are part of a generator's key, 0 to this."""


class MemberHyperparameters(BaseModel):
    """What a member of any learner can set: nothing yet."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True, protected_namespaces=()
    )


M = TypeVar("M", bound=MemberHyperparameters)


class RuleHyperparameters(MemberHyperparameters):
    """What every rule's member can set; rules add theirs.

    Attributes
    ----------
    structural
        Names of those that change the flow of control: equal within one stacked population. The others become
        tensors [A, 1, 1].
    """

    structural: ClassVar[tuple[str, ...]] = ("train_biases",)

    train_biases: bool = Field(default=True, description="Learn biases; false leaves them at their first values.")

    @property
    def structure(self) -> tuple[Any, ...]:
        """Values of the structural ones."""
        return tuple(getattr(self, name) for name in self.structural)


def read_members(
    model: type[M], algorithm: str, members: Sequence[Mapping[str, Any]] | None
) -> tuple[list[M], list[int]]:
    """Return validated hyperparameters and seeds of each member; None is one member of defaults.

    Raises
    ------
    LearnerError
        With one line per wrong hyperparameter: member, name, what it got, what is allowed.

    Examples
    --------
    >>> read_members(RuleHyperparameters, "any", [{"train_biases": 3}])
    Traceback (most recent call last):
    streamil.errors.LearnerError: members[0].train_biases: got 3, input should be a valid boolean
    """
    given = [{}] if members is None else list(members) if isinstance(members, Iterable) else []
    if not given or not all(isinstance(member, Mapping) for member in given):
        raise LearnerError(f"members: got {members!r}, a list of one mapping of hyperparameters or more is allowed")
    validated: list[M] = []
    seeds: list[int] = []
    for place, member in enumerate(given):
        values = dict(member)
        seeds.append(check_seed(values.pop("seed", 0), f"members[{place}].seed"))
        try:
            validated.append(model(**values))
        except ValidationError as error:
            lines = (_line(f"members[{place}]", problem, model, algorithm) for problem in error.errors())
            raise LearnerError("\n".join(lines)) from None
    return validated, seeds


def check_seed(seed: Any, name: str) -> int:
    """Return a seed, or raise LearnerError."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= seed.__index__() <= LARGEST_SEED:
        raise LearnerError(f"{name}: got {seed!r}, a whole number from 0 to {LARGEST_SEED} is allowed")
    return int(seed.__index__())


def _line(where: str, problem: Any, model: type[MemberHyperparameters], algorithm: str) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        message = problem["msg"][:1].lower() + problem["msg"][1:]
        return f"{where}{'.' if name else ''}{name}: got {problem['input']!r}, {message}"
    known = [*model.model_fields, "seed"]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    allowed = ", ".join(known)
    return f"{where}.{name}: {algorithm} has no such hyperparameter, did you mean {near[0]}? allowed: {allowed}"
