"""What stands in a record beside its value, and where a stream stands on a topic."""

from __future__ import annotations

from typing import NamedTuple

from streamil.errors import StreamMismatch
from streamil.experiment import Experiment
from streamil.kafka import last_message
from streamil.samples import Records


class Position(NamedTuple):
    """How much of a stream stands before a place in it: samples and late labels, each counted from the first."""

    samples: int = 0
    labels: int = 0

    def after(self, records: Records) -> Position:
        """Return the position behind these samples or late labels."""
        return Position(self.samples, self.labels + len(records)) if records.late else Position(
            self.samples + len(records), self.labels)


def headers(experiment: Experiment, records: Records, at: Position, stream_hash: str | None = None) -> dict[str, bytes]:
    """Return the headers of a record that stands at a position of its stream.

    `streamil-seq` is the ordinal of its first sample (of the next one, if it holds late labels) and `streamil-count`
    the number of its samples, both decimal; `streamil-label-seq` and `streamil-label-count` say the same of late
    labels, in streams that have any; `streamil-stream` names the stream; `streamil-dtype` keeps the numpy type of
    dense inputs, which JSON has no word for. `stream_hash` is the experiment's, for those who have it already: it costs
    as much as sending a record.

    Examples
    --------
    >>> import numpy as np
    >>> experiment = Experiment.model_validate({"stream": {"source": {"kind": "elec"}}, "arms": {
    ...     "bp": {"algorithm": "bp-sgd"}}})
    >>> found = headers(experiment, Records(y=["up", "down"], x=np.zeros((2, 1))), Position(8))
    >>> found["streamil-seq"], found["streamil-count"], found["streamil-stream"].decode() == experiment.stream_hash
    (b'8', b'2', True)
    """
    late = len(records) if records.late else 0
    found = {"streamil-seq": str(at.samples), "streamil-count": str(len(records) - late),
             "streamil-stream": stream_hash or experiment.stream_hash}
    if late or at.labels:
        found |= {"streamil-label-seq": str(at.labels), "streamil-label-count": str(late)}
    if experiment.stream.codec == "json" and records.x is not None:
        found["streamil-dtype"] = records.x.dtype.name
    return {name: text.encode() for name, text in found.items()}


def next_position(experiment: Experiment) -> Position:
    """Return the place in the stream of what is not on its topic yet: read back, never remembered.

    Records that stand on the topic again (`streamil dead-letters replay`) say nothing of it.

    Raises
    ------
    StreamMismatch
        When the topic's last record is not of this stream.
    """
    last = last_message(experiment.kafka, experiment.topic, lambda one: "streamil-origin" not in one.headers)
    if last is None:
        return Position()
    where = f"topic {experiment.topic!r} on {experiment.kafka.bootstrap_servers}"
    way_out = "take another stream.topic, or delete this one"
    try:
        ordinal, count = (int(last.headers[name]) for name in ("streamil-seq", "streamil-count"))
        label, labels = (int(last.headers.get(name, b"0")) for name in ("streamil-label-seq", "streamil-label-count"))
        stream = last.headers["streamil-stream"].decode()
    except (KeyError, ValueError):
        raise StreamMismatch(f"{where} holds records that `streamil produce` did not write (offset {last.offset}): "
                             f"{way_out}") from None
    if stream != experiment.stream_hash:
        raise StreamMismatch(f"{where} holds another stream ({stream}; this file's is {experiment.stream_hash}): its "
                             f"source, seed or regimes differ: {way_out}")
    return Position(ordinal + count, label + labels)
