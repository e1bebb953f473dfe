"""Records of a predictions topic -> rows: what one arm said of samples; `docs/predictions.md` describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from streamil.codec._first_bytes import form_of, require_value
from streamil.codec.arrow_format import arrow_rows
from streamil.errors import CodecError

COLUMNS = ("arm", "ordinal", "label", "predicted", "segment")
"""What is read of a row; the other fields are for other readers."""
LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class PredictedRows:
    """What one arm said of N samples.

    Attributes
    ----------
    arm
        Its name.
    ordinals, segment
        Place of each sample in its stream, and true segment [N].
    labels
        Label of each, None where it was not known then [N].
    predicted
        What each member said of each; None before a class was met [N][A].
    """

    arm: str
    ordinals: NDArray[np.int64]
    segment: NDArray[np.int64]
    labels: Sequence[str | None]
    predicted: Sequence[Sequence[str | None]]

    def __len__(self) -> int:
        return len(self.ordinals)


def decode_predictions(data: bytes | None) -> PredictedRows:
    """Return the rows of one record.

    Raises
    ------
    CodecError
        With a `reason` out of `REASONS`, whatever the bytes are.

    Examples
    --------
    >>> decode_predictions(b'[{"arm": "il", "ordinal": 7, "label": "up", "predicted": ["up", null]}]')
    PredictedRows(arm='il', ordinals=array([7]), segment=array([0]), labels=['up'], predicted=[['up', None]])
    """
    value = require_value(data)
    rows = arrow_rows(value, COLUMNS) if form_of(value) == "arrow" else _of_json(value)
    if not rows:
        raise CodecError("no-samples", "the record holds no row")
    for row in rows:
        _require(row, len(rows[0]["predicted"]) if isinstance(rows[0].get("predicted"), list) else 0)
    arms = {row["arm"] for row in rows}
    if len(arms) > 1:
        raise CodecError("wrong-shape", f"rows of {len(arms)} arms; a record holds those of one")
    return PredictedRows(
        rows[0]["arm"], np.array([row["ordinal"] for row in rows], np.int64),
        np.array([row.get("segment") or 0 for row in rows], np.int64), [row["label"] for row in rows],
        [row["predicted"] for row in rows])


def _require(row: dict[str, Any], members: int) -> None:
    """Raise unless the row is one of ours, of as many members as the others."""
    if not isinstance(row.get("arm"), str) or "label" not in row:
        raise CodecError("wrong-shape", "a row without arm or label")
    for name, least in (("ordinal", 0), ("segment", 0)):
        value = row.get(name, 0 if name == "segment" else None)
        if type(value) is not int or not least <= value <= LARGEST:
            raise CodecError("wrong-shape", f"{name} is {str(value)[:40]}; a whole number from 0 is allowed")
    said = row.get("predicted")
    if not isinstance(said, list) or len(said) != members or not members:
        raise CodecError("wrong-shape", "predicted is no list of what each member said")
    if not all(one is None or isinstance(one, str) for one in (*said, row["label"])):
        raise CodecError("bad-label", "a label or a prediction that is no text")


def _of_json(data: bytes) -> list[dict[str, Any]]:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise CodecError("not-json", str(error)[:80]) from None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise CodecError("wrong-shape", "a list of rows is expected")
    return found
