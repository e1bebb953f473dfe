"""What the classes of this room share: checked arguments, and checked entries of a state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamil import state_entries
from streamil.errors import EvaluationError

State: TypeAlias = dict[str, "NDArray[Any] | int | float"]
"""Everything an object has learned from its samples, flat: arrays and numbers by name."""


def require(holds: bool, name: str, got: object, allowed: str) -> None:
    """Raise EvaluationError that names the argument, what it got and what is allowed, unless `holds`."""
    if not holds:
        raise EvaluationError(f"{name} is {got}; it must be {allowed}")


def array(state: Mapping[str, Any], name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a copy of the array `name` of a state, as `state_entries.array`; raise EvaluationError."""
    try:
        return state_entries.array(state, name, dtype, shape)
    except ValueError as error:
        raise EvaluationError(f"state: {error}") from None


def number(state: Mapping[str, Any], name: str) -> Any:
    """Return the number `name` of a state."""
    require(name in state, f"state[{name!r}]", "missing", "a number")
    return np.asarray(state[name]).item()


def prefixed(prefix: str, state: State) -> State:
    """Return the state with its names behind `prefix.`, so that states nest in a flat one."""
    return {f"{prefix}.{name}": value for name, value in state.items()}


def within(prefix: str, state: Mapping[str, Any]) -> State:
    """Return the entries behind `prefix.`: the inverse of `prefixed`."""
    return {name.removeprefix(f"{prefix}."): value for name, value in state.items() if name.startswith(f"{prefix}.")}
