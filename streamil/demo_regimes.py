"""What `streamil demo --regime NAME` puts after the shuffle of its digits: one setting of each regime, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEMO_REGIMES: Mapping[str, list[dict[str, Any]]] = {
    "single-pass": [],  # which the demo has anyway
    "correlated": [{"kind": "correlated", "dwell": 50}],
    "class-incremental": [{"kind": "class-incremental", "classes_per_block": 2, "samples_per_block": 1000}],
    "drift": [{"kind": "drift", "what": "rotation", "how": "gradual", "every": 2500, "width": 500}],
    "long-tail": [{"kind": "long-tail", "exponent": 1}],
    "noisy-senses": [{"kind": "noisy-senses", "sigma": 0.3}],
    "noisy-labels": [{"kind": "noisy-labels", "rate": 0.2}],
    "sparse-labels": [{"kind": "sparse-labels", "keep": 0.1}],
    "limited": [{"kind": "limited", "samples": 1000, "repeats": 60}],
    "bursty": [{"kind": "bursty", "rate": 1000, "burst": 200}],
    "delayed-labels": [{"kind": "delayed-labels", "samples": 200}],
}
SHORTER: Mapping[str, int] = {"long-tail": 19_749}
"""Regimes that leave samples out, and what is left of the demo's 60,000."""
