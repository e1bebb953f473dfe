"""How a rule finds the errors of each layer from one sample: backpropagation, or inference.

All take the sample's feedforward pass and leave what feeds each layer in `r` and its errors in `e`. Arrays [L + 1, n]
hold a layer in a row, layer 0 being the input: h, its activities; p, their predictions; r, what feeds the next layer.
"""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from streamil.kernels.cpu.activity import activities, activity, slope, sloping, weaken
from streamil.kernels.cpu.products import (
    COMPILED,
    ONE,
    ZERO,
    add_rows,
    feed_back_outputs,
    feed_back_rows,
    nonzero,
    outputs,
    softmax,
    squares,
)


class Rates(NamedTuple):
    """Hyperparameters of one member, of whatever rule; what a rule has not is not looked at.

    Attributes
    ----------
    scale
        What the output's error is multiplied by (bp), or all errors (il-sgd, il-adam).
    inverse_alpha, epsilon, bias_norm
        1 / alpha, epsilon, and 1 where biases are trained, else 0 (prox, bp-aprox, bp-obgd).
    bottom, top, keep
        gamma_bottom, - gamma_top, 1 - gamma_decay (inference).
    clamp
        How far the output is drawn to the label (il-sgd, il-adam).
    rate, mean_decay, square_decay, eps
        Of Adam.
    kappa
        How far a step stays from where it could overshoot (bp-obgd).
    """

    scale: Any
    inverse_alpha: Any
    epsilon: Any
    bias_norm: Any
    bottom: Any
    top: Any
    keep: Any
    clamp: Any
    rate: Any
    mean_decay: Any
    square_decay: Any
    eps: Any
    kappa: Any


@njit(**COMPILED)
def forward(kind: int, weights: Any, biases: Any, a: int, sizes: Any, inputs: Any, count: int, rows: Any, p: Any,
            r: Any) -> None:
    """Run member a on the sample r[0], of which the inputs named are not zero; leaves p and the rest of r."""
    last = len(sizes) - 2
    for layer in range(last):
        n, m = sizes[layer], sizes[layer + 1]
        out, bias = p[layer + 1], biases[layer][a, 0]
        for j in range(m):
            out[j] = bias[j]
        listed, fed = (inputs, count) if layer == 0 else (rows, nonzero(r[layer], n, rows))
        add_rows(weights[layer][a], r[layer], listed, fed, m, out)
        activities(kind, out, m, r[layer + 1])
    outputs(weights[last][a], r[last], sizes[last], sizes[last + 1], biases[last][a, 0], p[last + 1])


@njit(**COMPILED)
def soft_target(rates: Rates, n: Any, base: Any, label: int, q: Any, m: int, error: Any) -> None:
    """Write t - q into error [m]: t = base + c (y - base), c = alpha n / (1 + alpha n)."""
    c = n / (n + rates.inverse_alpha)
    for j in range(m):
        error[j] = (base[j] - c * base[j]) - q[j]
    error[label] += c


@njit(**COMPILED)
def backpropagate(kind: int, weights: Any, a: int, sizes: Any, rates: Rates, soft: bool, live: Any, label: int,
                  rows: Any, q: Any, p: Any, r: Any, e: Any) -> None:
    """Errors of `Backprop`: s (y - q) or, if `soft`, t - q at the output; e_l = f'(h_l) * W_{l+1}^T e_{l+1} below."""
    last = len(sizes) - 2
    error, classes = e[last + 1], sizes[last + 1]
    softmax(p[last + 1], live, classes, q)
    if soft:
        soft_target(rates, squares(r[last], sizes[last]) + rates.epsilon + rates.bias_norm, q, label, q, classes, error)
    else:
        for j in range(classes):
            error[j] = -rates.scale * q[j]
        error[label] += rates.scale
    for layer in range(last, 0, -1):
        n, m = sizes[layer], sizes[layer + 1]
        if layer == last:
            feed_back_outputs(weights[layer][a], e[layer + 1], n, m, e[layer])
        else:
            feed_back_rows(weights[layer][a], e[layer + 1], rows, sloping(kind, r[layer], n, rows), m, e[layer])
        weaken(kind, e[layer], r[layer], n)


@njit(**COMPILED)
def relax(kind: int, weights: Any, biases: Any, a: int, sizes: Any, rates: Rates, steps: int, fresh: bool,
          sequential: bool, live: Any, label: int, rows: Any, fed: Any, h: Any, p: Any, r: Any, e: Any) -> None:
    """Inference of il-prox, see `ILProx`; `fed` [3, n] is room for a feedback and two softmaxes."""
    last = len(sizes) - 2
    classes, n_last = sizes[last + 1], sizes[last]
    feedback, q, before = fed[0], fed[1], fed[2]
    for layer in range(1, last + 1):
        for k in range(sizes[layer]):
            h[layer, k], e[layer, k] = p[layer, k], ZERO
    softmax(p[last + 1], live, classes, q)
    n = squares(r[last], n_last) + rates.epsilon + (rates.bias_norm if fresh else ZERO)
    soft_target(rates, n, q, label, q, classes, e[last + 1])
    still = rates.keep == ONE
    for step in range(steps):
        lowest = max(1, last - step) if still else 1  # an error takes a step for each layer on its way down
        if sequential:
            lowest = 1
        for layer in range(last, 0 if sequential else last - 1, -1):
            move(kind, weights, a, sizes, rates, layer, rows, feedback, h, r, e)
            if sequential:
                for k in range(sizes[layer]):
                    e[layer, k] = h[layer, k] - p[layer, k]
        for layer in range(lowest, last + 1):
            m = sizes[layer + 1]
            if layer == last:
                activities(kind, h[last], n_last, r[last])
                outputs(weights[last][a], r[last], n_last, m, biases[last][a, 0], p[last + 1])
            else:
                out, bias = p[layer + 1], biases[layer][a, 0]
                for j in range(m):
                    out[j] = bias[j]
                if sequential:
                    activities(kind, h[layer], sizes[layer], r[layer])
                    add_rows(weights[layer][a], r[layer], rows, nonzero(r[layer], sizes[layer], rows), m, out)
                else:
                    move_and_predict(kind, weights[layer][a], rates, sizes[layer], m, rows, e[layer + 1], h[layer],
                                     e[layer], r[layer], out)
        for j in range(classes):
            before[j] = q[j]
        softmax(p[last + 1], live, classes, q)
        n = squares(r[last], n_last) + rates.epsilon + rates.bias_norm
        soft_target(rates, n, q if fresh else before, label, q, classes, e[last + 1])
        for layer in range(lowest, last + 1):
            hl, pl, el = h[layer], p[layer], e[layer]
            for k in range(sizes[layer]):
                el[k] = hl[k] - pl[k]


@njit(**COMPILED)
def move(kind: int, weights: Any, a: int, sizes: Any, rates: Rates, layer: int, rows: Any, feedback: Any, h: Any,
         r: Any, e: Any) -> None:
    """Move the activities of one layer: h += -gamma_top e + gamma_bottom f'(h) W^T e_above - gamma_decay h."""
    n, m, last = sizes[layer], sizes[layer + 1], len(sizes) - 2
    if layer == last:
        feed_back_outputs(weights[layer][a], e[layer + 1], n, m, feedback)
    else:
        feed_back_rows(weights[layer][a], e[layer + 1], rows, sloping(kind, r[layer], n, rows), m, feedback)
    weaken(kind, feedback, r[layer], n)
    hl, el = h[layer], e[layer]
    for k in range(n):
        hl[k] = rates.keep * hl[k] + rates.top * el[k] + rates.bottom * feedback[k]


@njit(**COMPILED)
def move_and_predict(kind: int, w: Any, rates: Rates, n: int, m: int, rows: Any, above: Any, h: Any, e: Any, r: Any,
                     out: Any) -> None:
    """Move a hidden layer and add what it predicts of the next one to `out`: each row of w is read once for both."""
    count = sloping(kind, r, n, rows)
    k = 0
    while k + 4 <= count:
        i0, i1, i2, i3 = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
        s0 = s1 = s2 = s3 = ZERO
        for j in range(m):
            s0 += w[i0, j] * above[j]
            s1 += w[i1, j] * above[j]
            s2 += w[i2, j] * above[j]
            s3 += w[i3, j] * above[j]
        h[i0], h[i1] = moved(kind, rates, h[i0], e[i0], r[i0], s0), moved(kind, rates, h[i1], e[i1], r[i1], s1)
        h[i2], h[i3] = moved(kind, rates, h[i2], e[i2], r[i2], s2), moved(kind, rates, h[i3], e[i3], r[i3], s3)
        r0, r1, r2, r3 = activity(kind, h[i0]), activity(kind, h[i1]), activity(kind, h[i2]), activity(kind, h[i3])
        r[i0], r[i1], r[i2], r[i3] = r0, r1, r2, r3
        for j in range(m):
            out[j] += (r0 * w[i0, j] + r1 * w[i1, j]) + (r2 * w[i2, j] + r3 * w[i3, j])
        k += 4
    while k < count:
        i0, s0 = rows[k], ZERO
        for j in range(m):
            s0 += w[i0, j] * above[j]
        h[i0] = moved(kind, rates, h[i0], e[i0], r[i0], s0)
        r0 = r[i0] = activity(kind, h[i0])
        for j in range(m):
            out[j] += r0 * w[i0, j]
        k += 1
    if count < n and not (rates.keep == ONE and rates.top == ZERO):  # those without a slope move, too
        passed = 0
        for i in range(n):
            if passed < count and rows[passed] == i:
                passed += 1
                continue
            h[i] = moved(kind, rates, h[i], e[i], r[i], ZERO)
            r0 = r[i] = activity(kind, h[i])
            if r0 != ZERO:
                for j in range(m):
                    out[j] += r0 * w[i, j]


@njit(**COMPILED)
def moved(kind: int, rates: Rates, h: Any, e: Any, r: Any, feedback: Any) -> Any:
    """Return where a unit's activity h moves to, r = f(h)."""
    return rates.keep * h + rates.top * e + rates.bottom * (feedback * slope(kind, r))


@njit(**COMPILED)
def relax_post(kind: int, weights: Any, biases: Any, a: int, sizes: Any, rates: Rates, steps: int, live: Any,
               label: int, rows: Any, fed: Any, h: Any, p: Any, r: Any, e: Any, local: Any) -> None:
    """Inference of il-sgd, see `PostInference`: r becomes the last predictions f(p), `local` f'(p) e."""
    last = len(sizes) - 2
    classes = sizes[last + 1]
    feedback, q, before = fed[0], fed[1], fed[2]
    for layer in range(1, last + 1):
        for k in range(sizes[layer]):
            h[layer, k], e[layer, k], local[layer, k] = r[layer, k], ZERO, ZERO
    softmax(p[last + 1], live, classes, q)
    clamped(rates.clamp, q, label, q, classes, local[last + 1])
    still = rates.keep == ONE
    for step in range(steps):
        lowest = max(1, last - step) if still else 1  # an error takes a step for each layer on its way down
        for j in range(classes):
            local[last + 1, j] *= np.float32(0.5)
        for layer in range(lowest, last + 1):
            n, m = sizes[layer], sizes[layer + 1]
            hl, el = h[layer], e[layer]
            if layer == last:
                feed_back_outputs(weights[layer][a], local[layer + 1], n, m, feedback)
            else:
                for k in range(n):
                    rows[k] = k
                feed_back_rows(weights[layer][a], local[layer + 1], rows, n, m, feedback)
            for k in range(n):
                hl[k] = rates.keep * hl[k] + rates.top * el[k] + rates.bottom * feedback[k]
            if layer == last:
                outputs(weights[layer][a], hl, n, m, biases[layer][a, 0], p[layer + 1])
            else:
                out, bias = p[layer + 1], biases[layer][a, 0]
                for j in range(m):
                    out[j] = bias[j]
                add_rows(weights[layer][a], hl, rows, nonzero(hl, n, rows), m, out)
                activities(kind, out, m, r[layer + 1])
        for j in range(classes):
            before[j] = q[j]
        softmax(p[last + 1], live, classes, q)
        clamped(rates.clamp, before, label, q, classes, local[last + 1])
        for layer in range(lowest, last + 1):
            hl, rl, el, ll = h[layer], r[layer], e[layer], local[layer]
            for k in range(sizes[layer]):
                el[k] = hl[k] - rl[k]
                ll[k] = el[k]
            weaken(kind, ll, rl, sizes[layer])
    for layer in range(1, last + 2):
        if layer <= last:  # what feeds the next layer
            for k in range(sizes[layer]):
                r[layer, k] = h[layer, k]
        else:
            for j in range(classes):
                e[layer, j] = local[layer, j]
        for j in range(sizes[layer]):
            local[layer, j] *= rates.scale


@njit(**COMPILED)
def clamped(clamp: Any, base: Any, label: int, q: Any, m: int, error: Any) -> None:
    """Write t - q into error [m]: t = n y + (1 - n) base."""
    for j in range(m):
        error[j] = (base[j] - clamp * base[j]) - q[j]
    error[label] += clamp
