from pathlib import Path

import pytest

from streamil.errors import ExperimentError, TopicMismatch
from streamil.experiment import Experiment, load_experiment

GOOD = """\
name: small
stream:
  source: {kind: mnist}
  classes: [0, 1, true, "01"]
arms:
  il: {algorithm: il-prox, alpha: [0.1, 1e-3], batch_size: [1, 8]}
  bp: {algorithm: bp-sgd}
"""
REGIMES = "stream:\n  source: {kind: mnist}\n  regimes: [%s]\narms: {a: {algorithm: x}}\n"


def load(tmp_path: Path, text: str) -> Experiment:
    file = tmp_path / "race.yaml"
    file.write_text(text)
    return load_experiment(file)


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ExperimentError) as caught:
        load(tmp_path, text)
    assert caught.value.exit_code == 2
    assert all(line.startswith(str(tmp_path / "race.yaml")) for line in str(caught.value).splitlines())
    return list(caught.value.problems)


def test_defaults_and_lists(tmp_path):
    experiment = load(tmp_path, GOOD)
    assert experiment.arm_names == ["il@1", "il@8", "bp"]
    assert experiment.arms["il"].hyperparameters == {"alpha": [0.1, 0.001]}
    assert experiment.stream.classes == ("0", "1", "true", "01")
    assert (experiment.topic, experiment.folder) == ("small", tmp_path)
    assert experiment.network.hidden == (64, 64)


def test_every_problem_is_told_with_line_key_found_and_nearest(tmp_path):
    text = GOOD.replace("kind: mnist", "kind: csv, path: a.csv, lable: b").replace("name: small", "nam: small")
    text = text.replace("algorithm: bp-sgd", "algorithm: bp-sgd, batch_size: 0")
    told = problems(tmp_path, text)
    assert told[0].startswith("line 3: stream.source.label: ")
    assert told[1].startswith("line 3: stream.source.lable: unknown key (nearest known: label); allowed: ")
    assert told[2] == "line 7: arms.bp.batch_size: input should be greater than or equal to 1; found 0"
    assert told[3].startswith("line 1: nam: unknown key (nearest known: name); allowed: name, stream, ")
    assert len(told) == 4


@pytest.mark.parametrize(("text", "tells"), [
    ("a: 1\na: 2\n", 'line 2: found duplicate key "a"'),
    ("a: [1\nb: }\n", "line 2: "),
    ("- 1\n", "the file: keys are wanted here: name, stream, "),
    ("", "the file: keys are wanted here: name, stream, "),
    ("stream: {source: {kind: mnist}}\n", "arms: field required"),
    ("stream: {source: {kind: mnist}}\narms: {}\n", "line 2: arms: "),
    ("x: \x00", "is not YAML"),
    ("a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)),
     "has more than 100000 values"),
    ("[" * 1000, "is not YAML: maximum recursion depth"),
    ("stream: {source: {kind: cvs}}\narms: {a: {algorithm: x}}\n", "line 1: stream.source.kind: found 'cvs' (nearest known: csv); allowed: mnist, elec, "),
    ("stream: {source: {kind: mnist}}\narms: {a: {algorithm: x, batch_size: [1, 8]}, a@8: {algorithm: y}}\n", "line 2: arms: two arms are called 'a@8'"),
    ("stream: {source: {kind: mnist}}\narms: {a: {algorithm: x}, b: {algorithm: x}}\ncomparisons: [&p {challenger: a, baseline: b}, *p]\n",
     "line 3: comparisons.1: found 'a' against 'b': each pair of two arms once"),
    ("stream: {source: {kind: mnist}}\narms: {a: {algorithm: x}}\ncomparisons: [{challenger: a, baseline: a}]\n",
     "line 3: comparisons.0: found 'a' against 'a': each pair of two arms once"),
    ("stream: {source: {kind: mnist}}\narms: {a: {algorithm: x}}\ncomparisons: [{challenger: a, baseline: bb}]\n",
     "line 3: comparisons.0: found arm 'bb', which does not exist"),
    ("stream: {source: {kind: mnist}, label_map: {true: a, \"true\": b}}\narms: {a: {algorithm: x}}\n",
     "line 1: stream.label_map: each label once"),
    ("stream: {source: {kind: mnist}, classes: [1.5]}\narms: {a: {algorithm: x}}\n", "line 1: stream.classes: label 1.5"),
    ("stream: {source: {kind: mnist}}\narms: {a: {algorithm: x}}\nservice: {metrics: here}\n", "service.metrics: host:port"),
    ("stream: {source: {kind: mnist}, classes: []}\narms: {a: {algorithm: x}}\n", "line 1: stream.classes: "),
    ("stream: {source: {kind: mnist}, label_map: {1: a, '1': b}}\narms: {a: {algorithm: x}}\n", "line 1: stream.label_map: each label once"),
    ("stream: {source: {kind: mnist}, rate: .inf}\narms: {a: {algorithm: x}}\n", "line 1: stream.rate: input should be a finite number"),
    ("stream: {source: {kind: mnist}}\narms: {a: {algorithm: x}}\nverdict: {alpha: 1e-320}\n", "line 3: verdict.alpha: "),
    (REGIMES % "{kind: corelated, dwell: 3}", "line 3: stream.regimes.0.kind: found 'corelated' (nearest known: correlated); allowed: single-pass, "),
    (REGIMES % "{kind: correlated, dwel: 3, dwell: 3}", "line 3: stream.regimes.0.dwel: unknown key (nearest known: dwell)"),
    (REGIMES % "{kind: correlated}", "line 3: stream.regimes.0.dwell: field required"),
    (REGIMES % "{kind: single-pass}, {kind: sparse-labels, keep: .nan}", "line 3: stream.regimes.1.keep: input should be"),
    (REGIMES % "{kind: drift, what: rotation, every: 9, width: 3}", "line 3: stream.regimes.0.width: an abrupt change has none"),
    (REGIMES % "{kind: drift, what: labels, how: gradual, every: 9, width: 10}", "line 3: stream.regimes.0.width: at most every (9)"),
    (REGIMES % "{kind: bursty, rate: 9, burst: 2}, {kind: limited, samples: 5, repeats: 2}",
     "line 3: stream.regimes: bursty stamps the times of samples as they stand, and limited comes after it: put bursty last"),
    (REGIMES.replace("regimes", "rate: 5\n  regimes") % "{kind: bursty, rate: 9, burst: 2}",
     "line 3: stream.rate: the regime bursty has a rate of its own: leave stream.rate out"),
    (REGIMES % ", ".join(["{kind: single-pass}"] * 33), "line 3: stream.regimes: tuple should have at most 32 items"),
])
def test_a_bad_file_is_one_clear_error(tmp_path, text, tells):
    assert tells in problems(tmp_path, text)[0]


def test_what_a_model_says_of_several_keys_is_told_without_their_values(tmp_path):
    told = problems(tmp_path, REGIMES % "{kind: bursty, rate: 9, burst: 2}, {kind: single-pass}")
    assert told[0].endswith("put bursty last")


def test_yaml_is_1_2(tmp_path):
    experiment = load(tmp_path, GOOD + "verdict: {alpha: 1e-2}\n" + "kafka: {bootstrap_servers: no}\n")
    assert (experiment.verdict.alpha, experiment.kafka.bootstrap_servers) == (0.01, "no")


def test_merged_keys_are_keys_and_what_is_wrong_with_them_has_a_line(tmp_path):
    text = GOOD.replace("arms:\n  il: {", "arms:\n  il: &il {") + "  il2: {<<: *il, batch_size: 2}\n  il3:\n    <<: [*il]\n"
    experiment = load(tmp_path, text)
    assert experiment.arm_names == ["il@1", "il@8", "bp", "il2", "il3@1", "il3@8"]
    assert experiment.arms["il2"].hyperparameters == experiment.arms["il"].hyperparameters
    assert problems(tmp_path, text.replace("[1, 8]", "[1, 0]"))[0].startswith("line 6: arms.il.batch_size")
    told = problems(tmp_path, text.replace("[1, 8]", "[1, 0]").replace("<<: *il, batch_size: 2", "<<: *il"))
    assert any(line.startswith("line 8: arms.il2.batch_size") for line in told)


@pytest.mark.parametrize(("value", "found"), [
    ("!mine 1", "!mine"), ("!!set {1, 2}", "CommentedSet"), ("!!binary /w==", "bytes"), ("[1, !mine x]", "!mine")])
def test_values_that_no_experiment_has_are_told_with_line_and_key(tmp_path, value, found):
    told = problems(tmp_path, GOOD.replace("kind: mnist", f"kind: python, callable: 'a:b', options: {{w: {value}}}"))
    assert told[0].startswith("line 3: stream.source.options.w")
    assert told[0].endswith(f"found {found}")


def test_a_tagged_text_is_a_text(tmp_path):
    assert load(tmp_path, GOOD.replace("name: small", "name: !!str 007")).name == "007"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ExperimentError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load_experiment(tmp_path / "nowhere.yaml")


def test_the_stream_hash_follows_what_is_on_the_topic_alone(tmp_path):
    same = load(tmp_path, GOOD).stream_hash
    assert load(tmp_path, GOOD.replace("name: small", "name: other")).stream_hash == same
    assert load(tmp_path, GOOD.replace("stream:\n", "stream:\n  limit: 3\n  samples_per_record: 1\n")).stream_hash == same
    assert load(tmp_path, GOOD.replace("stream:\n", "stream:\n  seed: 3\n")).stream_hash != same
    hashes = [load(tmp_path, REGIMES % listed).stream_hash for listed in (
        "", "{kind: sparse-labels, keep: 0.5}", "{kind: sparse-labels, keep: 0.6}", "{kind: noisy-labels, rate: 0.5}",
        "{kind: sparse-labels, keep: 0.5}, {kind: noisy-labels, rate: 0.5}",
        "{kind: noisy-labels, rate: 0.5}, {kind: sparse-labels, keep: 0.5}")]
    assert len(set(hashes)) == 6


def test_a_stream_is_paced_by_time_where_a_regime_stamps_times(tmp_path):
    assert not load(tmp_path, GOOD).stream.paced_by_time
    assert load(tmp_path, REGIMES % "{kind: bursty, rate: 9, burst: 2}, {kind: sparse-labels, keep: 1}").stream.paced_by_time


@pytest.mark.parametrize("name", ["a b", "a/b", "é", "..", "x" * 240, "a\nb"])
def test_names_that_kafka_cannot_have_are_refused(name):
    experiment = Experiment.model_validate(
        {"name": name, "stream": {"source": {"kind": "mnist"}}, "arms": {"a": {"algorithm": "bp-sgd"}}})
    with pytest.raises(TopicMismatch, match=r"a-z, A-Z, 0-9"):
        experiment.require_topic_names()


def test_a_long_name_that_fits_is_taken():
    Experiment.model_validate(
        {"name": "x" * 237, "stream": {"source": {"kind": "mnist"}}, "arms": {"a": {"algorithm": "bp-sgd"}}}
    ).require_topic_names()


@pytest.mark.parametrize(("source", "tells"), [
    ("kind: topic", "label is missing: the path of the label, or labels"),
    ("kind: topic, labels: {topic: t, id: a, label: b}", "labels are joined by id"),
    ("kind: topic, label: a..b", "stream.source.label: a path of a field is its keys"),
    ("kind: topic, label: [a, 3]", "stream.source.label: a path of a field is its keys"),
    ("kind: topic, label: y, features: []", "stream.source.features: "),
    ("kind: topic, label: y, features: a", "stream.source.features: "),
    ("kind: topic, label: y, features: [a], x: b", "a sample has x or features, never both"),
    ("kind: topic, label: y, features: [a, y]", "y is the label, id, time or segment, hence no feature"),
    ("kind: topic, label: y, id: n, x: n", "n is the label, id, time or segment, hence no feature"),
    ("kind: topic, label: y, features: [a.b, [a.b]]", "two features are called a.b"),
    ("kind: topic, label: y, codec: 'a b'", "stream.source.codec: "),
    ("kind: topic, label: y, time_unit: h", "stream.source.time_unit: "),
    ("kind: topic, lable: y", "stream.source.lable: unknown key (nearest known: label)"),
])
def test_a_wrong_field_mapping_is_told_with_its_line(tmp_path, source, tells):
    told = problems(tmp_path, GOOD.replace("kind: mnist", source))
    assert any(line.startswith("line 3: stream.source") and tells in line for line in told), told


def test_paths_of_fields_survive_a_dump(tmp_path):
    source = "kind: topic, label: payload.after.fraud, features: [a.b, [c.d, e]]"
    experiment = load(tmp_path, GOOD.replace("kind: mnist", source))
    assert experiment.stream.source.label == ("payload", "after", "fraud")
    assert experiment.stream.source.features == (("a", "b"), ("c.d", "e"))
    assert Experiment.model_validate_json(experiment.model_dump_json()).stream == experiment.stream
