"""Metrics of the diagnostics of the theory, where they are asked for: what an update did at the last look."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from prometheus_client.core import GaugeMetricFamily, Metric

from streamil.race import Race

GAUGES = {
    "output_way": ("streamil_alignment_output_way_ratio", "Fraction of the way to the target that the output went."),
    "output_alignment": ("streamil_alignment_output_cosine", "Cosine of the output's move and the way to its target."),
    "update_norm": ("streamil_alignment_update_norm", "Euclidean norm of one update."),
    "interference": ("streamil_alignment_interference", "Rise of the loss on samples of earlier looks, in nats."),
}


def alignment(race: Race) -> Iterator[Metric]:
    """Yield the diagnostics of every arm's members at the last look; nothing where nobody asked for them."""
    if race.experiment.evaluation.diagnostics is None:
        return
    member = ["experiment", "arm", "member"]
    looks = GaugeMetricFamily("streamil_alignment_looks", "Updates looked at, over all restarts.", labels=member[:2])
    loss = GaugeMetricFamily("streamil_alignment_loss", "Mean loss on a mini-batch before and after its update, in "
                             "nats.", labels=[*member, "when"])
    cosine = GaugeMetricFamily("streamil_alignment_implicit_cosine", "Cosine of a layer's update and that of implicit "
                               "SGD.", labels=[*member, "layer"])
    gauges = {measure: GaugeMetricFamily(name, text, labels=member) for measure, (name, text) in GAUGES.items()}
    for name, arm in race.arms.items():
        if arm.diagnostics is None:
            continue
        place = [race.experiment.name, name]
        looks.add_metric(place, arm.diagnostics.looks)
        for measure, values in arm.diagnostics.last.items():
            for which, value in enumerate(values.tolist()):
                if not np.isfinite(value):
                    continue
                one = [*place, str(which)]
                if measure in gauges:
                    gauges[measure].add_metric(one, value)
                elif measure.startswith("loss_"):
                    loss.add_metric([*one, measure.removeprefix("loss_")], value)
                else:
                    cosine.add_metric([*one, measure.rpartition("_")[2]], value)
    yield from (looks, loss, *gauges.values(), cosine)
