"""Samples that wait for their label, with what every arm said of them when they arrived."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from streamil.learners.outcome import Outcome, cross_entropy
from streamil.samples import UNLABELLED, Batch
from streamil.state_entries import array, count_by, entries, text, texts

SETTLED_LIMIT = 100_000
"""Identifiers whose label is known that are remembered, to tell a second label from an unknown one."""
EARLY_LIMIT = 100_000
"""Labels that came before their sample that are kept."""
OVERHEAD = 1024
"""Bytes of one waiting sample beside its inputs and predictions."""
WHAT_BECAME = {
    "joined": "its sample was waiting: scored by what was predicted at arrival, and learned",
    "unknown": "no sample of that identifier waits, or came lately",
    "early": "its sample has not come yet: kept until it does (labels that have a topic of their own)",
    "second": "the sample has this label already",
    "contradicting": "the sample has another label already; the first one stands",
    "dropped": "a sample that waited longest, when there was no more room",
    "repeated": "a sample that came while another one of its identifier waited: it cannot be joined",
}
"""What becomes of late labels, and of samples that wait for one: the words under which they are counted."""


@dataclass(frozen=True, slots=True)
class Said:
    """What an arm's members said of one sample: logits [A, 1, C] and the classes live then [C]."""

    logits: torch.Tensor
    live: torch.Tensor

    def judged(self, label: int) -> Outcome:
        """Return the outcome under the label that came later; a class not met then is wrong, with ln(K + 1)."""
        return Outcome(self.logits, cross_entropy(self.logits, torch.tensor([label]), self.live))


@dataclass(frozen=True, slots=True)
class Waiting:
    """One sample without its label: a batch of one row, and what each arm said of it."""

    row: Batch
    said: Mapping[str, Said]

    @property
    def size(self) -> int:
        """Bytes that it occupies."""
        return OVERHEAD + self.row.x.nbytes + sum(one.logits.nbytes + one.live.nbytes for one in self.said.values())


class LateLabels:
    """Waiting samples by identifier, at most so many bytes of them, and the identifiers settled lately.

    Parameters
    ----------
    room
        Bytes of waiting samples; past that the one that waited longest is dropped.
    keep_early
        Keep labels that come before their sample: the order of two topics means nothing.

    Attributes
    ----------
    counts
        How often each of `WHAT_BECAME` happened.
    bytes
        Size of the waiting samples.

    Examples
    --------
    >>> late = LateLabels(room=1 << 20)
    >>> late.settle("a", "up")
    >>> late.label("a", "down"), late.label("b", "up")
    (None, None)
    >>> late.counts["contradicting"], late.counts["unknown"]
    (1, 1)
    """

    def __init__(self, room: int, *, keep_early: bool = False) -> None:
        self.room, self._keep_early = room, keep_early
        self.bytes = 0
        self.counts = dict.fromkeys(WHAT_BECAME, 0)
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()
        self._settled: OrderedDict[str, str] = OrderedDict()
        self._early: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, name: str, sample: Waiting) -> str | None:
        """Keep a sample until its label comes; return the label where it has come already."""
        if name in self._waiting:
            self.counts["repeated"] += 1
            return None
        early = self._early.pop(name, None)
        if early is not None:
            self.counts["joined"] += 1
            self.settle(name, early)
            return early
        self._settled.pop(name, None)
        self._waiting[name] = sample
        self.bytes += sample.size
        self._make_room()
        return None

    def _make_room(self) -> None:
        while self.bytes > self.room:
            _, oldest = self._waiting.popitem(last=False)
            self.bytes -= oldest.size
            self.counts["dropped"] += 1

    def settle(self, name: str, label: str) -> None:
        """Note the label of a sample that came with it."""
        self._early.pop(name, None)
        self._settled[name] = label
        self._settled.move_to_end(name)
        if len(self._settled) > SETTLED_LIMIT:
            self._settled.popitem(last=False)

    def label(self, name: str, label: str) -> Waiting | None:
        """Return the sample whose label came, or None where there is none to learn; count which of both."""
        sample = self._waiting.pop(name, None)
        if sample is None:
            known = self._settled.get(name, self._early.get(name))
            if known is None and self._keep_early:
                self._come_early(name, label)
            else:
                self.counts["unknown" if known is None else "second" if known == label else "contradicting"] += 1
            return None
        self.bytes -= sample.size
        self.counts["joined"] += 1
        self.settle(name, label)
        return sample

    def _come_early(self, name: str, label: str) -> None:
        self.counts["early"] += 1
        self._early[name] = label
        if len(self._early) > EARLY_LIMIT:
            self._early.popitem(last=False)
            self.counts["unknown"] += 1

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all of it; the order of identifiers is that of their coming."""
        waiting = list(self._waiting.values())
        rows: dict[str, Any] | None = None
        if waiting:
            rows = {name: np.concatenate([getattr(one.row, name) for one in waiting])
                    for name in ("x", "ordinals", "segment")}
            origins = [one.row.origin for one in waiting if one.row.origin is not None]
            rows["origin"] = np.concatenate(origins) if origins else None
        return {"names": list(self._waiting), "rows": rows, "said": pack([one.said for one in waiting]),
                "settled": _listed(self._settled), "early": _listed(self._early),
                "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any], inputs: int | None, arms: Mapping[str, int]) -> None:
        """Take over samples of `inputs` values, and what `arms` said of them; past the room the oldest are dropped.

        Raises
        ------
        ValueError, KeyError
            For a state that does not fit; the object is then of no further use.
        """
        entries(state, ("names", "rows", "said", "settled", "early", "counts"))
        names, rows = texts(state, "names"), state["rows"]
        if (rows is None) != (not names):
            raise ValueError("names: each identifier with its sample is allowed")
        self.counts = count_by(state["counts"], WHAT_BECAME)
        self._settled, self._early = _read_listed(state["settled"]), _read_listed(state["early"])
        said = unpack(state["said"], len(names), arms)
        if rows is not None:
            entries(rows, ("x", "ordinals", "segment", "origin"))
            x = array(rows, "x", np.float32, (len(names), inputs or 0))
            ordinals, segment = (array(rows, name, np.int64, (len(names),)) for name in ("ordinals", "segment"))
            origin = None if rows["origin"] is None else array(rows, "origin", np.int64, (len(names), 2))
            batch = Batch(x, np.full(len(names), UNLABELLED, np.int64), ordinals, segment, np.array(names, object),
                          origin)
            for row, name in enumerate(names):
                one = batch[np.array([row])]  # a copy: a view would hold all rows for as long as one waits
                self._waiting[name] = Waiting(one, said[row])
        self.bytes = sum(one.size for one in self._waiting.values())
        self._make_room()


def _listed(labels: Mapping[str, str]) -> dict[str, list[str]]:
    """Return labels by identifier as state that keeps their order."""
    return {"names": list(labels), "labels": list(labels.values())}


def _read_listed(state: Mapping[str, Any]) -> OrderedDict[str, str]:
    entries(state, ("names", "labels"))
    labels = OrderedDict(zip(texts(state, "names"), state["labels"], strict=True))
    for name in labels:
        text(labels, name)
    return labels


def marks(batch: Batch) -> dict[str, Any]:
    """Return what tells the samples of a batch from others, as state: identifiers, and places in a log."""
    return {"ids": None if batch.ids is None else batch.ids.tolist(),
            "origin": None if batch.origin is None else batch.origin.copy()}


def read_marks(state: Mapping[str, Any], count: int) -> tuple[NDArray[np.object_] | None, NDArray[np.int64] | None]:
    """Return `ids` and `origin` of a batch of `count` samples; raise ValueError where they do not fit."""
    ids, origin = state["ids"], state["origin"]
    if ids is not None:
        if not isinstance(ids, list) or len(ids) != count or not all(isinstance(one, str | None) for one in ids):
            raise ValueError("ids: a text or null for each sample is allowed")
        ids = np.array([*ids, None], object)[:-1]  # the extra one keeps numpy from making a text of it all
    return ids, None if origin is None else array(state, "origin", np.int64, (count, 2))


def pack(said: Sequence[Mapping[str, Said]]) -> dict[str, dict[str, Any]]:
    """Return what was said of N samples as few arrays, by arm: which rows it spoke of, how many classes there were.

    Examples
    --------
    >>> said = [{}, {"il": Said(torch.zeros(2, 1, 1), torch.ones(1, dtype=torch.bool))},
    ...         {"il": Said(torch.ones(2, 1, 3), torch.ones(3, dtype=torch.bool))}]
    >>> packed = pack(said)
    >>> packed["il"]["rows"].tolist(), packed["il"]["classes"].tolist(), tuple(packed["il"]["logits"].shape)
    ([1, 2], [1, 3], (2, 1, 4))
    >>> torch.equal(unpack(packed, 3, {"il": 2})[2]["il"].logits, said[2]["il"].logits)
    True
    """
    packed: dict[str, dict[str, Any]] = {}
    for arm in dict.fromkeys(name for one in said for name in one):
        rows = [row for row, one in enumerate(said) if arm in one]
        own = [said[row][arm] for row in rows]
        packed[arm] = {
            "rows": np.array(rows, np.int64), "classes": np.array([len(one.live) for one in own], np.int64),
            "logits": torch.cat([one.logits for one in own], 2), "live": torch.cat([one.live for one in own])}
    return packed


def unpack(packed: Mapping[str, Mapping[str, Any]], count: int, arms: Mapping[str, int]) -> list[Mapping[str, Said]]:
    """Return what `pack` was given, of `count` samples: what `arms` said, name -> members.

    An arm that was not there when a sample came says nothing of it: it predicts it when its label comes.

    Raises
    ------
    ValueError, KeyError
        For arrays that do not fit together.
    """
    said: list[dict[str, Said]] = [{} for _ in range(count)]
    for arm, own in packed.items():
        if arm not in arms:
            continue
        entries(own, ("rows", "classes", "logits", "live"))
        rows, classes = array(own, "rows", np.int64, (-1,)), array(own, "classes", np.int64, (-1,))
        logits, live, total = own["logits"], own["live"], int(classes.sum())
        inside = len(rows) == len(classes) and bool(((rows >= 0) & (rows < count)).all()) and bool((classes >= 0).all())
        tensors = isinstance(logits, torch.Tensor) and isinstance(live, torch.Tensor)
        typed = tensors and logits.is_floating_point() and live.dtype == torch.bool
        if not inside or not typed or logits.shape != (arms[arm], 1, total) or live.shape != (total,):
            raise ValueError(f"what {arm} said: logits [A, 1, C] and live classes [C] of each row are allowed")
        parts = zip(torch.split(logits, classes.tolist(), 2), torch.split(live, classes.tolist()), strict=True)
        for row, (one, known) in zip(rows.tolist(), parts, strict=True):
            said[row][arm] = Said(one.clone(), known.clone())
    return list(said)
