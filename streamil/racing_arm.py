"""One arm while it runs: its learners, its figures, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from streamil.arms import ArmPlan
from streamil.diagnostics import Diagnostics
from streamil.errors import ExperimentError
from streamil.evaluation import Confusion, Curve, Drift, Forgetting, Prequential, Speed
from streamil.experiment import Experiment
from streamil.held import Rows
from streamil.late_labels import Said
from streamil.learners import create
from streamil.learners.outcome import Outcome
from streamil.learners.population import Population
from streamil.samples import Batch
from streamil.state_entries import entries, whole

CURVE_POINTS = 500
"""Points of a learning curve; every point that is kept costs one more call of the metrics."""
FIGURES = ("figures", "curve", "speed", "drift", "confusion", "forgetting")
"""What an arm's predictions leave, by attribute."""


class RacingArm:
    """One arm while it runs.

    Parameters
    ----------
    plan
        What the file says of it.
    experiment
        The experiment that it is part of.
    device
        Where it learns.
    allow_pickle
        Whether a river arm may write and read its state.

    Attributes
    ----------
    population
        The learners; None before the first sample has told the number of inputs.
    figures, curve, speed, drift, confusion, forgetting
        Prequential accuracy so far, over time, how fast it came, what changes of the stream did to it, which classes
        are taken for which, and what is forgotten of earlier segments.
    diagnostics
        What its updates do; None where nobody asked.
    since
        Labelled samples of the stream before its first one: 0, unless the arm was added to a race that had begun.
    """

    def __init__(self, plan: ArmPlan, experiment: Experiment, device: torch.device, *, allow_pickle: bool) -> None:
        self.plan = plan
        self.population: Population | None = None
        self.figures = Prequential(len(plan.members), window=experiment.evaluation.window,
                                   fading=experiment.evaluation.fading)
        self.curve = Curve(len(plan.members), CURVE_POINTS)
        self.speed = Speed(len(plan.members), experiment.evaluation.thresholds)
        self.drift = Drift(len(plan.members))
        self.confusion = Confusion(len(plan.members))
        self.forgetting = Forgetting(len(plan.members))
        asked = experiment.evaluation.diagnostics
        self.diagnostics = None if asked is None else Diagnostics(
            asked, len(plan.members), len(experiment.network.hidden) + 1, [group[0] for group in plan.candidates],
            experiment.network.activation)
        self.since = 0
        self._experiment, self._device, self._allow_pickle = experiment, device, allow_pickle

    @property
    def position(self) -> int:
        """Place of its next sample among the labelled ones."""
        return self.since + self.figures.samples

    @property
    def by_kernel(self) -> bool:
        """Whether it may learn while others do: kernels of the CPU let other threads run, and share nothing."""
        return self._device.type == "cpu" and self.population is not None and self.population.by_kernel

    def start(self, inputs: int) -> None:
        """Build the population for samples of `inputs` values."""
        self.population = self.build(inputs)

    def build(self, inputs: int) -> Population:
        """Return a population that has learned nothing."""
        # Not the labels read so far: how many these are depends on how the samples were cut into calls.
        layers = [inputs, *self._experiment.network.hidden, max(len(self._experiment.stream.classes or ()), 1)]
        return create(
            self.plan.algorithm, layers, list(self.plan.members), batch_size=self.plan.batch_size,
            device=self._device, activation=self._experiment.network.activation, growing=True,
            kernels=self._experiment.service.kernels, allow_pickle=self._allow_pickle, folder=self._experiment.folder)

    def join(self, since: int, inputs: int | None) -> None:
        """Take part from the labelled sample `since` on, in a race that has begun."""
        self.since = since
        if inputs is not None:
            self.start(inputs)

    def say(self, batch: Batch) -> Said:
        """Predict a sample that has no label yet."""
        assert self.population is not None
        with without_denormals():
            return Said(self.population.predict(batch.x).cpu(), self.population.live.cpu())

    def learn(self, batch: Batch, said: Sequence[Mapping[str, Said]]) -> tuple[NDArray[np.bool_], torch.Tensor]:
        """Predict and learn whole mini-batches; return who was right [A, N], and the logits [A, N, C] from before.

        What was `said` of a sample before counts as its prediction instead.
        """
        assert self.population is not None
        with without_denormals():
            if self.diagnostics is None:
                outcome = self.population.learn(batch.x, batch.y)
            else:
                outcome = self.diagnostics.learn(self.population, batch, self.figures.samples)
        predicted, loss = outcome.predicted.cpu().numpy(), outcome.loss.double().cpu().numpy()
        for row, before in enumerate(said):
            if self.plan.name in before:
                judged = before[self.plan.name].judged(int(batch.y[row]))
                predicted[:, row], loss[:, row] = judged.predicted[:, 0].numpy(), judged.loss[:, 0].double().numpy()
        return self.score(predicted, batch.y, loss, batch.segment), outcome.logits

    def score(self, predicted: NDArray[np.int64], y: NDArray[np.int64], loss: NDArray[np.float64],
              segment: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Take in what was said of N labelled samples before they were learned; return who was right [A, N].

        Parameters
        ----------
        predicted, loss
            Class index, -1 for no prediction, and loss [A, N].
        y, segment
            Label and true segment [N].
        """
        correct: NDArray[np.bool_] = predicted == y
        self.speed.follow(self.figures, correct)
        self.drift.follow(self.figures, correct, segment)
        self.confusion.update(predicted, y)
        self.curve.follow(self.figures, predicted, y, loss)
        return correct

    def recall(self, held: Rows) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the segments of held samples [S], and the present accuracy on those of each [S, A]."""
        assert self.population is not None
        with without_denormals():
            logits = self.population.predict(held.x).cpu()
        right = Outcome(logits, logits.new_zeros(())).predicted.numpy() == held.y
        segments = np.array(list(dict.fromkeys(held.segment.tolist())), np.int64)
        return segments, np.stack([right[:, held.segment == one].mean(axis=1) for one in segments])

    def try_saving(self, inputs: int | None) -> None:
        """Let somebody else's code learn a little, aside, and save that; raise LearnerError where it cannot be saved.

        A torch arm is not tried before the number of inputs is known.
        """
        if self.plan.family not in ("river", "torch") or (self.plan.family == "torch" and inputs is None):
            return
        population, count = self.build(inputs or 1), 2 * self.plan.batch_size
        labels = 1 if self.plan.family == "torch" and population.layers[-1] == 1 else 2
        population.learn(np.zeros((count, inputs or 1), np.float32), np.arange(count) % labels)
        population.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Return copies of everything that has state, tensors on the CPU."""
        learned = None if self.population is None else {
            name: tensor.cpu() for name, tensor in self.population.state_dict().items()}
        return {"since": self.since, "population": learned,
                "diagnostics": self.diagnostics and self.diagnostics.state_dict(),
                **{name: getattr(self, name).state_dict() for name in FIGURES}}

    def load_state_dict(self, state: Mapping[str, Any], inputs: int | None) -> None:
        """Take over the state of the same arm, of samples of `inputs` values; None: it has not started.

        Raises
        ------
        LearnerError, EvaluationError, ValueError, KeyError
            For a state that does not fit; the arm is then of no further use.
        """
        entries(state, ("since", "population", "diagnostics", *FIGURES))
        if (state["population"] is None) != (inputs is None):
            raise ValueError("population and number of inputs are known together, or neither is")
        self.since = whole(state, "since")
        if inputs is not None:
            self.start(inputs)
            assert self.population is not None
            self.population.load_state_dict(state["population"])
        for name in FIGURES:
            getattr(self, name).load_state_dict(state[name])
        if (state["diagnostics"] is None) != (self.diagnostics is None):
            raise ValueError("diagnostics are there and asked for together, or neither")
        if self.diagnostics is not None:
            self.diagnostics.load_state_dict(state["diagnostics"], inputs)
        if not self.figures.samples == self.speed.samples == self.drift.samples:
            raise ValueError("figures, speed and drift are of other numbers of samples")


@contextmanager
def without_denormals() -> Iterator[None]:
    """Let numbers too small for full precision be zero: fading means of gradients end there, at many times the cost."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)  # a mode of the whole thread, which is not ours alone


def choose_device(wanted: str, named: str = "service.device") -> torch.device:
    """Return the device that is wanted, `auto` being a GPU where there is one; `named` stands in the error."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ExperimentError(f"{named}: found {wanted}, but there is no CUDA device here; allowed: auto, cpu")
    return torch.device(wanted)
