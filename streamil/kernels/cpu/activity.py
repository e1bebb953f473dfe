"""Nonlinearities f and their slopes, by number, as `streamil.learners.activations` has them."""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from streamil.kernels.cpu.products import COMPILED, ONE, ZERO
from streamil.learners.activations import LEAK

KINDS = {"relu": 0, "tanh": 1, "leaky-relu": 2, "identity": 3}
RELU, TANH, LEAKY = 0, 1, 2
SLOPE = np.float32(LEAK)


@njit(**COMPILED)
def activity(kind: int, h: Any) -> Any:
    """Return f(h) of one unit."""
    if kind == RELU:
        return max(h, ZERO) if h == h else h  # nan stays
    if kind == TANH:
        return np.tanh(h)
    if kind == LEAKY:
        return h if h > ZERO else SLOPE * h
    return h


@njit(**COMPILED)
def slope(kind: int, r: Any) -> Any:
    """Return f'(h) of one unit, from r = f(h)."""
    if kind == RELU:
        return ONE if r > ZERO else ZERO
    if kind == TANH:
        return ONE - r * r
    if kind == LEAKY:
        return ONE if r > ZERO else SLOPE
    return ONE


@njit(**COMPILED)
def activities(kind: int, h: Any, n: int, r: Any) -> None:
    """Write f(h) of h [n] into r."""
    if kind == RELU:  # apart, so that it is vectorised
        for k in range(n):
            r[k] = h[k] if not h[k] <= ZERO else ZERO
    else:
        for k in range(n):
            r[k] = activity(kind, h[k])


@njit(**COMPILED)
def sloping(kind: int, r: Any, n: int, rows: Any) -> int:
    """Write the units whose slope is not zero into `rows`; return how many there are."""
    if kind == RELU:
        count = 0
        for k in range(n):
            rows[count] = k
            count += r[k] > ZERO
        return count
    for k in range(n):
        rows[k] = k
    return n


@njit(**COMPILED)
def weaken(kind: int, error: Any, r: Any, n: int) -> None:
    """Multiply error [n] by f', from r = f(h); what comes where the slope is 0 does not matter."""
    if kind == RELU:
        for k in range(n):
            error[k] = error[k] if r[k] > ZERO else ZERO
    else:
        for k in range(n):
            error[k] *= slope(kind, r[k])
