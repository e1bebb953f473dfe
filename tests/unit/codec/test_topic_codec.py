"""How records of a topic that others fill are read: JSON, Arrow, our own, and codecs that a user adds."""

import json
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamil.codec import REASONS, CodecError, encode
from streamil.codec.topic import decoder
from streamil.errors import ExperimentError
from streamil.experiment import Stream
from streamil.samples import Records

GOOD = b'{"amount": 3, "fraud": true}'


def reading(folder=Path(), **source):
    stream = Stream.model_validate({"source": {"kind": "topic", "label": "fraud", **source}})
    read = decoder(stream, folder)
    return lambda value, **headers: read(value, {name.replace("_", "-"): text for name, text in headers.items()})


def reason(read, value):
    with pytest.raises(CodecError) as caught:
        read(value)
    assert caught.value.reason in REASONS
    assert len(str(caught.value).splitlines()) == 1
    return caught.value.reason


def arrow(**columns):
    batch = pa.RecordBatch.from_pydict(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue().to_pybytes()


def test_values_that_are_no_json_keep_their_reasons():
    read = reading()
    for value, why in [(None, "null"), (b"", "empty"), (b"null", "null"), (b"[]", "no-samples"), (b"{}", "no-features"),
                       (GOOD + GOOD, "trailing-data"), (b"\x1f\x8b123", "gzip"), (b"\0\0\0\0\x07" + GOOD, "schema-registry"),
                       (b"ARROW1xx", "arrow-file"), (b"\xff\xfe", "not-json"), (b"[" * 2000, "too-deep")]:
        assert reason(read, value) == why


def test_rows_of_an_arrow_stream_are_documents():
    read = reading(time="at", time_unit="ms", id="n")
    found = read(arrow(
        amount=pa.array([1.5, None]), colour=pa.array(["red", "blue"]).dictionary_encode(), n=pa.array([7, 8]),
        at=pa.array([1_700_000_000_500_000, None], pa.timestamp("us", "America/New_York")), raw=pa.array([b"a", b"b"]),
        nested=pa.array([{"a": 1}, None]), fraud=pa.array([True, None]), since=pa.array([1, 2], pa.timestamp("s"))))
    assert found.columns == {"amount": [1.5, None], "colour": ["red", "blue"], "since": [1.0, 2.0]}
    assert (found.y, found.ids) == (["true", None], ["7", "8"])
    assert found.t[0] == 1_700_000_000.5  # the type knows its unit
    assert np.isnan(found.t[1])
    numbers = read(arrow(amount=[1], n=[1], at=[2_500], fraud=["no"]))
    assert numbers.t.tolist() == [2.5]


def test_a_list_column_of_an_arrow_stream_is_dense_and_keeps_its_type():
    read = reading(x=["pix.els"])
    for kind in (pa.list_(pa.uint8()), pa.list_(pa.uint8(), 2), pa.large_list(pa.uint8())):
        found = read(arrow(**{"pix.els": pa.array([[0, 255], [3, 4]], kind), "fraud": ["a", "b"]}))
        assert (found.x.tolist(), found.x.dtype) == ([[0, 255], [3, 4]], np.uint8)
    found = read(arrow(**{"pix.els": pa.array([[0, 255], [3, None], None], pa.list_(pa.int16())), "fraud": [1, 2, 3]}))
    assert found.x.tolist() == [[0, 255]]
    assert [one.reason for one in found.rejected] == ["not-finite", "no-features"]


def test_an_arrow_stream_that_claims_too_much_is_rejected():
    read = reading()
    assert reason(read, arrow(fraud=pa.nulls(70_000))) == "too-large"
    with pytest.raises(CodecError, match="too-large: 65000 samples of 70 features"):  # before they are Python's objects
        read(arrow(**{f"n{n}": pa.nulls(65_000) for n in range(70)}))
    assert reason(read, arrow(fraud=[1], amount=[2])[:100]) == "arrow-damaged"
    assert reason(reading(codec="json"), arrow(fraud=[1], amount=[2])) == "not-json"


def test_records_that_streamil_wrote_are_read_as_they_are():
    sent = encode(Records(y=["up"], x=np.array([[1, 2]], np.uint8)), "json")
    found = reading()(sent, streamil_stream=b"0", streamil_dtype=b"uint8")
    assert (found.x.dtype, found.y) == (np.uint8, ["up"])
    for other in (reading()(sent), reading(codec="json")(sent, streamil_stream=b"0")):  # a document like others
        assert (other.columns, other.y) == ({"y": ["up"]}, [None])


OWN = '''
import struct
from streamil.errors import CodecError

def decode(value):
    if value == b"bug":
        return {}["amount"]
    if value == b"lines":
        raise RuntimeError("one\\ntwo " + "x" * 1000)
    if value == b"reason":
        raise CodecError("gzip", "compressed")
    if value == b"word":
        raise CodecError("no-such-reason", "it is not")
    if value == b"deep":
        return decode(value)
    if value == b"none":
        return None
    if value == b"number":
        return 5
    if value == b"lazy":
        return (one for one in ())
    amount, fraud = struct.unpack("<f?", value)
    return {"amount": amount, "fraud": fraud}

LIMIT = 3
'''


@pytest.fixture
def own(tmp_path):
    (tmp_path / "orders.py").write_text(OWN)
    return tmp_path


def test_a_codec_of_the_users_own_stands_beside_the_file(own):
    read = reading(own, codec="orders:decode")
    found = read(struct.pack("<f?", 2.5, True))
    assert (found.columns, found.y) == ({"amount": [2.5]}, ["true"])
    for value, why in [(b"bug", "undecodable"), (b"lines", "undecodable"), (b"xx", "undecodable"), (b"reason", "gzip"),
                       (b"word", "undecodable"), (b"deep", "undecodable"), (b"none", "null"), (b"number", "wrong-shape"),
                       (b"lazy", "wrong-shape"), (None, "null"), (bytes(65 << 20), "too-large")]:
        assert reason(read, value) == why
    with pytest.raises(CodecError, match="undecodable: KeyError: 'amount'"):
        read(b"bug")
    with pytest.raises(CodecError, match="error: unpack requires"):
        read(b"xx")


@pytest.mark.parametrize(("codec", "tells"), [
    ("ordres:decode", "no module 'ordres'"), ("orders:decod", "nearest known: decode"), ("orders:LIMIT", "no function 'LIMIT'"),
    ("protobuf", "is not installed; allowed: auto, json, module:function"), ("jsn", "nearest known: json"),
])
def test_a_codec_that_is_not_there_is_one_clear_error(own, codec, tells):
    with pytest.raises(ExperimentError) as caught:
        reading(own, codec=codec)
    assert str(caught.value).startswith("stream.source.codec")
    assert tells in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def install(folder, name, entries):
    """What an installed package leaves on the import path."""
    (folder / f"{name}.py").write_text("import json\n\ndef decode(value):\n    return json.loads(value[1:])\n\nLIMIT = 3\n")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[streamil.codecs]\n" + entries)


def test_a_codec_of_an_installed_package_is_named_by_its_entry_point(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "orders_codec", "orders = orders_codec:decode\ngone = orders_codec:gone\nlimit = orders_codec:LIMIT\n")
    read = reading(codec="orders")
    assert read(b"!" + GOOD).y == ["true"]
    assert reason(read, GOOD) == "undecodable"
    with pytest.raises(ExperimentError, match="loading codec gone failed: AttributeError"):
        reading(codec="gone")
    with pytest.raises(ExperimentError, match="is no function"):
        reading(codec="limit")
    with pytest.raises(ExperimentError, match=r"nearest known: orders\); allowed: .*orders"):
        reading(codec="order")
    install(tmp_path, "others_codec", "orders = others_codec:decode\n")
    with pytest.raises(ExperimentError, match="offered by orders_codec:decode and others_codec:decode"):
        reading(codec="orders")


SEEDS = [arrow(amount=[1.5, 2.0], fraud=["a", None], at=[3, 4]), arrow(amount=pa.array([[1, 2]]), fraud=[True]),
         json.dumps([{"amount": 1, "fraud": True, "at": 3}, {"amount": "red"}]).encode(), GOOD]


@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
       st.booleans())
@settings(max_examples=1000)
def test_mutated_records_are_samples_or_rejected(seed, changes, dense):
    data = bytearray(seed)
    for place, byte in changes:
        data[int(place * len(data))] = byte
    read = reading(time="at", **({"x": "amount"} if dense else {}))
    try:
        found = read(bytes(data))
    except CodecError as error:
        assert error.reason in REASONS
        return
    assert len(found) > 0
    assert (found.x is None) == bool(found.columns)
