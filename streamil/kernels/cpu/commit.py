"""How errors change the weights: scaled, normalised or solved for, then added or fed to Adam."""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from streamil.kernels.cpu.products import COMPILED, ONE, ZERO, nonzero, squares

FIXED, APPROXIMATE, BOUNDED = 0, 1, 2
"""How long a step of backpropagation is: as told, or as `bp-aprox` or `bp-obgd` have it."""
SMALLEST = np.finfo(np.float32).tiny
TINY = np.float32(np.sqrt(SMALLEST))
EPSILON = np.finfo(np.float32).eps


@njit(**COMPILED)
def approximate_step(sizes: Any, size: int, alpha: Any, bias_norm: Any, live: Any, y: Any, p: Any, r: Any,
                     z: Any) -> Any:
    """Return min(alpha, loss / |g|^2) of a mini-batch; see `BPAProx`."""
    last = len(sizes) - 2
    loss = square = ZERO
    for b in range(size):
        logits = p[b, last + 1]
        top, total = logits[y[b]], ZERO
        for j in range(sizes[last + 1]):
            if live[j] and not logits[j] <= top:
                top = logits[j]
        for j in range(sizes[last + 1]):
            if live[j]:
                total += np.exp(logits[j] - top)
        own = np.log(total) + (top - logits[y[b]])
        loss += ZERO if own < ZERO else own
        for layer in range(last + 1):
            for other in range(b + 1):
                errors = inputs = ZERO
                for j in range(sizes[layer + 1]):
                    errors += z[b, layer + 1, j] * z[other, layer + 1, j]
                for k in range(sizes[layer]):
                    inputs += r[b, layer, k] * r[other, layer, k]
                both = errors * (inputs + bias_norm)
                square += both if other == b else both + both
    step = loss / size / (SMALLEST if square < SMALLEST else square)
    return alpha if alpha < step else step


@njit(**COMPILED)
def bounded_step(sizes: Any, inverse_alpha: Any, kappa: Any, bias_norm: Any, r: Any, z: Any) -> Any:
    """Return 1 / max(1 / alpha, kappa |g|_1) of one sample; see `BPObGD`."""
    norm = ZERO
    for layer in range(len(sizes) - 1):
        errors, inputs = ZERO, bias_norm
        for j in range(sizes[layer + 1]):
            errors += abs(z[layer + 1, j])
        for k in range(sizes[layer]):
            inputs += abs(r[layer, k])
        norm += errors * inputs
    divisor = kappa * norm
    return ONE / (inverse_alpha if divisor < inverse_alpha else divisor)


@njit(**COMPILED)
def solve(gram: Any, size: int, z: Any, layer: int, width: int) -> None:
    """Replace z[:, layer] [size, width] by gram^-1 z, gram [size, size] positive definite, by Cholesky."""
    for i in range(size):
        for j in range(i + 1):
            total = gram[i, j]
            for k in range(j):
                total -= gram[i, k] * gram[j, k]
            if i == j:
                gram[i, i] = np.sqrt(max(total, TINY))
            else:
                gram[i, j] = total / gram[j, j]
    for i in range(size):
        for k in range(i):
            factor = gram[i, k]
            for j in range(width):
                z[i, layer, j] -= factor * z[k, layer, j]
        inverse = ONE / gram[i, i]
        for j in range(width):
            z[i, layer, j] *= inverse
    for i in range(size - 1, -1, -1):
        for k in range(i + 1, size):
            factor = gram[k, i]
            for j in range(width):
                z[i, layer, j] -= factor * z[k, layer, j]
        inverse = ONE / gram[i, i]
        for j in range(width):
            z[i, layer, j] *= inverse


@njit(**COMPILED)
def ridge(gram: Any, size: int, epsilon: Any) -> None:
    """Add epsilon to the diagonal; where that is below what the precision resolves, that instead."""
    trace = ZERO
    for i in range(size):
        trace += gram[i, i]
    more = max(max(epsilon, trace * EPSILON), TINY)
    for i in range(size):
        gram[i, i] += more


@njit(**COMPILED)
def regress(layer: int, size: int, n: int, m: int, epsilon: Any, bias_norm: Any, mean: bool, r: Any, ones: Any, z: Any,
            gram: Any, room: Any) -> int:
    """Replace errors z[:, layer + 1] by what multiplies r[:, layer] and `ones`, as `Proximal._local_update` has it.

    Returns how many products they make: as many as samples, or fewer where the dual is solved.
    """
    if size == 1 or mean:
        norm = ZERO
        for b in range(size):
            norm += squares(r[b, layer], n)
        factor = ONE / (max(norm / size + (epsilon + bias_norm), TINY) * size)
        for b in range(size):
            zb = z[b, layer + 1]
            for j in range(m):
                zb[j] *= factor
        return size
    dual = size > n + bias_norm
    wide, right, at = (n + 1, room, 0) if dual else (size, z, layer + 1)
    if not dual:
        for b in range(size):
            for other in range(b + 1):
                total = ZERO
                for k in range(n):
                    total += r[b, layer, k] * r[other, layer, k]
                gram[b, other] = total + bias_norm
    for i in range(wide if dual else 0):
        for other in range(i + 1):
            total = ZERO
            for b in range(size):
                first = r[b, layer, i] if i < n else bias_norm
                total += first * (r[b, layer, other] if other < n else bias_norm)
            gram[i, other] = total
        for j in range(m):
            room[i, 0, j] = ZERO
        for b in range(size):
            factor = r[b, layer, i] if i < n else bias_norm
            for j in range(m):
                room[i, 0, j] += factor * z[b, layer + 1, j]
    ridge(gram, wide, epsilon)
    solve(gram, wide, right, at, m)
    for i in range(wide if dual else 0):  # the solution itself is the change: products with unit vectors
        for j in range(m):
            z[i, layer + 1, j] = room[i, 0, j]
        for k in range(n):
            r[i, layer, k] = ONE if i == k else ZERO
        ones[i, layer, 0] = ONE if i == n else ZERO
    return wide


@njit(**COMPILED)
def add(w: Any, factors: Any, by: int, values: Any, of: int, size: int, n: int, width: int, rows: Any) -> None:
    """Add sum_b factors[b, by, i] values[b, of] to row i of w [n, width]."""
    if size == 1:  # without a branch that depends on the data
        for k in range(nonzero(factors[0, by], n, rows)):
            i = rows[k]
            c0 = factors[0, by, i]
            for j in range(width):
                w[i, j] += c0 * values[0, of, j]
        return
    for i in range(n):
        b = 0
        while b + 4 <= size:
            c0, c1 = factors[b, by, i], factors[b + 1, by, i]
            c2, c3 = factors[b + 2, by, i], factors[b + 3, by, i]
            if c0 != ZERO or c1 != ZERO or c2 != ZERO or c3 != ZERO:
                for j in range(width):
                    w[i, j] += ((c0 * values[b, of, j] + c1 * values[b + 1, of, j])
                                + (c2 * values[b + 2, of, j] + c3 * values[b + 3, of, j]))
            b += 4
        while b < size:
            c0 = factors[b, by, i]
            if c0 != ZERO:
                for j in range(width):
                    w[i, j] += c0 * values[b, of, j]
            b += 1


@njit(**COMPILED)
def adam(w: Any, mean: Any, square: Any, factors: Any, by: int, values: Any, of: int, size: int, n: int, width: int,
         rates: Any, step: int, gradient: Any) -> None:
    """Feed what `add` would add to Adam as its gradient: m, v and w [n, width] are read and written once.

    m = m + (1 - b1) (g - m), v = b2 v + (1 - b2) g^2, w = w - eta / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps).
    """
    rate = np.float32(rates.rate / (1.0 - np.float64(rates.mean_decay) ** step))
    root = np.float32(1.0 / np.sqrt(1.0 - np.float64(rates.square_decay) ** step))
    of_mean, of_square = ONE - rates.mean_decay, ONE - rates.square_decay
    for i in range(n):
        for j in range(width):
            gradient[0, j] = ZERO
        for b in range(size):
            c0 = factors[b, by, i]
            if c0 != ZERO:
                for j in range(width):
                    gradient[0, j] += c0 * values[b, of, j]
        for j in range(width):
            g = gradient[0, j]
            average = mean[i, j] + of_mean * (g - mean[i, j])
            power = rates.square_decay * square[i, j] + of_square * g * g
            mean[i, j], square[i, j] = average, power
            w[i, j] -= rate * average / (np.sqrt(power) * root + rates.eps)
