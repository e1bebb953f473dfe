import gzip
import struct
import zipfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamil.errors import SourceError
from streamil.experiment import Stream
from streamil.streams import open_stream
from streamil.streams.chunks import join
from streamil.streams.idx import DATA, MNIST, idx, mnist, read_idx


def read(source, folder=Path(), **stream):
    return join(list(open_stream(Stream.model_validate({"source": source, **stream}), folder)))


def error_of(source, folder=Path(), **stream):
    with pytest.raises(SourceError) as caught:
        read(source, folder, **stream)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def idx_bytes(array, claimed=None):
    codes = {"uint8": 8, "int16": 0x0B, "float32": 0x0D}
    shape = claimed or array.shape
    header = bytes([0, 0, codes[array.dtype.name], len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def test_mnist_is_the_published_data():
    records = read({"kind": "mnist", "part": "test"})
    assert records.x.shape == (10_000, 784)
    assert records.x.dtype == np.uint8
    assert list(records.y[:5]) == ["7", "2", "1", "0", "4"]


def test_a_changed_byte_of_mnist_is_found(tmp_path):
    images, labels = (name for name, _ in MNIST["test"])
    (tmp_path / images).symlink_to(DATA / "mnist" / images)
    content = bytearray(gzip.decompress((DATA / "mnist" / labels).read_bytes()))
    content[-1] ^= 1
    (tmp_path / labels).write_bytes(gzip.compress(content))
    with pytest.raises(SourceError, match=rf"{labels}.*expected {MNIST['test'][1][1]}"):
        mnist("test", tmp_path)


@pytest.mark.parametrize(("kind", "samples", "label", "features"), [("elec", 45_312, "1", 6),
                                                                    ("weather", 18_159, "0", 8)])
def test_tables_of_the_package(kind, samples, label, features):
    records = read({"kind": kind})
    assert len(records) == samples
    assert records.y[0] == label
    assert len(records.columns) == features


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_files_of_any_type(tmp_path, dtype, pack):
    x = np.arange(24).reshape(4, 2, 3).astype(dtype)
    (tmp_path / "x").write_bytes(pack(idx_bytes(x)))
    (tmp_path / "y").write_bytes(idx_bytes(np.arange(4, dtype=np.uint8)))
    records = read({"kind": "idx", "images": "x", "labels": "y"}, tmp_path)
    assert np.array_equal(records.x, x.reshape(4, 6))
    assert records.x.dtype == dtype
    assert list(records.y) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("content", [
    b"", b"\0\0\x08", b"P6 not idx", idx_bytes(np.ones((2, 3), np.uint8))[:-1],
    idx_bytes(np.ones((2, 3), np.uint8)) + b"x", idx_bytes(np.ones((2, 3), np.uint8), (2**32 - 1,) * 8),
    gzip.compress(idx_bytes(np.ones((2, 3), np.uint8), (2**30, 16))),
    gzip.compress(idx_bytes(np.ones((2, 3), np.uint8)))[:-9],
])
def test_damaged_idx_files_are_named_and_claims_are_not_allocated(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SourceError, match=str(tmp_path / "x")):
        read_idx(tmp_path / "x")


def test_images_and_labels_must_be_as_many(tmp_path):
    (tmp_path / "x").write_bytes(idx_bytes(np.ones((2, 3), np.uint8)))
    (tmp_path / "y").write_bytes(idx_bytes(np.ones(3, np.uint8)))
    with pytest.raises(SourceError, match="do not fit"):
        list(idx(tmp_path / "x", tmp_path / "y"))


def test_npz_arrays_keep_their_type_and_labels_follow_the_one_rule(tmp_path):
    for y, labels in (([1.0, 2.0], ["1", "2"]), ([True, False], ["true", "false"]), (["01", "b"], ["01", "b"])):
        np.savez(tmp_path / "d.npz", x=np.arange(8, dtype=">i2").reshape(2, 2, 2), y=np.array(y))
        records = read({"kind": "npz", "path": "d.npz"}, tmp_path)
        assert records.x.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
        assert records.x.dtype == np.dtype("=i2")
        assert list(records.y) == labels


@pytest.mark.parametrize(("arrays", "word"), [
    ({"x": np.ones((2, 2))}, "no array y"), ({"x": np.ones((2, 2)), "y": np.ones(3)}, "[2]"),
    ({"x": np.ones((2, 2)), "y": np.array([1, 1.5])}, "y[1]"), ({"x": np.ones(2), "y": np.ones(2)}, "[N, F]"),
    ({"x": np.array([[{}]], dtype=object), "y": np.ones(1)}, "Python objects"),
    ({"x": np.ones((2, 2), complex), "y": np.ones(2)}, "complex"),
])
def test_npz_files_that_do_not_fit(tmp_path, arrays, word):
    np.savez(tmp_path / "d.npz", **arrays)
    message = error_of({"kind": "npz", "path": "d.npz"}, tmp_path)
    assert str(tmp_path / "d.npz") in message
    assert word in message


def test_damaged_npz_files(tmp_path):
    np.savez(tmp_path / "whole.npz", x=np.ones((50, 2)), y=np.ones(50))
    whole = (tmp_path / "whole.npz").read_bytes()
    for content in (b"", whole[:100], whole[:-30], whole[:200] + b"zzzz" + whole[204:], b"text"):
        (tmp_path / "d.npz").write_bytes(content)
        assert "d.npz" in error_of({"kind": "npz", "path": "d.npz"}, tmp_path)


def test_npz_members_that_are_no_arrays(tmp_path):
    np.savez(tmp_path / "whole.npz", x=np.ones((50, 2)), y=np.ones(50))
    with zipfile.ZipFile(tmp_path / "whole.npz") as whole:
        held = {name: whole.read(name) for name in whole.namelist()}
    for x in (b"", b"no array", held["x.npy"].replace(b"(50, 2)", b"((((((("), held["x.npy"].replace(b"'<f8'", b"'<zz'")):
        with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
            archive.writestr("x.npy", x)
            archive.writestr("y.npy", held["y.npy"])
        assert "d.npz" in error_of({"kind": "npz", "path": "d.npz"}, tmp_path)
    locked = bytearray((tmp_path / "whole.npz").read_bytes())
    locked[locked.find(b"PK\x01\x02") + 8] |= 1  # the flag of an encrypted member
    (tmp_path / "d.npz").write_bytes(locked)
    assert "d.npz" in error_of({"kind": "npz", "path": "d.npz"}, tmp_path)


def test_parquet_by_value_with_types_kept_and_memory_bounded(tmp_path):
    count = 1000
    table = pa.table({
        "n": pa.array(range(count), pa.int16()), "f": pa.array([None if i % 7 == 0 else i / 2 for i in range(count)]),
        "c": pa.array(["red", "blue"] * (count // 2)).dictionary_encode(),
        "at": pa.array([1_500] * count, pa.timestamp("ms")),
        "label": pa.array([True, False] * (count // 2)),
    })
    pq.write_table(table, tmp_path / "d.parquet")
    source = {"kind": "parquet", "path": "d.parquet", "label": "label", "time": "at"}
    chunks = list(open_stream(Stream.model_validate({"source": source}), tmp_path))
    assert max(map(len, chunks)) <= 256
    records = join(chunks)
    assert records.columns["n"].dtype == np.int16
    assert records.columns["n"].tolist() == list(range(count))
    assert list(records.columns["f"])[:3] == [None, 0.5, 1.0]
    assert list(records.columns["c"])[:2] == ["red", "blue"]
    assert records.t[0] == 1.5
    assert list(records.y)[:2] == ["true", "false"]


def test_parquet_decimals_are_the_numbers_that_their_digits_read_as(tmp_path):
    values = [None, *(Decimal(n).scaleb(-2) for n in range(-20_000, -19_000))]
    table = pa.table({"a": pa.array(values, pa.decimal128(9, 2)), "label": ["u"] * len(values)})
    pq.write_table(table, tmp_path / "d.parquet")
    records = read({"kind": "parquet", "path": "d.parquet", "label": "label"}, tmp_path)
    assert list(records.columns["a"]) == [None, *(float(str(value)) for value in values[1:])]


def test_parquet_labels_that_are_decimals_keep_their_digits(tmp_path):
    large = [Decimal(12345678901234567890123456789012345600 + n) for n in (1, 2)]
    table = pa.table({"a": [1.5, 2.5], "at": [Decimal("1.5"), None], "label": pa.array(large, pa.decimal128(38, 0)),
                      "id": pa.array(large, pa.decimal128(38, 0))})
    pq.write_table(table, tmp_path / "d.parquet")
    records = read({"kind": "parquet", "path": "d.parquet", "label": "label", "id": "id", "time": "at"}, tmp_path)
    assert records.y == records.ids == [str(one) for one in large]
    assert records.t.tolist() == pytest.approx([1.5, np.nan], nan_ok=True)


def test_parquet_texts_of_any_layout_are_texts(tmp_path):
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        pq.write_table(pa.table({"a": pa.array(["x", None], kind), "label": pa.array(["u", "v"], kind)}), tmp_path / "d.parquet")
        records = read({"kind": "parquet", "path": "d.parquet", "label": "label"}, tmp_path)
        assert (records.columns["a"], records.y) == (["x", None], ["u", "v"])


def test_an_index_of_pandas_without_a_name_is_left_out_by_request_only(tmp_path):
    pq.write_table(pa.table({"a": [1, 2], "label": [1, 2], "__index_level_0__": [0, 1]}), tmp_path / "d.parquet")
    source = {"kind": "parquet", "path": "d.parquet", "label": "label"}
    assert "drop: [__index_level_0__]" in error_of(source, tmp_path)
    assert list(read(source | {"drop": ["__index_level_0__"]}, tmp_path).columns) == ["a"]
    assert list(read(source | {"columns": ["__index_level_0__"]}, tmp_path).columns) == ["__index_level_0__"]
    assert list(read(source, tmp_path, features={"__index_level_0__": "number"}).columns) == ["a", "__index_level_0__"]
    assert "no column is left" in error_of(source | {"columns": []}, tmp_path)


def test_parquet_files_that_do_not_fit(tmp_path):
    source = {"kind": "parquet", "path": "d.parquet", "label": "label"}
    pq.write_table(pa.table({"a": [1, 2, 3], "label": [1.0, 1.5, 2.0]}), tmp_path / "d.parquet")
    assert "row 2" in error_of(source, tmp_path)
    assert list(read(source | {"on_bad_row": "skip"}, tmp_path).y) == ["1", "2"]
    assert "'label'" in error_of(source | {"label": "lable"}, tmp_path)
    whole = (tmp_path / "d.parquet").read_bytes()
    for content in (whole[:-10], whole[:60], b"", b"PAR1" + bytes(40)):
        (tmp_path / "d.parquet").write_bytes(content)
        assert "d.parquet" in error_of(source, tmp_path)
    pq.write_table(pa.table({"a": [[1], [2]], "label": [1, 2]}), tmp_path / "d.parquet")
    assert "drop: [a]" in error_of(source, tmp_path)


def test_river_data_sets_by_name_or_nearest():
    records = read({"kind": "river", "name": "Phishing"}, limit=300)
    assert len(records) == 300
    assert set(records.y) == {"true", "false"}
    assert "Phishing" in error_of({"kind": "river", "name": "Phising"})
    assert "unknown" in error_of({"kind": "river", "name": "base.abc.abstractmethod"})
    assert "options" in error_of({"kind": "river", "name": "SEA", "options": {"nois": 1}})
    assert "options" in error_of({"kind": "river", "name": "synth.ConceptDriftStream", "options": {"stream": "SEA"}})


@pytest.mark.parametrize("name", ["Hyperplane", "RandomRBF", "RandomRBFDrift", "RandomTree"])
def test_river_generators_repeat_by_the_streams_seed(name):
    def rows(seed):
        return read({"kind": "river", "name": f"synth.{name}"}, limit=20, seed=seed).columns

    assert rows(1) == rows(1)
    assert rows(1) != rows(2)


def test_a_shuffle_of_an_endless_source_is_refused():
    message = error_of({"kind": "river", "name": "SEA"}, limit=10, regimes=[{"kind": "single-pass"}])
    assert "single-pass" in message


def test_river_missing_is_one_line_with_the_way_out(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "river", None)
    assert "pip install 'streamil[river]'" in error_of({"kind": "river", "name": "SEA"}, limit=1)


PYTHON = """
import numpy as np
import helper_of_{name}
def dense(n=3):
    for i in range(n):
        yield np.full(2, i % 256, np.uint8), i % 2
def lists():
    yield [1, 2], "a"
    yield [1.5, 2], True
def named():
    yield {{"a": 1, "b": "red"}}, np.int64(1)
    yield {{"b": None, "a": np.float32(2), "c": 3}}, None
def ragged():
    yield [1, 2], "a"
    yield [1], "a"
def fails():
    yield [1], "a"
    raise RuntimeError("two\\nlines")
def nothing():
    return []
def floats():
    yield [1], 0.5
def reused():
    x = np.zeros(2, np.float32)
    for i in range(3):
        x[:] = i
        yield x, i
def gradients():
    import torch
    yield torch.ones(2, requires_grad=True), torch.tensor(1)
def one_hot():
    import torch
    yield torch.ones(2), torch.tensor([0, 1])
def namesakes():
    yield {{1: 0.5, "1": 1.5}}, "a"
def vectors():
    yield {{"a": 1, "b": np.zeros(3)}}, "a"
def exits():
    yield [1], "a"
    raise SystemExit(0)
"""


@pytest.fixture
def module(tmp_path):
    name = f"source_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(PYTHON.format(name=name))
    (tmp_path / f"helper_of_{name}.py").write_text("")
    return lambda function, **options: {"kind": "python", "callable": f"{name}:{function}", "options": options}


def test_python_sources(module, tmp_path):
    dense = read(module("dense", n=600), tmp_path)
    assert (len(dense), dense.x.dtype) == (600, np.uint8)
    assert read(module("lists"), tmp_path).x.tolist() == [[1, 2], [1.5, 2]]
    assert read(module("reused"), tmp_path).x.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert read(module("gradients"), tmp_path).x.tolist() == [[1, 1]]
    named = read(module("named"), tmp_path)
    assert named.columns == {"a": [1, 2.0], "b": ["red", None]}
    assert named.y == ["1", None]


@pytest.mark.parametrize(("function", "words"), [
    ("ragged", ["sample 1"]), ("fails", ["after 1 samples", "RuntimeError: two"]), ("nothing", ["no sample"]),
    ("floats", ["sample 0", "0.5"]), ("nmaed", ["nmaed", "named"]), ("one_hot", ["sample 0", "2 elements"]),
    ("namesakes", ["sample 0", "one name"]), ("vectors", ["sample 0", "'b'", "size 1"]), ("exits", ["after 1 samples", "SystemExit"]),
])
def test_python_sources_that_go_wrong(module, tmp_path, function, words):
    message = error_of(module(function), tmp_path)
    for word in words:
        assert word in message


def test_a_module_that_is_not_there_is_named(tmp_path):
    assert "nowhere_at_all" in error_of({"kind": "python", "callable": "nowhere_at_all:f"}, tmp_path)


def test_a_module_that_ends_the_interpreter_is_named(tmp_path):
    (tmp_path / "script.py").write_text("import sys\nsys.exit(0)\n")
    assert "SystemExit" in error_of({"kind": "python", "callable": "script:f"}, tmp_path)


def test_the_experiments_own_module_wins_over_one_of_the_same_name(tmp_path):
    (tmp_path / "random.py").write_text("def f():\n    yield [1.0], 'own'\n")
    assert read({"kind": "python", "callable": "random:f"}, tmp_path).y == ["own"]
