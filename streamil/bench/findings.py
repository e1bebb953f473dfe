"""What was measured, and the result of it: plain data, ratios first."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from streamil.bench.machine import machine
from streamil.bench.opponents import OPTIMIZERS
from streamil.bench.plan import Plan
from streamil.bench.turns import Contestant

QUICK = "left out: compiling takes too long for --quick"


@dataclass
class Absent:
    """What was asked for, and is not measured."""

    rule: str
    way: str
    members: int
    batch_size: int
    reason: str


@dataclass
class Findings:
    """What was measured so far; an interrupted measuring leaves what it has.

    Attributes
    ----------
    contestants, absent
        Who learned, and who could not.
    first_calls
        Of kernels: rule, seconds with nothing compiled before, seconds from disk.
    races
        Through Kafka: name, samples, seconds of each turn.
    complete
        Whether all that was asked for is here.
    """

    contestants: list[Contestant] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    first_calls: list[dict[str, Any]] = field(default_factory=list)
    races: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = False

    def result(self, plan: Plan) -> dict[str, Any]:
        """Return everything as plain data that JSON can hold; times are seconds."""
        measured = [one for one in self.contestants if one.seconds]
        return {
            "learners": [_row(one, measured) for one in measured],
            "end_to_end": self.races,
            "not_measured": [asdict(one) for one in self.absent],
            "first_calls": self.first_calls,
            "complete": self.complete,
            "setting": {"hidden": list(plan.hidden), "device": plan.device, "threads": plan.threads},
            "machine": machine(plan.device)}


def _row(one: Contestant, measured: Sequence[Contestant]) -> dict[str, Any]:
    own = one.median / one.members
    to = {f"ratio_to_{rule.lower().replace('-', '_')}": _ratio(own, f"torch {rule}", one.batch_size, measured)
          for rule in OPTIMIZERS}
    return {
        "rule": one.rule, "way": one.way, "members": one.members, "batch_size": one.batch_size, **to,
        "update": _spread(one.seconds, 1), "member_sample": _spread(one.seconds, one.members * one.batch_size),
        "turns": len(one.seconds), "first_call": None if math.isnan(one.first_call) else one.first_call,
        "diverged": one.diverged}


def _ratio(own: float, rule: str, batch_size: int, measured: Sequence[Contestant]) -> float | None:
    """Return the quotient of an update's medians, of one member; None where torch's was not measured."""
    return next((own / other.median for other in measured
                 if (other.rule, other.way, other.batch_size) == (rule, "eager", batch_size)), None)


def _spread(seconds: Sequence[float], parts: int) -> dict[str, float]:
    return {"median": statistics.median(seconds) / parts, "lowest": min(seconds) / parts,
            "highest": max(seconds) / parts}
