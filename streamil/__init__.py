"""streamil: online learning from Kafka topics; does inference learning learn faster than backpropagation?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamil.direct import run
    from streamil.experiment import load_experiment
    from streamil.one_learner import Learner, attach

__all__ = ["Learner", "attach", "load_experiment", "run"]


def __getattr__(name: str) -> Any:
    """Import on first use: `streamil --help` and the producer must not wait for torch."""
    if name == "load_experiment":
        from streamil.experiment import load_experiment

        return load_experiment
    if name == "run":
        from streamil.direct import run

        return run
    if name in ("Learner", "attach"):
        from streamil import one_learner

        return getattr(one_learner, name)
    raise AttributeError(f"module 'streamil' has no attribute {name!r}")
