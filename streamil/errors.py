"""Every error of the project.

```
StreamilError
├── ExperimentError        a wrong experiment file or option: which key, what was found, what is allowed (exit 2)
├── SourceError            a data file that is missing, damaged or not what it says
├── CodecError             bytes that are no record of ours: `reason` is one of a few documented words
├── LearnerError           a wrong argument to a learner: names the argument and what it got (also a ValueError)
├── EvaluationError        a wrong argument to a metric or a test (also a ValueError)
├── StateError             a saved race that is damaged, of another experiment, or of another plan
├── BrokerError            what Kafka would not do
│   ├── BrokerUnavailable  nobody answers at the address
│   ├── BrokerRefused      somebody answers, but no connection comes about: login, certificate, permission
│   ├── TopicMissing       the topic does not exist
│   ├── TopicMismatch      the topic exists, but does not fit: partitions, compaction, record size, name
│   ├── StreamMismatch     records of another stream, or a gap in their ordinals
│   ├── TooManyRejects     one bad record after another, more than the limit
│   └── PositionLost       the position to read from is no longer in the log
├── SnapshotError          a snapshot that cannot be saved or loaded: its state, its folder, the disk
│   ├── SnapshotDamaged    bytes that are no whole snapshot
│   └── SnapshotNewer      a whole snapshot in a version of the format that this streamil does not know
├── LocalKafkaError        the local Kafka could not be installed, started or stopped
├── TelemetryError         the address for metrics is taken or not ours
└── ReportError            a folder that holds no results of a run, or damaged ones, or that cannot be written to
```

Each prints as one line that says what is wrong, where, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from streamil.printable import printable


class StreamilError(Exception):
    """Base of all errors that streamil raises on purpose; `exit_code` is what the command line ends with."""

    exit_code: ClassVar[int] = 1


class ExperimentError(StreamilError):
    """A wrong experiment file or option.

    Parameters
    ----------
    problems
        One line each: key, what was found, what is allowed, the nearest known key.
    where
        The file or option they stand in.
    """

    exit_code = 2

    def __init__(self, problems: str | Sequence[str], where: str = "") -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        self.where = where
        super().__init__("\n".join(f"{where}: {problem}" if where else problem for problem in self.problems))


class SourceError(StreamilError):
    """A data file that is missing, damaged or not what it says."""


class CodecError(StreamilError):
    """Bytes that are no record of ours.

    Parameters
    ----------
    reason
        A short word out of `streamil.codec.REASONS`, the label under which the record is counted.
    detail
        What was found, for people; whatever of a sender's stands in it moves no terminal.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = printable(detail)
        super().__init__(f"{reason}: {self.detail}")


class LearnerError(StreamilError, ValueError):
    """A wrong argument to a learner, found before any state changed."""


class EvaluationError(StreamilError, ValueError):
    """A wrong argument to a metric or test, found before any state changed."""


class StateError(StreamilError):
    """A saved race that is damaged, of another experiment, or of another plan, found before any state changed."""


class BrokerError(StreamilError):
    """What Kafka would not do."""


class BrokerUnavailable(BrokerError):
    """Nobody answers at the address."""


class BrokerRefused(BrokerError):
    """Somebody answers, but no connection comes about: login, certificate, protocol, permission."""


class TopicMissing(BrokerError):
    """The topic does not exist."""


class TopicMismatch(BrokerError):
    """The topic exists, but does not fit."""


class StreamMismatch(BrokerError):
    """Records of another stream, or a gap in their ordinals."""


class TooManyRejects(BrokerError):
    """One bad record after another, more than the limit."""


class PositionLost(BrokerError):
    """The position to read from is no longer in the log."""


class SnapshotError(StreamilError):
    """A snapshot that cannot be saved or loaded."""


class SnapshotDamaged(SnapshotError):
    """Bytes that are no whole snapshot."""


class SnapshotNewer(SnapshotError):
    """A whole snapshot in a version of the format that this streamil does not know."""


class LocalKafkaError(StreamilError):
    """The local Kafka could not be installed, started or stopped."""


class TelemetryError(StreamilError):
    """The address for metrics is taken or not ours."""


class ReportError(StreamilError):
    """A folder that holds no results of a run, or damaged ones, or that cannot be written to."""
