"""What was taken from a topic, on its way to the learner: messages that wait, and the pieces that come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.attachment.position import Position
from streamil.errors import CodecError
from streamil.kafka import Message
from streamil.origin import WHOLE, Origin
from streamil.race import Race
from streamil.samples import Records, Rejected

NOTHING = Records(y=())


@dataclass
class Taken:
    """One message that waits: its new samples, its rejected ones, the place of the first, and what it was before."""

    message: Message
    at: Position
    behind: Position = field(default_factory=Position)
    records: Records = NOTHING
    start: int = 0
    size: int = 1
    repeats: int = 0
    origin: Origin | None = None
    only: int | None = None
    bad: bool = False

    def rejecting(self, index: int, error: CodecError) -> Taken:
        """Return it as a record that is rejected."""
        self.records = Records(y=(), rejected=(Rejected(index, error.reason, error.detail),))
        return self

    def require_one(self) -> None:
        """Raise CodecError unless a record that was put back for one sample holds that one, alone or by its row."""
        if self.origin is None:
            return
        place = self.origin.place
        if self.only is not None and not self.only == place < self.size:
            raise CodecError("foreign", f"header streamil-row is {self.only}: sample {place} was put back, and the "
                                        f"record has {self.size}")
        if self.only is None and place != WHOLE and self.size != 1:
            raise CodecError("wrong-shape", f"one sample was put back, and the record has {self.size}")

    def holding(self, records: Records, behind: int) -> Taken:
        """Return it with its samples but the first few; of a record that was put back for one sample, that one."""
        if self.only is not None:
            behind, until = np.searchsorted(records.places, [self.only, self.only + 1]).tolist()
            bad = tuple(one for one in records.rejected if one.index == self.only)
            self.records = replace(records[behind:until], rejected=bad)
        else:
            self.records = replace(records[behind:], rejected=records.rejected) if behind else records
        return self


@dataclass
class Arrived:
    """Samples that can be learned, in order.

    Attributes
    ----------
    records
        The samples as sent, with where each stands in the log; or late labels.
    ordinals
        Their places in the stream [N].
    learned
        Whether they have been learned.
    """

    records: Records
    ordinals: NDArray[np.int64]
    after: Position
    taken: list[Taken]
    settle: Callable[[Arrived, tuple[Rejected, ...]], None]
    learned: bool = False

    def __len__(self) -> int:
        return len(self.records)

    def feed(self, race: Race) -> None:
        """Have the race take them in."""
        self.settle(self, race.feed(self.records, self.ordinals))


def together(queue: list[Taken]) -> Iterator[list[Taken]]:
    """Yield runs of messages whose samples can be fed in one call; rejects end a run, to be counted in order."""
    run: list[Taken] = []
    form: Any = None
    for taken in queue:
        own = _form(taken.records) if len(taken.records) else None
        if run and (own is None or own != form or taken.origin is not None or run[-1].records.rejected
                    or run[-1].origin is not None):
            yield run
            run = []
        run.append(taken)
        form = own
    if run:
        yield run


def _form(records: Records) -> tuple[Any, ...]:
    """Return what must be equal for records to be joined without changing a value."""
    def kind(values: Any) -> Any:
        return (values.dtype, values.shape[1:]) if isinstance(values, np.ndarray) else type(values)

    columns = tuple(sorted((name, str(kind(values))) for name, values in records.columns.items()))
    return kind(records.x), columns, records.segment is None, records.t is None, records.ids is None
