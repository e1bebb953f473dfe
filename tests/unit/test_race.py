import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamil import race as race_module
from streamil.arms import plan_arms, plan_comparisons
from streamil.direct import run
from streamil.errors import ExperimentError, SourceError
from streamil.experiment import Experiment, load_experiment
from streamil.race import Race
from streamil.results import curve_table, details, summary, write_results
from streamil.samples import Records

ARMS = {
    "il": {"algorithm": "il-prox", "alpha": [0.1, 5], "batch_size": [1, 4], "seeds": 2},
    "bp": {"algorithm": "bp-adam", "batch_size": [1, 4]},
}


def experiment(arms=ARMS, **more):
    stream = {"source": {"kind": "elec"}, **more.pop("stream", {})}
    return Experiment.model_validate({"stream": stream, "network": {"hidden": [5]}, "arms": arms, **more})


def some_records(count, seed=0, missing=()):
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 3))
    y = [None if place in missing else f"class {random.integers(9)}" for place in range(count)]
    return Records(y=y, x=x)


def feed(race, records, cuts=()):
    for first, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
        race.feed(records[first:end], np.arange(first, end))
    return race


def test_sweeps_and_seeds_become_members_and_candidates():
    plans = {plan.name: plan for plan in plan_arms(experiment())}
    assert list(plans) == ["il@1", "il@4", "bp@1", "bp@4"]
    assert plans["il@4"].members == ({"alpha": 0.1, "seed": 0}, {"alpha": 0.1, "seed": 1}, {"alpha": 5, "seed": 0},
                                     {"alpha": 5, "seed": 1})
    assert plans["il@4"].candidates == ((0, 1), (2, 3))


@pytest.mark.parametrize(("betas", "members"), [([0.8, 0.9], [[0.8, 0.9]]), ([[0.8, 0.9], [0.9, 0.99]], [[0.8, 0.9], [0.9, 0.99]])])
def test_a_hyperparameter_that_is_a_tuple_is_swept_by_a_list_of_lists(betas, members):
    (plan,) = plan_arms(experiment({"a": {"algorithm": "bp-adam", "betas": betas}}))
    assert [member["betas"] for member in plan.members] == members


def test_comparisons_are_il_against_the_rest_at_equal_batch_size():
    pairs = plan_comparisons(experiment(), plan_arms(experiment()))
    assert [(pair.challenger, pair.baseline) for pair in pairs] == [("il@1", "bp@1"), ("il@4", "bp@4")]


@pytest.mark.parametrize(("arms", "tells"), [
    ({"a": {"algorithm": "il-prx"}}, "arms.a.algorithm: found 'il-prx' (nearest known: il-prox); allowed: "),
    ({"a": {"algorithm": "il-prox", "alhpa": 1}}, "arms.a.alhpa: unknown key (nearest known: alpha); allowed: "),
    ({"a": {"algorithm": "il-prox", "alpha": [1, -1]}}, "arms.a.alpha: input should be greater than 0; found -1"),
    ({"a": {"algorithm": "il-prox", "alpha": []}}, "arms.a.alpha: an empty list"),
    ({"a": {"algorithm": "bp-adam", "betas": [0.9]}}, "arms.a.betas"),
    ({"a": {"algorithm": "bp-sgd", "learning_rate": [0.1] * 1001}}, "arms.a: 1001 members; at most 1000"),
])
def test_wrong_arms_are_errors_that_name_the_key(arms, tells):
    with pytest.raises(ExperimentError) as caught:
        plan_arms(experiment(arms))
    assert tells in str(caught.value)


def test_a_wrong_hyperparameter_is_told_with_its_line(tmp_path):
    file = tmp_path / "race.yaml"
    file.write_text("stream: {source: {kind: mnist}}\narms:\n  a:\n    algorithm: il-prox\n    alpha: -3\n")
    with pytest.raises(ExperimentError, match=r"race.yaml: line 5: arms.a.alpha: .*; found -3"):
        plan_arms(load_experiment(file))


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 90), max_size=6).map(sorted))
def test_a_race_does_not_depend_on_how_samples_are_cut(cuts):
    records = replace(some_records(90, missing={3, 50}), segment=np.arange(90) // 30)
    asked = experiment(evaluation={"held": 4, "diagnostics": {"every": 7}}, verdict={"controls": ["il@4"]})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(race_module, "LOOK_EVERY", 20)
        whole, cut = feed(Race(asked), records), feed(Race(asked), records, cuts)
    assert summary(cut) == summary(whole)
    assert curve_table(cut).equals(curve_table(whole))
    assert details(cut) == details(whole)
    assert whole.arms["il@1"].diagnostics.looks > 2 and whole.arms["il@4"].forgetting.segments.tolist() == [0, 1]


def test_the_hash_follows_ordinals_labels_and_their_order():
    records = some_records(20)
    hashes = {feed(Race(experiment()), records).learned_hash}
    other = Records(y=["class 0"] * 20, x=records.x)
    hashes.add(feed(Race(experiment()), other).learned_hash)
    hashes.add(feed(Race(experiment()), some_records(20, missing={19})).learned_hash)
    race = Race(experiment())
    race.feed(records, np.arange(1, 21))
    hashes.add(race.learned_hash)
    assert len(hashes) == 4


def test_what_is_left_of_a_mini_batch_waits_and_is_in_no_figure():
    result = summary(feed(Race(experiment()), some_records(11)))
    assert result["samples"] == 11
    assert {name: arm["members"][0]["samples"] for name, arm in result["arms"].items()} == {
        "il@1": 11, "il@4": 8, "bp@1": 11, "bp@4": 8}
    assert [one["samples"] for one in result["comparisons"]] == [11, 8]


def test_arms_of_other_batch_sizes_are_compared_on_what_both_have():
    pair = {"comparisons": [{"challenger": "il@1", "baseline": "bp@4"}]}
    (one,) = summary(feed(Race(experiment(**pair)), some_records(11), [5]))["comparisons"]
    assert one["samples"] == 8


def test_unlabelled_samples_are_taken_in_and_not_learned():
    race = feed(Race(experiment()), some_records(12, missing={0, 4, 5, 11}))
    result = summary(race)
    assert (result["samples"], race.unlabelled, result["arms"]["bp@1"]["members"][0]["samples"]) == (12, 4, 8)


def test_bad_samples_are_rejected_alone_and_counted():
    records = some_records(6)
    records.x[2, 1] = np.nan
    race = Race(experiment(stream={"classes": [f"class {place}" for place in range(9)]}))
    (rejected,) = race.feed(records, np.arange(6))
    assert (rejected.index, race.samples, race.rejected[rejected.reason]) == (2, 5, 1)
    (rejected,) = race.feed(Records(y=["class 9"], x=np.ones((1, 3))), np.arange(6, 7))
    assert (race.rejected["unknown-label"], race.samples) == (1, 5)


def test_results_are_strict_json_and_curves_end_exactly(tmp_path):
    race = feed(Race(experiment()), some_records(30))
    result = write_results(race, tmp_path)
    text = (tmp_path / "summary.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")) == result
    curve = pq.read_table(tmp_path / "curve.parquet").to_pylist()
    last = max((row for row in curve if row["arm"] == "il@1" and row["member"] == 1), key=lambda row: row["ordinal"])
    assert (last["ordinal"], last["cumulative"]) == (29, result["arms"]["il@1"]["members"][1]["accuracy"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.parquet", "details.json", "summary.json"]


def test_a_race_without_samples_or_comparisons_has_a_result():
    race = Race(experiment({"a": {"algorithm": "il-prox"}}))
    result = summary(race)
    assert result["comparisons"] == []
    assert result["arms"]["a"]["members"][0]["accuracy"] is None
    json.dumps(result, allow_nan=False)


def test_run_takes_as_many_samples_as_the_smaller_limit_says(tmp_path):
    small = experiment({"a": {"algorithm": "bp-sgd"}}, stream={"limit": 70})
    assert run(small)["samples"] == 70
    assert run(small, limit=65)["samples"] == 65
    assert run(small, limit=75)["samples"] == 70


def test_an_empty_source_is_an_error(tmp_path):
    (tmp_path / "a.csv").write_text("x,label\n")
    file = tmp_path / "race.yaml"
    file.write_text("stream: {source: {kind: csv, path: a.csv, label: label}}\narms: {a: {algorithm: bp-sgd}}\n")
    with pytest.raises(SourceError, match="no"):
        run(load_experiment(file))


def test_a_control_is_the_arm_with_other_seeds():
    arms = {"il": {"algorithm": "il-prox", "alpha": [0.1, 5], "seeds": 3, "batch_size": [1, 4]}, "bp": {"algorithm": "bp-sgd"}}
    plans = {plan.name: plan for plan in plan_arms(experiment(arms, verdict={"controls": ["il@4", "bp"]}))}
    assert list(plans) == ["il@1", "il@4", "bp", "il@4 (control)", "bp (control)"]
    own, control = plans["il@4"], plans["il@4 (control)"]
    assert [member["seed"] for member in own.members] == [0, 1, 2] * 2 and [member["seed"] for member in control.members] == [3, 4, 5] * 2
    assert [{**member, "seed": 0} for member in own.members] == [{**member, "seed": 0} for member in control.members]
    race = feed(Race(experiment(arms, verdict={"controls": ["bp"]})), some_records(60))
    assert not np.array_equal(*(race.arms[name].population.weights[0][0] for name in ("bp", "bp (control)")))
    found = summary(race)
    assert [(row["challenger"], row["baseline"]) for row in found["controls"]] == [("bp", "bp (control)")]
    assert {(row["challenger"], row["baseline"]) for row in found["comparisons"]} == {("il@1", "bp")}


@pytest.mark.parametrize(("controls", "tells"), [
    (["ill"], "found arm 'ill', which does not exist; the nearest known is il"), (["il@1", "il@1"], "which is there already")])
def test_controls_of_arms_that_do_not_exist_are_errors(controls, tells):
    with pytest.raises(ValueError) as error:
        experiment(verdict={"controls": controls})
    assert tells.split(";")[0] in str(error.value)
