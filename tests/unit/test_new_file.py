"""The file to begin with runs as it is, and what it says of defaults is so."""

import re
from pathlib import Path

import pytest

from streamil.errors import ExperimentError
from streamil.experiment import Experiment, load_experiment
from streamil.experiment_file import read_yaml
from streamil.new_file import new_file, write_new_file


def plain(experiment):
    return experiment.model_dump(mode="json")


def test_each_default_that_it_names_is_one(tmp_path):
    text = new_file(Path("race.yaml"))
    head, keys = text.split("\n\n", 1)
    assert all(line.startswith("#") for line in head.splitlines())
    lines = [line for line in keys.splitlines() if not re.match(r"  # source: ", line)]
    all_keys = "\n".join(re.sub(r"^( *)# (?=[ \w]*:)", r"\1", line) for line in lines)
    assert not re.search(r"^ *# ", all_keys, re.M), "each of them was taken"
    (tmp_path / "race.yaml").write_text(text)
    (tmp_path / "all.yaml").write_text(all_keys)
    assert plain(load_experiment(tmp_path / "all.yaml")) == plain(load_experiment(tmp_path / "race.yaml"))
    given = read_yaml(tmp_path / "all.yaml")[0]
    for name, field in Experiment.model_fields.items():
        assert name in given and (name == "arms" or not hasattr(field.annotation, "model_fields")
                                  or set(given[name]) == set(field.annotation.model_fields)), name


def test_each_source_that_it_names_can_be_chosen(tmp_path):
    text = new_file(tmp_path / "race.yaml")
    others = re.findall(r"^  # (source: .*)$", text, re.M)
    kinds = set()
    for other in others:
        file = tmp_path / "race.yaml"
        file.write_text(re.sub(r"^  source: .*$", lambda _, other=other: f"  {other}", text, count=1, flags=re.M))
        kinds.add(load_experiment(file).stream.source.kind)
    assert kinds == {"csv", "parquet", "npz", "idx", "river", "python", "topic"}


@pytest.mark.parametrize(("file", "name"), [("a b/größe?.yaml", "gr-e"), ("2024.yaml", "2024"), ("...", "race"), ("x" * 200, "x" * 100)])
def test_its_name_is_a_topic(file, name, tmp_path):
    (tmp_path / "it.yaml").write_text(new_file(Path(file)))
    experiment = load_experiment(tmp_path / "it.yaml")
    experiment.require_topic_names()
    assert experiment.name == name


def test_a_file_that_is_there_stays(tmp_path):
    file = tmp_path / "race.yaml"
    file.write_text("mine")
    with pytest.raises(ExperimentError, match="already"):
        write_new_file(file)
    assert file.read_text() == "mine"
    with pytest.raises(ExperimentError, match="cannot be written"):
        write_new_file(tmp_path / "nowhere" / "race.yaml")
