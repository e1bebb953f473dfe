"""What arms predict, as rows on a topic: one for each sample and arm, each with the sample's origin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from streamil.attachment.outbox import Letter, Outbox
from streamil.errors import TopicMismatch
from streamil.experiment.race import PredictionsTopic
from streamil.origin import Origin
from streamil.predictions import Predictions
from streamil.samples import UNLABELLED

RECORD_BYTES = 900_000
"""A record that is larger is cut in two: a topic takes a million bytes unless told otherwise."""

Row = dict[str, Any]


class PredictionRows:
    """Writes what arms say to an outbox: a record holds rows of one arm, whose name is its key and has a partition.

    Parameters
    ----------
    settings
        Format, and how much is written.
    arms
        Names of all arms: the place of one is its partition.
    outbox
        Where records go.

    Attributes
    ----------
    topic_id, partition
        Of the topic that samples come from, set when it is opened.

    Raises
    ------
    TopicMismatch
        When called with a row that no record has room for.
    """

    def __init__(self, settings: PredictionsTopic, arms: Sequence[str], outbox: Outbox) -> None:
        self._settings, self._outbox = settings, outbox
        self._partitions = {arm: place for place, arm in enumerate(arms)}
        self.topic_id, self.partition = "", 0

    def __call__(self, said: Predictions) -> None:
        """Take what an arm said."""
        key = said.arm.encode()
        for value in self._records(self.rows(said), said):
            self._outbox.put(Letter(value, {}, key, partition=self._partitions[said.arm]))

    def rows(self, said: Predictions) -> list[Row]:
        """Return a row for each sample; `docs/predictions.md` describes them."""
        batch, labels = said.batch, said.labels
        chances = said.probabilities
        likeliest = chances.max(-1).values.T.double().numpy().round(6).tolist() if chances.shape[-1] else []
        predicted = list(zip(*said.predicted, strict=True))
        origin = np.full((len(batch), 2), UNLABELLED) if batch.origin is None else batch.origin
        rows: list[Row] = []
        for row, (offset, place) in enumerate(origin.tolist()):
            label = int(batch.y[row])
            rows.append({
                "arm": said.arm, "ordinal": int(batch.ordinals[row]),
                "id": None if batch.ids is None else batch.ids[row],
                "origin": str(Origin(self.topic_id, self.partition, offset, place)),
                "label": None if label == UNLABELLED else labels[label], "segment": int(batch.segment[row]),
                "predicted": predicted[row], "probability": likeliest[row] if likeliest else [0.0] * len(said.logits)})
        if self._settings.probabilities:
            every = chances.transpose(0, 1).double().numpy().round(6).tolist()
            for one, members in zip(rows, every, strict=True):
                one["probabilities"] = [dict(zip(labels, classes, strict=False)) for classes in members]
        return rows

    def _records(self, rows: list[Row], said: Predictions) -> Iterator[bytes]:
        value = orjson.dumps(rows) if self._settings.format == "json" else _arrow(rows, said)
        if len(value) <= RECORD_BYTES:
            yield value
        elif len(rows) > 1:
            for half in (rows[:len(rows) // 2], rows[len(rows) // 2:]):
                yield from self._records(half, said)
        else:
            raise TopicMismatch(
                f"topic {self._outbox.topic!r}: what arm {said.arm!r} says of one sample takes {len(value)} bytes, "
                f"more than {RECORD_BYTES}: set service.predictions.probabilities: false, or race fewer members")


def _arrow(rows: list[Row], said: Predictions) -> bytes:
    """Return rows as an Arrow IPC stream; probabilities of class c are column `probability:c`."""
    members = len(said.logits)
    label, chance = pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.float32(), members)
    fields: list[tuple[str, pa.DataType]] = [
        ("arm", label), ("ordinal", pa.int64()), ("id", pa.string()), ("origin", pa.string()), ("label", label),
        ("segment", pa.int64())]
    columns = [pa.array([row[name] for row in rows], kind) for name, kind in fields]
    for name, kind in (("predicted", pa.list_(pa.string(), members)), ("probability", chance)):
        fields.append((name, kind))
        columns.append(pa.array([row[name] for row in rows], kind))
    for name in rows[0].get("probabilities", [{}])[0]:
        fields.append((f"probability:{name}", chance))
        columns.append(pa.array([[one[name] for one in row["probabilities"]] for row in rows], chance))
    schema = pa.schema(fields, metadata={"streamil": json.dumps({"predictions": 1})})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    return bytes(sink.getvalue())
