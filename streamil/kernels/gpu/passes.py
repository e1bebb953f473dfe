"""Passes over the weights of one layer of one member; W [rows, inputs] in memory, activities where a kernel has them.

The next tile is under way while one is worked on: loads come before what needs the tile at hand. Products that are
added to something are written as such (`fma`), since the kernels are compiled without fusing any others.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
# ruff: noqa: ANN001, ANN201, ANN202, D103
from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["add", "columns", "first_layer", "largest", "load_tile", "predict", "through", "tile", "times"]


@triton.jit
def columns(WIDTH: tl.constexpr):
    """Return 0 .. WIDTH - 1 as [n, 128]: so a row of weights is one warp's, and its sum needs no other."""
    LANE: tl.constexpr = WIDTH if WIDTH < 128 else 128
    return tl.arange(0, WIDTH // LANE)[:, None] * LANE + tl.arange(0, LANE)[None, :]


@triton.jit
def tile(W, i, rows, inputs, WIDTH: tl.constexpr):
    """Return where the rows i of W stand, and which of their weights there are, both [ROWS, n, 128]."""
    j = columns(WIDTH)[None, :, :]
    at = W + i[:, None, None] * inputs + j
    if WIDTH >= 4:  # the 2 is not so: it makes the compiler spread warps over rows, in every version
        at = tl.max_contiguous(at, (2, 1, 4))
    return at, (i < rows)[:, None, None] & (j < inputs)


@triton.jit
def load_tile(W, i, rows, inputs, WIDTH: tl.constexpr):
    at, there = tile(W, i, rows, inputs, WIDTH)
    return tl.load(at, there, other=0.0)


@triton.jit
def _vector(v, i, rows):
    return tl.load(v + i, i < rows, other=0.0)


@triton.jit
def times(w, r):
    """W r of a tile."""
    return tl.sum(tl.sum(w * r[None, :, :], 1), 1)


@triton.jit
def first_layer(W, b, e, x_old, x, p, rows, inputs, BIASES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
           THREADS: tl.constexpr):
    """W += e x_old^T, b += e, then p = W x + b, of a layer so large that only one pass is made over it.

    Threads that share an element, where there are more threads than elements, all load it before one stores it.
    """
    for top in range(0, rows, ROWS):
        i = top + tl.arange(0, ROWS)
        inside = i < rows
        step = tl.load(e + i, inside, other=0.0)
        bias = tl.load(b + i, inside, other=0.0)
        total = tl.zeros([ROWS, COLUMNS], tl.float32)
        line = W + i[:, None] * inputs
        j = tl.arange(0, COLUMNS)
        w = tl.load(line + j[None, :], inside[:, None] & (j < inputs)[None, :], other=0.0,
                    eviction_policy="evict_first")
        for left in range(0, inputs, COLUMNS):
            j = left + tl.arange(0, COLUMNS)
            within, ahead = j < inputs, j + COLUMNS
            old, new = tl.load(x_old + j, within, other=0.0), tl.load(x + j, within, other=0.0)
            w_next = tl.load(line + ahead[None, :], inside[:, None] & (ahead < inputs)[None, :], other=0.0,
                             eviction_policy="evict_first")
            w = tl.fma(step[:, None], old[None, :], w)
            if ROWS * COLUMNS < THREADS:
                tl.debug_barrier()
            tl.store(line + j[None, :], w, inside[:, None] & within[None, :], eviction_policy="evict_first")
            total = tl.fma(w, new[None, :], total)
            w = w_next
        if BIASES:
            bias += step
            tl.debug_barrier()
            tl.store(b + i, bias, inside)
        tl.store(p + i, tl.sum(total, 1) + bias, inside)


@triton.jit
def predict(W, b, head, r, h, rows, inputs, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Let h = W r + b. `head` is the first tile of W."""
    i = tl.arange(0, ROWS)
    w, b_here = head, _vector(b, i, rows)
    for _ in range(0, rows, ROWS):
        ahead = i + ROWS
        b_next = _vector(b, ahead, rows)
        w_next = load_tile(W, ahead, rows, inputs, WIDTH)
        tl.store(h + i, times(w, r) + b_here, i < rows)
        i, w, b_here = ahead, w_next, b_next


@triton.jit
def through(W, b, head, r, h, e, rows, inputs, ERRORS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Return W^T (h - p), p = W r + b; at `ERRORS` e = h - p. `head` is the first tile of W."""
    back = tl.zeros(head.shape, tl.float32)
    i = tl.arange(0, ROWS)
    w, b_here, h_here = head, _vector(b, i, rows), _vector(h, i, rows)
    for _ in range(0, rows, ROWS):
        ahead = i + ROWS
        b_next, h_next = _vector(b, ahead, rows), _vector(h, ahead, rows)
        w_next = load_tile(W, ahead, rows, inputs, WIDTH)
        error = h_here - (b_here + times(w, r))
        if ERRORS:
            tl.store(e + i, error, i < rows)
        back = tl.fma(w, error[:, None, None], back)
        i, w, b_here, h_here = ahead, w_next, b_next, h_next
    return tl.sum(back, 0)


@triton.jit
def add(W, b, e, r, rows, inputs, BIASES: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """W += e r^T, b += e."""
    i = tl.arange(0, ROWS)
    w, step = load_tile(W, i, rows, inputs, WIDTH), _vector(e, i, rows)
    for _ in range(0, rows, ROWS):
        ahead = i + ROWS
        step_next = _vector(e, ahead, rows)
        if BIASES:
            bias = _vector(b, i, rows) + step
        w_next = load_tile(W, ahead, rows, inputs, WIDTH)
        at, there = tile(W, i, rows, inputs, WIDTH)
        tl.store(at, tl.fma(step[:, None, None], r[None, :, :], w), there)
        if BIASES:
            tl.store(b + i, bias, i < rows)
        i, w, step = ahead, w_next, step_next


@triton.jit
def largest(W, b, e, r, rows, inputs, BIASES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Return the largest magnitude in W + e r^T and b + e, inf where one is not finite."""
    size = 0.0
    for top in range(0, rows, ROWS):
        i = top + tl.arange(0, ROWS)
        inside = i < rows
        step = tl.load(e + i, inside, other=0.0)
        bias = tl.load(b + i, inside, other=0.0)
        if BIASES:
            bias += step
        size = tl.maximum(size, tl.max(_magnitude(bias), 0))
        for left in range(0, inputs, COLUMNS):
            j = left + tl.arange(0, COLUMNS)
            both = inside[:, None] & (j < inputs)[None, :]
            w = tl.load(W + i[:, None] * inputs + j[None, :], both, other=0.0)
            w += step[:, None] * tl.load(r + j, j < inputs, other=0.0)[None, :]
            size = tl.maximum(size, tl.max(tl.max(_magnitude(w), 1), 0))
    return size


@triton.jit
def _magnitude(values):
    size = tl.abs(values)
    return tl.where(size < float("inf"), size, float("inf"))  # nan as inf
