"""What is to be measured: rules, mini-batch sizes, population sizes, and for how long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from streamil.errors import ExperimentError, LearnerError
from streamil.learners import create
from streamil.learners.arguments import read_layers

RECORD = 64
"""Samples of a record; more where the mini-batch size does not divide it."""
PIXELS, DIGITS = 784, 10
ALGORITHMS = ("il-prox,inference_steps=5", "il-prox", "il-prox,inference_steps=25", "il-sgd", "il-kfac", "bp-kfac",
              "bp-sgd", "bp-adam")
BATCH_SIZES, MEMBERS = (1, 8, 64), (1, 32)
FEW = 4
"""Members of a K-FAC rule where nobody asked for more."""


@dataclass(frozen=True)
class Subject:
    """A learning rule with hyperparameters, as `NAME[,KEY=VALUE...]` says it.

    Examples
    --------
    >>> Subject.parse("il-prox,inference_steps=5").hyperparameters
    {'inference_steps': 5}
    """

    text: str
    algorithm: str
    hyperparameters: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text.

        Raises
        ------
        ExperimentError
            In one line, where there is no such rule, or a hyperparameter is wrong.
        """
        algorithm, *settings = (part.strip() for part in text.split(","))
        pairs = [setting.partition("=") for setting in settings]
        if not all(name and value for name, _, value in pairs):
            raise ExperimentError(f"--algorithm: found {text!r}; allowed: NAME or NAME,KEY=VALUE")
        hyperparameters = {name.strip(): _value(value.strip()) for name, _, value in pairs}
        try:
            create(algorithm, [2, 2], [hyperparameters])
        except LearnerError as error:
            problem = " ".join(str(error).split()).removeprefix("algorithm: ").removeprefix("members[0].")
            raise ExperimentError(f"--algorithm: {text}: {problem}") from None
        return cls(text, algorithm, hyperparameters)


def _value(text: str) -> Any:
    """Return what stands in an experiment file as this: a number, true or false, or a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes
    ----------
    subjects
        The rules.
    batch_sizes, members
        Samples of a mini-batch, and members of a population: each rule is measured at each. None: `MEMBERS`, and at
        most `FEW` of a K-FAC rule.
    hidden
        Sizes of the hidden layers.
    device
        `cpu` or `cuda`.
    threads
        Of everybody.
    seconds
        What all turns may take together, about.
    turns
        The most turns at one mini-batch size.
    turn_seconds
        How long one call is repeated, at least, in a turn.
    compiled
        Whether torch.compile is measured, too.
    """

    subjects: Sequence[Subject]
    batch_sizes: Sequence[int] = BATCH_SIZES
    members: Sequence[int] | None = None
    hidden: Sequence[int] = (256, 256)
    device: str = "cpu"
    threads: int = 1
    seconds: float = 90.0
    turns: int = 9
    turn_seconds: float = 0.02
    compiled: bool = True

    @property
    def layers(self) -> list[int]:
        """Sizes of all layers."""
        return [PIXELS, *self.hidden, DIGITS]

    def __post_init__(self) -> None:
        try:
            read_layers(self.layers, growing=False)
        except LearnerError as error:
            raise ExperimentError(f"--hidden: {error}") from None

    @property
    def minutes(self) -> float:
        """What it takes in all, about: turns, the calls before them, and what has to be compiled."""
        return (self.seconds * 1.3 + 60 * self.compiled) / 60

    def sizes_of(self, subject: Subject) -> list[int]:
        """Return the population sizes to measure of a rule.

        Examples
        --------
        >>> Plan([]).sizes_of(Subject.parse("il-kfac"))
        [1, 4]
        """
        few = self.members is None and subject.algorithm.endswith("kfac")
        sizes = MEMBERS if self.members is None else self.members
        return list(dict.fromkeys(min(size, FEW) if few else size for size in sizes))


def record_size(batch_size: int) -> int:
    """Return the samples of a record, whole mini-batches.

    Examples
    --------
    >>> record_size(8), record_size(48), record_size(100)
    (64, 96, 100)
    """
    return -(-RECORD // batch_size) * batch_size
