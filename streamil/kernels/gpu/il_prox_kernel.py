"""The rule `il-prox` at mini-batch size one as one Triton kernel: a program per member, all samples of a call in order.

Notation of `streamil.learners.il_prox`, with H hidden layers: W_1 is the first layer, W_2 .. W_H the middle ones, W_o
the output's. What does not fit a program's registers goes through the L1 and L2 caches:

- W_1 streams once a sample: the update of the sample before and the prediction of this one are one pass.
- A middle layer streams once an inference step: a tile of rows gives its predictions and errors, and from the same
  registers what these errors send down, W^T e, which the next step needs.
- W_o, the activities and the errors of the first layer stay in registers.

Sums have one order whatever the call holds, so results do not depend, bit for bit, on how samples are cut into calls.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
# ruff: noqa: ANN001, ANN201, ANN202
from __future__ import annotations

import triton
import triton.language as tl

from streamil.kernels.gpu.passes import add, columns, first_layer, largest, load_tile, predict, through, tile, times

__all__ = ["kernel"]


@triton.jit
def _move(h, e, back, bottom, top, keep, TOP: tl.constexpr, DECAY: tl.constexpr):
    """One inference step of one layer; `back` is W^T e of the layer above."""
    slope = h > 0
    if DECAY:
        h *= keep
    if TOP:
        h -= top * e
    return h + bottom * tl.where(slope, back, 0.0)


@triton.jit
def _softmax(logits, live):
    masked = tl.where(live, logits, float("-inf"))
    powers = tl.exp(masked - tl.max(masked, 0))
    return powers / tl.sum(powers, 0)


@triton.jit
def _target(q, label, norm, inverse_alpha):
    """Return q + c (label - q), c = norm / (norm + 1 / alpha), as torch.lerp rounds it."""
    c = norm / (norm + inverse_alpha)
    return tl.where(c < 0.5, q + c * (label - q), label - (label - q) * (1 - c))


@triton.jit
def _sums(x, size, WIDTH: tl.constexpr):
    """Return the sum of squares and of magnitudes of a vector in memory."""
    squares = tl.zeros([WIDTH], tl.float32)
    magnitudes = tl.zeros([WIDTH], tl.float32)
    for left in range(0, size, WIDTH):
        j = left + tl.arange(0, WIDTH)
        values = tl.load(x + j, j < size, other=0.0)
        squares += values * values
        magnitudes += tl.abs(values)
    return tl.sum(squares, 0), tl.sum(magnitudes, 0)


@triton.jit
def _total(values):
    return tl.sum(tl.sum(values, 0), 0)


@triton.jit
def _relu(h):
    return tl.where(h < 0, 0.0, h)  # nan stays nan


@triton.jit(do_not_specialize=["samples"])
def kernel(x, labels, live, logits, energies, scratch, frozen, moved, rates,
           W1, b1, W2, b2, W3, b3, Wo, bo, samples, inputs, n1, n2, n3, last, classes, steps, room, smallest,
           HIDDEN: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, P3: tl.constexpr, LAST: tl.constexpr,
           OUT: tl.constexpr, BIASES: tl.constexpr, FRESH: tl.constexpr, TOP: tl.constexpr, DECAY: tl.constexpr,
           TILE: tl.constexpr, COLUMNS: tl.constexpr, THREADS: tl.constexpr):
    """Predict and learn `samples` samples in order, one member a program; arguments as `il_prox` fills them."""
    ROWS1: tl.constexpr = P1 if P1 * COLUMNS <= TILE else TILE // COLUMNS
    ROWS2: tl.constexpr = P2 if P1 * P2 <= TILE else (TILE // P1 if P1 <= TILE else 1)
    ROWS3: tl.constexpr = P3 if P2 * P3 <= TILE else (TILE // P2 if P2 <= TILE else 1)
    member = tl.program_id(0).to(tl.int64)
    W1, b1 = W1 + member * n1 * inputs, b1 + member * n1
    W2, b2 = W2 + member * n2 * n1, b2 + member * n2
    W3, b3 = W3 + member * n3 * n2, b3 + member * n3
    Wo, bo = Wo + member * classes * last, bo + member * classes
    logits += member * samples * classes
    h1_at = scratch + member * (2 * (P1 + P2 + P3) + OUT)
    h2_at, h3_at = h1_at + P1, h1_at + P1 + P2
    e1_at = h3_at + P3
    e2_at, e3_at, eo_at = e1_at + P1, e1_at + P1 + P2, e1_at + P1 + P2 + P3
    j1, j2, j3 = columns(P1), columns(P2), columns(P3)
    c = tl.arange(0, OUT)
    rates += member * 5
    inverse_alpha, epsilon = tl.load(rates), tl.load(rates + 1)
    bottom, top, keep = tl.load(rates + 2), tl.load(rates + 3), tl.load(rates + 4)
    ones = 1.0 if BIASES else 0.0
    padding = epsilon + ones
    first_padding = padding if FRESH else epsilon  # as the authors' code
    living = tl.load(live + c, c < classes, other=0) != 0
    at_o, in_o = tile(Wo, c, classes, last, LAST)
    w = tl.load(at_o, in_o, other=0.0)
    bias = tl.load(bo + c, c < classes, other=0.0)
    alive = tl.load(frozen + member) == 0
    distance = 0.0
    before = 0
    for sample in range(samples):
        first_layer(W1, b1, e1_at, x - before, x, h1_at, n1, inputs, BIASES, ROWS1, COLUMNS, THREADS)
        tl.debug_barrier()
        p1 = tl.load(h1_at + j1, j1 < n1, other=0.0)
        h1 = p1
        h = h1
        back1 = tl.zeros(h1.shape, tl.float32)
        if HIDDEN > 1:
            head2 = load_tile(W2, tl.arange(0, ROWS2), n2, n1, P1)
            predict(W2, b2, head2, _relu(h1), h2_at, n2, n1, ROWS2, P1)
            tl.debug_barrier()
            h2 = tl.load(h2_at + j2, j2 < n2, other=0.0)
            h = h2
            back2 = tl.zeros(h2.shape, tl.float32)
            e2 = tl.zeros(h2.shape, tl.float32)
        if HIDDEN > 2:
            head3 = load_tile(W3, tl.arange(0, ROWS3), n3, n2, P2)
            predict(W3, b3, head3, _relu(h2), h3_at, n3, n2, ROWS3, P2)
            tl.debug_barrier()
            h3 = tl.load(h3_at + j3, j3 < n3, other=0.0)
            h = h3
            e3 = tl.zeros(h3.shape, tl.float32)
        r = _relu(h)
        p = times(w, r) + bias
        tl.store(logits + c, tl.where(living, p, float("-inf")), c < classes)
        label = tl.where(c == tl.load(labels), 1.0, 0.0)
        q = _softmax(p, living)
        e = _target(q, label, _total(r * r) + first_padding, inverse_alpha) - q

        steps_here = tl.where(alive, steps, 0)
        tl.debug_barrier()  # everyone has read the activities that are now overwritten
        for step in range(steps_here):
            back = tl.sum(w * e[:, None, None], 0)
            if HIDDEN == 1:
                back1 = back
            if HIDDEN == 2:
                back2 = back
            h1 = _move(h1, h1 - p1, back1, bottom, top, keep, TOP, DECAY)
            r = _relu(h1)
            if HIDDEN > 1:
                r1 = r
                h2 = _move(h2, e2, back2, bottom, top, keep, TOP, DECAY)
                tl.store(h2_at + j2, h2, j2 < n2)
                r = _relu(h2)
            if HIDDEN > 2:
                r2 = r
                h3 = _move(h3, e3, back, bottom, top, keep, TOP, DECAY)
                tl.store(h3_at + j3, h3, j3 < n3)
                r = _relu(h3)
            if HIDDEN > 1:
                tl.debug_barrier()
                if step + 1 < steps_here:
                    back1 = through(W2, b2, head2, r1, h2_at, e2_at, n2, n1, TOP, ROWS2, P1)
                    if HIDDEN > 2:
                        back2 = through(W3, b3, head3, r2, h3_at, e3_at, n3, n2, TOP, ROWS3, P2)
                    tl.debug_barrier()
                    if TOP:
                        e2 = tl.load(e2_at + j2, j2 < n2, other=0.0)
                        if HIDDEN > 2:
                            e3 = tl.load(e3_at + j3, j3 < n3, other=0.0)
            q_before = q
            q = _softmax(times(w, r) + bias, living)
            norm = _total(r * r) + padding
            e = _target(q if FRESH else q_before, label, norm, inverse_alpha) - q

        # The errors of the middle layers; none where nothing moved.
        r1 = _relu(h1)
        r = r1
        if HIDDEN > 1:
            if steps_here > 0:
                predict(W2, b2, head2, r1, e2_at, n2, n1, ROWS2, P1)
            else:
                tl.store(e2_at + j2, h2, j2 < n2)
            r2 = _relu(h2)
            r = r2
        if HIDDEN > 2:
            if steps_here > 0:
                predict(W3, b3, head3, r2, e3_at, n3, n2, ROWS3, P2)
            else:
                tl.store(e3_at + j3, h3, j3 < n3)
            r3 = _relu(h3)
            r = r3
        if HIDDEN > 1:
            tl.debug_barrier()
            e2 = h2 - tl.load(e2_at + j2, j2 < n2, other=0.0)
        if HIDDEN > 2:
            e3 = h3 - tl.load(e3_at + j3, j3 < n3, other=0.0)

        if sample + 1 == samples:
            energy = _total((h1 - p1) * (h1 - p1)) + tl.sum(e * e, 0)
            if HIDDEN > 1:
                energy += _total(e2 * e2)
            if HIDDEN > 2:
                energy += _total(e3 * e3)
            tl.store(energies + member, 0.5 * energy)

        # Each layer's normalised step, and how far these steps can move a weight at most.
        squares, magnitudes = _sums(x, inputs, 1024)
        e1 = tl.where(alive, (h1 - p1) / tl.maximum(squares + padding, smallest), 0.0)
        tl.store(e1_at + j1, e1, j1 < n1)
        e /= tl.maximum(_total(r * r) + padding, smallest)
        reach = distance + _total(tl.abs(e1)) * (magnitudes + 1) + tl.sum(tl.abs(e), 0) * (_total(r) + 1)
        if HIDDEN > 1:
            e2 /= tl.maximum(_total(r1 * r1) + padding, smallest)
            tl.debug_barrier()
            tl.store(e2_at + j2, e2, j2 < n2)
            reach += _total(tl.abs(e2)) * (_total(r1) + 1)
        if HIDDEN > 2:
            e3 /= tl.maximum(_total(r2 * r2) + padding, smallest)
            tl.debug_barrier()
            tl.store(e3_at + j3, e3, j3 < n3)
            reach += _total(tl.abs(e3)) * (_total(r2) + 1)
        tl.debug_barrier()
        if alive and not (reach < room):  # nearly never, nan included: look at each weight before it moves
            tl.store(eo_at + c, e)
            tl.store(h1_at + j1, r1)
            if HIDDEN > 1:
                tl.store(h2_at + j2, r2)
            if HIDDEN > 2:
                tl.store(h3_at + j3, r3)
            tl.debug_barrier()
            reach = largest(W1, b1, e1_at, x, n1, inputs, BIASES, 32, 32)
            r_at = h1_at + (0 if HIDDEN == 1 else (P1 if HIDDEN == 2 else P1 + P2))
            reach = tl.maximum(reach, largest(Wo, bo, eo_at, r_at, classes, last, BIASES, 32, 32))
            if HIDDEN > 1:
                reach = tl.maximum(reach, largest(W2, b2, e2_at, h1_at, n2, n1, BIASES, 32, 32))
            if HIDDEN > 2:
                reach = tl.maximum(reach, largest(W3, b3, e3_at, h2_at, n3, n2, BIASES, 32, 32))
            alive = reach < float("inf")
            tl.debug_barrier()
            tl.store(e1_at + j1, tl.where(alive, e1, 0.0), j1 < n1)
        distance = reach
        if alive:
            if HIDDEN > 1:
                add(W2, b2, e2_at, r1, n2, n1, BIASES, ROWS2, P1)
            if HIDDEN > 2:
                add(W3, b3, e3_at, r2, n3, n2, BIASES, ROWS3, P2)
            w = tl.fma(e[:, None, None], r[None, :, :], w)
            tl.store(at_o, w, in_o)
        if BIASES:
            bias = tl.where(alive, bias + e, bias)
            tl.store(bo + c, bias, c < classes)
        tl.debug_barrier()
        before = inputs
        x += inputs
        labels += 1
        logits += classes
    first_layer(W1, b1, e1_at, x - inputs, x - inputs, h1_at, n1, inputs, BIASES, ROWS1, COLUMNS, THREADS)
    tl.store(frozen + member, tl.where(alive, 0, 1))
    tl.store(moved + member, distance)
