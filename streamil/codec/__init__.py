"""Bytes <-> samples: JSON and Arrow IPC streams, told apart by their first bytes.

A record carries one or more samples. In **JSON** a sample is `{"x": [numbers], "y": label}` or
`{"features": {name: value}, "y": label}`, with optional `id`, `t` (seconds since 1970, or RFC 3339) and `segment`; a
record is one sample or a list. In **Arrow** a record is one IPC stream with a column `x` (fixed-size list or
fixed-shape tensor of any numeric type) or one column per named feature, a column `y`, and optional `id`, `t`,
`segment`; a feature that has one of these five names is sent as `features.NAME`.

A record has dense `x` or named features, never both; or late labels, an `id` and a `y` each without inputs. One bad
sample is rejected alone (`Records.rejected`); when none is left the record is rejected for the first one's reason. A
record whose dense `x` differ in length is rejected whole. A byte order mark before JSON is ignored; unknown keys of a
JSON sample are, too.

Records of another shape, on topics that others fill: `streamil.codec.topic`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamil.codec._first_bytes import RECORD_LIMIT, form_of, require_value
from streamil.codec.arrow_format import decode_arrow, encode_arrow
from streamil.codec.json_format import decode_json, encode_json
from streamil.codec.reasons import REASONS
from streamil.errors import CodecError
from streamil.samples import Records

__all__ = ["REASONS", "RECORD_LIMIT", "CodecError", "cast", "decode", "encode"]

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")
"""Types that dense inputs may have."""
_NATIVE = frozenset(map(np.dtype, DTYPES))  # a type's name is made anew each time it is asked for


def decode(data: bytes | None) -> Records:
    """Return the samples of one record.

    Parameters
    ----------
    data
        The record's value; None is a tombstone.

    Raises
    ------
    CodecError
        With a `reason` out of `REASONS`, whatever the bytes are; nothing else is ever raised.

    Examples
    --------
    >>> records = decode(b'[{"x": [0.5, 2], "y": "up"}, {"x": [1, null], "y": "up"}]')
    >>> records.x, records.y
    (array([[0.5, 2. ]]), ['up'])
    >>> records.rejected
    (Rejected(index=1, reason='not-finite', detail='x[1] is null'),)
    """
    value = require_value(data)
    return decode_arrow(value) if form_of(value) == "arrow" else decode_json(value)


def encode(records: Records, codec: str) -> bytes:
    """Return one record that holds the samples, in `arrow` or `json`; `decode` gives them back equal.

    JSON knows two numeric types: dense inputs come back as int64 or float64 (see `cast`), NaN as missing.

    Raises
    ------
    CodecError
        When there is no sample, one that the format cannot hold, or more than `decode` takes.

    Examples
    --------
    >>> encode(Records(y=["up"], x=np.array([[1, 2]])), "json")
    b'{"x":[1,2],"y":"up"}'
    """
    if not len(records):
        raise CodecError("no-samples", "nothing to encode")
    if records.late:
        if None in records.y or None in (records.ids or ()):
            raise CodecError("no-features", "a late label has an id and a y")
    elif (records.x is None) == (not records.columns):
        raise CodecError("no-features", "a record has dense x or named features, never both and never neither")
    if records.x is not None and records.x.dtype not in _NATIVE and records.x.dtype.name not in DTYPES:
        raise CodecError("wrong-shape", f"x is {records.x.dtype}; allowed: {', '.join(DTYPES)}")
    data = encode_json(records) if codec == "json" else encode_arrow(records)
    if len(data) > RECORD_LIMIT:
        raise CodecError("too-large", f"{len(data)} bytes; the limit is {RECORD_LIMIT}")
    return data


def cast(records: Records, dtype: str) -> Records:
    """Return the records with dense inputs of the named type, which JSON does not carry; named features stay.

    Raises
    ------
    CodecError
        When the type is unknown or cannot hold the values.

    Examples
    --------
    >>> cast(decode(b'{"x": [0, 255], "y": 7}'), "uint8").x
    array([[  0, 255]], dtype=uint8)
    """
    if dtype not in DTYPES:
        raise CodecError("wrong-shape", f"unknown type {dtype[:40]!r}; allowed: {', '.join(DTYPES)}")
    if records.x is None or records.x.dtype.name == dtype:
        return records
    with np.errstate(invalid="ignore", over="ignore"):
        x = records.x.astype(dtype)
        if not np.array_equal(x, records.x):
            raise CodecError("bad-number", f"x holds numbers that are no {dtype}")
    return replace(records, x=x)
