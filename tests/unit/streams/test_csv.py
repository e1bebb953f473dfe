"""CSV files, among them those of public bug reports; `base.csv` holds the same rows in plain form."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from streamil.errors import SourceError
from streamil.experiment import Stream
from streamil.streams import open_stream

DATA = Path(__file__).parent / "data"


def read(name, folder=DATA, features=None, **settings):
    source = {"kind": "csv", "path": str(name), "label": "label"} | settings
    stream = open_stream(Stream.model_validate({"source": source, "features": features or {}}), folder)
    rows = []
    for records in stream:
        columns = [records.columns[name] for name in sorted(records.columns)]
        rows += zip(*columns, records.y, strict=True)
    return rows, stream


def error_of(name, folder=DATA, **settings):
    with pytest.raises(SourceError) as caught:
        read(name, folder, **settings)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert repr(str(folder / name))[1:-1] in message
    return message


@pytest.fixture
def written(tmp_path):
    def write(content):
        (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / "t.csv"
    return write


@pytest.mark.parametrize(("name", "settings"), [
    ("d01_bom_crlf.csv", {}), ("d01_cr_only.csv", {}), ("d12_two_members.csv.gz", {}),
    ("d12_gz_without_ending.csv", {}), ("d02_semicolon_decimal_comma.csv", {"delimiter": ";", "decimal": ","}),
    ("d05_space_in_name.csv", {"label": "label "}),
])
def test_another_form_of_the_same_rows_gives_the_same_samples(name, settings):
    base = read("base.csv")[0]
    assert len(base) == 120
    got = read(name, **settings)[0]
    # the spaces in d05's names change the order in which columns are compared, not the rows
    assert [sorted(map(str, row)) for row in got] == [sorted(map(str, row)) for row in base]
    if "space" not in name:
        assert got == base


@pytest.mark.parametrize(("name", "settings", "words"), [
    ("d02_semicolon_decimal_comma.csv", {}, ["delimiter", "';'"]),
    ("d02_semicolon_decimal_comma.csv", {"delimiter": ";"}, ["line 2", "'a'", "'0,00'", "decimal"]),
    ("d02_thousands.csv", {}, ["line 3", "'a'", "'-1,780.0'"]),
    ("d05_duplicate_name.csv", {}, ["two columns", "'a'"]),
    ("d05_label_twice.csv", {}, ["two columns", "'label'"]),
    ("d05_space_in_name.csv", {}, ["no column 'label'", "'label '"]),
    ("d07_ragged.csv", {}, ["line 41", "5 fields", "4 expected", "on_bad_row"]),
    ("d11_latin1.csv", {}, ["line 5", "0xe9", "UTF-8", "latin-1"]),
    ("d11_empty.csv", {}, ["empty"]),
    ("d11_header_only.csv", {}, ["no rows"]),
    ("d12_truncated.csv.gz", {}, ["gzip", "incomplete"]),
    ("d12_mac.zip", {}, ["zip"]),
    ("d12_two_tables.zip", {}, ["zip"]),
    ("d13_moa.arff", {}, ["ARFF", "river"]),
    ("absent.csv", {}, ["No such file"]),
    ("base\0.csv", {}, ["byte of 0"]),
    ("base.csv", {"label": "lable"}, ["'lable'", "'label'"]),
    ("base.csv", {"drop": ["d"]}, ["'d'", "drop"]),
    ("base.csv", {"columns": ["a", "label"]}, ["'label'", "no feature"]),
    ("base.csv", {"drop": ["a", "b", "c"]}, ["no column is left"]),
    ("base.csv", {"encoding": "klingon"}, ["klingon"]),
])
def test_a_file_that_is_no_such_table_is_one_clear_line(name, settings, words):
    message = error_of(name, **settings)
    for word in words:
        assert word in message


def test_bad_rows_are_skipped_and_counted_on_request():
    rows, stream = read("d07_ragged.csv", on_bad_row="skip")
    assert len(rows) == 118
    assert stream.skipped.count == 2
    assert "line 41" in stream.skipped.details[0]
    assert "line 81" in stream.skipped.details[1]


def test_the_right_encoding_reads_the_right_class():
    rows, _ = read("d11_latin1.csv", encoding="latin-1")
    assert "d\xe9but" in {row[-1] for row in rows}


def test_line_ends_in_quotes_stay_in_the_value():
    rows, _ = read("d04_quoted_newline.csv")
    assert len(rows) == 120
    notes = {row[3] for row in rows}
    assert len(notes) == 3
    assert 'first line\nsecond, "quoted" line' in notes
    assert [(*row[:3], row[4]) for row in rows] == read("base.csv")[0]


def test_values_and_labels_stay_text_as_sent(written):
    rows, _ = read(written("a,b,label\n1,x,01\n1.0,?,1\n,y,1.0\n 2e3,z,\n4,w,?\n"))
    assert rows == [("1", "x", "01"), ("1.0", None, "1"), (None, "y", "1.0"), (" 2e3", "z", None), ("4", "w", None)]


def test_a_point_among_decimal_commas_is_not_guessed(written):
    path = written("a;b;label\n1,5;x.y;u\n1.234;z;u\n")
    with pytest.raises(SourceError, match=r"line 3.*1\.234"):
        read(path, delimiter=";", decimal=",")


def test_a_bad_row_does_not_fix_what_its_columns_hold(written):
    rows, stream = read(written("a,t,label\n7,never,u\nred,2020-01-01T00:00:00Z,u\n"), time="t", on_bad_row="skip")
    assert rows == [("red", "u")]
    assert stream.skipped.count == 1


def test_columns_beside_the_features_are_read(written):
    path = written("i,at,part,a,label\n9,1700000000.5,3,1,u\n8,2023-11-14 22:13:20,4,2,v\n")
    source = {"kind": "csv", "path": str(path), "label": "label", "id": "i", "time": "at", "segment": "part"}
    (records,) = open_stream(Stream.model_validate({"source": source}), Path())
    assert records.columns == {"a": ["1", "2"]}
    assert records.ids == ["9", "8"]
    assert records.t.tolist() == [1_700_000_000.5, 1_700_000_000.0]
    assert records.segment.tolist() == [3, 4]


def test_a_table_without_a_header_has_columns_by_number(written):
    rows, _ = read(written("1,2,u\n3,4,v\n"), header=False, label="3")
    assert rows == [("1", "2", "u"), ("3", "4", "v")]


@pytest.mark.parametrize(("content", "words"), [
    ('a,label\n1,"u\n2,v\n', "line"), ('a,label\n1,"u"x\n', "line 2"), ("a,label\n1," + "u" * 200_000, "line 2"),
    (b"\xff\xfea\0,\0", "UTF-16"), ("\n\n", "empty"),
])
def test_damaged_text_names_its_line(written, content, words):
    assert words in error_of("t.csv", written(content).parent)


ROWS = "a,label\n1,u\n2,v\n"


@pytest.mark.parametrize(("content", "encoding", "words"), [
    (ROWS.encode("utf-16"), "utf-16-le", "encoding: utf-16"), (ROWS.encode("utf-8-sig"), "latin-1", "encoding: utf-8"),
    (b"\xef\xbb\xbf" + ROWS.encode("utf-8-sig"), "utf-8", "two byte order marks"),
    (ROWS.encode("utf-16-le"), "utf-8", "utf-16-le"), (b"a,label\n1\0,u\n", "utf-8", "bytes of 0"),
    (ROWS.encode(), "rot13", "unknown encoding"), (ROWS.encode(), "hex", "unknown encoding"),
    (ROWS.encode(), "undefined", "unknown encoding"), (ROWS.encode(), "utf\0", "unknown encoding"),
])
def test_a_file_in_another_encoding_than_is_said_is_named_with_its_own(written, content, encoding, words):
    assert words in error_of("t.csv", written(content).parent, encoding=encoding)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_the_encoding_that_is_said_is_read(written, encoding):
    said = "utf-8" if encoding == "utf-8-sig" else encoding
    assert read(written(ROWS.encode(encoding)), encoding=said)[0] == [("1", "u"), ("2", "v")]


def test_the_line_of_a_wrong_byte_is_right_far_into_a_file(written):
    path = written(b"a,label\r\n" + b"1,u\r\n" * 30_000 + b"2,\xe9\r\n")
    assert "line 30002" in error_of(path.name, path.parent)


def test_a_cut_gzip_file_never_ends_like_a_whole_one(tmp_path):
    whole = gzip.compress(b"a,label\n" + b"".join(b"%d,u\n" % n for n in np.arange(5000)))
    for cut in (15, len(whole) // 2, len(whole) - 1):
        (tmp_path / "t.csv").write_bytes(whole[:cut])
        assert "gzip" in error_of("t.csv", tmp_path)


@pytest.mark.parametrize("text", ["1 234", "1\xa0234,5", "1\u202f234.5", "1\u2019234.5", "\u22121.5", "\u221215", "1.234,5"])
def test_numbers_of_other_notations_are_no_categories(written, text):
    assert "another notation" in error_of("t.csv", written(f"a;label\n{text};u\n").parent, delimiter=";")


@pytest.mark.parametrize("text", ["'1.5'", ' "2"', "'3"])
def test_numbers_in_other_quotes_are_no_categories(written, text):
    assert "quotes" in error_of("t.csv", written(f"a,label\n{text},u\n").parent)


def test_a_quote_that_is_never_closed_is_named_by_the_line_where_it_stands(written):
    path = written('a,label\n1,u\n"2,u\n' + "3,v\n" * 50_000)
    assert "line 3, in a row that goes on to line " in error_of("t.csv", path.parent)


@pytest.mark.parametrize("text", ["5%", "-0.5 %", "$1", "$1,234.50", "-$3", "12,5 \u20ac", "\u00a33"])
def test_numbers_with_a_sign_of_their_unit_are_no_categories(written, text):
    path = written(f"a;label\n{text};u\n")
    assert "sign of its unit" in error_of("t.csv", path.parent, delimiter=";")
    assert read(path, delimiter=";", features={"a": "category"})[0] == [(text, "u")]


@pytest.mark.parametrize("text", ["1 2345", "12-345", "1.2.3", "5%-10%", "$", "v1,5"])
def test_texts_with_digits_are_categories(written, text):
    assert read(written(f"a;label\n{text};u\n"), delimiter=";")[0] == [(text, "u")]


def test_a_word_for_missing_is_asked_about_where_it_would_make_categories_of_numbers(written):
    path = written("a,label\nNA,u\n2,v\n")
    assert "missing: [" in error_of("t.csv", path.parent)
    assert read(path, missing=["NA"])[0] == [(None, "u"), ("2", "v")]
    assert read(path, missing=[""])[0] == [("NA", "u"), ("2", "v")]


@pytest.mark.parametrize("text", ["None", "<NA>", "na", "\\N", "#DIV/0!", "-", "--", ".", " "])
def test_a_spelling_of_missing_is_asked_about_wherever_it_stands(written, text):
    first, later = f"a,label\n{text},u\n2,v\n", f"a,label\n2,u\n{text},v\n"
    for content in (first, later):
        path = written(content)
        assert "missing" in error_of("t.csv", path.parent)
        assert (None, "u" if content is first else "v") in read(path, missing=["", text])[0]
    assert read(written(first), features={"a": "category"})[0][0] == (text, "u")


def test_an_empty_cell_makes_no_category_of_numbers_where_missing_does_not_list_it(written):
    assert "begins with ''" in error_of("t.csv", written("a,label\n,u\n2,v\n").parent, missing=["NA"])


@pytest.mark.parametrize("content", [",a,label\n0,1,u\n1,2,v\n", "a,label,\n1,u,\n2,v,\n"])
def test_columns_without_a_name_are_left_out_by_request_only(written, content):
    path = written(content)
    assert "has no name" in error_of("t.csv", path.parent)
    assert read(path, drop=[""])[0] == [("1", "u"), ("2", "v")]


def test_a_header_in_the_middle_is_no_sample(written):
    path = written("c,label\nx,u\nc,label\ny,v\n")
    assert "line 3: the names of the columns once more" in error_of("t.csv", path.parent)
    assert read(path, on_bad_row="skip")[0] == [("x", "u"), ("y", "v")]


@pytest.mark.parametrize("above", ["# made by a tool", "<!DOCTYPE html>", "Report"])
def test_what_stands_above_the_header_is_shown(written, above):
    assert f"{above!r}" in error_of("t.csv", written(f"{above}\n{ROWS}").parent)


def test_lines_of_delimiters_alone_are_no_samples(written):
    assert read(written("a,b,label\n1,2,u\n,,\n3,4,v\n , ,\n"))[0] == [("1", "2", "u"), ("3", "4", "v")]


@pytest.mark.parametrize(("content", "word"), [
    (gzip.compress(gzip.compress(b"a,label\n1,u\n")), "twice"), (gzip.compress(b"PK\x03\x04" + bytes(50)), "zip"),
    (b"\xef\xbb\xbf% from MOA\n@RELATION x\n@DATA\n1,u\n", "ARFF"),
])
def test_what_is_inside_a_wrapping_is_named(written, content, word):
    assert word in error_of("t.csv", written(content).parent)


def test_one_row_is_one_sample_and_plain_thousands_are_numbers():
    assert read("d11_one_row.csv")[0] == [("1", "2", "3", "up")]
    rows, _ = read("d02_thousands_plain.csv")
    assert len(rows) == 120
    assert rows[1][0] == "-1780.0"
