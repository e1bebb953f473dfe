"""A race: arms that learn the same samples side by side, test-then-train, and what is counted on the way.

`Race.feed` is the only way samples enter: `streamil run`, the consumer and the benchmarks all use it. The race is
pure and deterministic: it knows no clock, no network and no file, and what it holds depends on the samples and their
order alone, never on how they were cut into calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from streamil.arms import ArmPlan, plan_arms, plan_comparisons
from streamil.codec import REASONS
from streamil.errors import ExperimentError
from streamil.evaluation import Comparison, Curve, Prequential, allot
from streamil.experiment import Experiment
from streamil.features import Featurizer
from streamil.learners import create
from streamil.learners.population import Population
from streamil.samples import UNLABELLED, Batch, Records, Rejected

CURVE_POINTS = 500
"""Points of a learning curve; every point that is kept costs one more call of the metrics."""
PIECE = 64
"""Samples learned between two looks at the clock, the signals and the lock: few enough for a quick end."""


class RacingArm:
    """One arm while it runs: its population, its figures, and how far it has come.

    Attributes
    ----------
    plan
        What the file says of it.
    population
        The learners; None before the first sample has told the number of inputs.
    figures, curve
        Prequential accuracy so far, and over time.
    """

    def __init__(self, plan: ArmPlan, experiment: Experiment) -> None:
        self.plan = plan
        self.population: Population | None = None
        self.figures = Prequential(len(plan.members), window=experiment.evaluation.window,
                                   fading=experiment.evaluation.fading)
        self.curve = Curve(len(plan.members), CURVE_POINTS)

    def start(self, inputs: int, classes: int, experiment: Experiment, device: torch.device) -> None:
        """Build the population for samples of `inputs` values and `classes` labels known beforehand."""
        layers = [inputs, *experiment.network.hidden, max(classes, 1)]
        self.population = create(
            self.plan.algorithm, layers, list(self.plan.members), batch_size=self.plan.batch_size,
            device=device, activation=experiment.network.activation, growing=True,
            folder=experiment.folder)

    def learn(self, batch: Batch) -> NDArray[np.bool_]:
        """Predict and learn whole mini-batches; return who was right [A, N]."""
        assert self.population is not None
        with without_denormals():
            outcome = self.population.learn(batch.x, batch.y)
        predicted = outcome.predicted.cpu().numpy()
        self.curve.follow(self.figures, predicted, batch.y, outcome.loss.double().cpu().numpy())
        correct: NDArray[np.bool_] = predicted == batch.y
        return correct


class Race:
    """Arms on one stream.

    Parameters
    ----------
    experiment
        The experiment; its arms are checked here.
    lock
        Held while anything changes, so that another thread can read between two pieces.
    timed
        Entered around each call of a learner, with the arm's name and the number of updates in it.

    Raises
    ------
    ExperimentError
        When an arm's algorithm or hyperparameters are wrong, or the device is not there.
    """

    def __init__(self, experiment: Experiment, *, lock: AbstractContextManager[Any] | None = None,
                 timed: Callable[[str, int], AbstractContextManager[Any]] | None = None) -> None:
        self.experiment = experiment
        self.device = choose_device(experiment)
        torch.set_num_threads(experiment.service.threads)
        plans = plan_arms(experiment)
        self.arms = {plan.name: RacingArm(plan, experiment) for plan in plans}
        pairs = plan_comparisons(experiment, plans)
        share = allot(experiment.verdict.alpha, len(pairs)) if pairs else 0.0
        self.comparisons = {
            (pair.challenger, pair.baseline): Comparison(
                self.arms[pair.challenger].plan.candidates, self.arms[pair.baseline].plan.candidates, share)
            for pair in pairs
        }
        self.featurizer = Featurizer(experiment.stream)
        self.samples = 0
        self.unlabelled = 0
        self.rejected = dict.fromkeys(REASONS, 0)
        self.segment = 0
        self.learned_hash = bytes(32)
        self._lock = lock or nullcontext()
        self._timed = timed or (lambda arm, updates: nullcontext())
        self._waiting: Batch | None = None
        self._done = dict.fromkeys(self.arms, 0)

    def feed(self, records: Records, ordinals: NDArray[np.int64]) -> tuple[Rejected, ...]:
        """Take samples in: every arm predicts, then learns, each mini-batch that is full.

        Parameters
        ----------
        records
            Samples as sent.
        ordinals
            Their places in the stream [N], rising.

        Returns
        -------
        tuple of Rejected
            Samples that were rejected alone here, with the reason; all others were taken in.
        """
        with self._lock:
            batch, rejected = self.featurizer.transform(records, ordinals)
            for one in rejected:
                self.rejected[one.reason] += 1
            self._take_in(batch)
        labelled = batch[batch.y != UNLABELLED]
        for first in range(0, len(labelled), PIECE):
            with self._lock:
                self._learn(labelled[first:first + PIECE])
        return rejected

    def _take_in(self, batch: Batch) -> None:
        """Count the samples and chain them into the hash: what was taken in, in which order, under which label."""
        names = self.featurizer.labels.names
        for ordinal, label in zip(batch.ordinals.tolist(), batch.y.tolist(), strict=True):
            text = b"-" if label == UNLABELLED else b"+" + names[label].encode("utf-8", "surrogatepass")
            self.learned_hash = hashlib.sha256(self.learned_hash + ordinal.to_bytes(8, "big") + text).digest()
        self.samples += len(batch)
        self.unlabelled += int(np.count_nonzero(batch.y == UNLABELLED))

    def _learn(self, new: Batch) -> None:
        waiting = new if self._waiting is None else _join(self._waiting, new)
        self.segment = int(new.segment[-1])
        for name, arm in self.arms.items():
            if arm.population is None:
                # Not the labels read so far: how many these are depends on how the samples were cut into calls.
                classes = len(self.experiment.stream.classes or ())
                arm.start(new.x.shape[1], classes, self.experiment, self.device)
            done = self._done[name]
            full = (len(waiting) - done) // arm.plan.batch_size * arm.plan.batch_size
            if full:
                batch = waiting[done:done + full]
                with self._timed(name, full // arm.plan.batch_size):
                    correct = arm.learn(batch)
                self._done[name] += full
                for (challenger, baseline), comparison in self.comparisons.items():
                    if name == challenger:
                        comparison.add_challenger(correct, batch.segment)
                    if name == baseline:
                        comparison.add_baseline(correct, batch.segment)
        behind = min(self._done.values())
        self._waiting = waiting[behind:] if behind < len(waiting) else None
        self._done = {name: done - behind for name, done in self._done.items()}


@contextmanager
def without_denormals() -> Iterator[None]:
    """Let numbers too small for full precision be zero: fading means of gradients end there, at many times the cost."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)  # a mode of the whole thread, which is not ours alone


def choose_device(experiment: Experiment) -> torch.device:
    """Return the device of `service.device`: `auto` is a GPU where there is one."""
    wanted = experiment.service.device
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ExperimentError(f"service.device: found {wanted}, but there is no CUDA device here; allowed: auto, cpu")
    return torch.device(wanted)


def _join(first: Batch, second: Batch) -> Batch:
    return Batch(np.concatenate((first.x, second.x)), np.concatenate((first.y, second.y)),
                 np.concatenate((first.ordinals, second.ordinals)), np.concatenate((first.segment, second.segment)))
