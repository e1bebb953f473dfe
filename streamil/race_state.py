"""What a saved race must have in common with the one that goes on from it: configuration and plan.

`Race.state_dict` is nested plain data: dicts with text as keys, lists, None, bool, int, float, str, bytes, numpy arrays
and torch tensors on the CPU. Nothing in it is shared with the race.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from streamil.arms import ArmPlan
from streamil.errors import StateError
from streamil.experiment import Experiment
from streamil.kernels import PLAIN, kernel_name
from streamil.learners import learner_class
from streamil.learners.hyperparameters import read_members
from streamil.state_entries import entries, part, text

VERSION = 3
"""Of the form of the state."""
STREAM = ("source", "seed", "regimes", "classes", "label_map", "scale", "features", "missing_indicators")
"""Keys of the stream that say what its samples mean; the others say how they travel, and how many."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between a saved race and the one that goes on from it, each a text for people.

    Attributes
    ----------
    added
        Arms and comparisons that start where the race stands.
    removed
        Arms and comparisons that end.
    plan
        What of the plan is another one; empty without `replan`.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    plan: tuple[str, ...]


def configuration(experiment: Experiment, arms: Sequence[ArmPlan]) -> dict[str, Any]:
    """Return what may not change between saving and loading, as plain data; hyperparameters with their defaults.

    All but `arms` is for the whole race. An arm that is there before and after has to be the same.
    """
    shared = {
        "name": experiment.name,
        "stream": experiment.stream.model_dump(mode="json", include=set(STREAM), exclude={"source": {"live"}}),
        "network": experiment.network.model_dump(mode="json"),
        "verdict": experiment.verdict.model_dump(mode="json", exclude={"controls"}),  # these are arms
        "evaluation": experiment.evaluation.model_dump(mode="json"),
    }
    return {**shared, "arms": {plan.name: _arm(experiment, plan) for plan in arms}}


def _arm(experiment: Experiment, plan: ArmPlan) -> dict[str, Any]:
    rule = learner_class(plan.algorithm, experiment.folder)
    members, seeds = read_members(rule.Hyperparameters, plan.algorithm, plan.members)
    return {"algorithm": plan.algorithm, "batch_size": plan.batch_size, "members": [
        {**member.model_dump(mode="json"), "seed": seed} for member, seed in zip(members, seeds, strict=True)]}


def configuration_hash(configured: Mapping[str, Any]) -> str:
    """Return the hash of a configuration without its arms, of which some may come and go.

    Examples
    --------
    >>> one, other = {"name": "a", "arms": {}}, {"arms": {"bp": {}}, "name": "a"}
    >>> configuration_hash(one) == configuration_hash(other) != configuration_hash({"name": "b"})
    True
    """
    shared = {key: value for key, value in configured.items() if key != "arms"}
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:32]


def plan_of(experiment: Experiment, arms: Sequence[ArmPlan], device: torch.device) -> dict[str, Any]:
    """Return what has to be equal for numbers to repeat bit for bit, as plain data."""
    return {
        "versions": {"streamil": importlib.metadata.version("streamil"), "torch": str(torch.__version__),
                     "numpy": np.__version__, "python": ".".join(platform.python_version_tuple()[:2])},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "dtype": "float32",
        "arms": {plan.name: {
            "members": len(plan.members), "batch_size": plan.batch_size, "hidden": list(experiment.network.hidden),
            "kernel": kernel_name(learner_class(plan.algorithm, experiment.folder), device)
            if experiment.service.kernels == "auto" else PLAIN,
            **({"river": importlib.metadata.version("river")} if plan.family == "river" else {})} for plan in arms},
    }


def changes(state: Mapping[str, Any], configured: Mapping[str, Any], plan: Mapping[str, Any],
            comparisons: Collection[tuple[str, str]], *, replan: bool) -> Changes:
    """Compare a state with the race that shall go on from it.

    Raises
    ------
    StateError
        For another version of the state, another configuration and, unless `replan`, another plan: names the key.
    """
    version = state.get("version") if isinstance(state, Mapping) else None
    if version != VERSION:
        raise StateError(f"state: its version is {str(version)[:20]}, {VERSION} can be loaded here")
    with part("head"):
        entries(state, ("version", "configuration", "plan", "counts", "featurizer", "late", "backlog", "held",
                        "arms", "comparisons"))
        saved, saved_plan = state["configuration"], state["plan"]
        entries(saved, configured)
        before, now = saved["arms"], configured["arms"]
        if set(before) != set(state["arms"]):
            raise ValueError("the arms of its configuration are others than those that it holds")
        pairs = [(text(one, "challenger"), text(one, "baseline")) for one in state["comparisons"]]
        found = [*_different(_without_arms(saved), _without_arms(configured), ""),
                 *_different(*_common(before, now), "arms.")]
        other_plan = [*_different(_without_arms(saved_plan), _without_arms(plan), ""),
                      *_different(*_common(saved_plan["arms"], plan["arms"]), "arms.")]
    if found:
        raise StateError(f"state: of another experiment: {_few(found)}; give the old settings back, or begin anew with "
                         "another name, and another service.snapshots.folder where the file names one")
    if other_plan and not replan:
        raise StateError(f"state: saved under another plan: {_few(other_plan)}; numbers would not repeat bit for bit: "
                         "go back to it, or go on under the new one with --replan")
    return Changes(
        tuple([f"arm {name}" for name in now if name not in before]
              + [f"comparison {a} against {b}" for a, b in comparisons if (a, b) not in pairs]),
        tuple([f"arm {name}" for name in before if name not in now]
              + [f"comparison {a} against {b}" for a, b in pairs if (a, b) not in comparisons]),
        tuple(other_plan))


def _without_arms(one: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key != "arms"}


def _common(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    both = [name for name in now if name in before]
    return {name: before[name] for name in both}, {name: now[name] for name in both}


def _few(found: Sequence[str]) -> str:
    return "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


def _different(before: Any, now: Any, key: str) -> Iterator[str]:
    """Yield the keys under which two plain values differ, with both."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*now, *before]):
            if name in before and name in now:
                yield from _different(before[name], now[name], f"{key}{name}.")
            else:
                yield f"{key}{name} is {'new' if name in now else 'gone'}"
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for place, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from _different(old, new, f"{key}{place}.")
    elif before != now:
        yield f"{key.removesuffix('.')} was {str(before)[:40]!r}, is {str(now)[:40]!r}"
