"""What the calls of all kernels share: a name, threads, and the population's state as arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import llvmlite.binding
import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamil.kernels.cpu.activity import KINDS
from streamil.learners.activations import ACTIVATIONS
from streamil.learners.stacked import StackedPopulation

NAME = f"numba {numba.__version__} for {llvmlite.binding.get_host_cpu_name()}"
DEPTH = 8
"""Layers of weights, at most: a kernel is compiled once for all depths up to here."""
LINE = 16
"""Numbers of a cache line: rows of working memory begin on one."""
WORTH_A_THREAD = 4e6
"""Products and sums of a call that are worth a second thread."""
Array = NDArray[Any]
_NOTHING = np.empty((0, 0, 0), np.float32)


def fits(population: StackedPopulation) -> bool:
    """Return whether a population's precision, device and depth are those that kernels are compiled for."""
    return (population._like.dtype == torch.float32 and population._like.device.type == "cpu"
            and len(population.layers) <= DEPTH + 1)


def kind_of(population: StackedPopulation) -> int:
    """Return the number of a population's nonlinearity."""
    return next(KINDS[name] for name, one in ACTIVATIONS.items() if one is population.activation)


def line_width(layers: Sequence[int]) -> int:
    """Return how long a row of working memory is that holds the widest layer and its bias, in whole cache lines."""
    return (max(layers) + LINE) // LINE * LINE


def aligned(*shape: int) -> Array:
    """Return zeros of float32 that begin on a cache line, as torch's memory does."""
    found: Array = torch.zeros(shape).numpy()
    return found


def padded(arrays: Sequence[Array]) -> tuple[Array, ...]:
    """Return as many arrays as there can be layers: every depth has one type."""
    return (*arrays, *[_NOTHING] * (DEPTH - len(arrays)))


def as_held(weights: Sequence[Tensor]) -> tuple[Array, ...]:
    """Return the weights [A, out, in] of all layers as they lie in memory; see `Parameters`."""
    arrays = [weight.mT.numpy() for weight in weights[:-1]] + [weight.numpy() for weight in weights[-1:]]
    assert all(array.flags.c_contiguous for array in arrays)
    return padded(arrays)


def same(tensors: Sequence[Tensor], held: Sequence[Tensor]) -> bool:
    """Return whether the tensors are the very ones held, so that views of these still are views of them."""
    return len(tensors) == len(held) and all(a is b for a, b in zip(tensors, held, strict=True))


def try_out(own: Sequence[Tensor], step: Callable[[], None]) -> bool:
    """Take a step that may leave a member's state non-finite; take it back then, and return False."""
    before = [tensor.clone() for tensor in own]
    step()
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in own)
    for tensor, kept in zip(own, before, strict=True):
        if not finite:
            tensor.copy_(kept)
    return finite


def largest(own: Sequence[Tensor]) -> float:
    """Return how far a member's state is from zero."""
    return max(float(tensor.abs().max()) for tensor in own if tensor.numel())


def share_members(run: Callable[[int, Array], None], members: int, work: float) -> None:
    """Call `run` with a place and some of the members: all at once, or, where the work is worth it, in threads."""
    threads = min(torch.get_num_threads(), members)
    if threads == 1 or work < WORTH_A_THREAD:
        run(0, np.arange(members))
        return
    flush = _flushes_denormals()

    def apart(place: int, part: Array) -> None:  # a mode of each thread
        torch.set_flush_denormal(flush)
        run(place, part)

    list(_pool(threads).map(apart, range(threads), np.array_split(np.arange(members), threads)))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "kernel")


def _flushes_denormals() -> bool:
    """Return whether this thread takes numbers too small for full precision for zero."""
    return bool(np.float32(1e-38) * np.float32(0.1) == 0)
