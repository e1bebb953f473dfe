"""Whatever the bytes are: records, or CodecError with a documented reason, in bounded memory."""

import json
import tracemalloc
from contextlib import contextmanager

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


MEMORY = 64 << 20
"""What a record of about a kilobyte may make the decoder allocate at most."""


def arrow_record(columns, compression=None, batches=1):
    batch = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        for _ in range(batches):
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def dictionary_record(compression):
    return arrow_record({"c": pa.array(["red", "blue", None]).dictionary_encode(), "y": [1, 2, 3]}, compression)


TENSOR = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(8, dtype=np.float32).reshape(2, 2, 2))
BESIDE = {"id": ["a", None], "t": pa.array([1_700_000_000_250, None], pa.timestamp("ms")), "segment": [0, 1]}
NESTED = pa.array([[[1, 2]], [None, [3]]], pa.list_(pa.list_(pa.int8())))

SEEDS = [encode(records, codec) for records in (DENSE, NAMED) for codec in ("arrow", "json")]
SEEDS += [dictionary_record(None), dictionary_record("lz4")]
SEEDS += [arrow_record({"x": TENSOR, "y": ["a", "b"], **BESIDE}, batches=2), arrow_record({"n": NESTED, "y": [1, 2]}),
          arrow_record({"n": np.zeros(5000), "m": pa.nulls(5000), "y": np.zeros(5000, np.int8)}, "zstd")]


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


@contextmanager
def bounded_memory(python=True):
    """Hold Arrow's memory, and Python's and numpy's, to the bound at every moment; the latter takes thrice the time."""
    pool = pa.default_memory_pool()
    before = pool.max_memory()
    if python:
        tracemalloc.start()
    try:
        yield
        assert not python or tracemalloc.get_traced_memory()[1] < MEMORY
        assert pool.max_memory() - before < MEMORY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(0)])])
def test_mutations_of_good_records_are_decoded_or_rejected(count):
    rng = np.random.default_rng(count)
    with bounded_memory(python=count < 1_000_000):
        accepted = sum(assert_records_or_codec_error(mutated(rng)) for _ in range(count))
    assert count // 100 < accepted < count  # mutations that reach the inside, and others


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: b"\xff\xff\xff\xff" + data))
@settings(max_examples=1000)
def test_any_bytes_are_decoded_or_rejected(data):
    assert_records_or_codec_error(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["x", "y", "t", "id", "segment", "features", "a"]), inner, max_size=5), max_leaves=20)


@given(JSON)
@settings(max_examples=1000)
def test_any_json_is_decoded_or_rejected(document):
    assert_records_or_codec_error(json.dumps(document).encode())


@st.composite
def arrow_types(draw):
    kinds = st.sampled_from([pa.uint8(), pa.int64(), pa.float16(), pa.float64(), pa.bool_(), pa.string(), pa.binary(),
                             pa.large_string(), pa.null(), pa.timestamp("ns"), pa.date32(), pa.decimal128(5, 2)])
    return draw(st.recursive(kinds, lambda inner: (
        inner.map(pa.list_) | st.builds(pa.list_, inner, st.integers(0, 3)) | st.builds(pa.large_list, inner)
        | st.builds(lambda one: pa.struct({"a": one}), inner)
        | st.builds(lambda one: pa.dictionary(pa.int8(), one), inner)), max_leaves=3))


@st.composite
def arrow_records(draw):
    """Records of any columns, some compressed, some with bytes changed afterwards."""
    count = draw(st.integers(0, 4))
    names = st.sampled_from(["x", "y", "id", "t", "segment", "a", "b", "features.x"])
    columns = {}
    for name in draw(st.lists(names, min_size=1, max_size=4)):
        kind = draw(arrow_types())
        plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        values = draw(st.lists(st.sampled_from([0, 1, None]), min_size=count, max_size=count))
        columns[name] = pa.array(values, pa.int8()).cast(kind) if plain else pa.nulls(count, kind)
    data = bytearray(arrow_record(columns, draw(st.sampled_from([None, "lz4", "zstd"])), draw(st.integers(1, 2))))
    for place, value in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=3)):
        data[place] = value
    return bytes(data)


@given(arrow_records())
@settings(max_examples=200)
def test_any_arrow_columns_are_decoded_or_rejected(data):
    with bounded_memory():
        assert_records_or_codec_error(data)
