"""Fused paths of the learning rules: the same numbers, to rounding, in one call for many samples.

The plain rules in `streamil.learners` are the specification; what a kernel does not know is left to them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from streamil.log import Event, nobody

if TYPE_CHECKING:
    import torch

    from streamil.learners.kernel import Kernel
    from streamil.learners.population import Population
    from streamil.learners.stacked import StackedPopulation

__all__ = ["PLAIN", "choose", "kernel_name", "prepare"]

PLAIN = "none"
"""Name of no kernel."""
READYING = "making kernels ready for this CPU: up to half a minute where they are compiled first, once"
PATIENCE = 1.5
"""Seconds after which who waits for that is told why."""


def kernel_name(rule: type[Population], device: torch.device) -> str:
    """Return the name of what may stand in for a rule on a device, with versions, or `PLAIN`.

    Examples
    --------
    >>> import torch
    >>> from streamil.learners import learner_class
    >>> kernel_name(learner_class("implicit-sgd"), torch.device("cpu"))
    'none'
    """
    if device.type == "cpu":
        from streamil.kernels.cpu import calls, kfac_populations, populations

        return calls.NAME if rule in (*populations.FORMS, *kfac_populations.RULES) else PLAIN
    from streamil.kernels.gpu import graph, il_prox
    from streamil.learners.il_prox import ILProx

    if rule is ILProx and il_prox.TRITON:
        return il_prox.ILProxKernel.name
    return graph.GraphKernel.name if rule in graph.RULES else PLAIN


def choose(population: StackedPopulation) -> Kernel | None:
    """Return what learns as this population does, faster, or None where nothing does.

    Examples
    --------
    >>> from streamil.learners import create
    >>> create("il-prox", [4, 8, 3]).kernel.name.startswith("numba")
    True
    """
    if population.live.device.type == "cpu":
        from streamil.kernels.cpu import kfac_populations, populations

        if populations.supports(population):
            return populations.CPUKernel(population)
        return kfac_populations.KFacKernel(population) if kfac_populations.supports(population) else None
    from streamil.kernels.gpu import graph, il_prox

    if il_prox.TRITON and il_prox.supports(population):
        return il_prox.ILProxKernel()
    return graph.GraphKernel() if graph.supports(population) else None


def prepare(algorithms: Iterable[str] | None, tell: Callable[[str], object] = nobody) -> None:
    """Take from disk, or compile for this machine's CPU, what these rules need, or all: no sample waits for it then.

    Examples
    --------
    >>> prepare(["il-prox", "another.module:arm"])
    """
    from streamil.kernels.cpu import kfac_populations, populations
    from streamil.learners import create

    known = [rule.algorithm for rule in (*populations.FORMS, *kfac_populations.RULES)]
    wanted = set(known if algorithms is None else algorithms)
    slow = threading.Timer(PATIENCE, tell, [Event(READYING)])
    slow.daemon = True
    slow.start()
    try:
        for algorithm in known:
            if algorithm in wanted:
                create(algorithm, [2, 2, 2]).learn(np.zeros((1, 2), np.float32), np.zeros(1, np.int64))
    finally:
        slow.cancel()
