"""A step size that follows the stream: longer while fast weights beat their running average, shorter while not."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LARGEST_LEAD = 12.0
SMALLEST_PROBABILITY = 1e-6
SLOWEST = 0.01  # rate of the running scale of d after 100 samples


class StepSize(NamedTuple):
    """Each member's step size and what steers it, each [A, 1, 1].

    Attributes
    ----------
    alpha
        Step size.
    lead
        Fading sum of how much better the fast weights said the labels than their average did.
    scale
        Running mean of the absolute difference of one sample.
    """

    alpha: Tensor
    lead: Tensor
    scale: Tensor

    def weight(self, share: Tensor) -> Tensor:
        """Return u, the fast weights' part in the mixture: share + (1 - 2 share) sigmoid(lead)."""
        return share + (1 - 2 * share) * torch.sigmoid(self.lead)

    def after(
        self, edge: Tensor, seen: int, *, gain: Tensor, forget: Tensor, lowest: Tensor, highest: Tensor
    ) -> StepSize:
        r"""Return the step size after a mini-batch of differences d [A, B, 1], `seen` samples having gone before.

        Sample by sample $\lambda \leftarrow \kappa \lambda + d$, cut to +-12; $s \leftarrow s + \max(.01, 1/seen)
        (|d| - s)$; $\ln \alpha \leftarrow \ln \alpha + \eta d / (s + 10^{-6})$; then $\alpha$ is cut to its bounds.
        """
        lead, scale, growth = self.lead, self.scale, torch.zeros_like(self.alpha)
        for row in range(edge.shape[1]):
            d = edge[:, row : row + 1]
            lead = torch.addcmul(d, forget, lead).clamp_(-LARGEST_LEAD, LARGEST_LEAD)
            scale = torch.lerp(scale, d.abs(), max(SLOWEST, 1 / (seen + row + 1)))
            growth.addcdiv_(d, scale + 1e-6)
        alpha = (self.alpha * growth.mul_(gain).exp_()).clamp(lowest, highest)
        return StepSize(alpha, lead, scale)


def log_ratio(fast: Tensor, slow: Tensor, told: Tensor) -> Tensor:
    """Return d = ln q_W[y] - ln q_A[y] [A, B, 1] of probabilities [A, B, C]; told [B, C] is 1 at the label."""
    of_fast, of_slow = ((q * told).sum(-1, keepdim=True).clamp_min_(SMALLEST_PROBABILITY).log_() for q in (fast, slow))
    return of_fast - of_slow
