"""Fused kernels for GPUs: the same numbers as the learning rules, to rounding, in one launch for many samples.

The plain rules in `streamil.learners` are the specification; what a kernel does not know is left to them. Importing
this package imports neither torch nor triton.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from streamil.learners import Outcome, Population

__all__ = ["fast_path"]


def fast_path(population: Population) -> Callable[[Any, Any], Outcome] | None:
    """Return what does `population.learn` faster, or None where nothing does.

    Examples
    --------
    >>> from streamil.learners import create
    >>> fast_path(create("il-prox", [4, 8, 3])) is None  # on a CPU
    True
    """
    from streamil.kernels import il_prox_gpu

    if importlib.util.find_spec("triton") is None or population.live.device.type != "cuda":
        return None
    return (lambda x, y: il_prox_gpu.learn(population, x, y)) if il_prox_gpu.supports(population) else None
