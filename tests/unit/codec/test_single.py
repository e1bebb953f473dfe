"""One sample cut out of a record's bytes: exactly as it was sent, or not at all."""

from __future__ import annotations

import json
import time

import numpy as np
import pyarrow as pa
import pytest

from streamil.codec import decode, encode
from streamil.codec.single import Cut
from streamil.samples import Records


@pytest.mark.parametrize("record", [
    b'[{"x": [1.50]}, {"x": [1e999], "y": "a"}, {"x": [12345678901234567890]}]',
    b'\xef\xbb\xbf[{"x": [1.50]}, {"x": [1e999], "y": "a"}, {"x": [12345678901234567890]}]',
    b' \n[ {"x": [1.50]} ,\r\n{"x": [1e999], "y": "a"}\t, {"x": [12345678901234567890]} ]\n'])
def test_elements_of_a_list_come_out_as_they_stand(record: bytes) -> None:
    cut = Cut(record)
    assert [cut.sample(place) for place in range(4)] == [
        b'{"x": [1.50]}', b'{"x": [1e999], "y": "a"}', b'{"x": [12345678901234567890]}', None]


def test_a_record_that_is_one_sample_is_that_sample() -> None:
    assert Cut(b'{"x": [1]}').sample(0) == b'{"x": [1]}' and Cut(b'{"x": [1]}').sample(1) is None
    assert Cut("[\"größe\"]".encode()).sample(0) == "\"größe\"".encode()


def test_rows_of_several_arrow_batches_decode_to_their_sample() -> None:
    table = pa.table({"colour": pa.array(["red", "blue", "red", None]).dictionary_encode(), "size": [1, 2, 3, 4], "y": list("abca")})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=3):
            writer.write_batch(batch)
    cut = Cut(bytes(sink.getvalue()))
    for place, (colour, size, y) in enumerate([("red", 1, "a"), ("blue", 2, "b"), ("red", 3, "c"), (None, 4, "a")]):
        found = decode(cut.sample(place))
        assert (list(found.columns["colour"]), list(found.columns["size"]), found.y) == ([colour], [size], [y])
    assert cut.sample(4) is None


def test_dense_rows_keep_their_type() -> None:
    records = Records(y=["a", "b"], x=np.array([[1, 2], [3, 255]], np.uint8))
    found = decode(Cut(encode(records, "arrow")).sample(1))
    assert found.x is not None and found.x.dtype == np.uint8 and found.x.tolist() == [[3, 255]]


@pytest.mark.parametrize("record", [
    b"", b"[", b"[1, 2", b"\x1f\x8b", b"\xff", b"[" * 100_000, b"\xff\xff\xff\xff\x10", b"ARROW1", b"[" + b"9" * 5000 + b"]"])
def test_what_cannot_be_cut_is_none(record: bytes) -> None:
    cut = Cut(record)
    assert cut.sample(5) is None


def test_a_list_of_many_bad_samples_is_read_once() -> None:
    record = json.dumps([{"x": ["a"]}] * 20_000).encode()
    cut, started = Cut(record), time.monotonic()
    assert all(cut.sample(place) == b'{"x": ["a"]}' for place in range(20_000))
    assert time.monotonic() - started < 60  # read anew for each of them it takes many minutes
