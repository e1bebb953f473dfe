"""What stands in a record beside its value, and where a stream stands on a topic."""

from __future__ import annotations

from streamil.errors import StreamMismatch
from streamil.experiment import Experiment
from streamil.kafka import last_message
from streamil.samples import Records


def headers(experiment: Experiment, records: Records, ordinal: int, stream_hash: str | None = None) -> dict[str, bytes]:
    """Return the headers of a record whose first sample is the stream's `ordinal`-th.

    `streamil-seq` is that ordinal and `streamil-count` the number of samples, both decimal; `streamil-stream` names
    the stream; `streamil-dtype` keeps the numpy type of dense inputs, which JSON has no word for. `stream_hash` is the
    experiment's, for those who have it already: it costs as much as sending a record.

    Examples
    --------
    >>> experiment = Experiment.model_validate({"stream": {"source": {"kind": "elec"}}, "arms": {
    ...     "bp": {"algorithm": "bp-sgd"}}})
    >>> found = headers(experiment, Records(y=["up", "down"]), 8)
    >>> found["streamil-seq"], found["streamil-count"], found["streamil-stream"].decode() == experiment.stream_hash
    (b'8', b'2', True)
    """
    found = {"streamil-seq": str(ordinal), "streamil-count": str(len(records)),
             "streamil-stream": stream_hash or experiment.stream_hash}
    if experiment.stream.codec == "json" and records.x is not None:
        found["streamil-dtype"] = records.x.dtype.name
    return {name: text.encode() for name, text in found.items()}


def next_ordinal(experiment: Experiment) -> int:
    """Return the first sample of the stream that is not on its topic yet: read back, never remembered.

    Raises
    ------
    StreamMismatch
        When the topic's last record is not of this stream.
    """
    last = last_message(experiment.kafka, experiment.topic)
    if last is None:
        return 0
    where = f"topic {experiment.topic!r} on {experiment.kafka.bootstrap_servers}"
    way_out = "take another stream.topic, or delete this one"
    try:
        ordinal, count = (int(last.headers[name]) for name in ("streamil-seq", "streamil-count"))
        stream = last.headers["streamil-stream"].decode()
    except (KeyError, ValueError):
        raise StreamMismatch(f"{where} holds records that `streamil produce` did not write (offset {last.offset}): "
                             f"{way_out}") from None
    if stream != experiment.stream_hash:
        raise StreamMismatch(f"{where} holds another stream ({stream}; this file's is {experiment.stream_hash}): its "
                             f"source, seed or regimes differ: {way_out}")
    return ordinal + count
