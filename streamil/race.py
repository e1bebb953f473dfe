"""A race: arms that learn the same samples side by side, test-then-train, and what is counted on the way.

`Race.feed` is the only way samples enter: `streamil run`, the consumer and the benchmarks all use it. The race is
pure and deterministic: it knows no clock, no network and no file, and what it holds depends on the samples and their
order alone, never on how they were cut into calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import pairwise
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
from streamil.late_labels import LateLabels, Said, Waiting
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

    def say(self, batch: Batch) -> Said:
        """Predict a sample that has no label yet."""
        assert self.population is not None
        with without_denormals():
            return Said(self.population.predict(batch.x).cpu(), self.population.live.cpu())

    def learn(self, batch: Batch, said: Sequence[Mapping[str, Said] | None]) -> NDArray[np.bool_]:
        """Predict and learn whole mini-batches; return who was right [A, N]. What was `said` before counts instead."""
        assert self.population is not None
        with without_denormals():
            outcome = self.population.learn(batch.x, batch.y)
        predicted, loss = outcome.predicted.cpu().numpy(), outcome.loss.double().cpu().numpy()
        for row, before in enumerate(said):
            if before is not None:
                judged = before[self.plan.name].judged(int(batch.y[row]))
                predicted[:, row], loss[:, row] = judged.predicted[:, 0].numpy(), judged.loss[:, 0].double().numpy()
        self.curve.follow(self.figures, predicted, batch.y, loss)
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
        self.late = LateLabels(experiment.stream.pending_bytes)
        self._waiting: Batch | None = None
        self._said: list[Mapping[str, Said] | None] = []
        self._done = dict.fromkeys(self.arms, 0)

    def feed(self, records: Records, ordinals: NDArray[np.int64]) -> tuple[Rejected, ...]:
        """Take samples in: every arm predicts, then learns, each mini-batch that is full.

        A sample with an identifier and without a label is predicted at once and waits; late labels (`Records.late`)
        make samples that wait be scored by what was said of them then, and learned.

        Parameters
        ----------
        records
            Samples as sent.
        ordinals
            Their places in the stream [N], rising; of late labels nothing is asked.

        Returns
        -------
        tuple of Rejected
            Samples that were rejected alone here, with the reason; all others were taken in.
        """
        if records.late:
            return self._label(records)
        with self._lock:
            batch, rejected = self.featurizer.transform(records, ordinals)
            self._reject(rejected)
            self._take_in(batch)
            self._start(batch)
        labelled = batch.y != UNLABELLED
        waits = np.zeros(len(batch), np.bool_)
        if batch.ids is not None:
            waits = ~labelled & np.array([name is not None for name in batch.ids], np.bool_)
        for waiting, run in _runs(batch[labelled | waits], waits[labelled | waits]):
            for first in range(0, len(run), PIECE):
                piece = run[first:first + PIECE]
                with self._lock:
                    if waiting:
                        self._wait(piece)
                    else:
                        self._settle(piece)
                        self._learn(piece, [None] * len(piece))
        return rejected

    def _reject(self, rejected: Iterable[Rejected]) -> None:
        for one in rejected:
            self.rejected[one.reason] += 1

    def _take_in(self, batch: Batch) -> None:
        """Count the samples and chain them into the hash: what was taken in, in which order, under which label."""
        names = self.featurizer.labels.names
        for ordinal, label in zip(batch.ordinals.tolist(), batch.y.tolist(), strict=True):
            self._chain(ordinal, None if label == UNLABELLED else names[label])
        self.samples += len(batch)
        self.unlabelled += int(np.count_nonzero(batch.y == UNLABELLED))
        if len(batch):
            self.segment = int(batch.segment[-1])

    def _chain(self, ordinal: int, label: str | None) -> None:
        text = b"-" if label is None else b"+" + label.encode("utf-8", "surrogatepass")
        self.learned_hash = hashlib.sha256(self.learned_hash + ordinal.to_bytes(8, "big") + text).digest()

    def _start(self, batch: Batch) -> None:
        """Build the arms at the first sample that tells the number of inputs."""
        # Not the labels read so far: how many these are depends on how the samples were cut into calls.
        classes = len(self.experiment.stream.classes or ())
        for arm in self.arms.values():
            if arm.population is None and len(batch):
                arm.start(batch.x.shape[1], classes, self.experiment, self.device)

    def _wait(self, new: Batch) -> None:
        """Predict samples one by one, so that no bit depends on their number, and keep them."""
        assert new.ids is not None
        for row, name in enumerate(new.ids.tolist()):
            one = new[row:row + 1]
            self.late.wait(name, Waiting(one, {arm: each.say(one) for arm, each in self.arms.items()}))

    def _settle(self, new: Batch) -> None:
        """Note the labels of samples that came with theirs, to know a second one."""
        if new.ids is not None:
            names = self.featurizer.labels.names
            for name, label in zip(new.ids.tolist(), new.y.tolist(), strict=True):
                if name is not None:
                    self.late.settle(name, names[label])

    def _label(self, labels: Records) -> tuple[Rejected, ...]:
        """Learn the samples whose label came."""
        rejected: list[Rejected] = []
        for place, name, label in zip(labels.places.tolist(), labels.ids or (), labels.y, strict=True):
            assert name is not None and label is not None, "a late label has both"
            with self._lock:
                index = self.featurizer.label_index(label)
                if index is None:
                    rejected.append(Rejected(place, *self.featurizer.unknown_label(label)))
                    self._reject(rejected[-1:])
                    continue
                text = self.featurizer.labels.names[index]
                sample = self.late.label(name, text)
                if sample is not None:
                    self._chain(int(sample.row.ordinals[0]), text)
                    self._learn(replace(sample.row, y=np.array([index], dtype=np.int64)), [sample.said])
        return tuple(rejected)

    def _learn(self, new: Batch, said: list[Mapping[str, Said] | None]) -> None:
        waiting = new if self._waiting is None else _join(self._waiting, new)
        said = [*self._said, *said]
        for name, arm in self.arms.items():
            done = self._done[name]
            full = (len(waiting) - done) // arm.plan.batch_size * arm.plan.batch_size
            if full:
                batch = waiting[done:done + full]
                with self._timed(name, full // arm.plan.batch_size):
                    correct = arm.learn(batch, said[done:done + full])
                self._done[name] += full
                for (challenger, baseline), comparison in self.comparisons.items():
                    if name == challenger:
                        comparison.add_challenger(correct, batch.segment)
                    if name == baseline:
                        comparison.add_baseline(correct, batch.segment)
        behind = min(self._done.values())
        self._waiting, self._said = (waiting[behind:], said[behind:]) if behind < len(waiting) else (None, [])
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
    """Return both in one, without the identifiers: these have done their work."""
    return Batch(np.concatenate((first.x, second.x)), np.concatenate((first.y, second.y)),
                 np.concatenate((first.ordinals, second.ordinals)), np.concatenate((first.segment, second.segment)))


def _runs(batch: Batch, kind: NDArray[np.bool_]) -> Iterator[tuple[bool, Batch]]:
    """Cut the batch where `kind` [N] changes; yield it with each part."""
    edges = [0, *(np.flatnonzero(np.diff(kind)) + 1).tolist(), len(batch)]
    for first, last in pairwise(edges):
        if first < last:
            yield bool(kind[first]), batch[first:last]
