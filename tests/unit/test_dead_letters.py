"""Dead letters as records and as lines of a file: whatever stands in them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import ROOT, table

from streamil.attachment import rejects
from streamil.attachment.outbox import Letter
from streamil.attachment.rejects import shortened
from streamil.codec import REASONS
from streamil.dead_letters import DeadLetter, Summary, corrected, export
from streamil.dead_letters.export import FIELDS, line
from streamil.dead_letters.replay import LOOK_BACK
from streamil.dead_letters.topic import INDEXED
from streamil.errors import ExperimentError, SourceError
from streamil.experiment.race import Service
from streamil.kafka import Message, record_bytes
from streamil.origin import Origin

HEADERS = {"streamil-origin": b"q2s/0/7/3", "streamil-reason": b"bad-number", "streamil-topic": b"t"}
ORIGIN = Origin("q2s", 0, 7, 3)


def letter(value: bytes | None = b"{}", **more: Any) -> DeadLetter:
    return DeadLetter(**{"origin": ORIGIN, "topic": "t", "reason": "bad-number", "detail": "x", "key": None, "value": value,
                         "headers": {}} | more)


def test_a_letter_reads_what_its_headers_say() -> None:
    read = DeadLetter.read(Message(5, b"k", None, HEADERS | {
        "streamil-detail": "größe".encode(), "streamil-experiment": b"e", "streamil-time": b"-1", "streamil-row": b"3",
        "streamil-shortened": b"5000", "streamil-seq": b"8", "streamil-stream": b"hash", "theirs": b"\xff"}, 99))
    assert read == letter(None, key=b"k", detail="größe", experiment="e", row=3, shortened=5000, time_ms=-1, rejected_ms=99,
                          headers={"streamil-stream": b"hash", "theirs": b"\xff"})
    assert read.headers_back == {"streamil-stream": b"hash", "theirs": b"\xff", "streamil-origin": b"q2s/0/7/3", "streamil-row": b"3"}


@pytest.mark.parametrize("changed", [
    {"streamil-origin": b""}, {"streamil-origin": b"q2s/0/7"}, {"streamil-origin": b"q2s/-1/7/3"}, {"streamil-origin": b"q2s/0/7/-2"},
    {"streamil-origin": b"q2s/0/" + b"9" * 19 + b"/1"}, {"streamil-origin": b"\x1b[2J/0/7/3"}, {"streamil-origin": b"q" * 65 + b"/0/7/3"},
    {"streamil-origin": "q2s/0/٣/3".encode()}, {"streamil-reason": b"\x1b[2J"}, {"streamil-reason": b"a" * 41},
    {"streamil-row": b"x"}, {"streamil-time": b"9" * 19}, {"streamil-shortened": b"1.5"}])
def test_what_is_no_letter_is_told_from_one(changed: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="is no "):
        DeadLetter.read(Message(0, None, b"", HEADERS | changed, 0))
    for name in HEADERS:
        with pytest.raises(ValueError, match=f"{name} is missing"):
            DeadLetter.read(Message(0, None, b"", {other: said for other, said in HEADERS.items() if other != name}, 0))


@given(st.none() | st.binary(max_size=50) | st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace")),
       st.none() | st.binary(max_size=20), st.dictionaries(st.text("ab\u00e9", min_size=1, max_size=5), st.binary(max_size=5), max_size=3),
       st.none() | st.integers(0, 2**40))
def test_a_line_read_back_puts_back_the_same_record(value: bytes | None, key: bytes | None, headers: dict[str, bytes], row: int | None) -> None:
    written = letter(value, key=key, headers=headers, row=row)
    json.loads(line(written), parse_constant=pytest.fail)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_bytes(line(written) + b"\n\n")
        (read,) = corrected(path, "t")
    assert (read.origin, read.topic, read.key, read.value, read.headers_back) == (ORIGIN, "t", key, value, written.headers_back)


@pytest.mark.parametrize(("text", "message"), [
    ("{", "line 2: no JSON"), ("[]", "line 2: an object is wanted"), ('{"origin": "q2s/0/7/4"}', "line 2: 'value' is missing"),
    ('{"value": "a"}', "line 2: 'origin' is missing"), ('{"origin": "q2s/0/7/4", "value": "a", "vlaue": 1}', "line 2: 'vlaue' is unknown"),
    ('{"origin": "q2s/0/7", "value": "a"}', "line 2: 'q2s/0/7' is no origin"), ('{"origin": 7, "value": "a"}', "line 2: origin is '7'"),
    ('{"origin": "q2s/0/7/4", "value": {"x": [1]}}', "line 2: value: a text, .*base64"),
    ('{"origin": "q2s/0/7/4", "value": {"base64": "?"}}', "line 2: value: no base64"),
    ('{"origin": "q2s/0/7/4", "value": "a", "row": -1}', "line 2: row is '-1'"), ('{"origin": "q2s/0/7/4", "value": NaN}', "line 2: no JSON"),
    ('{"origin": "q2s/0/7/4", "value": "a", "headers": [1]}', "line 2: headers"),
    ('{"origin": "q2s/0/7/3", "value": "a"}', "line 2: q2s/0/7/3 stands in line 1, too")])
def test_a_line_that_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"origin": "q2s/0/7/3", "value": "a"}\n' + text)
    with pytest.raises(SourceError, match=f"^{path}, {message}[^\n]*$"):
        list(corrected(path, "t"))


def test_headers_of_streamil_in_a_file_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"origin": "q2s/0/7/3", "value": "a", "headers": {"streamil-seq": "7", "streamil-origin": "z/0/0/0", "own": "1"}}')
    (read,) = corrected(path, "t")
    assert read.headers_back == {"own": b"1", "streamil-origin": b"q2s/0/7/3"}


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.jsonl"
    assert export([letter(), letter(b"\xff")], path) == 2

    def breaks() -> Any:
        yield letter()
        raise SourceError("the broker is away")

    with pytest.raises(ExperimentError, match=r"the file exists: .*--force"):
        export([], path)
    with pytest.raises(SourceError):
        export(breaks(), path, force=True)
    assert len(path.read_bytes().splitlines()) == 2 and [one.name for one in path.parent.iterdir()] == ["a.jsonl"]
    assert export([], path, force=True) == 0 and path.read_bytes() == b""
    with pytest.raises(ExperimentError, match="cannot be written"):
        export([], path / "b.jsonl")


def test_a_letter_with_long_names_of_headers_is_shortened_by_their_bytes() -> None:
    """Compressed, such a record is far below what its topic takes; its letter is not, and the consumer would end."""
    name = "\u20ac" * 1000
    cut = shortened(Letter(b"x", {"streamil-reason": b"not-json", name: b""}), 2500)
    assert cut.headers.keys() == {"streamil-reason", "streamil-shortened"} and cut.value == b"x"
    assert record_bytes(b"", {name: b""}, None) > 3000


def test_no_control_character_reaches_a_terminal() -> None:
    evil = "\x1b[2J\x9b\u202e\r\n"
    summary = Summary.of([letter(f"{evil}v".encode(), detail=evil, topic=evil), letter(None), letter(b"\xff" * 100)], 20)
    for text in (*summary.lines(), json.dumps(summary.data())):
        assert text.isprintable()


def test_a_summary_keeps_no_more_rows_than_it_shows() -> None:
    letters = [letter(b"v%d" % number, rejected_ms=1_700_000_000_000 + 1000 * number, reason="gzip" if number % 5 else "null")
               for number in range(100)]
    summary = Summary.of(iter(letters), 3)
    assert [row["start"] for row in summary.rows] == ["v97", "v98", "v99"]
    assert summary.data()["reasons"] == {
        "gzip": {"count": 80, "first": "2023-11-14T22:13:21.000Z", "last": "2023-11-14T22:14:59.000Z"},
        "null": {"count": 20, "first": "2023-11-14T22:13:20.000Z", "last": "2023-11-14T22:14:55.000Z"}}
    assert next(iter(Summary.of(letters, 0).lines())).split() == ["reason", "letters", "first", "last"]


def test_the_page_says_what_the_code_does() -> None:
    page = ROOT / "docs" / "dead-letters.md"
    named = [name for row in table(page, "## What helps\n") for name in row[0].replace("`", "").split(", ")]
    assert sorted(named) == sorted(REASONS)
    headers = [name for row in table(page, "and these are added:\n") for name in row[0].replace("`", "").split(", ")]
    assert sorted(headers) == sorted([*rejects.OWN, rejects.SHORTENED])
    assert [row[1] for row in table(page, "## Limits\n")] == [f"{limit:,}" for limit in (
        rejects.REMEMBERED, rejects.MORE_BYTES, rejects.COPIES, INDEXED, Service().max_consecutive_rejects or 0)]
    text = page.read_text()
    assert f"last {LOOK_BACK:,} records" in text and f"the first {rejects.DETAIL} letters" in text
    assert all(f"`{name}`" in text for name in FIELDS)
