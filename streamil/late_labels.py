"""Samples that wait for their label, with what every arm said of them when they arrived."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from streamil.learners.outcome import Outcome, cross_entropy
from streamil.samples import Batch

SETTLED_LIMIT = 100_000
"""Identifiers whose label is known that are remembered, to tell a second label from an unknown one."""
OVERHEAD = 1024
"""Bytes of one waiting sample beside its inputs and predictions."""
WHAT_BECAME = {
    "joined": "its sample was waiting: scored by what was predicted at arrival, and learned",
    "unknown": "no sample of that identifier waits, or came lately",
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

    def __init__(self, room: int) -> None:
        self.room = room
        self.bytes = 0
        self.counts = dict.fromkeys(WHAT_BECAME, 0)
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()
        self._settled: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, name: str, sample: Waiting) -> None:
        """Keep a sample until its label comes."""
        if name in self._waiting:
            self.counts["repeated"] += 1
            return
        self._settled.pop(name, None)
        self._waiting[name] = sample
        self.bytes += sample.size
        while self.bytes > self.room:
            _, oldest = self._waiting.popitem(last=False)
            self.bytes -= oldest.size
            self.counts["dropped"] += 1

    def settle(self, name: str, label: str) -> None:
        """Note the label of a sample that came with it."""
        self._settled[name] = label
        self._settled.move_to_end(name)
        if len(self._settled) > SETTLED_LIMIT:
            self._settled.popitem(last=False)

    def label(self, name: str, label: str) -> Waiting | None:
        """Return the sample whose label came, or None where there is none to learn; count which of both."""
        sample = self._waiting.pop(name, None)
        if sample is None:
            known = self._settled.get(name)
            self.counts["unknown" if known is None else "second" if known == label else "contradicting"] += 1
            return None
        self.bytes -= sample.size
        self.counts["joined"] += 1
        self.settle(name, label)
        return sample
