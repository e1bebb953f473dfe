"""Whatever the bytes are: records, or CodecError with a documented reason."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamil.codec import REASONS, CodecError, decode, encode
from streamil.samples import Records

DENSE = Records(y=["a", None], x=np.arange(6, dtype=np.uint8).reshape(2, 3), t=np.array([1.0, np.nan]))
NAMED = Records(y=["1", "2"], columns={"n": [1.5, None], "c": ["red", "blue"]}, ids=["p", "q"],
                segment=np.array([0, 1]))


def dictionary_record(compression):
    batch = pa.record_batch({"c": pa.array(["red", "blue", None]).dictionary_encode(), "y": [1, 2, 3]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


SEEDS = [encode(records, codec) for records in (DENSE, NAMED) for codec in ("arrow", "json")]
SEEDS += [dictionary_record(None), dictionary_record("lz4")]


def assert_records_or_codec_error(data):
    try:
        records = decode(data)
    except CodecError as error:
        assert error.reason in REASONS
        return False
    assert len(records) > 0
    assert all(label is None or isinstance(label, str) for label in records.y)
    assert records.x is None or np.isfinite(records.x).all()
    return True


def mutated(rng):
    data = bytearray(SEEDS[rng.integers(len(SEEDS))])
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(len(data)))
        choice = rng.integers(5)
        if choice == 0:
            data[place] = rng.integers(256)
        elif choice == 1:
            data[place] ^= 1 << int(rng.integers(8))
        elif choice == 2:
            del data[place:place + int(rng.integers(1, 9))]
        elif choice == 3:
            data[place:place] = rng.bytes(int(rng.integers(1, 9)))
        else:
            data[place:place + 4] = int(rng.choice([0, 1, 255, 2**31 - 1, -1 % 2**32])).to_bytes(4, "little")
        data = data or bytearray(1)
    return bytes(data)


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(0)])])
def test_mutations_of_good_records_are_decoded_or_rejected(count):
    rng = np.random.default_rng(count)
    accepted = sum(assert_records_or_codec_error(mutated(rng)) for _ in range(count))
    assert count // 100 < accepted < count  # mutations that reach the inside, and others


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: b"\xff\xff\xff\xff" + data))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_decoded_or_rejected(data):
    assert_records_or_codec_error(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["x", "y", "t", "id", "segment", "features", "a"]), inner, max_size=5), max_leaves=20)


@given(JSON)
@settings(max_examples=500, deadline=None)
def test_any_json_is_decoded_or_rejected(document):
    assert_records_or_codec_error(json.dumps(document).encode())
