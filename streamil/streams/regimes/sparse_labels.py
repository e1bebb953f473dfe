"""`sparse-labels`: a teacher speaks now and then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from streamil.experiment.regimes import SparseLabels
from streamil.samples import Records


def sparse_labels(samples: Iterator[Records], settings: SparseLabels, rng: np.random.Generator) -> Iterator[Records]:
    """Yield the samples, each label kept with probability `keep`; without it a sample is unlabelled."""
    for chunk in samples:
        kept = (rng.random(len(chunk)) < settings.keep).tolist()
        yield replace(chunk, y=[label if keep else None for label, keep in zip(chunk.y, kept, strict=True)])
