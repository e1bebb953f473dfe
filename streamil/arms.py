"""What the arms of an experiment are: one entry of the file becomes one population, or one per batch size."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError

from streamil.errors import LearnerError
from streamil.experiment import Arm, ComparisonOf, Experiment, batch_sizes, control_name
from streamil.experiment_file import nearest
from streamil.learners import ALGORITHMS, FOREIGN, learner_class
from streamil.problems import problems

MEMBERS_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """One arm before it runs: a population of candidates (hyperparameters), each with its replicates (seeds)."""

    name: str
    algorithm: str
    family: str
    batch_size: int
    members: tuple[dict[str, Any], ...]
    candidates: tuple[tuple[int, ...], ...]
    """Members of each candidate: they differ in the seed alone."""
    control_of: str | None = None
    """The arm that this one is an A/A control of: equal but for the seeds."""


def plan_arms(experiment: Experiment) -> list[ArmPlan]:
    """Return the arms that this process learns, with sweeps and seeds written out; A/A controls come last.

    Raises
    ------
    ExperimentError
        For an algorithm that does not exist and for each wrong hyperparameter.
    """
    return planned_here(experiment, plan_all_arms(experiment))


def planned_here(experiment: Experiment, plans: Sequence[ArmPlan]) -> list[ArmPlan]:
    """Return those of all arms that this process learns."""
    here = experiment.learned_here
    return [plan for plan in plans if here is None or plan.name in here]


def plan_all_arms(experiment: Experiment) -> list[ArmPlan]:
    """Return all arms of the experiment, also those that other processes learn; see `plan_arms`.

    Raises
    ------
    ExperimentError
        For an algorithm that does not exist and for each wrong hyperparameter.
    """
    plans: list[ArmPlan] = []
    found: list[str] = []
    for entry, arm in experiment.arms.items():
        line = experiment.lines.get(("arms", entry, "algorithm"))
        key = f"{f'line {line}: ' if line else ''}arms.{entry}"
        if arm.algorithm not in ALGORITHMS and ":" not in arm.algorithm:
            found.append(f"{key}.algorithm: found {arm.algorithm!r}{nearest(arm.algorithm, ALGORITHMS)}; "
                         f"allowed: {', '.join((*ALGORITHMS, *FOREIGN))}")
            continue
        try:
            rule = learner_class(arm.algorithm, experiment.folder)
        except LearnerError as error:
            found.append(f"{key}.{error}")
            continue
        closed = experiment.stream.classes is not None
        if rule.family == "torch" and not closed and None in _swept(
                rule.Hyperparameters, "outputs", arm.hyperparameters.get("outputs")):
            found.append(f"{key}.outputs: a torch arm's output layer does not grow; how many classes it has room for "
                         "is needed here, or a fixed list in stream.classes")
        candidates, wrong = _candidates(experiment, entry, arm, rule.Hyperparameters)
        found += wrong
        members = tuple({**candidate, "seed": seed} for candidate in candidates for seed in range(arm.seeds))
        replicates = tuple(tuple(range(first, first + arm.seeds)) for first in range(0, len(members), arm.seeds))
        if len(members) > MEMBERS_LIMIT:
            found.append(f"arms.{entry}: {len(members)} members; at most {MEMBERS_LIMIT} are allowed")
        plans += [ArmPlan(name, arm.algorithm, rule.family, size, members, replicates)
                  for name, size in batch_sizes(entry, arm)]
    if found:
        raise experiment.error(found)
    return plans + [_control(plan) for name in experiment.verdict.controls for plan in plans if plan.name == name]


def _control(plan: ArmPlan) -> ArmPlan:
    members = tuple({**member, "seed": member["seed"] + len(plan.candidates[0])} for member in plan.members)
    return replace(plan, name=control_name(plan.name), members=members, control_of=plan.name)


def _candidates(
    experiment: Experiment, entry: str, arm: Arm, model: type[BaseModel]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return every combination of the values that the entry lists, and what is wrong with them."""
    swept = {key: _swept(model, key, value) for key, value in arm.hyperparameters.items()}
    empty = [f"arms.{entry}.{key}: an empty list; at least one value is needed"
             for key, values in swept.items() if not values]
    candidates: list[dict[str, Any]] = []
    found: dict[str, None] = dict.fromkeys(empty)
    for values in itertools.islice(itertools.product(*swept.values()), MEMBERS_LIMIT + 1):
        candidate = dict(zip(swept, values, strict=True))
        try:
            model.model_validate(candidate)
        except ValidationError as error:
            found.update(dict.fromkeys(problems(error, model, candidate, experiment.lines, ("arms", entry))))
        candidates.append(candidate)
    return candidates, list(found)


def _swept(model: type[BaseModel], key: str, value: Any) -> list[Any]:
    """Return the values to try: a list is a sweep, unless it is one value of a hyperparameter that is a tuple."""
    field = model.model_fields.get(key)
    is_tuple = field is not None and get_origin(field.annotation) is tuple
    if isinstance(value, list) and not (is_tuple and not any(isinstance(inner, list) for inner in value)):
        return value
    return [value]


def plan_comparisons(experiment: Experiment, arms: Sequence[ArmPlan]) -> list[ComparisonOf]:
    """Return the comparisons of the file, or every IL arm against every arm that is not IL, of equal batch size."""
    if experiment.comparisons is not None:
        return list(experiment.comparisons)
    own = [arm for arm in arms if arm.control_of is None]
    return [
        ComparisonOf(challenger=challenger.name, baseline=baseline.name)
        for challenger in own if challenger.family == "il"
        for baseline in own if baseline.family != "il" and baseline.batch_size == challenger.batch_size
    ]


def plan_controls(arms: Sequence[ArmPlan]) -> list[ComparisonOf]:
    """Return the comparisons of arms with their A/A controls."""
    return [ComparisonOf(challenger=arm.control_of, baseline=arm.name) for arm in arms if arm.control_of is not None]
