"""`il-prox` at mini-batch size one in one launch for many samples: which populations, and the launch."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor

from streamil.learners.activations import ACTIVATIONS
from streamil.learners.il_prox import ILProx
from streamil.learners.outcome import Outcome, cross_entropy
from streamil.learners.population import Population

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


@torch.no_grad()
def learn(population: ILProx, x: Any, y: Any, configuration: Configuration = DEFAULT) -> Outcome:
    """Predict, then learn, sample after sample in order, as `population.learn` does, to rounding.

    The plain rule takes the samples that bring a class, and all before a second class is live. The result does not
    depend on how samples are cut into calls, bit for bit.

    Parameters
    ----------
    population
        One that `supports` says yes to.
    x, y
        Inputs [N, F] and class indices [N].
    configuration
        How the work is laid out; the result depends on it, to rounding.

    Raises
    ------
    LearnerError
        For wrong shapes, non-finite inputs or labels out of range, before any state changed.
    """
    inputs, labels = population._read(x, y)
    indices = torch.from_numpy(labels).to(inputs.device)
    rows = max(population.layers[-1], int(labels.max(initial=-1)) + 1)
    logits = inputs.new_full((len(population.seeds), len(labels), rows), -math.inf)
    loss = inputs.new_empty(len(population.seeds), len(labels))
    begin = 0
    for end in [*sorted(population._newcomers(labels)), len(labels)]:
        runs = [(begin, end, population._known > 1), (end, min(end + 1, len(labels)), False)]
        for first, after, fused in runs:
            if first == after:
                continue
            run, classes = slice(first, after), population.layers[-1]
            if fused and supports(population):  # classes that came may have made the output too large
                live = population.live
                logits[:, run, :classes] = _launch(population, inputs[run].clone(), indices[run].clone(), configuration)
                loss[:, run] = cross_entropy(logits[:, run, :classes], indices[run], live)
            else:
                outcome = population.learn(inputs[run], labels[run])
                logits[:, run, : outcome.logits.shape[-1]], loss[:, run] = outcome.logits, outcome.loss
        begin = end + 1
    return Outcome(logits, loss)


def _launch(population: ILProx, x: Tensor, y: Tensor, configuration: Configuration) -> Tensor:
    """Learn samples whose classes are live; return the logits [A, N, C] from before each."""
    from streamil.kernels.il_prox_kernel import kernel

    members, count = len(population.seeds), len(x)
    layers, weights, biases = population.layers, population.parameters.W, population.parameters.b
    hidden = [*layers[1:-1], 1, 1][:HIDDEN_LAYERS]
    middle = [*zip(weights[1:-1], biases[1:-1], strict=True), *[(weights[-1], biases[-1])] * 2][: HIDDEN_LAYERS - 1]
    padded, out = [_padded(size) for size in hidden], _padded(layers[-1])
    logits = x.new_empty(members, count, layers[-1])
    scratch = x.new_zeros(members, 2 * sum(padded) + out)
    frozen = population._diverged.to(torch.int32)
    moved = x.new_empty(members)
    rates = (population._inverse_alpha, population._epsilon, population._gamma_bottom, -population._gamma_top,
             population._keep)
    structure = population._structure
    with _on(x.device):
        kernel[(members,)](
            x.contiguous(), y, population._live.to(torch.int32), logits, scratch, frozen, moved, torch.cat(rates, 2),
            weights[0], biases[0], *(t for pair in middle for t in pair), weights[-1], biases[-1],
            count, layers[0], *hidden, layers[-2], layers[-1], structure.inference_steps,
            population._limit - population._bound, population._smallest,
            HIDDEN=len(layers) - 2, P1=padded[0], P2=padded[1], P3=padded[2], LAST=_padded(layers[-2]), OUT=out,
            BIASES=structure.train_biases, FRESH=structure.target == "fresh", TOP=population._uses_top,
            DECAY=population._uses_decay, TILE=configuration.tile, COLUMNS=configuration.columns,
            THREADS=32 * configuration.warps, num_warps=configuration.warps,
            enable_fp_fusion=False,  # a sum's terms would be rounded otherwise in one thread than in the next
        )
    population.steps += count
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
