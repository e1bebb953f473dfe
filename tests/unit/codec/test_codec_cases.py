"""Inputs of public bug reports about codecs: not quite JSON, event times, batches."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from streamil.codec import REASONS, CodecError, decode

DATA = Path(__file__).parent / "data"
CASES = [json.loads(line) for path in sorted(DATA.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]
REASON = {
    "gzip_value": "gzip", "confluent_json": "schema-registry", "confluent_avro": "schema-registry",
    "ndjson_two": "trailing-data", "trailing_nul": "trailing-data", "arrow_file_not_stream": "arrow-file",
    "deep": "too-deep", "empty": "empty", "spaces": "empty", "null": "null", "empty_list": "no-samples",
    "empty_object": "no-features", "arrow_huge_size": "arrow-damaged", "lengths_differ": "wrong-shape",
    "milliseconds": "bad-time", "microseconds": "bad-time", "nanoseconds": "bad-time", "date_only": "bad-time",
    "number_string": "bad-time", "nan": "not-json", "utf16": "not-json",
}
SECONDS = {"seconds": 1.7e9, "seconds_fraction": 1.7e9 + 0.25, "rfc3339_z": 1.7e9, "rfc3339_offset": 1.7e9,
           "naive": 1.7e9, "zero": 0.0, "negative": -1.0}


@pytest.fixture(params=["UTC", "America/New_York"], autouse=True)
def machine_zone(request, monkeypatch):
    before = os.environ.get("TZ")
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    assert os.environ.get("TZ") == before
    time.tzset()


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_the_case_is_accepted_or_rejected_for_its_cause(case):
    data = bytes.fromhex(case["bytes"])
    try:
        records = decode(data)
    except CodecError as error:
        assert case["expect"] in ("reject", "either")
        assert error.reason in REASONS
        assert error.reason == REASON.get(case["id"], error.reason)
        assert len(str(error).splitlines()) == 1
    else:
        assert case["expect"] in ("accept", "either")
        assert case["id"] not in REASON
        assert len(records) >= 1
        assert np.isfinite(records.x).all()
        if case["id"] in SECONDS:
            assert records.t.tolist() == [SECONDS[case["id"]]]


@pytest.mark.parametrize(("value", "reason", "word"), [
    (b'{"x": [1, NaN], "y": 1}', "not-json", "NaN is no JSON, null is: unexpected character"),
    (b'{"x": [1], "y": -Infinity}', "not-json", "-Infinity is no JSON"), (b'{"x": [1e400]}', "not-json", "infinity"),
    ('{"x": [1]}'.encode("utf-16-le"), "not-json", "UTF-16"), ('[{"x": [1]}]'.encode("utf-16-be"), "not-json", "UTF-16"),
    (b"\x04\x22\x4d\x18\x60", "not-json", "lz4"), (b"\x82SNAPPY\0", "not-json", "snappy"), (b"\x78\x9c\xab", "not-json", "zlib"),
    (b"Obj\x01", "not-json", "Avro"), (b"PAR1", "not-json", "Parquet"), (b"<html>", "not-json", "HTML"),
    (b"\x03\x00" + bytes(16) + b"{}", "schema-registry", "Glue"), (b"\0" + (123).to_bytes(4, "big") + b"{}", "schema-registry", "123"),
])
def test_the_cause_is_named(value, reason, word):
    with pytest.raises(CodecError, match=word) as caught:
        decode(value)
    assert caught.value.reason == reason
