"""A race that is saved, loaded and fed the rest ends as one that was left alone, bit for bit."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamil.errors import LearnerError, StateError
from streamil.experiment import Experiment
from streamil.race import Race
from streamil.race_state import configuration_hash
from streamil.results import curve_table, details, summary
from streamil.samples import Records

TORCH = """
import torch

def net(inputs, outputs, lr=0.05, optimizer="Adam"):
    module = torch.nn.Sequential(torch.nn.Linear(inputs, 6), torch.nn.Dropout(0.3), torch.nn.Linear(6, outputs))
    more = {"momentum": 0.9} if optimizer == "SGD" else {}
    return module, getattr(torch.optim, optimizer)(module.parameters(), lr=lr, **more)
"""
ARMS = {
    "prox": {"algorithm": "il-prox", "alpha": [0.1, 5], "batch_size": [1, 4], "seeds": 2},
    "steps": {"algorithm": "il-prox", "inference_steps": [3, 5], "batch_size": 3},  # a composite
    "adam": {"algorithm": "bp-adam", "learning_rate": [0.01, 0.1], "batch_size": [1, 4]},
    "kfac": {"algorithm": "il-kfac", "batch_size": [1, 3], "refresh": 8},
    "sgd": {"algorithm": "bp-sgd", "learning_rate": [0.1, 1e30]},  # the second one diverges
    "river": {"algorithm": "river:naive_bayes.GaussianNB"},
    "torch": {"algorithm": "torch:own_net:net", "batch_size": 2, "outputs": 8, "optimizer": ["SGD", "Adam"]},
}
PAIRS = [{"challenger": a, "baseline": b} for a, b in (("prox@1", "adam@1"), ("prox@1", "adam@4"), ("kfac@3", "river"))]
COUNT = 420


@pytest.fixture(autouse=True)
def _own_net(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.getbasetemp() / "own"
    folder.mkdir(exist_ok=True)
    (folder / "own_net.py").write_text(TORCH)
    monkeypatch.syspath_prepend(str(folder))


def race(arms=("prox", "adam"), *, pairs=None, stream=None, pickle=True, **more):
    chosen = {name: ARMS[name] for name in arms} if not isinstance(arms, dict) else arms
    comparisons = {} if pairs is None else {"comparisons": pairs}
    return Race(Experiment.model_validate({
        "stream": {"source": {"kind": "elec"}, **(stream or {})}, "network": {"hidden": [5]}, "arms": chosen,
        "evaluation": {"window": 20}, **comparisons, **more}), allow_pickle=pickle)


def samples(kind, count=COUNT, seed=0):
    """Entries to feed: samples whose classes come one by one, segments, and labels that come late or not at all."""
    random = np.random.default_rng(seed)
    numbers, segment = random.normal(size=(count, 3)), np.arange(count) // 90
    classes = [f"c{n}" for n in np.minimum(random.integers(0, 6, count), np.arange(count) // 25)]
    ids = [f"s{n}" if random.random() < 0.7 else None for n in range(count)]
    shown = [None if random.random() < 0.2 else label for label in classes]
    if kind == "dense":
        whole = Records(y=shown, x=numbers, ids=ids, segment=segment)
    elif kind == "bytes":
        whole = Records(y=shown, x=random.integers(0, 256, (count, 3)).astype(np.uint8), ids=ids, segment=segment)
    else:
        words = ["red", "blue", None, *"abcdefgh"]
        whole = Records(y=shown, ids=ids, segment=segment, columns={
            "colour": [words[min(n // 20, 10)] if n else "red" for n in random.integers(0, 200, count)],
            "size": [None if n % 7 == 0 else float(numbers[n, 0]) for n in range(count)],
            "at": [1.7e9 + 3600.0 * n for n in range(count)]})
    entries = []
    for n in range(count):
        entries.append(whole[n:n + 1])
        due = n - int(random.integers(1, 60))
        if due >= 0 and ids[due] and random.random() < 0.5:
            name = ids[due] if random.random() < 0.9 else "nobody"
            entries.append(Records(y=[classes[due] if random.random() < 0.8 else "c0"], ids=[name]))
    return entries


def feed(one, entries):
    for entry in entries:
        one.feed(entry, np.arange(one.samples, one.samples + len(entry)))
    return one


def plain(value):
    """Copy nested plain data so that no object is the same afterwards; anything else is an error."""
    if isinstance(value, dict):
        assert all(type(key) is str for key in value)
        return {"".join(list(key)): plain(inner) for key, inner in value.items()}
    if type(value) is list:
        return [plain(inner) for inner in value]
    if type(value) is np.ndarray:
        assert value.dtype.kind in "fiub"
        return np.frombuffer(value.tobytes(), value.dtype).reshape(value.shape).copy()
    if isinstance(value, torch.Tensor):
        assert value.device.type == "cpu" and not value.requires_grad
        return torch.from_numpy(value.numpy().copy())
    assert value is None or type(value) in (bool, int, float, str, bytes), type(value)
    return value


def same(one, other):
    """Whether two states are equal to the last bit."""
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return same(one.numpy(), other.numpy())
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return one == other or (one != one and other != other)


def without_pickles(state):
    """Return the state without the bytes of pickles, which depend on which texts are one object."""
    state = copy.copy(state)
    state["arms"] = {name: {**arm, "population": {key: value for key, value in (arm["population"] or {}).items() if key not in ("pickle", "checksum")}}
                     for name, arm in state["arms"].items()}
    return state


def require_equal(one, other):
    assert summary(one) == summary(other)
    assert curve_table(one).equals(curve_table(other))
    assert one.learned_hash == other.learned_hash
    assert one.late.counts == other.late.counts and one.late.bytes == other.late.bytes and len(one.late) == len(other.late)
    assert one.rejected == other.rejected and one.unlabelled == other.unlabelled and one.segment == other.segment
    for name in one.arms:
        mine, yours = one.arms[name], other.arms[name]
        if mine.population is not None:
            probe = np.random.default_rng(1).normal(size=(4, mine.population.layers[0]))
            assert same(mine.population.predict(probe), yours.population.predict(probe))
        for figure in ("windowed", "fading", "kappa", "kappa_temporal", "kappa_majority", "macro_f1"):
            assert same(getattr(mine.figures, figure), getattr(yours.figures, figure))
    for pair in one.comparisons:
        assert one.comparisons[pair].since_segment() == other.comparisons[pair].since_segment()
    assert same(without_pickles(one.state_dict()), without_pickles(other.state_dict()))


def cut_and_resumed(make, entries, cuts):
    """Feed entries, saved and loaded into a fresh race at every cut."""
    one = make()
    for first, end in pairwise([0, *cuts, len(entries)]):
        feed(one, entries[first:end])
        state = plain(one.state_dict())
        kept = plain(state)
        one = make()
        found = one.load_state_dict(state)
        assert (found.added, found.removed, found.plan) == ((), (), ())
        assert same(kept, state), "loading only reads"
    return one, state


KINDS = [
    ("dense", {}, {}), ("dense", {"scale": "none", "classes": [f"c{n}" for n in range(5)]}, {}), ("bytes", {}, {}),
    ("named", {"features": {"at": {"kind": "time", "cycles": ["day"]}, "colour": {"kind": "category", "slots": 4}},
               "missing_indicators": True}, {}),
    ("named", {}, {}), ("dense", {"pending_bytes": 1 << 16}, {}),
]


@pytest.mark.parametrize("arms", [("prox", "adam"), ("kfac", "sgd"), ("steps", "river", "torch")])
@pytest.mark.parametrize("kind", range(len(KINDS)))
@settings(max_examples=2, deadline=None)
@given(data=st.data())
def test_a_race_that_is_saved_and_loaded_ends_as_one_left_alone(arms, kind, data):
    form, stream, more = KINDS[kind]
    entries = samples(form, 120, seed=data.draw(st.integers(0, 99), label="seed"))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(entries)), min_size=1, max_size=4), label="cuts"))

    def make():
        return race(arms, stream=stream, **more)

    whole = feed(make(), entries)
    resumed, _ = cut_and_resumed(make, entries, cuts)
    require_equal(whole, resumed)


def test_everything_at_once_is_saved_and_loaded():
    """All kinds of arms and comparisons; what makes the case is asserted, so that it cannot become an easy one."""
    entries = samples("dense")

    def make():
        return race(tuple(ARMS), pairs=PAIRS, verdict={"controls": ["prox@4"]},
                    evaluation={"window": 20, "held": 5, "diagnostics": {"every": 9}})

    whole = feed(make(), entries)
    resumed, state = cut_and_resumed(make, entries, [0, 1, 137, 303, 500])
    require_equal(whole, resumed)
    assert details(whole) == details(resumed)
    assert all(arm.diagnostics.looks > 3 and len(arm.forgetting.segments) for arm in whole.arms.values())
    assert whole.comparisons["prox@4", "prox@4 (control)"].samples > 100
    assert whole.arms["sgd"].population.diverged.tolist() == [False, True]
    assert len(whole.featurizer.labels) == 6 and whole.segment == 4
    assert min(whole.late.counts[word] for word in ("joined", "second", "unknown", "contradicting")) > 0
    assert len(whole.late) > 20 and state["late"]["said"]["river"]["classes"].tolist() != [6] * len(whole.late)
    assert state["backlog"]["rows"] is not None
    assert any(one["sums"]["challenger.segment"].size for one in state["comparisons"])


def test_what_waits_for_a_full_mini_batch_keeps_what_was_said_of_it():
    entries = [Records(y=["a"], x=np.ones((1, 2))), Records(y=["b"], x=np.zeros((1, 2))),
               Records(y=[None], x=np.full((1, 2), 2.0), ids=["late"]), Records(y=["a"], ids=["late"])]
    arms = {"adam": {"algorithm": "bp-adam", "learning_rate": 0.1, "batch_size": [1, 8]}}
    rest = [Records(y=["a", "b"] * 10, x=np.arange(40.0).reshape(20, 2))]
    whole = feed(race(arms), entries)
    state = plain(whole.state_dict())
    assert state["backlog"]["said"]["adam@8"]["rows"].tolist() == [2]
    resumed = race(arms)
    resumed.load_state_dict(state)
    require_equal(feed(whole, rest), feed(resumed, rest))


def test_saving_changes_nothing_and_shares_nothing():
    entries = samples("dense", 130)
    one, other = race(tuple(ARMS)), race(tuple(ARMS))
    feed(one, entries[:111]), feed(other, entries[:111])
    state = one.state_dict()
    kept = plain(state)
    assert same(state, one.state_dict())
    loaded, again = race(tuple(ARMS)), race(tuple(ARMS))
    loaded.load_state_dict(state)
    again.load_state_dict(state)
    for each in (one, loaded, again, other):
        feed(each, entries[111:])
    assert same(state, kept), "neither the race nor one that was loaded writes into a state"
    for each in (one, loaded, again):
        require_equal(other, each)


def test_an_added_arm_begins_where_the_race_stands():
    entries, rest = samples("dense", 333), samples("dense", 300, seed=1)
    before = feed(race(("prox",)), entries)
    after = race(("prox", "adam"), pairs=None)
    found = after.load_state_dict(plain(before.state_dict()))
    assert found.added == ("arm adam@1", "arm adam@4", "comparison prox@1 against adam@1", "comparison prox@4 against adam@4")
    assert found.removed == ()
    since = after.arms["adam@4"].since
    assert since == before._backlog.end > before.arms["prox@4"].figures.samples, "samples wait, which are not for the new one"
    feed(before, rest), feed(after, rest)
    assert summary(after)["arms"]["prox@4"] == summary(before)["arms"]["prox@4"]
    assert after.arms["adam@4"].figures.samples == (after._backlog.end - since) // 4 * 4
    assert after.comparisons["prox@4", "adam@4"].samples == min(
        after.arms["adam@4"].figures.samples, after.arms["prox@4"].position - since)
    again = race(("prox", "adam"))
    assert again.load_state_dict(plain(after.state_dict())).added == ()
    assert again.arms["adam@1"].since == since
    feed(after, rest), feed(again, rest)
    require_equal(after, again)


def test_a_control_may_be_added_to_a_running_race_and_taken_away():
    before = feed(race(("prox",), pairs=[]), samples("dense", 333))
    after = race(("prox",), pairs=[], verdict={"controls": ["prox@4"]})
    found = after.load_state_dict(plain(before.state_dict()))
    assert found.added == ("arm prox@4 (control)", "comparison prox@4 against prox@4 (control)")
    feed(after, samples("dense", 200, seed=1))
    compared = after.comparisons["prox@4", "prox@4 (control)"].samples
    assert 0 < compared == min(after.arms["prox@4 (control)"].figures.samples, after.arms["prox@4"].position - after.arms["prox@4 (control)"].since)
    assert race(("prox",), pairs=[]).load_state_dict(plain(after.state_dict())).removed == found.added


def test_arms_of_an_added_comparison_are_compared_on_the_same_samples():
    """Arms that say the same, one of them added while samples of another wait: a shift would show at every second label."""
    twins = {"a": {"algorithm": "bp-sgd", "learning_rate": 1e-9, "batch_size": 4}, "b": {"algorithm": "bp-sgd", "learning_rate": 1e-9, "batch_size": 1},
             "c": {"algorithm": "bp-sgd", "learning_rate": 1e-9}}
    pairs = [{"challenger": "a", "baseline": "b"}, {"challenger": "a", "baseline": "c"}, {"challenger": "c", "baseline": "b"}]
    random = np.random.default_rng(0)
    records = Records(y=["x", "y", *random.choice(["x", "y"], 298)], x=random.normal(size=(300, 3)))
    before = feed(race({name: twins[name] for name in "ab"}, pairs=pairs[:1], stream={"classes": ["x", "y"]}), [records[:101]])
    after = race(twins, pairs=pairs, stream={"classes": ["x", "y"]})
    after.load_state_dict(plain(before.state_dict()))
    feed(after, [records[101:]])
    assert after.comparisons.since == {("a", "b"): 0, ("a", "c"): 101, ("c", "b"): 101}
    assert after.comparisons["c", "b"].samples == 199 and after.comparisons["a", "c"].samples == 300 - 101
    for pair in (("a", "c"), ("c", "b")):
        sums = after.comparisons[pair].state_dict()
        assert sums["whole.wins"][0, 0] + sums["whole.losses"][0, 0] <= 8, "while the new one meets its first classes"


def test_a_late_label_reaches_an_arm_that_was_added_after_its_sample():
    entries = [Records(y=["a", "b"], x=np.eye(2)), Records(y=[None], x=np.ones((1, 2)), ids=["late"])]
    before = feed(race({"a": {"algorithm": "bp-sgd"}}), entries)
    after = race({"a": {"algorithm": "bp-sgd"}, "b": {"algorithm": "bp-adam"}})
    after.load_state_dict(plain(before.state_dict()))
    feed(after, [Records(y=["a"], ids=["late"])])
    assert after.arms["b"].figures.samples == 1 and after.arms["a"].figures.samples == 3


def test_a_removed_arm_takes_its_comparisons_and_what_it_said_with_it():
    entries, rest = samples("dense", 333), samples("dense", 100, seed=1)
    both, alone = feed(race(("kfac", "adam")), entries), feed(race(("kfac",)), entries)
    loaded = race(("kfac",))
    found = loaded.load_state_dict(plain(both.state_dict()))
    assert found.removed == ("arm adam@1", "arm adam@4", "comparison kfac@1 against adam@1")
    require_equal(alone, loaded)
    require_equal(feed(alone, rest), feed(loaded, rest))


def test_counts_of_what_was_left_out_go_on():
    one = feed(race(("adam",), stream={"classes": ["a", "b"]}), [
        Records(y=["a", "b"], columns={"n": [1.0, 2.0]}), Records(y=["a", "c"], columns={"n": [1.0, 2.0], "more": [5.0, 6.0]})])
    other = race(("adam",), stream={"classes": ["a", "b"]})
    other.load_state_dict(plain(one.state_dict()))
    assert (other.rejected["unknown-label"], other.featurizer.features.ignored) == (1, 1)


def test_less_room_drops_those_that_waited_longest():
    unlabelled = Records(y=[None] * 90, x=np.ones((90, 3)), ids=[f"u{n}" for n in range(90)])
    before = feed(race(), [*samples("dense", 60), unlabelled])
    after = race(stream={"pending_bytes": 1 << 16})
    assert before.late.bytes > 1 << 16
    after.load_state_dict(plain(before.state_dict()))
    assert after.late.bytes <= 1 << 16 and after.late.counts["dropped"] == len(before.late) - len(after.late) > 0


@pytest.mark.parametrize(("change", "names"), [
    ({"stream": {"scale": "none"}}, "stream.scale was 'auto', is 'none'"),
    ({"stream": {"source": {"kind": "mnist"}}}, "stream.source.kind was 'elec', is 'mnist'"),
    ({"stream": {"seed": 1}}, "stream.seed was '0', is '1'"),
    ({"stream": {"classes": ["a"]}}, "stream.classes was 'None'"),
    ({"network": {"hidden": [6]}}, "network.hidden.0 was '5', is '6'"),
    ({"evaluation": {"window": 30}}, "evaluation.window was '20', is '30'"),
    ({"verdict": {"alpha": 0.1}}, "verdict.alpha was '0.05', is '0.1'"),
    ({"name": "other"}, "name was 'streamil', is 'other'"),
    ({"arms": {"sgd": {"algorithm": "bp-sgd", "learning_rate": 0.2}}}, "arms.sgd.members.0.learning_rate was '0.03', is '0.2'"),
    ({"arms": {"sgd": {"algorithm": "bp-adam"}}}, "arms.sgd.algorithm was 'bp-sgd', is 'bp-adam'"),
    ({"arms": {"sgd": {"algorithm": "bp-sgd", "batch_size": 2}}}, "arms.sgd.batch_size was '1', is '2'"),
    ({"arms": {"sgd": {"algorithm": "bp-sgd", "seeds": 2}}}, "arms.sgd.members was"),
])
def test_another_experiment_is_refused_by_the_key(change, names):
    base = {"stream": {"source": {"kind": "elec"}}, "network": {"hidden": [5]}, "evaluation": {"window": 20},
            "arms": {"sgd": {"algorithm": "bp-sgd"}}}
    one = feed(Race(Experiment.model_validate(base)), samples("dense", 20))
    changed = {key: {**base[key], **change[key]} if isinstance(base.get(key), dict) else change[key] for key in change}
    other = Race(Experiment.model_validate({**base, **changed}))
    with pytest.raises(StateError, match="of another experiment") as told:
        other.load_state_dict(one.state_dict())
    assert names in str(told.value)
    assert (configuration_hash(one.configuration()) == configuration_hash(other.configuration())) == ("arms" in change)


@pytest.mark.parametrize("free", [
    {"kafka": {"bootstrap_servers": "127.0.0.1:1", "start": "latest"}}, {"service": {"metrics": "127.0.0.1:0"}},
    {"stream": {"source": {"kind": "elec"}, "rate": 3, "limit": 9, "codec": "json", "topic": "t", "samples_per_record": 1}},
    {"arms": {"sgd": {"algorithm": "bp-sgd", "learning_rate": 0.03, "batch_size": 1}}},
])
def test_what_may_change_between_restarts(free):
    base = {"stream": {"source": {"kind": "elec"}}, "arms": {"sgd": {"algorithm": "bp-sgd"}}}
    one = feed(Race(Experiment.model_validate(base)), samples("dense", 20))
    other = Race(Experiment.model_validate({**base, **free}))
    found = other.load_state_dict(one.state_dict())
    assert (found.added, found.removed, other.samples) == ((), (), 20)
    assert configuration_hash(one.configuration()) == configuration_hash(other.configuration())


def test_another_plan_needs_replan_and_is_told():
    one = feed(race(), samples("dense", 30))
    state = plain(one.state_dict())
    state["plan"]["versions"]["torch"], state["plan"]["threads"] = "1.0", 64
    with pytest.raises(StateError, match=r"another plan: versions.torch was '1.0', is .*; threads was '64', .*--replan"):
        race().load_state_dict(state)
    other = race()
    assert len(other.load_state_dict(state, replan=True).plan) == 2
    assert [line.partition(" was ")[0] for line in summary(other)["replanned"]] == [
        "sample 30: versions.torch", "sample 30: threads"]
    later = race()
    later.load_state_dict(plain(other.state_dict()))
    assert later.replanned == other.replanned and "replanned" not in summary(one)
    other.replanned = []
    require_equal(one, other)


def leaves(state, path=()):
    """Yield the path, the holder and the value of every entry of a state, at any depth."""
    for key, value in state.items() if isinstance(state, dict) else enumerate(state):
        yield (*path, key), state, value
        if isinstance(value, dict | list) and path[:1] not in (("configuration",), ("plan",)):
            yield from leaves(value, (*path, key))


def test_every_wrong_entry_is_refused_and_changes_nothing():
    """Each entry left out, of another type, or an array of another shape."""
    def make(count):
        arms = {"prox": {"algorithm": "il-prox", "batch_size": 4}, "river": ARMS["river"], "torch": ARMS["torch"]}
        return feed(race(arms, pairs=[{"challenger": "prox", "baseline": "river"}],
                         evaluation={"window": 20, "held": 3, "diagnostics": {"every": 5}}), samples("named", count))

    state, target = plain(make(130).state_dict()), make(20)
    before = plain(target.state_dict())
    tried = 0
    for path, holder, value in list(leaves(state)):
        wrong = [object()]
        if isinstance(value, np.ndarray | torch.Tensor) and value.ndim:
            wrong.append(value[..., None])
        # of these any number may be there: arms that spoke, comparisons, state of an optimizer's parameter
        free = isinstance(holder, list) or path[1:-1] == ("said",) or ".optimizer." in str(path[-1])
        if not free:
            wrong.append(None)
        if path[0] == "plan" and len(path) > 1:
            continue
        for one in wrong:
            kept = list(holder.items()) if isinstance(holder, dict) else None
            if one is None:
                del holder[path[-1]]
            else:
                holder[path[-1]] = one
            with pytest.raises(StateError, match=r"^state"):
                target.load_state_dict(state)
                pytest.fail(f"{path} was taken with {one}")
            if kept is None:
                holder[path[-1]] = value
            else:
                holder.clear()
                holder.update(kept)
            tried += 1
    assert tried > 600
    assert same(before, target.state_dict())
    target.load_state_dict(state)


def test_what_other_members_said_is_refused():
    state = plain(feed(race(("prox",)), samples("dense", 60)).state_dict())
    said = state["late"]["said"]["prox@1"]
    said["logits"] = said["logits"][:1]
    with pytest.raises(StateError, match=r"^state of late labels: what prox@1 said"):
        race(("prox",)).load_state_dict(state)


@pytest.mark.parametrize("state", [None, {}, [], {"version": 2}, {"version": 1}])
def test_what_is_no_state_is_refused(state):
    with pytest.raises(StateError, match=r"^state"):
        race().load_state_dict(state)


def test_river_needs_pickle_and_says_so_before_a_run_begins():
    one = race(("river", "adam"), pickle=False)
    (told,) = one.unsavable()
    assert told.startswith("arms.river: ") and "allow_pickle" in told
    state = feed(race(("river", "adam")), samples("dense", 50)).state_dict()
    with pytest.raises(StateError, match=r"arms\.river: allow_pickle"):
        one.load_state_dict(state)
    with pytest.raises(LearnerError, match="allow_pickle"):
        feed(one, samples("dense", 10)).state_dict()
    assert race(("river", "adam")).unsavable() == []


def test_a_torch_arm_that_cannot_be_saved_is_told_when_its_inputs_are_known():
    one = race({"torch": {**ARMS["torch"], "optimizer": "LBFGS"}})
    feed(one, samples("dense", 1))
    (told,) = one.unsavable()
    assert told.startswith("arms.torch: ") and "only tensors and numbers can be saved" in told
    assert one.arms["torch"].figures.samples == 0 and feed(race(("torch",)), samples("dense", 1)).unsavable() == []
