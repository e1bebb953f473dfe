"""Diagnostics of the theory: what one update does, looked at now and then.

Inference learning approximates implicit SGD: its update should point where the proximal step points, move the output
towards the label, lower the loss on its own mini-batch, and disturb little else (Alonso et al. 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamil.evaluation import Points
from streamil.experiment.race import Diagnostics as Settings
from streamil.held import Held, Rows
from streamil.learners.implicit_sgd import ImplicitSGD, ImplicitSGDHyperparameters
from streamil.learners.outcome import Outcome
from streamil.learners.population import Population, Weights
from streamil.samples import Batch
from streamil.state_entries import array, entries, whole

MEASURES = ("loss_before", "loss_after", "output_way", "output_alignment", "update_norm", "interference")
"""What is measured of every update, beside `implicit_cosine_1` and so on, one for each layer."""
REPLAY = 64
"""Samples of earlier updates on which interference is measured."""
POINTS = 200
EVALUATIONS = 60
"""Of the proximal objective: more leave its step within a cosine of .997 (`benchmarks/evaluation.py`)."""


class _Reference(ImplicitSGD):
    """Implicit SGD, solved as far as its direction needs."""

    evaluations = EVALUATIONS


class Diagnostics:
    r"""Looks at every k-th update of one arm.

    With q the output probabilities before the update, q' after it and y the label, over the mini-batch:

    - `loss_before`, `loss_after` mean cross-entropy of the mini-batch;
    - `output_way` $\sum (q' - q) \cdot (y - q) / \sum \|y - q\|^2$, the fraction of the way to the target: 1 is there;
      `output_alignment` the cosine of the two, 1 is straight there (the output-stability quantities);
    - `update_norm` Euclidean norm of the change of all weights and biases;
    - `implicit_cosine_l` cosine of the change of $W_l$ and that of an implicit SGD step at `alpha` from the same
      weights, of the first seed of each candidate;
    - `interference` rise of the mean cross-entropy on samples of earlier looks (64 at most, a reservoir): below 0 it
      helped them.

    An update by a mini-batch with a class not met before is passed over. What is not known is nan: river and torch
    arms have no weights to look at, and there is no interference at the first look.

    Parameters
    ----------
    settings
        How often, and the reference's step size.
    members, layers
        Members A and layers L of the arm.
    firsts
        Members whose updates are compared with implicit SGD.
    activation
        Nonlinearity of the network.

    Attributes
    ----------
    looks
        Updates looked at.
    """

    def __init__(self, settings: Settings, members: int, layers: int, firsts: Sequence[int],
                 activation: str = "relu") -> None:
        self.every, self._alpha, self._firsts = settings.every, settings.alpha, list(firsts)
        self._activation = activation
        self.measures = (*MEASURES, *(f"implicit_cosine_{layer + 1}" for layer in range(layers)))
        shape = (len(self.measures), members)
        self.looks = 0
        self._last, self._sum, self._count = np.full(shape, np.nan), np.zeros(shape), np.zeros(shape, np.int64)
        self._points = Points(POINTS)  # counted in looks
        self._samples: dict[int, int] = {}  # samples after each of them
        self._replay = Held(REPLAY, segments=1)

    @property
    def last(self) -> dict[str, NDArray[np.float64]]:
        """Each measure at the last look [A]; nan: not known."""
        return dict(zip(self.measures, self._last, strict=True))

    @property
    def mean(self) -> dict[str, NDArray[np.float64]]:
        """Mean of each measure over the looks at which it was known [A]; nan: at none."""
        means = np.divide(self._sum, self._count, out=np.full(self._sum.shape, np.nan), where=self._count > 0)
        return dict(zip(self.measures, means, strict=True))

    def points(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return samples [P] after the updates of some looks, and the measures there [P, measures, A]."""
        samples = np.array([self._samples[look] for look in self._points.samples], np.int64)
        return samples, np.reshape(self._points.rows, (len(samples), *self._last.shape))

    def learn(self, population: Population, batch: Batch, samples: int) -> Outcome:
        """Let the population learn whole mini-batches, the first after `samples` samples, and look at some of them."""
        size, outcomes, begin = population.batch_size, [], 0
        count = len(batch) // size
        due = [place for place in range(count) if (samples // size + place + 1) % self.every == 0]
        for place in [*due, count]:
            if begin < place:
                outcomes.append(population.learn(*_of(batch, begin * size, place * size)))
            if place < count:
                end = (place + 1) * size
                outcomes.append(self._look(population, batch[place * size:end], samples + end))
            begin = place + 1
        return _joined(outcomes)

    def _look(self, population: Population, batch: Batch, samples: int) -> Outcome:
        live = population.live.cpu().numpy()
        classes = np.flatnonzero(live)
        if len(classes) < 2 or int(batch.y.max()) >= len(live) or not live[batch.y].all():
            return population.learn(batch.x, batch.y)
        known = np.cumsum(live) - 1  # row of each live class among the live ones
        replay = self._replay.rows
        before = _said(population, batch, replay, classes)
        weights = population.weights if _is_ours(population) else None
        outcome = population.learn(batch.x, batch.y)
        after = _said(population, batch, replay, classes)
        row = np.full(self._last.shape, np.nan)
        row[:len(MEASURES)] = _measure(before, after, known[batch.y], known[replay.y])
        if weights is not None:
            change = [(new - old, new_bias - old_bias) for (new, new_bias), (old, old_bias) in zip(
                population.weights, weights, strict=True)]
            row[MEASURES.index("update_norm")] = _norm(change)
            row[len(MEASURES):, self._firsts] = self._implicit_cosines(population, weights, change, batch, classes)
        self.looks += 1
        self._last = row
        self._sum += np.nan_to_num(row)
        self._count += ~np.isnan(row)
        if self._points.due(self.looks):
            self._samples[self.looks] = samples
            self._points.add(self.looks, row)
            self._samples = {look: self._samples[look] for look in self._points.samples}
        zero = np.zeros(len(batch), np.int64)
        self._replay.offer(Batch(batch.x, batch.y, batch.ordinals, zero))
        return outcome

    def _implicit_cosines(self, population: Population, weights: Weights, change: Weights, batch: Batch,
                          classes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return [L, firsts]: how much each layer's change points where implicit SGD's does."""
        rows = torch.from_numpy(classes)
        chosen = [(weight[self._firsts].cpu(), bias[self._firsts].cpu()) for weight, bias in weights]
        chosen[-1] = (chosen[-1][0][:, rows], chosen[-1][1][:, rows])
        layers = [*population.layers[:-1], len(classes)]
        members = [ImplicitSGDHyperparameters(alpha=self._alpha)] * len(self._firsts)
        reference = _Reference(
            layers, members, [0] * len(members), batch_size=len(batch), seed=0, device=torch.device("cpu"),
            dtype=torch.float32, activation=self._activation, growing=False)
        reference.weights = chosen
        reference.learn(batch.x, np.searchsorted(classes, batch.y))
        cosines = []
        for layer, ((weight, _), (start, _)) in enumerate(zip(reference.weights, chosen, strict=True)):
            ours = change[layer][0][self._firsts].cpu()
            ours = ours[:, rows] if layer == len(chosen) - 1 else ours
            cosines.append(torch.cosine_similarity(ours.flatten(1).double(), (weight - start).flatten(1).double()))
        return torch.stack(cosines).numpy()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that was learned from samples, as copies."""
        samples, rows = self.points()
        return {"looks": self.looks, "last": self._last.copy(), "sum": self._sum.copy(), "count": self._count.copy(),
                "stride": self._points.stride, "at": np.array(self._points.samples, np.int64), "samples": samples,
                "points": rows, "replay": self._replay.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], inputs: int | None) -> None:
        """Take over a state of an arm of the same shape; ValueError where an entry does not fit."""
        entries(state, ("looks", "last", "sum", "count", "stride", "at", "samples", "points", "replay"))
        shape = self._last.shape
        at = array(state, "at", np.int64, (-1,))
        points = array(state, "points", np.float64, (len(at), *shape))
        last, total = (array(state, name, np.float64, shape) for name in ("last", "sum"))
        count = array(state, "count", np.int64, shape)
        samples = array(state, "samples", np.int64, at.shape)
        self._replay.load_state_dict(state["replay"], inputs)
        self._samples = dict(zip(at.tolist(), samples.tolist(), strict=True))
        self._points.take(max(1, whole(state, "stride")), at, points)
        self.looks, self._last, self._sum, self._count = whole(state, "looks"), last, total, count


def _of(batch: Batch, first: int, last: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return batch.x[first:last], batch.y[first:last]


def _joined(outcomes: list[Outcome]) -> Outcome:
    """Put outcomes one behind the other; the output may have grown on the way."""
    if len(outcomes) == 1:
        return outcomes[0]
    classes = max(one.logits.shape[-1] for one in outcomes)
    logits = [torch.nn.functional.pad(one.logits, (0, classes - one.logits.shape[-1]), value=-torch.inf)
              for one in outcomes]
    return Outcome(torch.cat(logits, 1), torch.cat([one.loss for one in outcomes], 1))


def _is_ours(population: Population) -> bool:
    return population.family not in ("river", "torch")


def _said(population: Population, batch: Batch, replay: Rows, classes: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Return log-probabilities of the classes that were live [A, N, K]: of the mini-batch, of what is replayed."""
    found = []
    for x in (batch.x, replay.x if len(replay) else batch.x[:0]):
        logits = population.predict(x).cpu().double()[..., classes]
        found.append(torch.log_softmax(logits, -1))
    return found[0], found[1]


def _measure(before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], y: NDArray[np.int64],
             replayed: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the measures [MEASURES, A] of what was said before and after; the norm is left out."""
    labels, (q, new) = torch.from_numpy(y), (before[0].exp(), after[0].exp())
    target = torch.nn.functional.one_hot(labels, q.shape[-1]).double() - q
    moved = new - q
    along = (moved * target).sum((1, 2))
    squares = target.square().sum((1, 2))
    lengths = (moved.square().sum((1, 2)) * squares).sqrt()
    nothing = torch.full_like(along, torch.nan)
    rise = _loss(after[1], torch.from_numpy(replayed)) - _loss(before[1], torch.from_numpy(replayed))
    return torch.stack([
        _loss(before[0], labels), _loss(after[0], labels), torch.where(squares > 0, along / squares, nothing),
        torch.where(lengths > 0, along / lengths, nothing), nothing, rise]).numpy()


def _loss(said: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy [A] of log-probabilities [A, N, K]; nan of none."""
    return -said.gather(-1, labels.expand(len(said), -1)[..., None]).squeeze(-1).mean(1)


def _norm(change: Weights) -> NDArray[np.float64]:
    squares = [part.double().square().flatten(1).sum(1) for pair in change for part in pair]
    return torch.stack(squares).sum(0).sqrt().cpu().numpy()
