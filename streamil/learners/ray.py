"""How far along the first-order direction the proximal problem's solution lies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_ITERATIONS = 200  # bisection alone needs fewer to the last bit of float64


def gain(logits: NDArray[Any], k: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    r"""Return tau in (0, 1], the root of $k \cdot (y - \mathrm{softmax}(p + \tau k)) = \tau\, k \cdot (y - q)$.

    The left side falls with tau and the right side rises. Newton's method; bisection where that leaves the bracket or
    does not halve its step (between two flat stretches it would go to and fro). On the host and in float64 whatever the
    learner's precision: the numbers are few, and a call of a tensor library costs more than the arithmetic. Each root
    stops on its own, where its residual or its last step is within rounding, so none depends on its neighbours.

    Parameters
    ----------
    logits, k
        p and its change for tau = 1, [A, K, C]; -inf and 0 for classes not live.
    labels
        [K, C] one-hot.

    Examples
    --------
    >>> tau = gain(np.zeros((1, 1, 2)), np.array([[[1.0, -1.0]]]), np.array([[1.0, 0.0]]))
    >>> bool(abs(2 / (1 + np.exp(2 * tau)) - tau) < 1e-15)
    True
    """
    precision = np.finfo(k.dtype).eps
    p, k, y = (each.astype(np.float64) for each in (logits, k, labels))
    powers = np.stack([k, k * k], axis=-1)
    of_label = (k * y).sum(-1)
    with np.errstate(all="ignore"):  # a member that diverges finds nan, and stops
        mean, square = _moments(p, powers)
        pull = of_label - mean
        enough = np.maximum(precision * pull, 4 * np.finfo(np.float64).eps * np.abs(k).sum(-1))
        tau, low, high, residual = np.zeros_like(pull), np.zeros_like(pull), np.ones_like(pull), pull
        last = np.full_like(pull, np.inf)
        for _ in range(MOST_ITERATIONS):
            far = (np.abs(residual) > enough) & (last > precision / 2 * tau)
            if not far.any():
                break
            low, high = np.where(residual > 0, tau, low), np.where(residual > 0, high, tau)
            step = residual / np.maximum(square - mean * mean + pull, pull)
            newton = (tau + step > low) & (tau + step <= high) & (np.abs(step) <= last / 2)
            step = np.where(newton, step, (low + high) / 2 - tau)
            last = np.where(far, np.abs(step), last)
            tau = np.where(far, tau + step, tau)
            mean, square = _moments(p + tau[..., None] * k, powers)
            residual = of_label - mean - tau * pull
    return np.where(np.isfinite(residual), tau, np.nan)[..., None]


def _moments(logits: NDArray[np.float64], powers: NDArray[np.float64]) -> tuple[Any, Any]:
    """Return the means of k and k^2 under the softmax of the logits, each [A, K]."""
    z = np.exp(logits - logits.max(-1, keepdims=True))
    sums = (z[..., None, :] @ powers)[..., 0, :] / z.sum(-1, keepdims=True)
    return sums[..., 0], sums[..., 1]
