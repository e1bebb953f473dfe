"""Rows that are no samples end the run by name, or are counted and shown; rows and files of any size stay bounded."""

import gzip
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamil import run
from streamil.cli import main
from streamil.errors import SourceError
from streamil.experiment import Experiment, Stream
from streamil.explain import explain
from streamil.streams import open_stream
from streamil.streams import table as csv_reader
from streamil.streams.chunks import CHUNK, join

KINDS = {"n": "number", "t": {"kind": "time", "unit": "ms"}, "c": "category"}
GOOD = {"n": "1.5", "t": "1714564800000", "c": "red"}
ARMS = {"bp": {"algorithm": "bp-sgd"}}


def read(folder, source, **stream):
    source = {"path": f"t.{source.get('kind', 'csv')}", "kind": "csv", "label": "label"} | source
    opened = open_stream(Stream.model_validate({"source": source, **stream}), folder)
    chunks = list(opened)
    return chunks, opened.skipped


def error_of(folder, source=None, **stream):
    with pytest.raises(SourceError) as caught:
        read(folder, source or {}, **stream)
    assert len(str(caught.value).splitlines()) == 1
    assert str(folder) in str(caught.value)
    return str(caught.value)


BAD = [
    ("n", "red", {}, ["'n'", "'red'", "no number"]), ("n", "inf", {}, ["'n'", "'inf'", "missing"]),
    ("n", "nan", {}, ["'n'", "'nan'", "missing"]), ("n", "1e39", {}, ["'n'", "'1e39'", "finite"]),
    ("n", "1,5", {}, ["'n'", "no number"]), ("t", "yesterday", {}, ["'t'", "'yesterday'", "RFC 3339"]),
    ("t", "1714564800000000", {}, ["'t'", "ms", "years 1 to 9999", "unit"]),
]


@pytest.mark.parametrize(("column", "value", "settings", "words"), BAD)
@pytest.mark.parametrize("first", [True, False])
def test_a_cell_that_is_not_of_its_declared_kind_is_named_by_line_and_column(tmp_path, column, value, settings, words, first):
    good, bad = ({**GOOD, "label": "u"} | changed for changed in ({}, {column: value}))
    rows = [bad, good] if first else [good, bad]
    (tmp_path / "t.csv").write_text("n;t;c;label\n" + "".join(";".join(row.values()) + "\n" for row in rows))
    message = error_of(tmp_path, {"delimiter": ";"} | settings, features=KINDS)
    for word in [*words, f"line {2 if first else 3}", "on_bad_row: skip"]:
        assert word in message
    (records,), skipped = read(tmp_path, {"delimiter": ";", "on_bad_row": "skip"} | settings, features=KINDS)
    assert records.columns == {"n": ["1.5"], "t": ["1714564800000"], "c": ["red"]}
    assert skipped.count == 1


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", "1e39"])
def test_numbers_that_are_not_finite_are_bad_rows_of_columns_that_nobody_declared(tmp_path, value):
    (tmp_path / "t.csv").write_text(f"n,label\n1,u\n{value},v\n")
    assert "line 3: column 'n'" in error_of(tmp_path)
    assert read(tmp_path, {"missing": [value]})[0][0].columns == {"n": ["1", None]}
    (tmp_path / "t.csv").write_text(f"n,label\n{value},u\n1,v\n")
    assert "line 2: column 'n'" in error_of(tmp_path)


def test_a_declared_category_takes_every_text_as_it_stands(tmp_path):
    texts = ["01", "1,5", "1.234", "NA", "2,000.5", "red", "inf"]
    (tmp_path / "t.csv").write_text("c;label\n" + "".join(f"{text};u\n" for text in texts))
    (records,), _ = read(tmp_path, {"delimiter": ";", "decimal": ","}, features={"c": "category"})
    assert records.columns["c"] == texts
    assert "declare it under stream.features" in error_of(tmp_path, {"delimiter": ";"})


def test_declared_names_are_columns_that_are_features(tmp_path):
    (tmp_path / "t.csv").write_text("temp,label,id\n1,u,1\n")
    message = error_of(tmp_path, features={"tmep": "number"})
    for word in ("'tmep'", "stream.features", "nearest known: 'temp'"):
        assert word in message
    for name, settings in (("label", {}), ("id", {"drop": ["id"]})):
        assert "hence no feature" in error_of(tmp_path, settings, features={name: "number"})


def test_bad_rows_of_parquet_are_named_by_row_and_column(tmp_path):
    table = pa.table({
        "f": [1.0, np.inf, None, np.nan, 1e39], "n": ["1", "2", "red", None, "5"],
        "at": ["2024-05-01", "2024-05-01T00:00:00Z", None, "soon", "1"], "label": list("uvuvu")})
    pq.write_table(table, tmp_path / "t.parquet")
    source, kinds = {"kind": "parquet"}, {"n": "number", "at": "time"}
    message = error_of(tmp_path, source, features=kinds)
    for word in ("row 2", "'f'", "inf", "on_bad_row"):
        assert word in message
    (records,), skipped = read(tmp_path, source | {"on_bad_row": "skip"}, features=kinds)
    assert records.y == ["u"]
    assert [word in detail for word, detail in zip(("'f'", "'red'", "'soon'", "'f'"), skipped.details, strict=True)] == [True] * 4
    (records,), skipped = read(tmp_path, source | {"on_bad_row": "skip"})
    assert (len(records), skipped.count) == (3, 2)  # null and nan are missing values


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", gzip.compress(b"")])
@pytest.mark.parametrize("on_bad_row", ["fail", "skip"])
def test_an_empty_file_is_no_stream_whatever_is_skipped(tmp_path, content, on_bad_row):
    (tmp_path / "t.csv").write_bytes(content)
    assert "t.csv: is empty" in error_of(tmp_path, {"on_bad_row": on_bad_row})


def test_a_file_of_bad_rows_alone_says_so(tmp_path):
    (tmp_path / "t.csv").write_text("n,label\nred,u\nblue,v\n")
    assert "no rows but 2 bad ones" in error_of(tmp_path, {"on_bad_row": "skip"}, features={"n": "number"})
    assert "no column 'lable'" in error_of(tmp_path, {"on_bad_row": "skip", "label": "lable"})


def test_skipped_rows_are_counted_and_shown_by_run_and_check(tmp_path):
    (tmp_path / "t.csv").write_text("n,label\n" + "".join(f"{'x' if n % 10 == 3 else n % 5},{n % 2}\n" for n in range(100)))
    experiment = Experiment.model_validate({"stream": {
        "source": {"kind": "csv", "path": str(tmp_path / "t.csv"), "label": "label", "on_bad_row": "skip"}}, "arms": ARMS})
    told = []
    assert run(experiment, tell=told.append)["samples"] == 90
    assert [line for line in told if "10 bad rows skipped, the first: " in line and "line 5: " in line]
    assert [line for line in explain(experiment) if line.startswith("warning: 10 bad rows skipped, the first: ")]


# -- sizes


def test_a_row_is_bounded_whatever_its_quotes_and_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_reader, "ROW_LIMIT", 1 << 16)
    endless = "a,label\n1,u\n" + '2,"x\n' + 'y","z\n' * 20_000
    for content in (endless, "a,label\n1,u\n" + "2" * (1 << 17), "a,label\n1,u\n2,\"" + "\n" * (1 << 17)):
        (tmp_path / "t.csv").write_text(content)
        message = error_of(tmp_path)
        assert "line 3" in message
        assert "row of more than 65536 characters" in message


def test_a_huge_quoted_field_is_named_by_its_line(tmp_path):
    (tmp_path / "t.csv").write_text("a,label\n1,u\n2,\"" + "long\n" * 40_000)
    message = error_of(tmp_path)
    assert "line " in message
    assert "field larger than field limit" in message


def test_a_file_without_line_ends_is_no_table_of_a_million_columns(tmp_path):
    (tmp_path / "t.csv").write_text("a," * 200_000)
    assert "200001 columns" in error_of(tmp_path)


def test_chunks_of_long_rows_are_small_and_hold_the_same_samples(tmp_path, monkeypatch):
    rows = [[str(n), f"t{n}" * (n % 50), str(n % 3)] for n in range(1000)]
    (tmp_path / "t.csv").write_text("n,text,label\n" + "".join(",".join(row) + "\n" for row in rows))
    whole, _ = read(tmp_path, {})
    assert [len(chunk) for chunk in whole] == [CHUNK] * 3 + [1000 - 3 * CHUNK]
    monkeypatch.setattr(csv_reader, "CHUNK_CHARACTERS", 1000)
    cut, _ = read(tmp_path, {})
    assert max(sum(map(len, chunk.columns["text"][:-1])) for chunk in map(filled, cut)) < 1000
    assert join(cut).y == join(whole).y
    assert join(cut).columns == join(whole).columns


def filled(chunk):
    return type(chunk)(y=chunk.y, columns={name: [value or "" for value in values] for name, values in chunk.columns.items()})


def test_a_parquet_file_of_long_rows_is_read_in_short_batches(tmp_path):
    texts = [f"{n}" * 20_000 for n in range(100, 400)]
    pq.write_table(pa.table({"text": texts, "label": ["u"] * 300}), tmp_path / "t.parquet", use_dictionary=False)
    chunks, _ = read(tmp_path, {"kind": "parquet"})
    assert max(map(len, chunks)) < CHUNK
    assert join(chunks).columns["text"] == texts


# -- damage


def test_a_wrong_checksum_of_any_archive_is_one_clear_line(tmp_path, monkeypatch, capsys):
    x, y = np.random.default_rng(0).normal(size=(400, 3)), np.arange(400) % 2
    np.savez(tmp_path / "t.npz", x=x, y=y)
    header = bytes([0, 0, 8, 1, 0, 0, 1, 144])
    (tmp_path / "x.gz").write_bytes(gzip.compress(header + bytes(400)))
    (tmp_path / "t.csv").write_bytes(gzip.compress(b"a,label\n" + b"1,u\n2,v\n" * 400))
    sources = {"t.npz": {"kind": "npz", "path": "t.npz"}, "x.gz": {"kind": "idx", "images": "x.gz", "labels": "x.gz"},
               "t.csv": {"kind": "csv", "path": "t.csv", "label": "label"}}
    for name, source in sources.items():
        content = bytearray((tmp_path / name).read_bytes())
        place = content.index(b"NUMPY") + 500 if name == "t.npz" else len(content) - 6  # data; the gzip's CRC-32
        content[place] ^= 1
        (tmp_path / name).write_bytes(content)
        file = tmp_path / "race.yaml"
        file.write_text(f"stream: {{source: {source}}}\narms: {{bp: {{algorithm: bp-sgd}}}}\n".replace("'", '"'))
        monkeypatch.setattr(sys, "argv", ["streamil", "run", str(file)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr().err
        assert ended.value.code == 1
        assert len(told.splitlines()) == 1
        assert name in told
        assert "damaged" in told
