"""What an experiment file means, in plain lines: `streamil check`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from streamil.arms import ArmPlan, plan_arms, plan_comparisons
from streamil.errors import SourceError
from streamil.evaluation import allot
from streamil.experiment import Experiment, Regime
from streamil.features import Featurizer
from streamil.learners import create, learner_class
from streamil.samples import Records
from streamil.streams import open_stream

FLOAT_BYTES = 4
LOOK_AHEAD = 256
"""Samples read to see the inputs and the classes."""


def explain(experiment: Experiment) -> Iterator[str]:
    """Yield lines that say what the experiment is: stream, inputs, classes, arms, members, parameters, memory.

    Raises
    ------
    ExperimentError, SourceError
        What is wrong with the file or its source.
    """
    plans = plan_arms(experiment)
    featurizer, seen = _look(experiment)
    stream = experiment.stream
    regimes = ", ".join(map(_regime, stream.regimes)) or "source order"
    limit = "all samples" if stream.limit is None else f"{stream.limit:,} samples"
    rate = "as fast as the broker takes them" if stream.rate is None else f"{stream.rate:g} samples a second"
    rate = "paced by event times" if stream.paced_by_time else rate
    yield f"{experiment.name}: {stream.source.kind}, {regimes}, {limit}"
    yield (f"topic {experiment.topic} at {experiment.kafka.bootstrap_servers}: {stream.samples_per_record} samples a "
           f"record as {stream.codec}, {rate}; stream {experiment.stream_hash}")
    inputs = featurizer.inputs or 0
    named = f": {_shortened(featurizer.names)}" if featurizer.names else ""
    yield f"inputs: {inputs}{named}"
    labels = featurizer.labels
    classes = len(labels)
    yield (f"classes: {_shortened(labels.names)} "
           + ("(a fixed list)" if labels.closed else f"(met in the first {seen} samples; more may come)"))
    layers = [inputs, *experiment.network.hidden, max(classes, 2)]
    yield f"network: {'-'.join(map(str, layers))}, {experiment.network.activation}"
    total = 0
    for plan in plans:
        cost, memory = _cost(experiment, plan, layers)
        total += memory
        yield f"arm {plan.name}: {plan.algorithm}, mini-batches of {plan.batch_size}, {_members(plan)}, {cost}"
    river = " but river's" if any(plan.family == "river" for plan in plans) else ""
    yield f"memory of all arms{river}: {_bytes(total)}"
    yield from _comparisons(experiment, plans)


def _regime(regime: Regime) -> str:
    settings = [f"{key} {value}" for key, value in regime.model_dump(exclude={"kind"}, exclude_none=True).items()]
    return regime.kind + (f" ({', '.join(settings)})" if settings else "")


def _cost(experiment: Experiment, plan: ArmPlan, layers: list[int]) -> tuple[str, int]:
    """Return what the arm takes, in words and in bytes of memory."""
    rule = learner_class(plan.algorithm, experiment.folder)
    if plan.family == "river":
        return "learning one sample after another in Python, of a size that is not known beforehand", 0
    if plan.family == "torch":
        known = [max(layers[0], 1), len(experiment.stream.classes or ())]
        population = create(plan.algorithm, known, plan.members, batch_size=plan.batch_size, growing=True,
                            folder=experiment.folder)
        parameters = population.parameters_per_member
        memory = len(plan.members) * parameters * FLOAT_BYTES
        return (f"learning one member after another, {parameters:,} parameters each, {_bytes(memory)} "
                "and the optimizer's state"), memory
    parameters = sum((wide + 1) * high for wide, high in pairwise(layers))
    memory = len(plan.members) * parameters * FLOAT_BYTES * (1 + len(getattr(rule, "slots", ())))
    if hasattr(rule, "metric_values"):
        members = [rule.Hyperparameters(**{key: value for key, value in member.items() if key != "seed"})
                   for member in plan.members]
        memory += FLOAT_BYTES * rule.metric_values(layers, members)
    return f"{parameters:,} parameters each, {_bytes(memory)}", memory


def _look(experiment: Experiment) -> tuple[Featurizer, int]:
    """Read the first samples the way a race would."""
    featurizer, seen = Featurizer(experiment.stream), 0
    for records in open_stream(experiment.stream, experiment.folder):
        part: Records = records[:LOOK_AHEAD - seen]
        featurizer.transform(part, np.arange(seen, seen + len(part), dtype=np.int64))
        seen += len(part)
        if seen >= LOOK_AHEAD:
            break
    if seen == 0:
        raise SourceError(f"{experiment.stream.source.kind} source: it holds no sample")
    return featurizer, seen


def _members(plan: ArmPlan) -> str:
    members, seeds = len(plan.members), len(plan.candidates[0])
    if members == 1:
        return "1 member"
    swept = {key: list(dict.fromkeys(str(member[key]) for member in plan.members)) for key in plan.members[0]}
    values = [f"{key} {_shortened(found)}" for key, found in swept.items() if key != "seed" and len(found) > 1]
    return f"{members} members ({'; '.join([*values, *([f'{seeds} seeds'] if seeds > 1 else [])])})"


def _comparisons(experiment: Experiment, plans: list[ArmPlan]) -> Iterator[str]:
    pairs = plan_comparisons(experiment, plans)
    if not pairs:
        yield "comparisons: none"
        return
    yield (f"comparisons: {len(pairs)}, each at alpha {allot(experiment.verdict.alpha, len(pairs)):.3g} "
           f"of {experiment.verdict.alpha:g} in all")
    for pair in pairs:
        yield f"  {pair.challenger} against {pair.baseline}"


def _shortened(names: Any, most: int = 12) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f", ... ({len(listed)} in all)" if len(listed) > most else "")


def _bytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
