"""What the person who starts a consumer decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Options:
    """What the person who starts it decides, and no file.

    Attributes
    ----------
    partition
        Partition to learn; None: the topic has to have just one.
    replan
        Go on from a snapshot of another plan (versions, device, threads): numbers no longer repeat bit for bit.
    on_trimmed
        What to do where records were deleted before they were read.
    compacted
        Accept a topic that loses records.
    accept_rejects
        Pass over the bad records that come next, however many, until a good one comes.
    """

    partition: int | None = None
    replan: bool = False
    on_trimmed: Literal["fail", "earliest"] = "fail"
    compacted: bool = False
    accept_rejects: bool = False


DEFAULT = Options()
