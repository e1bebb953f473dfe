"""`drift`: what was true is true no longer; labels, features or the view change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamil.errors import SourceError
from streamil.experiment.regimes import Drift
from streamil.samples import Records
from streamil.streams.chunks import join, take
from streamil.streams.regimes.numbers import Numbers
from streamil.streams.regimes.rotation import Rotations
from streamil.streams.regimes.segments import Segments

Thing = TypeVar("Thing")


class World(Protocol):
    """What drifts: applies concepts to samples; concept 0 is the source as it is."""

    def apply(self, records: Records, concepts: NDArray[np.int64]) -> Records:
        """Return the samples, each under its concept [N]; a number never asked for again may be forgotten."""


def drift(samples: Iterator[Records], settings: Drift, rng: np.random.Generator) -> Iterator[Records]:
    """Yield the samples under concepts that change every `every` samples, stamped with the concept's number.

    The k-th change is at sample k `every` of what arrives here. With a `width` samples around it, from `width` / 2
    before to `width` / 2 after, are under the new concept with a probability that rises from 0 to 1; the stamp changes
    at the middle. `recurring` alternates between concepts 0 and 1.

    Raises
    ------
    SourceError
        For a source that cannot drift so.
    """
    mixture, concepts_rng = rng.spawn(2)
    worlds: dict[str, type[_Labels | _Features | _Images]] = {"labels": _Labels, "features": _Features,
                                                              "rotation": _Images}
    world: World = worlds[settings.what](settings.kind, concepts_rng)
    segments = Segments()
    first = 0
    for chunk in samples:
        ordinals = np.arange(first, first + len(chunk))
        concept, planned = concepts_of(ordinals, settings, mixture.random(len(chunk)))
        yield segments.stamp(world.apply(chunk, concept), planned)
        first += len(chunk)


def concepts_of(ordinals: NDArray[np.int64], settings: Drift, draws: NDArray[np.float64],
                ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the concept of each sample [N], and the one that it would have without a mixture [N].

    Examples
    --------
    >>> settings = Drift(kind="drift", what="labels", how="gradual", every=4, width=2)
    >>> concepts_of(np.arange(8), settings, np.full(8, 0.3))
    (array([0, 0, 0, 0, 1, 1, 1, 1]), array([0, 0, 0, 0, 1, 1, 1, 1]))
    >>> concepts_of(np.arange(8), settings, np.full(8, 0.2))[0]
    array([0, 0, 0, 1, 1, 1, 1, 2])
    """
    every, width = settings.every, settings.mixture
    concept = planned = ordinals // every
    if width:
        nearest = (ordinals + every // 2) // every
        progress = (ordinals - nearest * every + 0.5) / width + 0.5
        concept = np.maximum(nearest - (draws >= progress), 0)
    return (concept % 2, planned % 2) if settings.how == "recurring" else (concept, planned)


class Concepts(Generic[Thing]):
    """Concepts in order, each made from the one before when first asked for; the last two are kept, and the first.

    Examples
    --------
    >>> concepts = Concepts(1, lambda before: before * 2)
    >>> concepts[3], concepts[2], concepts[0]
    (8, 4, 1)
    """

    def __init__(self, first: Thing, make: Callable[[Thing], Thing]) -> None:
        self._first, self._make = first, make
        self._kept = {0: first}

    def __getitem__(self, number: int) -> Thing:
        if number == 0:
            return self._first
        while (last := max(self._kept)) < number:
            self._kept = {last: self._kept[last], last + 1: self._make(self._kept[last])}
        return self._kept[number]


def cycled(known: Sequence[Any], before: dict[Any, Any], rng: np.random.Generator) -> dict[Any, Any]:
    """Return a mapping in which each of two or more known things has what another one had before.

    Examples
    --------
    >>> cycled(["a", "b"], {}, np.random.default_rng(0))
    {'a': 'b', 'b': 'a'}
    """
    order = [known[place] for place in rng.permutation(len(known))]
    taken = dict(zip(order, [*order[1:], *order[:1]], strict=True))
    return before | {one: before.get(other, other) for one, other in taken.items()}


def by_concept(records: Records, concepts: NDArray[np.int64], change: Callable[[Records, int], Records]) -> Records:
    """Return the samples, each changed by its concept; concepts are gone through from low to high."""
    found = np.unique(concepts).tolist()
    if len(found) == 1:
        return change(records, found[0])
    rows = [np.flatnonzero(concepts == concept) for concept in found]
    parts = [change(take(records, own), concept) for own, concept in zip(rows, found, strict=True)]
    return take(join(parts), np.argsort(np.concatenate(rows)))


class _Labels:
    """Classes exchange their labels: at each change every class that was met takes another one's."""

    def __init__(self, kind: str, rng: np.random.Generator) -> None:
        self._known: dict[str, None] = {}  # in order of first appearance
        self._concepts: Concepts[dict[str, str]] = Concepts({}, lambda before: cycled(list(self._known), before, rng))

    def apply(self, records: Records, concepts: NDArray[np.int64]) -> Records:
        labels: list[str | None] = []
        for label, concept in zip(records.y, concepts.tolist(), strict=True):
            if label is not None:
                self._known.setdefault(label)
            labels.append(None if label is None else self._concepts[concept].get(label, label))
        return replace(records, y=labels)


class _Features:
    """Inputs are exchanged: dense ones by place, named ones among those that are numbers."""

    def __init__(self, kind: str, rng: np.random.Generator) -> None:
        self._numbers = Numbers(kind)
        self._width = 0
        self._concepts: Concepts[dict[Any, Any]] = Concepts({}, lambda before: cycled(self._inputs, before, rng))

    @property
    def _inputs(self) -> Sequence[Any]:
        inputs: Sequence[Any] = range(self._width) if self._width else self._numbers.names
        if len(inputs) < 2:
            raise SourceError(f"{self._numbers.kind}: what: features exchanges inputs that are numbers, and there are "
                              "no two of them: take what: labels, or leave the regime out")
        return inputs

    def apply(self, records: Records, concepts: NDArray[np.int64]) -> Records:
        if records.x is None:
            return by_concept(self._numbers.read(records), concepts, self._named)
        self._width = records.x.shape[1]
        return by_concept(records, concepts, self._dense)

    def _named(self, records: Records, concept: int) -> Records:
        from_ = self._concepts[concept]
        return replace(records, columns={name: records.columns[from_.get(name, name)] for name in records.columns})

    def _dense(self, records: Records, concept: int) -> Records:
        from_ = self._concepts[concept]
        assert records.x is not None
        return replace(records, x=records.x[:, [from_.get(place, place) for place in range(self._width)]])


class _Images:
    """Images are turned: by another angle in each concept."""

    def __init__(self, kind: str, rng: np.random.Generator) -> None:
        self._rotations = Rotations(kind)
        self._concepts: Concepts[float] = Concepts(0.0, lambda before: (before + rng.uniform(30, 330)) % 360)

    def apply(self, records: Records, concepts: NDArray[np.int64]) -> Records:
        return by_concept(records, concepts, lambda part, concept: replace(
            part, x=self._rotations.turned(part, self._concepts[concept])))
