"""What an experiment file means, in plain lines: `streamil check`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from streamil.arms import ArmPlan, plan_arms, plan_comparisons
from streamil.errors import SourceError
from streamil.evaluation import allot
from streamil.experiment import Experiment
from streamil.features import Featurizer
from streamil.learners import learner_class
from streamil.learners.hyperparameters import read_members
from streamil.learners.population import count_parameters
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
    regimes = ", ".join(regime.kind for regime in stream.regimes) or "source order"
    limit = "all samples" if stream.limit is None else f"{stream.limit:,} samples"
    rate = "as fast as the broker takes them" if stream.rate is None else f"{stream.rate:g} samples a second"
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


def _cost(experiment: Experiment, plan: ArmPlan, layers: list[int]) -> tuple[str, int]:
    """Return what the arm takes, in words and in bytes of memory."""
    rule = learner_class(plan.algorithm, experiment.folder)
    members, _ = read_members(rule.Hyperparameters, plan.algorithm, plan.members)
    numbers = rule.numbers_held(layers, members, plan.batch_size)
    if numbers is None:
        return "learning one sample after another in Python, of a size that is not known beforehand", 0
    memory = numbers * FLOAT_BYTES
    if plan.family == "torch":
        return (f"learning one member after another, {numbers:,} parameters in all, {_bytes(memory)} "
                "and the optimizer's state"), memory
    return f"{count_parameters(layers):,} parameters each, {_bytes(memory)}", memory


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
