"""A race: arms that learn the same samples side by side, test-then-train, and what is counted on the way.

`Race.feed` is the only way samples enter: `streamil run`, the consumer and the benchmarks all use it. The race is
pure and deterministic: it knows no clock, no network and no file, and what it holds depends on the samples and their
order alone, never on how they were cut into calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from streamil import race_state
from streamil.abreast import in_turn
from streamil.arms import plan_all_arms, planned_here
from streamil.backlog import Backlog
from streamil.codec import REASONS
from streamil.compared import Comparisons
from streamil.errors import StreamilError
from streamil.experiment import Experiment
from streamil.features import Featurizer
from streamil.held import Held
from streamil.kernels import prepare
from streamil.late_labels import LateLabels, Said, Waiting
from streamil.log import nobody
from streamil.predictions import Predictions, Told
from streamil.race_state import Changes
from streamil.racing_arm import RacingArm, choose_device
from streamil.samples import UNLABELLED, Batch, Records, Rejected
from streamil.state_entries import count_by, entries, part, texts, whole

PIECE = 64
"""Samples learned between two looks at the clock, the signals and the lock: few enough for a quick end."""
WORTH_A_THREAD = 32
"""Samples of an arm that are worth a thread of their own."""
LOOK_EVERY = 200
"""Fewest labelled samples between two looks at what is forgotten: more segments than that would cost too much."""
REPLANS_KEPT = 100
"""Changes of plan that are remembered."""


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
    told
        Takes what each arm said of samples, as soon as it did; samples that are never learned are then predicted, too.
        May be set before the first sample.
    allow_pickle
        Whether river arms may write and read their state, whose only form is pickle.

    Attributes
    ----------
    entrants
        Names of all arms of the experiment, also those that learn elsewhere; `arms` holds those that learn here.

    Raises
    ------
    ExperimentError
        When an arm's algorithm or hyperparameters are wrong, or the device is not there.
    """

    def __init__(self, experiment: Experiment, *, lock: AbstractContextManager[Any] | None = None,
                 timed: Callable[[str, int], AbstractContextManager[Any]] | None = None, told: Told | None = None,
                 allow_pickle: bool = False) -> None:
        self.experiment = experiment
        self.device = choose_device(experiment.service.device)
        torch.set_num_threads(experiment.service.threads)
        everyone = plan_all_arms(experiment)
        self.entrants = [plan.name for plan in everyone]
        plans = planned_here(experiment, everyone)
        self.arms = {
            plan.name: RacingArm(plan, experiment, self.device, allow_pickle=allow_pickle) for plan in plans}
        self.comparisons = Comparisons(experiment, {plan.name: plan for plan in plans}, everyone)
        self.featurizer = Featurizer(experiment.stream)
        self.samples = 0
        self.unlabelled = 0
        self.rejected = dict.fromkeys(REASONS, 0)
        self.segment = 0
        self.learned_hash = bytes(32)
        self.replanned: list[str] = []
        self._lock = lock or nullcontext()
        self.told = told
        self._timed = timed or (lambda arm, updates: nullcontext())
        self.late = LateLabels(experiment.stream.pending_bytes, keep_early=experiment.stream.labels is not None)
        self._allow_pickle = allow_pickle
        self._backlog = Backlog()
        self.held = Held(experiment.evaluation.held)
        self._labelled_segment, self._looked = 0, 0

    def prepare(self, tell: Callable[[str], object] = nobody) -> None:
        """Have ready what learning needs on this machine: where it is compiled first, `tell` is told."""
        if self.device.type == "cpu" and self.experiment.service.kernels == "auto":
            prepare({arm.plan.algorithm for arm in self.arms.values()}, tell)

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
        waits = ~labelled if self.told is not None else np.zeros(len(batch), np.bool_)
        if batch.ids is not None and self.told is None:
            waits = ~labelled & np.array([name is not None for name in batch.ids], np.bool_)
        for waiting, run in _runs(batch[labelled | waits], waits[labelled | waits]):
            for first in range(0, len(run), PIECE):
                piece = run[first:first + PIECE]
                with self._lock:
                    if waiting:
                        self._wait(piece)
                    else:
                        self._settle(piece)
                        self._learn(piece, [{}] * len(piece))
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
        for arm in self.arms.values():
            if arm.population is None and len(batch):
                arm.start(batch.x.shape[1])

    def _wait(self, new: Batch) -> None:
        """Predict samples one by one, so that no bit depends on their number, and keep those that can be labelled."""
        for row, name in enumerate([None] * len(new) if new.ids is None else new.ids.tolist()):
            one = new[row:row + 1]
            said = {arm: each.say(one) for arm, each in self.arms.items()}
            for arm, what in said.items():
                self._tell(arm, one, what.logits)
            label = None if name is None else self.late.wait(name, Waiting(one, said))
            if label is not None:
                self._join(one, said, label)

    def _tell(self, arm: str, batch: Batch, logits: torch.Tensor) -> None:
        if self.told is not None and len(batch):
            self.told(Predictions(arm, batch, logits, self.featurizer.labels.names))

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
                    self._join(sample.row, sample.said, text)
        return tuple(rejected)

    def _join(self, row: Batch, said: Mapping[str, Said], label: str) -> None:
        """Learn a sample with a label that came apart from it."""
        self._chain(int(row.ordinals[0]), label)
        index = self.featurizer.labels.index(label)
        self._learn(replace(row, y=np.array([index], dtype=np.int64)), [said])

    def _learn(self, new: Batch, said: Sequence[Mapping[str, Said]]) -> None:
        before = np.concatenate(([self._labelled_segment], new.segment[:-1]))
        for first, last in pairwise(sorted({0, *np.flatnonzero(new.segment != before).tolist(), len(new)})):
            segment = int(new.segment[first])
            if segment != self._labelled_segment and self._backlog.end - self._looked >= LOOK_EVERY:
                self._look_back()
            self._labelled_segment = segment
            self.held.offer(new[first:last])
            self._learn_run(new[first:last], said[first:last])

    def _look_back(self) -> None:
        """At a change of segment: see what every arm still knows of the segments before."""
        self._looked, rows = self._backlog.end, self.held.rows
        for arm in self.arms.values() if len(rows) else ():
            arm.forgetting.look(*arm.recall(rows))

    def _learn_run(self, new: Batch, said: Sequence[Mapping[str, Said]]) -> None:
        self._backlog.append(new, said)
        due = {name: full for name, arm in self.arms.items()
               if (full := self._backlog.full(arm.position, arm.plan.batch_size)) is not None}
        places = {name: self.arms[name].position for name in due}

        def learn(name: str) -> tuple[NDArray[np.bool_], torch.Tensor]:
            with self._timed(name, len(due[name][0]) // self.arms[name].plan.batch_size):
                return self.arms[name].learn(*due[name])

        abreast = [name for name in due if len(due[name][0]) >= WORTH_A_THREAD and self.arms[name].by_kernel]
        for name, (correct, logits) in in_turn(learn, due, abreast, self.experiment.service.threads):
            batch, before = due[name]
            if self.told is not None:
                new_to_it = np.array([name not in one for one in before], np.bool_)
                self._tell(name, batch[new_to_it], logits.cpu()[:, torch.from_numpy(new_to_it)])
            self.comparisons.tell(name, correct, batch.segment, places[name])
        self._backlog.forget(min(arm.position for arm in self.arms.values()))

    def configuration(self) -> dict[str, Any]:
        """Return what may not change between saving and loading, as plain data; see `race_state.configuration`."""
        return race_state.configuration(self.experiment, [arm.plan for arm in self.arms.values()])

    def plan(self) -> dict[str, Any]:
        """Return what has to be equal for numbers to repeat bit for bit: versions, device, threads, populations."""
        return race_state.plan_of(self.experiment, [arm.plan for arm in self.arms.values()], self.device)

    def unsavable(self) -> list[str]:
        """Return why arms cannot be saved, a line each; before the first sample of arms that need no inputs to tell."""
        found = []
        for name, arm in self.arms.items():
            try:
                arm.try_saving(self.featurizer.inputs)
            except StreamilError as error:
                found.append(f"arms.{name}: {error}")
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return everything that has state, as nested plain data that shares nothing with the race.

        To be called between two calls of `feed`, by the thread that makes them.

        Raises
        ------
        LearnerError
            For an arm that cannot be saved; `unsavable` tells beforehand.

        Examples
        --------
        >>> experiment = Experiment.model_validate({
        ...     "stream": {"source": {"kind": "mnist"}}, "arms": {"bp": {"algorithm": "bp-sgd"}}})
        >>> race, later = Race(experiment), Race(experiment)
        >>> _ = race.feed(Records(y=["a", "b"], x=np.eye(2)), np.arange(2))
        >>> later.load_state_dict(race.state_dict())
        Changes(added=(), removed=(), plan=())
        >>> later.samples, later.learned_hash == race.learned_hash
        (2, True)
        """
        return {
            "version": race_state.VERSION,
            "configuration": self.configuration(),
            "plan": self.plan(),
            "counts": {"samples": self.samples, "unlabelled": self.unlabelled, "segment": self.segment,
                       "rejected": dict(self.rejected), "learned_hash": self.learned_hash,
                       "labelled_segment": self._labelled_segment, "looked": self._looked,
                       "replanned": list(self.replanned)},
            "featurizer": self.featurizer.state_dict(),
            "late": self.late.state_dict(),
            "backlog": self._backlog.state_dict(),
            "held": self.held.state_dict(),
            "arms": {name: arm.state_dict() for name, arm in self.arms.items()},
            "comparisons": self.comparisons.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, replan: bool = False) -> Changes:
        """Go on from what `state_dict` returned, of a race of the same experiment; see `docs/architecture.md`.

        An arm or comparison that the state lacks starts fresh, at the next labelled sample (`RacingArm.since`); one
        that the experiment no longer has is dropped.

        Parameters
        ----------
        state
            The state; it is only read.
        replan
            Whether to go on under another plan, where numbers no longer repeat bit for bit.

        Raises
        ------
        StateError
            For a state that is damaged, of another experiment or another plan: names the part, before any change.
        """
        found = race_state.changes(state, self.configuration(), self.plan(), list(self.comparisons), replan=replan)
        fresh = Race(self.experiment, lock=self._lock, timed=self._timed, told=self.told,
                     allow_pickle=self._allow_pickle)
        fresh._restore(state)
        new = [f"sample {fresh.samples}: {what}" for what in found.plan]
        fresh.replanned = list(dict.fromkeys(fresh.replanned + new))[:REPLANS_KEPT]
        with self._lock:
            vars(self).update(vars(fresh))
        return found

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state into a race that has taken in nothing."""
        with part("counts"):
            counts = state["counts"]
            entries(counts, ("samples", "unlabelled", "segment", "rejected", "learned_hash", "labelled_segment",
                             "looked", "replanned"))
            self._labelled_segment, self._looked = int(counts["labelled_segment"]), whole(counts, "looked")
            self.samples, self.unlabelled = whole(counts, "samples"), whole(counts, "unlabelled")
            self.segment, self.learned_hash = int(counts["segment"]), counts["learned_hash"]
            if not isinstance(self.learned_hash, bytes) or len(self.learned_hash) != len(bytes(32)):
                raise ValueError("learned_hash: 32 bytes are allowed")
            self.rejected = count_by(counts["rejected"], REASONS)
            self.replanned = texts(counts, "replanned")
        with part("featurizer"):
            self.featurizer.load_state_dict(state["featurizer"])
        inputs, members = self.featurizer.inputs, {name: len(arm.plan.members) for name, arm in self.arms.items()}
        with part("late labels"):
            self.late.load_state_dict(state["late"], inputs, members)
        with part("backlog"):
            self._backlog.load_state_dict(state["backlog"], inputs, len(self.featurizer.labels), members)
        with part("held samples"):
            self.held.load_state_dict(state["held"], inputs)
            if self.held.rows.y.max(initial=-1) >= len(self.featurizer.labels):
                raise ValueError("of classes that were not met")
        for name, arm in self.arms.items():
            with part(f"arms.{name}"):
                if name in state["arms"]:
                    arm.load_state_dict(state["arms"][name], inputs)
                    if not 0 <= self._backlog.end - arm.position < arm.plan.batch_size:
                        raise ValueError("figures are of other samples than the race's")
                else:
                    arm.join(self._backlog.end, inputs)
        self._backlog.forget(min(arm.position for arm in self.arms.values()))
        self.comparisons.load_state_dict(state["comparisons"], self._backlog.end)


def _runs(batch: Batch, kind: NDArray[np.bool_]) -> Iterator[tuple[bool, Batch]]:
    """Cut the batch where `kind` [N] changes; yield it with each part."""
    edges = [0, *(np.flatnonzero(np.diff(kind)) + 1).tolist(), len(batch)]
    for first, last in pairwise(edges):
        if first < last:
            yield bool(kind[first]), batch[first:last]
