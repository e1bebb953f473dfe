"""Files of public bug reports, raced as a user would: `base.csv` holds the same rows in plain form."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from streamil import run
from streamil.cli import main
from streamil.codec import decode, encode
from streamil.experiment import load_experiment
from streamil.race import Race
from streamil.results import summary
from streamil.streams import open_stream, pack

DATA = Path(__file__).parent / "streams" / "data"
FILE = """
name: case
stream: {source: %s, seed: 1, regimes: []%s}
network: {hidden: [8]}
arms:
  il-prox: {algorithm: il-prox, batch_size: %d, alpha: 5.0}
  bp-sgd: {algorithm: bp-sgd, batch_size: %d, learning_rate: 0.03}
"""


@pytest.fixture
def written(tmp_path):
    """Write the experiment of all cases about one data file, and return its path."""
    def write(name, *, batch_size=1, stream="", **settings):
        source = {"kind": "csv", "path": str(DATA / name), "label": "label"} | settings
        path = tmp_path / "exp.yaml"
        path.write_text(FILE % (json.dumps(source), stream, batch_size, batch_size), encoding="utf-8")
        return path
    return write


@pytest.fixture
def raced(written):
    return lambda name, **settings: run(load_experiment(written(name, **settings)))


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command line and return exit code, standard output and standard error."""
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["streamil", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return ended.value.code or 0, told.out, told.err
    return call


def strict(path):
    def refuse(word):
        raise AssertionError(f"{path.name} holds {word}, which is no JSON")
    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.mark.parametrize(("name", "settings"), [
    ("d01_bom_crlf.csv", {}),
    ("d01_cr_only.csv", {}),
    ("d02_semicolon_decimal_comma.csv", {"delimiter": ";", "decimal": ","}),
    ("d12_gz_without_ending.csv", {}),
    ("d12_two_members.csv.gz", {}),
])
def test_the_same_rows_in_another_form_are_the_same_race(raced, name, settings):
    got, base = raced(name, **settings), raced("base.csv")
    assert got["samples"] == 120
    for key in ("samples", "arms", "comparisons", "learned_hash"):
        assert got[key] == base[key]


@pytest.mark.parametrize(("name", "settings", "words"), [
    ("d02_semicolon_decimal_comma.csv", {}, ["delimiter"]),
    ("d02_thousands.csv", {}, ["line 3", "'a'", "'-1,780.0'"]),
    ("d05_duplicate_name.csv", {}, ["two columns", "'a'"]),
    ("d05_label_twice.csv", {}, ["two columns", "'label'"]),
    ("d05_space_in_name.csv", {}, ["'label '"]),
    ("d07_ragged.csv", {}, ["line 41", "5 fields", "4 expected"]),
    ("d11_latin1.csv", {}, ["UTF-8", "latin-1"]),
    ("d11_empty.csv", {}, ["empty"]),
    ("d11_header_only.csv", {}, ["no rows"]),
    ("d12_truncated.csv.gz", {}, ["gzip"]),
    ("d12_mac.zip", {}, ["zip"]),
    ("d12_two_tables.zip", {}, ["zip"]),
    ("d13_moa.arff", {}, ["ARFF", "python", "river"]),
])
@pytest.mark.parametrize("verb", ["check", "run"])
def test_a_file_that_cannot_be_read_is_exit_1_and_one_line(written, command, verb, name, settings, words):
    code, _, told = command(verb, written(name, **settings))
    assert code == 1
    assert told.startswith("error: ")
    assert len(told.splitlines()) == 1
    for word in words:
        assert word in told


def test_a_kind_of_file_that_is_not_read_is_wrong_usage_that_names_the_way(written, command):
    code, _, told = command("run", written("d13_moa.arff", kind="arff"))
    assert code == 2
    assert len(told.splitlines()) == 1
    for word in ("line 3", "stream.source.kind", "'arff'", "river", "python"):
        assert word in told


def test_plain_thousands_are_numbers(raced, written, command):
    assert raced("d02_thousands_plain.csv")["samples"] == 120
    code, told, _ = command("check", written("d02_thousands_plain.csv"))
    assert code == 0
    assert "inputs: 3: a, b, c" in told


def test_rows_of_unequal_length_are_skipped_counted_and_shown_on_request(written, command, tmp_path):
    code, _, told = command("run", written("d07_ragged.csv", on_bad_row="skip"), "--out", tmp_path / "out")
    assert code == 0
    assert "2 bad rows skipped" in told
    assert "line 41" in told
    assert strict(tmp_path / "out" / "summary.json")["samples"] == 118


def test_quoted_line_ends_are_three_categories_that_no_codec_changes(written, command, tmp_path):
    path = written("d04_quoted_newline.csv")
    code, told, _ = command("check", path)
    assert code == 0
    assert "inputs: 35: a, b, c, note" in told
    experiment = load_experiment(path)
    expected = run(experiment)
    assert expected["samples"] == 120
    for codec in ("arrow", "json"):
        race, ordinal = Race(experiment), 0
        for sent in pack(open_stream(experiment.stream, experiment.folder), 8):
            records = decode(encode(sent, codec))
            race.feed(records, np.arange(ordinal, ordinal + len(records)))
            ordinal += len(records)
        assert summary(race) == expected


def test_the_right_encoding_gives_the_class_its_name(written, command):
    code, told, _ = command("check", written("d11_latin1.csv", encoding="latin-1"))
    assert code == 0
    assert "d\xe9but" in told


def test_one_row_is_one_sample_and_no_right_answer(written, command, tmp_path):
    code, _, _ = command("run", written("d11_one_row.csv"), "--out", tmp_path / "out")
    assert code == 0
    result = strict(tmp_path / "out" / "summary.json")
    assert result["samples"] == 1
    for arm in result["arms"].values():
        assert [(member["samples"], member["accuracy"]) for member in arm["members"]] == [(1, 0.0)]


def test_mini_batches_that_are_not_full_wait_and_both_sides_count_the_same(raced):
    """17 mini-batches of 7, and one sample that waits (docs/architecture.md, "The end")."""
    result = raced("base.csv", batch_size=7)
    assert result["samples"] == 120
    assert {member["samples"] for arm in result["arms"].values() for member in arm["members"]} == {119}
    assert [comparison["samples"] for comparison in result["comparisons"]] == [119]


@pytest.mark.parametrize("topic", ["my stream", "team/a", "n" * 245, "..", "m\xe9t\xe9o"])
def test_a_name_that_no_topic_can_have_is_refused_with_what_is_allowed(written, command, topic):
    path = written("base.csv", stream=f", topic: {json.dumps(topic)}")
    for verb in ("check", "produce", "consume"):
        code, _, told = command(verb, path)
        assert code == 1
        assert len(told.splitlines()) == 1
        for word in ("stream.topic", "a-z", "249"):
            assert word in told


@pytest.mark.parametrize("name", ["my stream", "team/a", "n" * 240, "..", "m\xe9t\xe9o"])
def test_an_experiment_whose_topics_cannot_have_their_names_is_refused(written, command, name):
    """240 letters fit alone, but not with `.predictions`."""
    path = written("base.csv", stream=f", topic: {json.dumps(name)}")
    path.write_text(path.read_text().replace("name: case", f"name: {json.dumps(name)}"), encoding="utf-8")
    code, _, told = command("check", path)
    assert code == 1
    assert len(told.splitlines()) == 1
    for word in ("name: ", "a-z", "237", "249"):
        assert word in told


@pytest.mark.parametrize("name", ["../outside", "a b/c", "..", "/abs", "m\xe9t\xe9o"])
def test_nothing_is_written_outside_the_folder_asked_for(written, command, tmp_path, monkeypatch, name):
    path = written("base.csv")
    path.write_text(path.read_text().replace("name: case", f"name: {json.dumps(name)}"), encoding="utf-8")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code, _, _ = command("run", path, "--out", "out")
    assert code == 0
    assert {file.name for file in tmp_path.iterdir()} == {"exp.yaml", "here"}
    assert {file.name for file in (tmp_path / "here").iterdir()} == {"out"}


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_results_that_cannot_be_written_are_refused_before_the_source_is_read(written, command, tmp_path, out):
    (tmp_path / "file").write_text("precious")
    code, _, told = command("run", written("absent.csv"), "--out", tmp_path / out)
    assert (code, len(told.splitlines())) == (1, 1)
    assert told.startswith(f"error: {tmp_path / out}: results cannot be written there: ")
    assert (tmp_path / "file").read_text() == "precious"


def test_results_that_cannot_be_written_at_the_end_are_one_line(written, command, tmp_path):
    (tmp_path / "out" / "summary.json").mkdir(parents=True)
    code, _, told = command("run", written("base.csv"), "--out", tmp_path / "out")
    assert (code, len(told.splitlines())) == (1, 1)
    assert f"{tmp_path / 'out'}: results cannot be written there: Is a directory" in told


@pytest.mark.parametrize(("label", "words"), [
    ("", "none of the first 40 samples has a label"), ("{0}.5", "40 classes among the first 40 labels"),
    ("{1}up", "classes 'up' and ' up' are two; to make them one: stream.label_map: {\" up\": \"up\"}"),
])
def test_check_warns_of_labels_that_are_none(written, command, tmp_path, label, words):
    rows = [f"{n % 3},{label.format(n, ' ' * (n % 2))}" for n in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["a,label", *rows]))
    code, told, _ = command("check", written("t.csv", path=str(tmp_path / "t.csv")))
    assert code == 0
    assert words in told


def test_check_warns_of_arms_that_a_consumer_could_not_save(written, command):
    path = written("base.csv")
    path.write_text(path.read_text() + "  nb: {algorithm: 'river:naive_bayes.GaussianNB'}\n")
    code, out, err = command("check", path)
    assert (code, err) == (0, "") and "warning: `streamil consume` refuses this file, `run` does not: arms.nb: " in out
    path.write_text(path.read_text() + "service: {snapshots: {allow_pickle: true}}\n")
    assert "refuses this file" not in command("check", path)[1]
