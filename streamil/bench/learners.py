"""The learner part: what an update costs, ours and others', at each mini-batch size."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from streamil.bench.findings import QUICK, Absent, Findings
from streamil.bench.machine import memory_left
from streamil.bench.opponents import OPTIMIZERS, Records, fresh_compiler, libraries, torch_learner
from streamil.bench.plan import PIXELS, Plan, Subject, record_size
from streamil.bench.turns import Clock, Contestant, Progress, clock_of, take_turns
from streamil.errors import LearnerError
from streamil.experiment import Stream
from streamil.learners import create, learner_class
from streamil.learners.hyperparameters import read_members
from streamil.racing_arm import without_denormals
from streamil.streams import open_stream
from streamil.user_code import first_line

RECORDS = 16
"""Records that are learned again and again."""


def measure_learners(plan: Plan, findings: Findings, *, stop: threading.Event, tell: Progress) -> None:
    """Measure all that the plan asks for, into `findings`.

    Numbers too small for full precision are zero for everybody, as they are in a race: BP-Adam of torch would pay most.

    Parameters
    ----------
    plan, findings
        What to measure; where it goes.
    stop
        Ends it between two turns.
    tell
        Is told how far it is.
    """
    before, clock = torch.get_num_threads(), clock_of(plan.device)
    torch.set_num_threads(plan.threads)
    try:
        with without_denormals(), fresh_compiler():
            for place, size in enumerate(plan.batch_sizes):
                if stop.is_set():
                    return
                _measure_at(plan, size, place, findings, clock, stop, tell)
    finally:
        torch.set_num_threads(before)


def _measure_at(plan: Plan, size: int, place: int, findings: Findings, clock: Clock, stop: threading.Event,
                tell: Progress) -> None:
    """Measure everybody at one mini-batch size."""
    count = len(plan.batch_sizes)

    def told(begun: float, part: float, what: str) -> None:
        tell((place + begun + 0.8 * part) / count, f"mini-batches of {size}: {what}")

    ready: list[Contestant] = []
    records = digits(size, plan.device)
    try:
        # a turn before anything is compiled, which takes longest: whoever interrupts that has figures already
        for begun, group, turns in ((0.0, entrants(plan, size, records), 1),
                                    (0.2, compiled(plan, size, records), max(1, plan.turns - 1))):
            for entrant in group:
                if stop.is_set():
                    return
                if isinstance(entrant, Contestant):
                    told(begun, 0.0, f"first call of {entrant.rule}, {entrant.way}")
                    entrant = _warmed(entrant, clock, plan.turn_seconds)
                if isinstance(entrant, Absent):
                    findings.absent.append(entrant)
                else:
                    ready.append(entrant)
                    findings.contestants.append(entrant)
            take_turns(ready, clock, most=turns, seconds=plan.seconds / count, stop=stop,
                       tell=partial(told, begun))
    finally:
        for contestant in ready:
            contestant.leave()


def _warmed(contestant: Contestant, clock: Clock, least: float) -> Contestant | Absent:
    """Return a contestant that is ready for its turns, or why there is none."""
    try:
        contestant.warm_up(clock, least)
    except Exception as error:  # no compiler, no memory: what others' code raises is theirs to choose
        return Absent(contestant.rule, contestant.way, contestant.members, contestant.batch_size, first_line(error))
    return contestant


def entrants(plan: Plan, size: int, records: Records) -> Iterator[Contestant | Absent]:
    """Yield who is to be measured at a mini-batch size: torch's own backpropagation, ours, other libraries'."""
    for rule in OPTIMIZERS:
        yield torch_learner(rule, plan.layers, size, records)
    for subject in plan.subjects:
        for members in plan.sizes_of(subject):
            yield from _ours(plan, subject, size, members, records)
    for rule, way, other in libraries(plan.layers, size, records):
        yield Absent(rule, way, 1, size, other) if isinstance(other, str) else other


def compiled(plan: Plan, size: int, records: Records) -> Iterator[Contestant | Absent]:
    """Yield torch's own backpropagation under torch.compile."""
    for rule in OPTIMIZERS:
        if plan.compiled:
            yield torch_learner(rule, plan.layers, size, records, compiled=True)
        else:
            yield Absent(f"torch {rule}", "compiled", 1, size, QUICK)


def _ours(plan: Plan, subject: Subject, size: int, members: int, records: Records) -> Iterator[Contestant | Absent]:
    """Yield a rule by its kernel and, at the smallest population or where there is no kernel, the plain rule."""
    each = [{**subject.hyperparameters, "seed": seed} for seed in range(members)]
    own = [(x, y.cpu()) for x, y in records]
    choices: tuple[Literal["auto", "none"], ...] = ("auto", "none")
    for kernels in choices:
        try:
            _require_memory(plan, subject, size, each)
            population = create(subject.algorithm, plan.layers, each, batch_size=size, device=plan.device,
                                kernels=kernels)
        except LearnerError as error:
            yield Absent(subject.text, "kernel" if kernels == "auto" else "plain", members, size,
                         " ".join(str(error).split()))
            return
        way = "plain" if getattr(population, "kernel", None) is None else "kernel"
        if way == "plain" and kernels == "auto":
            yield Absent(subject.text, "kernel", members, size, f"no kernel for it on {plan.device}")
        period = math.lcm(*(getattr(member, "refresh", 1) for member in population.members))
        yield Contestant(subject.text, way, members, size, population.learn, own, population, period)
        if way == "plain" or members > min(plan.sizes_of(subject)):
            return


def _require_memory(plan: Plan, subject: Subject, size: int, each: list[dict[str, Any]]) -> None:
    """Raise LearnerError where a population would take more than half of what memory is left."""
    rule = learner_class(subject.algorithm)
    members, _ = read_members(rule.Hyperparameters, subject.algorithm, each)
    held = 4 * (rule.numbers_held(plan.layers, members, size) or 0)
    if plan.device == "cpu" and 2 * held > memory_left():
        raise LearnerError(f"{len(each)} members would hold {held / 2**30:.1f} GiB, more than half the memory left")


def digits(batch_size: int, device: str) -> Records:
    """Return records of real digits as all rules learn them: x [N, 784] from 0 to 1, y [N]."""
    size = record_size(batch_size)
    stream = Stream.model_validate({"source": {"kind": "mnist"}, "limit": size * RECORDS})
    chunks = list(open_stream(stream, Path()))
    pixels = np.concatenate([chunk.x for chunk in chunks if chunk.x is not None])
    labels = np.array([int(str(label)) for chunk in chunks for label in chunk.y])
    x = torch.from_numpy(pixels.astype(np.float32) / 255).reshape(RECORDS, size, PIXELS)
    y = torch.from_numpy(labels).reshape(RECORDS, size)
    return list(zip(x.to(device), y.to(device), strict=True))
