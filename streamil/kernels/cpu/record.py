"""A record of samples, learned by one member after another: each member's weights stay in the cache meanwhile."""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from streamil.kernels.cpu.commit import (
    APPROXIMATE,
    FIXED,
    adam,
    add,
    approximate_step,
    bounded_step,
    regress,
)
from streamil.kernels.cpu.errors import Rates, backpropagate, forward, relax, relax_post
from streamil.kernels.cpu.kept import kept
from streamil.kernels.cpu.products import COMPILED, ONE, ZERO, nonzero, squares


class Rule(NamedTuple):
    """What all members of a stacked population have in common.

    Attributes
    ----------
    kind
        Number of the nonlinearity.
    relaxed
        Whether errors come from the inference of il-prox, not from backpropagation.
    steps, fresh, sequential
        Of inference.
    soft
        Whether backpropagation starts from the soft target.
    length
        Of a step of backpropagation: FIXED, APPROXIMATE or BOUNDED.
    regressed, mean
        Whether each layer's errors are regressed on its inputs, and whether by the authors' mean.
    biases
        Whether biases are trained.
    """

    kind: int
    relaxed: bool
    steps: int
    fresh: bool
    sequential: bool
    soft: bool
    length: int
    regressed: bool
    mean: bool
    biases: bool


class Bounds(NamedTuple):
    """How far each member's state can be from zero, as `StackedPopulation` counts it; bound and peak [A]."""

    bound: Any
    peak: Any
    stretch: float
    limit: float


@njit(**COMPILED)
def reaches(bounds: Bounds, a: int, step: Any, adams: bool) -> bool:
    """Move the member's bound by an update of at most `step` an element; return whether it stays below the limit."""
    if adams:
        if not step * step < bounds.limit:
            return False
        bounds.peak[a] = max(bounds.peak[a], step)
        bounds.bound[a] += bounds.peak[a] * bounds.stretch + step * step
    else:
        bounds.bound[a] += step
    return bool(bounds.bound[a] < bounds.limit)


@njit(**COMPILED)
def change(weights: Any, biases: Any, slots: Any, adams: bool, a: int, sizes: Any, products: Any, train_biases: bool,
           rates: Rates, step: int, r: Any, ones: Any, z: Any, gradient: Any, rows: Any) -> None:
    """Apply an update."""
    last = len(sizes) - 2
    mean_w, square_w, mean_b, square_b = slots
    for place in range(2 * (last + 1) if train_biases else last + 1):
        layer, is_bias = place % (last + 1), place > last
        size, n, m = products[layer], sizes[layer], sizes[layer + 1]
        factors, by, values, of = r, layer, z, layer + 1
        if is_bias:
            factors, n = ones, 1
        elif layer == last:
            factors, by, values, of, n, m = z, layer + 1, r, layer, m, n
        w = biases[layer][a] if is_bias else weights[layer][a]
        if adams:
            mean = mean_b[layer][a] if is_bias else mean_w[layer][a]
            square = square_b[layer][a] if is_bias else square_w[layer][a]
            adam(w, mean, square, factors, by, values, of, size, n, m, rates, step, gradient)
        else:
            add(w, factors, by, values, of, size, n, m, rows)


def _learn(sources: str, *, post: bool) -> Any:
    """Return the kernel for rules with or without post-activations, each compiled when it is needed first."""

    def learn(rule: Rule, members: Any, table: Any, sizes: Any, weights: Any, biases: Any, slots: Any, adams: bool,
              step: int, size: int, begin: int, end: int, x: Any, y: Any, live: Any, logits: Any, energy: Any,
              diverged: Any, bounds: Bounds, careless: bool, rows: Any, fed: Any, room: Any, ones: Any, gram: Any,
              products: Any, done: Any) -> None:
        """Predict, then learn, mini-batches `begin` to `end` of x [N, F], y [N] for the members named.

        Parameters
        ----------
        members, table
            Places of the members; their rates [A, 13], in the order of `Rates`.
        weights, biases
            For each layer, [A, in, out] (the last one [A, out, in]) and [A, 1, out].
        slots, adams, step
            State of Adam, whether it is used, and mini-batches learned before the first of x.
        size
            Samples of a mini-batch.
        live
            Classes [C] that take part; all of y are.
        logits, energy
            Filled: [A, N, C] from before each update, [A] of the last mini-batch.
        diverged
            Members [A] that do not learn any more.
        bounds, careless
            A member stops before an update that could reach the limit, unless told not to care.
        rows, fed, room, ones, gram, products
            Working memory: [2, n + 1], [3, n], [5, B, L + 1, n], [B, L, 1], [B, B], [L].
        done
            Filled: the mini-batch [A] that each member has come to.
        """
        sources  # noqa: B018
        last = len(sizes) - 2
        classes = sizes[last + 1]
        h, p, r, e, z = room[0], room[1], room[2], room[3], room[4]
        for place in range(len(members)):
            a = members[place]
            done[a] = begin
            rates = Rates(table[a, 0], table[a, 1], table[a, 2], table[a, 3], table[a, 4], table[a, 5], table[a, 6],
                          table[a, 7], table[a, 8], table[a, 9], table[a, 10], table[a, 11], table[a, 12])
            for batch in range(begin, end):
                left = ZERO
                for b in range(size):
                    s = batch * size + b
                    count = nonzero(x[s], sizes[0], rows[0])
                    for i in range(sizes[0]):
                        r[b, 0, i] = x[s, i]
                    forward(rule.kind, weights, biases, a, sizes, rows[0], count, rows[1], p[b], r[b])
                    for j in range(classes):
                        logits[a, s, j] = p[b, last + 1, j] if live[j] else np.float32(-np.inf)
                    if post:
                        relax_post(rule.kind, weights, biases, a, sizes, rates, rule.steps, live, y[s], rows[1], fed,
                                   h[b], p[b], r[b], e[b], z[b])
                    elif rule.relaxed:
                        relax(rule.kind, weights, biases, a, sizes, rates, rule.steps, rule.fresh, rule.sequential,
                              live, y[s], rows[1], fed, h[b], p[b], r[b], e[b])
                    else:
                        backpropagate(rule.kind, weights, a, sizes, rates, rule.soft, live, y[s], rows[1], fed[1], p[b],
                                      r[b], z[b])
                    if post or rule.relaxed:
                        left += squares(e[b, last + 1], classes)
                        for layer in range(1, last + 1):
                            left += squares(e[b, layer], sizes[layer])
                        if rule.relaxed:
                            for layer in range(1, last + 2):
                                for j in range(sizes[layer]):
                                    z[b, layer, j] = rates.scale * e[b, layer, j]
                if rule.length != FIXED:
                    if rule.length == APPROXIMATE:
                        factor = approximate_step(sizes, size, ONE / rates.inverse_alpha, rates.bias_norm, live,
                                                  y[batch * size : (batch + 1) * size], p, r, z)
                    else:
                        factor = bounded_step(sizes, rates.inverse_alpha, rates.kappa, rates.bias_norm, r[0], z[0])
                    for b in range(size):
                        for layer in range(1, last + 2):
                            for j in range(sizes[layer]):
                                z[b, layer, j] *= factor
                energy[a] = np.float32(0.5) * left / size
                if not diverged[a]:
                    reach = ZERO
                    for layer in range(last + 1):
                        n, m = sizes[layer], sizes[layer + 1]
                        products[layer] = size
                        for b in range(size):
                            ones[b, layer, 0] = ONE
                        if rule.regressed:
                            products[layer] = regress(layer, size, n, m, rates.epsilon, rates.bias_norm, rule.mean, r,
                                                      ones, z, gram, e)
                        step_size = ZERO
                        for b in range(products[layer]):  # no element of a product exceeds the product of the norms
                            step_size += np.sqrt(squares(z[b, layer + 1], m) * max(squares(r[b, layer], n), ONE))
                        reach = reach if step_size <= reach else step_size
                    if not careless and not reaches(bounds, a, reach, adams):
                        break
                    change(weights, biases, slots, adams, a, sizes, products, rule.biases, rates, step + batch + 1, r,
                           ones, z, fed, rows[1])
                done[a] = batch + 1

    return learn


learn, learn_post = kept(partial(_learn, post=False)), kept(partial(_learn, post=True))
