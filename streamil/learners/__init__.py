"""Learning rules, one file each; a learner is a *population* of members that take the same samples.

Importing this package imports no torch: names are known here, classes are loaded when asked for.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from streamil.errors import LearnerError

if TYPE_CHECKING:
    import torch

    from streamil.learners.kernel import Kernels
    from streamil.learners.outcome import Outcome
    from streamil.learners.population import Population

__all__ = ["ALGORITHMS", "FOREIGN", "Outcome", "Population", "create", "learner_class"]

ALGORITHMS: dict[str, str] = {
    "il-prox": "streamil.learners.il_prox:ILProx",
    "il-sgd": "streamil.learners.il_sgd:ILSGD",
    "il-adam": "streamil.learners.il_adam:ILAdam",
    "bp-sgd": "streamil.learners.bp_sgd:BPSGD",
    "bp-adam": "streamil.learners.bp_adam:BPAdam",
    "bp-prox": "streamil.learners.bp_prox:BPProx",
    "il-kfac": "streamil.learners.il_kfac:ILKFac",
    "bp-kfac": "streamil.learners.bp_kfac:BPKFac",
    "il-prox-adam": "streamil.learners.il_prox_adam:ILProxAdam",
    "bp-aprox": "streamil.learners.bp_aprox:BPAProx",
    "bp-obgd": "streamil.learners.bp_obgd:BPObGD",
    "implicit-sgd": "streamil.learners.implicit_sgd:ImplicitSGD",
}
"""Name of each rule -> "module:Class". One more rule is one more file and one more line."""


FOREIGN = ("river:<module>.<Class>", "torch:<module>:<callable>")
"""Names of arms that learn by somebody else's code."""


def learner_class(name: str, folder: Path | None = None) -> type[Population]:
    """Return the class of a learning rule; its `Hyperparameters` say what a member can set.

    Parameters
    ----------
    name
        A name out of `ALGORITHMS`, or of the form of one in `FOREIGN`.
    folder
        Where the module of a `torch:` arm is looked for first; None: on the import path alone.

    Raises
    ------
    LearnerError
        For an unknown name, with the nearest known one.

    Examples
    --------
    >>> learner_class("bp-sgd").Hyperparameters().learning_rate
    0.03
    """
    prefix, colon, rest = str(name).partition(":")
    if colon and prefix == "river":
        from streamil.learners.river_arm import river_rule

        return river_rule(rest)
    if colon and prefix == "torch":
        from streamil.learners.torch_arm import torch_rule

        return torch_rule(rest, folder)
    if name not in ALGORITHMS:
        near = difflib.get_close_matches(str(name), ALGORITHMS, n=1, cutoff=0.0)
        known = ", ".join([*sorted(ALGORITHMS), *FOREIGN])
        raise LearnerError(f"algorithm: got {name!r}, did you mean {near[0]!r}? known: {known}")
    module, _, attribute = ALGORITHMS[name].partition(":")
    return cast("type[Population]", getattr(importlib.import_module(module), attribute))


def create(
    algorithm: str,
    layers: Sequence[int],
    members: Sequence[Mapping[str, Any]] | None = None,
    *,
    batch_size: int = 1,
    seed: int = 0,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    activation: str = "relu",
    growing: bool = False,
    kernels: Kernels = "auto",
    allow_pickle: bool = False,
    folder: Path | None = None,
) -> Population:
    """Return a population of learners of one rule.

    Parameters
    ----------
    algorithm
        A name out of `ALGORITHMS`, or of the form of one in `FOREIGN`.
    layers
        Sizes [F, ..., C]; [F, C] is a linear model.
    members
        One mapping of hyperparameters per member, each with an optional `seed` (replicate, default 0); None is one
        member with the rule's defaults. Members that differ in what changes the flow of control make a `Composite`.
    batch_size
        Samples per mini-batch B.
    seed
        Seed of the population. A member's first weights depend on it, on the member's seed and the layer sizes alone:
        neither on the rule, nor on the neighbours.
    device, dtype
        Where and in what precision, `float32` or `float64` (or torch's own objects).
    activation
        Of the hidden layers: relu, tanh, leaky-relu, identity.
    growing
        True: no class is live at first, each is masked until first seen, and labels >= C add output rows.
    kernels
        Whether fused paths are taken where there are any: the same numbers to rounding, sooner.
    allow_pickle
        True: a river arm may write and read its state, whose only form is pickle.
    folder
        Where the module of a `torch:` arm is looked for first; None: on the import path alone.

    Raises
    ------
    LearnerError
        For any wrong argument, with its name, what it got and what is allowed.

    Examples
    --------
    >>> population = create("il-prox", [4, 8, 3], [{"alpha": 5.0}, {"alpha": 0.1, "seed": 1}], batch_size=2)
    >>> outcome = population.learn([[0.0, 1, 0, 1], [1.0, 0, 1, 0]], [0, 2])
    >>> outcome.logits.shape, outcome.loss.shape
    (torch.Size([2, 2, 3]), torch.Size([2, 2]))
    """
    rule = learner_class(algorithm, folder)
    from streamil.learners.composite import assemble
    from streamil.learners.foreign import ForeignPopulation
    from streamil.learners.stacked import StackedPopulation

    try:
        if issubclass(rule, ForeignPopulation):
            return rule(layers, members, batch_size=batch_size, seed=seed, device=device, dtype=dtype, growing=growing,
                        allow_pickle=allow_pickle)
        return assemble(
            cast("type[StackedPopulation]", rule), layers, members, batch_size=batch_size, seed=seed, device=device,
            dtype=dtype, activation=activation, growing=growing, kernels=kernels,
        )
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):  # torch has no class of its own for the CPU
            raise
        raise LearnerError(f"layers: got {list(layers)} for {len(members or [{}])} members of {algorithm}, which do "
                           "not fit into memory; `streamil check` says what the arms of a file take") from None


def __getattr__(name: str) -> Any:
    if name in ("Outcome", "Population"):
        return getattr(importlib.import_module("streamil.learners.population"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
