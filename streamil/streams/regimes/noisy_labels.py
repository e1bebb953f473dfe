"""`noisy-labels`: some labels are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from streamil.experiment.regimes import NoisyLabels
from streamil.samples import Records


def noisy_labels(samples: Iterator[Records], settings: NoisyLabels, rng: np.random.Generator) -> Iterator[Records]:
    """Yield the samples, some with the label of another class: one of those seen so far, all alike.

    Each labelled sample is hit with probability `rate`; before a second class has been seen there is no other label.
    """
    seen: dict[str, int] = {}
    classes: list[str] = []
    for chunk in samples:
        labels = list(chunk.y)
        for row, (hit, which) in enumerate(rng.random((len(labels), 2)).tolist()):
            label = labels[row]
            if label is None:
                continue
            if label not in seen:
                seen[label] = len(classes)
                classes.append(label)
            if hit < settings.rate and len(classes) > 1:
                other = int(which * (len(classes) - 1))
                labels[row] = classes[other + (other >= seen[label])]
        yield replace(chunk, y=labels)
