"""`il-prox` at mini-batch size one in one launch for many samples: which populations, and the launch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor

from streamil.learners.activations import ACTIVATIONS
from streamil.learners.il_prox import ILProx
from streamil.learners.population import Population

TRITON = importlib.metadata.version("triton") if importlib.util.find_spec("triton") else ""
"""Its version; empty: it is not installed."""
HIDDEN_LAYERS = 3
WIDEST = 4096
"""Units of a hidden layer, at most."""
LARGEST_OUTPUT = 16384
"""Weights of the output layer, padded, at most: they stay in registers."""


class Configuration(NamedTuple):
    """How the work is laid out.

    Attributes
    ----------
    warps
        Warps per program.
    tile
        Weights of a middle or first layer that a program looks at together, a power of two.
    columns
        Of these in a row, for the first layer, a power of two.
    """

    warps: int = 8
    tile: int = 8192
    columns: int = 128


DEFAULT = Configuration()


def supports(population: Population) -> TypeGuard[ILProx]:
    """Return whether the kernel knows this population's rule, sizes and options, wherever it is.

    Examples
    --------
    >>> from streamil.learners import create
    >>> supports(create("il-prox", [4, 8, 3])), supports(create("il-prox", [4, 8, 3], [{"sweep": "sequential"}]))
    (True, False)
    """
    if type(population) is not ILProx or population.batch_size != 1:
        return False
    hidden = population.layers[1:-1]
    return (
        population._structure.sweep == "simultaneous"
        and population.activation is ACTIVATIONS["relu"]
        and population._like.dtype == torch.float32
        and 1 <= len(hidden) <= HIDDEN_LAYERS
        and max(hidden) <= WIDEST
        and _padded(population.layers[-1]) * _padded(hidden[-1]) <= LARGEST_OUTPUT
    )


class ILProxKernel:
    """`il-prox` at mini-batch size one, a program for each member.

    Parameters
    ----------
    configuration
        How the work is laid out; the result depends on it, to rounding.
    """

    name = f"triton {TRITON}"

    def __init__(self, configuration: Configuration = DEFAULT) -> None:
        self._configuration = configuration

    def learn(self, population: ILProx, x: Tensor, y: Tensor, logits: Tensor) -> None:
        """Predict, then learn, sample after sample in order; see `Kernel.learn`."""
        if supports(population):
            logits.copy_(_launch(population, x.clone(), y.clone(), self._configuration))
        else:  # classes that came have made the output too large
            population.learn_plainly(x, y, logits)


def _launch(population: ILProx, x: Tensor, y: Tensor, configuration: Configuration) -> Tensor:
    """Learn samples whose classes are live; return the logits [A, N, C] from before each."""
    from streamil.kernels.gpu.il_prox_kernel import kernel

    members, count = len(population.seeds), len(x)
    layers, biases = population.layers, population.parameters.b
    weights = [weight.contiguous() for weight in population.parameters.W]  # on a CPU, for the interpreter, copies
    hidden = [*layers[1:-1], 1, 1][:HIDDEN_LAYERS]
    middle = [*zip(weights[1:-1], biases[1:-1], strict=True), *[(weights[-1], biases[-1])] * 2][: HIDDEN_LAYERS - 1]
    padded, out = [_padded(size) for size in hidden], _padded(layers[-1])
    logits, energies = x.new_empty(members, count, layers[-1]), x.new_empty(members)
    scratch = x.new_zeros(members, 2 * sum(padded) + out)
    frozen = population._diverged.to(torch.int32)
    moved = x.new_empty(members)
    rates = (population._inverse_alpha, population._epsilon, population._gamma_bottom, -population._gamma_top,
             population._keep)
    structure = population._structure
    with _on(x.device):
        kernel[(members,)](
            x.contiguous(), y, population._live.to(torch.int32), logits, energies, scratch, frozen, moved,
            torch.cat(rates, 2), weights[0], biases[0], *(t for pair in middle for t in pair), weights[-1], biases[-1],
            count, layers[0], *hidden, layers[-2], layers[-1], structure.inference_steps,
            population._limit - population._bound, population._smallest,
            HIDDEN=len(layers) - 2, P1=padded[0], P2=padded[1], P3=padded[2], LAST=_padded(layers[-2]), OUT=out,
            BIASES=structure.train_biases, FRESH=structure.target == "fresh", TOP=population._uses_top,
            DECAY=population._uses_decay, TILE=configuration.tile, COLUMNS=configuration.columns,
            THREADS=32 * configuration.warps, num_warps=configuration.warps,
            enable_fp_fusion=False,  # a sum's terms would be rounded otherwise in one thread than in the next
        )
    for ours, learned in zip(population.parameters.W, weights, strict=True):
        if ours is not learned:
            ours.copy_(learned)
    population.steps += count
    population._rest = energies
    stopped, farthest = torch.stack([frozen.to(moved), moved.masked_fill(frozen != 0, 0)]).amax(1).tolist()
    if stopped:
        population._diverged = frozen != 0
    if stopped or not population._bound + farthest < population._limit:
        population._refresh()
    else:
        population._bound += farthest
    return logits


def _padded(size: int) -> int:
    """Return the power of two from `size` on."""
    return 1 << (size - 1).bit_length()


def _on(device: torch.device) -> AbstractContextManager[Any]:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
