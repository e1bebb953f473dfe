import io
import json
import tracemalloc

import numpy as np
import orjson
import pyarrow as pa
import pytest
from codec_records import assert_equal, records
from hypothesis import given, settings
from hypothesis import strategies as st

from streamil.codec import CodecError, cast, decode, encode
from streamil.codec.arrow_format import arrow_documents
from streamil.samples import Records


def stream(*batches, options=None):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def reason_of(data):
    with pytest.raises(CodecError) as caught:
        decode(data)
    return caught.value.reason


@pytest.mark.parametrize("codec", ["arrow", "json"])
@given(sent=records())
@settings(max_examples=150, deadline=None)
def test_decode_gives_back_what_was_encoded(codec, sent):
    got = decode(encode(sent, codec))
    assert_equal(got, sent)
    if codec == "arrow" and sent.x is not None:
        assert got.x.dtype == sent.x.dtype
    if codec == "json" and sent.x is not None:
        again = cast(got, sent.x.dtype.name)
        assert again.x.dtype == sent.x.dtype
        assert np.array_equal(again.x, sent.x)


def test_cast_refuses_a_type_that_cannot_hold_the_values():
    for x, dtype in (([[1.5]], "uint8"), ([[300]], "uint8"), ([[-1]], "uint64"), ([[1]], "object")):
        with pytest.raises(CodecError):
            cast(Records(y=["a"], x=np.array(x)), dtype)


@pytest.mark.parametrize(("y", "label"), [
    ("01", "01"), (1, "1"), (1.0, "1"), (True, "true"), (None, None), (-7, "-7"), ("", ""),
])
def test_labels_follow_the_one_rule_in_both_formats(y, label):
    assert decode(orjson.dumps({"x": [1], "y": y})).y == [label]
    batch = pa.record_batch({"a": [1.0], "y": [y]})
    assert decode(stream(batch)).y == [label]


def test_an_integer_label_of_any_size_keeps_its_digits():
    digits = "123456789012345678901234567890"
    assert decode(f'{{"x": [1], "y": {digits}, "id": 9007199254740993}}'.encode()).y == [digits]


@pytest.mark.parametrize("y", ["1.5", "[1]", '{"a": 1}', "-0.1"])
def test_other_labels_are_rejected(y):
    assert reason_of(f'{{"x": [1], "y": {y}}}'.encode()) == "bad-label"


@pytest.mark.parametrize("letter", ["y", "\xe9"])
@pytest.mark.parametrize(("key", "why"), [("y", "bad-label"), ("id", "bad-id")])
def test_texts_that_are_remembered_are_short(key, why, letter):
    """A field of running text in place of a label filled the memory, and every snapshot."""
    for texts, good in ([letter * 1024, letter], 2), ([letter, letter * 1025], 1):
        got = decode(orjson.dumps([{"x": [1], "y": "a", key: text} for text in texts]))
        again = decode(stream(pa.record_batch({"a": [1, 2], "y": ["a", "a"]} | {key: texts})))
        assert len(got) == len(again) == good
        assert [one.reason for one in got.rejected] == [one.reason for one in again.rejected] == [why] * (2 - good)


def test_one_bad_sample_of_a_list_is_rejected_alone_and_the_others_keep_their_places():
    got = decode(b'[{"x": [1, "2"], "y": 1}, {"x": [3, 4], "y": 1}, 5, {"x": [5, 6], "y": 1, "t": "noon"}, '
                 b'{"features": {"a": 1}}, {"x": [1e308, 7]}]')
    assert got.x.tolist() == [[3, 4], [1e308, 7]]
    assert got.places.tolist() == [1, 5]
    assert [(bad.index, bad.reason) for bad in got.rejected] == [
        (0, "bad-number"), (2, "wrong-shape"), (3, "bad-time"), (4, "wrong-shape")]


def test_one_bad_row_of_an_arrow_record_is_rejected_alone():
    x = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0, np.nan, 4.0, None, 6.0, 7.0, 8.0]), 2)
    got = decode(stream(pa.record_batch({"x": x, "y": ["a", "b", "c", "d"]})))
    assert got.x.tolist() == [[1, 2], [7, 8]]
    assert got.y == ["a", "d"]
    assert got.places.tolist() == [0, 3]
    assert [(bad.index, bad.reason) for bad in got.rejected] == [(1, "not-finite"), (2, "not-finite")]


def test_a_record_without_a_good_sample_is_rejected_for_the_first_ones_reason():
    assert reason_of(b'[{"x": [null]}, {"y": 1}]') == "not-finite"


def test_what_arrow_writers_send_is_read_by_value():
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(8, dtype=np.int16).reshape(2, 2, 2))
    assert decode(stream(pa.record_batch({"x": tensor, "y": [1, 2]}))).x.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    batches = [pa.record_batch({"colour": pa.array(colours).dictionary_encode(), "n": pa.array(ns, pa.float32()),
                                "y": [True, False], "t": pa.array([1_700_000_000_250, None], pa.timestamp("ms"))})
               for colours, ns in ((["red", None], [0.5, None]), (["blue", "red"], [1, 2]))]
    plain = stream(batches[0])
    lz4 = stream(batches[0], options=pa.ipc.IpcWriteOptions(compression="lz4"))
    for data in (plain, lz4):
        got = decode(data)
        assert got.columns == {"colour": ["red", None], "n": [0.5, None]}
        assert got.y == ["true", "false"]
        assert got.t[0] == 1_700_000_000.25
        assert np.isnan(got.t[1])
    # two batches, each with a dictionary of its own
    assert decode(stream(*batches)).columns["colour"] == ["red", None, "blue", "red"]


def test_a_tensor_is_read_row_by_row_in_whatever_order_it_is_stored():
    images = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(0, 2, 1)
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
    assert tensor.type.permutation == [1, 0]
    data = stream(pa.record_batch({"x": tensor, "y": [1, 2]}))
    assert decode(data).x.tolist() == images.reshape(2, -1).tolist()
    assert [row["x"].tolist() for row in arrow_documents(data)] == images.reshape(2, -1).tolist()
    nulls = tensor.storage.take(pa.array([1, None, 0]))
    again = decode(stream(pa.record_batch({"x": pa.ExtensionArray.from_storage(tensor.type, nulls), "y": [1, 2, 3]})[1:]))
    assert again.x.tolist() == [images[0].ravel().tolist()] and again.rejected[0].detail == "x[0] is null"


def test_features_called_like_a_column_of_the_record_come_through():
    sent = Records(y=["1"], columns={"x": [1.0], "t": ["now"], "features.x": [2]})
    for codec in ("arrow", "json"):
        assert_equal(decode(encode(sent, codec)), sent)


@pytest.mark.parametrize(("columns", "reason"), [
    ({"x": pa.array([1.0])}, "wrong-shape"), ({"x": pa.array([[1.0]])}, "wrong-shape"),
    ({"x": pa.array([[1]], pa.list_(pa.int8(), 1)), "a": [1]}, "wrong-shape"), ({"y": ["a"]}, "no-features"),
    ({"a": pa.array([{"b": 1}])}, "wrong-shape"), ({"a": pa.array([b"z"])}, "wrong-shape"),
    ({"a": pa.array(["z"], pa.string_view())}, "wrong-shape"), ({"a": [1], "y": [0.5]}, "bad-label"),
    ({"a": [1], "t": [1e18]}, "bad-time"), ({"a": [1], "segment": [-1]}, "bad-segment"),
    ({"a": pa.array([], pa.int8())}, "no-samples"), ({"a": [1], "features.a": [2]}, "wrong-shape"),
])
def test_arrow_records_of_another_form_are_rejected(columns, reason):
    assert reason_of(stream(pa.record_batch(columns))) == reason


def test_names_of_a_sender_move_no_terminal():
    batch = pa.record_batch({"a": pa.array([{"red\x1b[31m\n": 1}])})
    with pytest.raises(CodecError, match=r"column 'a' is struct<red\\x1b\[31m\\n: int64>"):
        decode(stream(batch))


def test_bytes_after_an_arrow_stream_are_rejected():
    data = encode(Records(y=["a"], x=np.array([[1.0]])), "arrow")
    assert reason_of(data + data) == "trailing-data"
    assert reason_of(data[:-20]) == "arrow-damaged"
    assert decode(data + bytes(8)).y == ["a"]


def compressed_claim(claim):
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    data = stream(pa.record_batch({"a": pa.array(np.zeros(100_000, np.int8))}), options=options)
    honest = (100_000).to_bytes(8, "little")
    assert data.count(honest) >= 1
    place = data.rindex(honest)
    return data[:place] + claim.to_bytes(8, "little") + data[place + 8:]


def longer_lists(length):
    data = encode(Records(y=["a"], x=np.zeros((1, 12_345), np.uint8)), "arrow")
    return data.replace((12_345).to_bytes(4, "little"), length.to_bytes(4, "little"), 1)  # the schema comes first


BOMBS = {
    "lists longer than they are": lambda: longer_lists(1 << 30),
    "columns of nulls without a buffer": lambda: stream(pa.record_batch(
        {str(n): pa.nulls(60_000) for n in range(1_000)})),
    "compressed buffer claims a gigabyte": lambda: compressed_claim(1 << 30),
    "nulls without a buffer": lambda: stream(pa.record_batch({"a": pa.nulls(1 << 24)})),
    "one text for many rows": lambda: stream(pa.record_batch({"a": pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(60_000, np.int8)), pa.array(["long" * 5_000]))})),
    "text among numbers": lambda: orjson.dumps({"x": [1] * 20_000 + ["y" * 20_000], "y": 1}),
    "a name for each sample": lambda: orjson.dumps([{"features": {str(n): 1}} for n in range(4_000)]),
    "many samples": lambda: b"[" + b"{}," * 100_000 + b"{}]",
    "deep": lambda: b'{"x":' * 100_000,
    "deep features": lambda: b'{"features": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}",
    "huge integer": lambda: b'{"x": [1], "y": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_small_records_do_not_fill_the_memory(bomb):
    data = BOMBS[bomb]()
    pool = pa.default_memory_pool()
    before = pool.max_memory()
    tracemalloc.start()
    try:
        try:
            decode(data)
        except CodecError:
            pass
        else:
            assert bomb == "one text for many rows"
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
        assert pool.max_memory() - before < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", ["arrow", "json"])
def test_what_decode_refuses_as_too_large_is_not_encoded(codec):
    width = 17_000  # 4,096 samples of it are 66 MiB
    for sent in (Records(y=["a"] * 4096, x=np.zeros((4096, width), np.uint8)),
                 Records(y=["a"] * 4096, columns={str(n): np.zeros(4096, np.int8) for n in range(1025)})):
        with pytest.raises(CodecError) as caught:
            encode(sent, codec)
        assert caught.value.reason == "too-large"


@given(sent=records())
def test_arrow_records_are_what_arrows_own_writer_writes(sent):
    data = encode(sent, "arrow")
    with pa.ipc.open_stream(data) as reader:
        assert stream(*reader) == data


NUMBERS = st.integers(-2**70, 2**70) | st.integers(0, 255) | st.floats(allow_nan=False, allow_infinity=False)
OTHERS = st.none() | st.booleans() | st.text(max_size=3) | st.just([1]) | st.just({})


@given(x=st.lists(NUMBERS, min_size=1, max_size=6), other=st.none() | st.tuples(st.integers(0, 5), OTHERS))
def test_numbers_of_a_json_record_are_read_as_numpy_reads_them(x, other):
    """Whole numbers as int64 where all are and fit, otherwise float64; true is 1; anything else is rejected."""
    if other is not None:
        x[other[0] % len(x)] = other[1]
    data = json.dumps({"x": x}).encode()
    if any(value is None or isinstance(value, str | list | dict) for value in x):
        assert reason_of(data) in ("not-finite", "bad-number", "wrong-shape")
        return
    got = decode(data).x
    whole = all(isinstance(value, int) and -2**63 <= value < 2**63 for value in x)
    assert got.dtype == (np.int64 if whole else np.float64)
    assert got.tolist() == [[int(value) if whole else float(value) for value in x]]


@pytest.mark.parametrize(("sent", "codec"), [
    (Records(y=[], x=np.zeros((0, 2))), "json"), (Records(y=["a"]), "arrow"),
    (Records(y=["a"], x=np.array([[1j]])), "arrow"), (Records(y=["a", "b"], columns={"c": [1, "red"]}), "arrow"),
    (Records(y=["\ud800"], x=np.ones((1, 1))), "json"), (Records(y=["a"], columns={"c": [2**70]}), "arrow"),
])
def test_what_a_format_cannot_hold_is_an_error_of_ours(sent, codec):
    with pytest.raises(CodecError):
        encode(sent, codec)
