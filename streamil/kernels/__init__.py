"""Fused paths of the learning rules: the same numbers, to rounding, in one call for many samples.

The plain rules in `streamil.learners` are the specification; what a kernel does not know is left to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from streamil.learners.kernel import Kernel
    from streamil.learners.population import Population
    from streamil.learners.stacked import StackedPopulation

__all__ = ["PLAIN", "choose", "kernel_name"]

PLAIN = "none"
"""Name of no kernel."""


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
        return kfac_populations.KFacKernel.of(population)
    from streamil.kernels.gpu import graph, il_prox

    if il_prox.TRITON and il_prox.supports(population):
        return il_prox.ILProxKernel()
    return graph.GraphKernel() if graph.supports(population) else None
