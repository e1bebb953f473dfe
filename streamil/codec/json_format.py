"""JSON records: one sample, or a list of samples."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from streamil.codec._gather import Bad, Gather, require_cells, require_sample_count, shown
from streamil.errors import CodecError
from streamil.samples import Records
from streamil.values import Column

DEPTH_LIMIT = 64
"""Nesting that is called too deep; a record of ours has four levels, the parser gives up at about a thousand."""
EXACT = 2**53
"""From here on an integer may have been rounded by the parser."""

_OTHERS = {
    b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"{\0": "UTF-16", b"[\0": "UTF-16", b"\0{\0": "UTF-16",
    b"\0[\0": "UTF-16", b"\x28\xb5\x2f\xfd": "zstd-compressed", b"\x04\x22\x4d\x18": "lz4-compressed",
    b"\x82SNAPPY": "snappy-compressed", b"\x78\x9c": "zlib-compressed", b"BZh": "bzip2", b"Obj\1": "an Avro file",
    b"PAR1": "a Parquet file", b"PK\3\4": "a zip file", b"<": "XML or HTML"}
"""How values begin that are no JSON, and what they are then."""
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


def decode_json(data: bytes) -> Records:
    """Return the samples of a JSON record; see `streamil.codec.decode`."""
    document = parse_json(data, _may_be_rounded)
    if document is None:
        raise CodecError("null", "the record is JSON's null")
    samples = document if isinstance(document, list) else [document]
    require_sample_count(len(samples))
    gathered, dense, named, reader = Gather(), [], [], _Reader()
    for index, sample in enumerate(samples):
        try:
            inputs = reader.inputs(sample)
            gathered.add(index, sample.get("y"), sample.get("id"), sample.get("t"), sample.get("segment"))
        except Bad as bad:
            gathered.reject(index, bad)
            continue
        if isinstance(inputs, dict):
            named.append(inputs)
        elif inputs is not None:
            dense.append(inputs)
        reader.kind = _kind(inputs)
    return gathered.records(stacked(dense) if dense else None, columns_of(named))


def parse_json(data: bytes, may_be_rounded: Callable[[Any], bool]) -> Any:
    """Return the document of a record; the slow parser keeps its digits where `may_be_rounded` says so.

    Raises
    ------
    CodecError
        When it is not one strict JSON document in UTF-8, with the cause where it is recognisable.
    """
    text = data.removeprefix(b"\xef\xbb\xbf")
    if not text.strip():
        raise CodecError("empty", "the record holds no document")
    try:
        document = orjson.loads(text)
        if may_be_rounded(document):
            document = json.loads(text)
    except RecursionError:
        raise CodecError("too-deep", f"JSON nested deeper than {DEPTH_LIMIT}") from None
    except ValueError as error:
        raise _why(text, error) from None
    return document


def _may_be_rounded(document: Any) -> bool:
    """Return whether a label or identifier is a number past 2^53, whose digits the quick parser does not keep."""
    samples = document if isinstance(document, list) else (document,)
    return any(beyond_exact(sample.get(key)) for sample in samples if type(sample) is dict for key in ("y", "id"))


def beyond_exact(value: Any) -> bool:
    """Return whether a number may have lost digits in the quick parser."""
    return type(value) is float and abs(value) >= EXACT


def _why(text: bytes, error: ValueError) -> CodecError:
    """Return the error that names the cause, where it is recognisable."""
    for magic, what in _OTHERS.items():
        if text.startswith(magic):
            return CodecError("not-json", f"the value is {what}; JSON in UTF-8 is wanted")
    depth = 0
    for token in _TOKENS.finditer(text):
        depth += (token[0] in b"[{") - (token[0] in b"]}")
        if depth > DEPTH_LIMIT:
            return CodecError("too-deep", f"JSON nested deeper than {DEPTH_LIMIT}")
    words: list[str] = []
    try:
        decoded = text.decode().lstrip(" \t\r\n")
        end = json.JSONDecoder(parse_constant=words.append).raw_decode(decoded)[1]
    except (ValueError, RecursionError):
        return CodecError("not-json", str(error)[:200])
    if decoded[end:].strip(" \t\r\n"):
        return CodecError("trailing-data", f"trailing data after the first document: {decoded[end:].strip()[:20]!r}")
    return CodecError("not-json", (f"{words[0]} is no JSON, null is: " if words else "") + str(error)[:200])


class _Reader:
    """Reads inputs, None for a late label; remembers what the record's good samples have (None before the first)."""

    def __init__(self) -> None:
        self.kind: str | None = None

    def inputs(self, sample: Any) -> NDArray[Any] | dict[str, Any] | None:
        if not isinstance(sample, dict):
            raise Bad("wrong-shape", f"a sample is an object with x or features, not {shown(sample)}")
        x, features = sample.get("x"), sample.get("features")
        if x is not None and features is not None:
            raise Bad("wrong-shape", "a sample has x or features, never both")
        if x is None and features is None and (sample.get("id") is None or sample.get("y") is None):
            raise Bad("no-features", "a sample without x and without features, and no late label: that has id and y")
        if self.kind is not None and self.kind != _kind(x if features is None else features):
            raise Bad("wrong-shape", "a record has x, or features, or late labels: one of the three")
        if x is None and features is None:
            return None
        return dense_row(x) if features is None else _named(features)


def _kind(inputs: Any) -> str:
    return "late" if inputs is None else "named" if isinstance(inputs, dict) else "dense"


def dense_row(x: Any) -> NDArray[Any]:
    """Return a list of numbers as int64 or float64 [F], or raise `Bad`."""
    if not isinstance(x, list):
        raise Bad("wrong-shape", f"x is a list of numbers, not {shown(x)}")
    if not x:
        raise Bad("no-features", "x is empty")
    # struct takes numbers only, where numpy takes text, null and nesting as well, and is three times as quick
    for code in "d" if type(x[0]) is float else "qd":
        try:
            return np.frombuffer(_struct(f"{len(x)}{code}").pack(*x), code)
        except (struct.error, OverflowError):
            continue
    for place, value in enumerate(x):
        if value is None or (isinstance(value, int) and abs(value) > 1e308):
            raise Bad("not-finite", f"x[{place}] is {'null' if value is None else 'beyond float64'}")
        if not isinstance(value, int | float):
            raise Bad("wrong-shape" if isinstance(value, list | dict) else "bad-number",
                      f"x[{place}] is {shown(value)}, not a number")
    raise Bad("bad-number", "x is not a list of numbers")


@lru_cache(256)
def _struct(form: str) -> struct.Struct:
    return struct.Struct(form)


def _named(features: Any) -> dict[str, Any]:
    if not isinstance(features, dict):
        raise Bad("wrong-shape", f"features is an object of names and values, not {shown(features)}")
    if not features:
        raise Bad("no-features", "features is empty")
    for name, value in features.items():
        if isinstance(value, list | dict):
            raise Bad("wrong-shape", f"feature {name[:40]!r} is {shown(value)}, neither number nor text")
    return features


def stacked(rows: list[NDArray[Any]]) -> NDArray[Any]:
    """Return rows as x [N, F], or raise `CodecError` where they differ in length."""
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise CodecError("wrong-shape", f"x of {min(widths)} and of {max(widths)} numbers in one record")
    return np.stack(rows) if len(rows) > 1 else rows[0][None, :]


def columns_of(rows: list[dict[str, Any]]) -> dict[str, Column]:
    """Return named values of samples as columns, None where a sample lacks the name, or raise `CodecError`."""
    names = dict.fromkeys(name for row in rows for name in row)
    require_cells(len(rows), len(names))
    return {name: [row.get(name) for row in rows] for name in names}


def encode_json(records: Records) -> bytes:
    """Return a JSON record of the samples; see `streamil.codec.encode`."""
    samples: list[dict[str, Any]]
    if records.late:
        samples = [{} for _ in range(len(records))]
    elif records.x is not None:
        # float32 would be written in its own short form, which is another float64
        x = records.x.astype(np.float64) if records.x.dtype.kind == "f" else records.x
        samples = [{"x": row} for row in np.ascontiguousarray(x)]
    else:
        require_cells(len(records), len(records.columns))
        columns = {name: _plain(values) for name, values in records.columns.items()}
        samples = [{"features": {name: values[row] for name, values in columns.items()}}
                   for row in range(len(records))]
    for row, sample in enumerate(samples):
        sample["y"] = records.y[row]
        if records.ids is not None and records.ids[row] is not None:
            sample["id"] = records.ids[row]
        if records.t is not None and not np.isnan(records.t[row]):
            sample["t"] = float(records.t[row])
        if records.segment is not None:
            sample["segment"] = int(records.segment[row])
    try:
        return orjson.dumps(samples if len(samples) > 1 else samples[0], option=orjson.OPT_SERIALIZE_NUMPY)
    except (TypeError, ValueError) as error:
        raise CodecError("wrong-shape", f"JSON cannot hold these samples: {error}") from None


def _plain(values: Column) -> list[Any]:
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    # JSON has no infinity: as text it is rejected by name at the other end, as null it would pass for missing
    return [str(value) if isinstance(value, float) and abs(value) == np.inf else value for value in listed]
