"""What an experiment file means, in plain lines: `streamil check`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from streamil.arms import ArmPlan, plan_arms, plan_comparisons, plan_controls
from streamil.errors import SourceError
from streamil.evaluation import allot
from streamil.experiment import Experiment
from streamil.experiment.regimes import Regime
from streamil.experiment.sources import TopicSource
from streamil.features import Featurizer
from streamil.learners import learner_class
from streamil.learners.hyperparameters import read_members
from streamil.learners.population import count_parameters
from streamil.look import LOOK_AHEAD, look_at_topic, see
from streamil.race import Race
from streamil.report.lines import inputs_line, shortened
from streamil.samples import Records, Rejected
from streamil.streams import open_stream
from streamil.streams.source import Skipped
from streamil.suspects import FEWEST, alike, suspects

FLOAT_BYTES = 4


def explain(experiment: Experiment) -> Iterator[str]:
    """Yield lines that say what the experiment is: stream, inputs, classes, arms, members, parameters, memory.

    Raises
    ------
    ExperimentError, SourceError
        What is wrong with the file or its source.
    """
    plans = plan_arms(experiment)
    stream = experiment.stream
    if isinstance(stream.source, TopicSource):
        look = look_at_topic(experiment)
        yield from look.lines
        yield from _meaning(experiment, plans, look.featurizer, look.samples)
        yield from (f"warning: {line}" for line in look.featurizer.doubts)
        yield from _before_consuming(experiment)
        return
    regimes = ", ".join(map(_regime, stream.regimes)) or "source order"
    limit = "all samples" if stream.limit is None else f"{stream.limit:,} samples"
    rate = "as fast as the broker takes them" if stream.rate is None else f"{stream.rate:g} samples a second"
    rate = "paced by event times" if stream.paced_by_time else rate
    yield f"{experiment.name}: {stream.source.kind}, {regimes}, {limit}"
    yield (f"topic {experiment.topic} at {experiment.kafka.bootstrap_servers}: {stream.samples_per_record} samples a "
           f"record as {stream.codec}, {rate}; stream {experiment.stream_hash}")
    first = _look(experiment)
    yield from _meaning(experiment, plans, first.featurizer, first.seen)
    yield from (f"warning: {line}" for line in _warnings(experiment, first))
    yield from _before_consuming(experiment)


def _before_consuming(experiment: Experiment) -> Iterator[str]:
    """Yield a warning for each arm that a consumer would refuse, since it cannot be saved, and for an open password."""
    login = experiment.kafka.login
    if login is not None and login.mechanism == "PLAIN" and experiment.kafka.tls is None:
        yield ("warning: kafka.login: PLAIN without kafka.tls shows the password to whoever listens on the way: set "
               "kafka.tls, or another mechanism")
    kept = experiment.service.snapshots
    if kept is not None:
        for line in Race(experiment, allow_pickle=kept.allow_pickle).unsavable():
            yield f"warning: `streamil consume` refuses this file, `run` does not: {line}; or service.snapshots: null"


def _meaning(experiment: Experiment, plans: list[ArmPlan], featurizer: Featurizer, seen: int) -> Iterator[str]:
    """Yield what follows from the first samples: inputs, classes, arms and their memory, comparisons."""
    labels = featurizer.labels
    classes = (f"{shortened(labels.names)} (a fixed list)" if labels.closed else
               f"{shortened(labels.names)} (met in the first {seen} samples; more may come)" if seen else
               "met as they come")
    if featurizer.inputs is None:
        yield "inputs: fixed by the first good record; parameters and memory follow from them"
        yield f"classes: {classes}"
        for plan in plans:
            yield f"arm {plan.name}: {plan.algorithm}, mini-batches of {plan.batch_size}, {_members(plan)}"
        yield from _comparisons(experiment, plans)
        return
    yield inputs_line(featurizer.inputs, featurizer.names)
    kinds = featurizer.features.kinds
    if any(feature.kind != "number" for feature in kinds.values()):
        yield "kinds: " + "; ".join(
            f"{kind} {shortened(names)}" for kind in ("number", "category", "time")
            if (names := [name for name, feature in kinds.items() if feature.kind == kind]))
    yield f"classes: {classes}"
    layers = [featurizer.inputs, *experiment.network.hidden, max(len(labels), 2)]
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
    members, _ = read_members(rule.Hyperparameters, plan.algorithm, plan.members)
    numbers = rule.numbers_held(layers, members, plan.batch_size)
    if numbers is None:
        return "learning one sample after another in Python, of a size that is not known beforehand", 0
    memory = numbers * FLOAT_BYTES
    if plan.family == "torch":
        return (f"learning one member after another, {numbers:,} parameters in all, {_bytes(memory)} "
                "and the optimizer's state"), memory
    return f"{count_parameters(layers):,} parameters each, {_bytes(memory)}", memory


@dataclass(frozen=True)
class _Look:
    """The first samples of a stream: what a race would make of them, and what was wrong with some."""

    featurizer: Featurizer
    seen: int
    first: Sequence[Records]
    rejected: Sequence[Rejected]
    skipped: Skipped


def _look(experiment: Experiment) -> _Look:
    """Read the first samples the way a race would."""
    featurizer, seen = Featurizer(experiment.stream), 0
    first: list[Records] = []
    rejected: list[Rejected] = []
    samples = open_stream(experiment.stream, experiment.folder)
    for records in samples:
        found = see(featurizer, records, seen)
        if found is None:
            continue
        part, _, bad = found
        rejected += bad
        first.append(part)
        seen += len(part)
        if seen >= LOOK_AHEAD:
            break
    if seen == 0:
        raise SourceError(f"{experiment.stream.source.kind} source: it holds no sample")
    return _Look(featurizer, seen, first, rejected, samples.skipped)


def _warnings(experiment: Experiment, look: _Look) -> Iterator[str]:
    """Yield what may be wrong with the first samples, a line each."""
    yield from look.featurizer.doubts
    labels, labelled = look.featurizer.labels, sum(label is not None for part in look.first for label in part.y)
    if not labelled and not experiment.stream.regimes:
        yield f"none of the first {look.seen} samples has a label, and what has none is not learned"
    if not labels.closed and labelled >= FEWEST and len(labels) > labelled / 2:
        yield (f"{len(labels)} classes among the first {labelled} labels: numbers to predict, or names of rows, are no "
               "classes")
    yield from [] if labels.closed else alike(labels.names)
    if look.featurizer.names:
        stream, first = experiment.stream, look.first
        if stream.regimes:  # row numbers rise in the source's own order
            stream = stream.model_copy(update={"regimes": (), "limit": LOOK_AHEAD})
            first = list(open_stream(stream, experiment.folder))
        columns = {name: [value for part in first for value in part.columns.get(name, ())]
                   for name in look.featurizer.names}
        yield from suspects(columns, stream)
    if look.rejected:
        one = look.rejected[0]
        yield (f"{len(look.rejected)} of the first {look.seen} samples are rejected, the first for {one.reason}: "
               f"{one.detail}")
    yield from look.skipped.told()


def _members(plan: ArmPlan) -> str:
    members, seeds = len(plan.members), len(plan.candidates[0])
    if members == 1:
        return "1 member"
    swept = {key: list(dict.fromkeys(str(member[key]) for member in plan.members)) for key in plan.members[0]}
    values = [f"{key} {shortened(found)}" for key, found in swept.items() if key != "seed" and len(found) > 1]
    return f"{members} members ({'; '.join([*values, *([f'{seeds} seeds'] if seeds > 1 else [])])})"


def _comparisons(experiment: Experiment, plans: list[ArmPlan]) -> Iterator[str]:
    pairs = plan_comparisons(experiment, plans)
    yield "comparisons: none" if not pairs else (
        f"comparisons: {len(pairs)}, each at alpha {allot(experiment.verdict.alpha, len(pairs)):.3g} "
        f"of {experiment.verdict.alpha:g} in all")
    for pair in pairs:
        yield f"  {pair.challenger} against {pair.baseline}"
    for pair in plan_controls(plans):
        yield f"  A/A control of {pair.challenger}, with other seeds; takes no share of alpha"


def _bytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
