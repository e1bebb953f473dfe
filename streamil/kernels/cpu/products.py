"""Products of one sample with one layer's weights, a few rows at a time, so that each is read from memory once.

Hidden layers hold their weights [in, out]: what an input that is zero would multiply is never read. The output layer,
which is narrow, holds them [out, in].
"""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

COMPILED: dict[str, Any] = {
    "nogil": True, "error_model": "numpy",
    "_nrt": False,  # views of arrays cost no counting of references, which took half of the time
    "forceinline": True,  # what is compiled anew may else call another compilation of a part than what comes from disk
    "no_cpython_wrapper": True, "no_cfunc_wrapper": True,
    "fastmath": {"contract", "reassoc", "nsz"},  # sums in any order, fused; nan and inf stay what they are
}
ZERO, ONE = np.float32(0), np.float32(1)


@njit(**COMPILED)
def nonzero(r: Any, n: int, rows: Any) -> int:
    """Write the places of r [n] that are not zero into `rows`; return how many there are."""
    count = 0
    for i in range(n):
        rows[count] = i
        count += r[i] != ZERO
    return count


@njit(**COMPILED)
def add_rows(w: Any, r: Any, rows: Any, count: int, m: int, out: Any) -> None:
    """Add r_k w_k, w [in, out], of the rows named to out [m]."""
    k = 0
    while k + 4 <= count:
        i0, i1, i2, i3 = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
        r0, r1, r2, r3 = r[i0], r[i1], r[i2], r[i3]
        for j in range(m):
            out[j] += (r0 * w[i0, j] + r1 * w[i1, j]) + (r2 * w[i2, j] + r3 * w[i3, j])
        k += 4
    while k < count:
        i0, r0 = rows[k], r[rows[k]]
        for j in range(m):
            out[j] += r0 * w[i0, j]
        k += 1


@njit(**COMPILED)
def feed_back_rows(w: Any, e: Any, rows: Any, count: int, m: int, out: Any) -> None:
    """Write w_k . e, w [in, out], e [m], into out_k for the rows named."""
    k = 0
    while k + 4 <= count:
        i0, i1, i2, i3 = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
        s0 = s1 = s2 = s3 = ZERO
        for j in range(m):
            s0 += w[i0, j] * e[j]
            s1 += w[i1, j] * e[j]
            s2 += w[i2, j] * e[j]
            s3 += w[i3, j] * e[j]
        out[i0], out[i1], out[i2], out[i3] = s0, s1, s2, s3
        k += 4
    while k < count:
        i0, s0 = rows[k], ZERO
        for j in range(m):
            s0 += w[i0, j] * e[j]
        out[i0] = s0
        k += 1


@njit(**COMPILED)
def outputs(w: Any, r: Any, n: int, m: int, bias: Any, out: Any) -> None:
    """Write b + w r, w [out, in], r [n], into out [m]."""
    j = 0
    while j + 4 <= m:
        s0 = s1 = s2 = s3 = ZERO
        for k in range(n):
            s0 += w[j, k] * r[k]
            s1 += w[j + 1, k] * r[k]
            s2 += w[j + 2, k] * r[k]
            s3 += w[j + 3, k] * r[k]
        out[j], out[j + 1], out[j + 2], out[j + 3] = bias[j] + s0, bias[j + 1] + s1, bias[j + 2] + s2, bias[j + 3] + s3
        j += 4
    while j < m:
        s0 = ZERO
        for k in range(n):
            s0 += w[j, k] * r[k]
        out[j] = bias[j] + s0
        j += 1


@njit(**COMPILED)
def feed_back_outputs(w: Any, e: Any, n: int, m: int, out: Any) -> None:
    """Write w^T e, w [out, in], e [m], into out [n]."""
    for k in range(n):
        out[k] = ZERO
    j = 0
    while j + 4 <= m:
        e0, e1, e2, e3 = e[j], e[j + 1], e[j + 2], e[j + 3]
        for k in range(n):
            out[k] += (e0 * w[j, k] + e1 * w[j + 1, k]) + (e2 * w[j + 2, k] + e3 * w[j + 3, k])
        j += 4
    while j < m:
        e0 = e[j]
        for k in range(n):
            out[k] += e0 * w[j, k]
        j += 1


@njit(**COMPILED)
def squares(r: Any, n: int) -> Any:
    """Return |r|^2 of r [n]."""
    total = ZERO
    for k in range(n):
        total += r[k] * r[k]
    return total


@njit(**COMPILED)
def softmax(logits: Any, live: Any, m: int, out: Any) -> None:
    """Write the probabilities of the live classes into out [m]; 0 for the others."""
    top = np.float32(-np.inf)
    for j in range(m):
        if live[j] and not logits[j] <= top:  # nan stays
            top = logits[j]
    total = ZERO
    for j in range(m):
        out[j] = np.exp(logits[j] - top) if live[j] else ZERO
        total += out[j]
    for j in range(m):
        out[j] /= total
