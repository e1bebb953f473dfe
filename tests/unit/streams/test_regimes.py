"""Regimes: what each promises, on any chunks of the source, in bounded memory."""

import itertools
import math
import tracemalloc
from collections import Counter
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from streamil.demo import demo_file
from streamil.demo_regimes import DEMO_REGIMES, SHORTER
from streamil.errors import SourceError
from streamil.experiment import Stream, load_experiment
from streamil.samples import Records
from streamil.streams import open_stream
from streamil.streams.chunks import CHUNK, join, size_in_memory
from streamil.streams.regimes import MAKE_AN_END, NEED_AN_END, REGIMES, memory, reshape
from streamil.streams.regimes.correlated import RUNS
from streamil.streams.regimes.rotation import Rotations


def regimes_of(*listed):
    return Stream.model_validate({"source": {"kind": "mnist"}, "regimes": listed}).regimes


def reshaped(records, *listed, seed=1, cuts=()):
    edges = [0, *sorted(cuts), len(records)]
    chunks = (records[first:last] for first, last in itertools.pairwise(edges) if first < last)
    found = list(reshape(chunks, regimes_of(*listed), seed, finite=True))
    assert all(0 < len(one) <= CHUNK for one in found) or not listed
    return join(found) if found else records[:0]


def labelled(count, shares=(0.1,) * 10, seed=0, **more):
    """Samples whose input is their place, of classes a, b, ..., drawn independently."""
    drawn = np.random.default_rng(seed).choice(len(shares), count, p=np.array(shares) / sum(shares))
    return Records(y=[chr(97 + one) for one in drawn], x=np.arange(count)[:, None], **more)


def places(records):
    return records.x[:, 0].tolist()


def runs_of(labels):
    return [(label, len(list(run))) for label, run in itertools.groupby(labels)]


def same(one, other):
    def listed(values):
        return values.tolist() if isinstance(values, np.ndarray) else values

    def parts(records):
        return repr([list(records.y), records.x is not None and (records.x.dtype, records.x.tolist()), records.ids,
                     {name: listed(values) for name, values in records.columns.items()},
                     listed(records.t), listed(records.segment)])

    return parts(one) == parts(other)


# -- all of them

SETTINGS = {
    "single-pass": st.just({}),
    "correlated": st.fixed_dictionaries({"dwell": st.sampled_from([1, 2.5, 30])}),
    "class-incremental": st.fixed_dictionaries(
        {"classes_per_block": st.integers(1, 4), "samples_per_block": st.sampled_from([1, 7, 100, 1000])}),
    "drift": st.sampled_from([
        {"what": what, "how": how, "every": every, "width": None if how == "abrupt" else every}
        for what in ("labels", "features") for how in ("abrupt", "gradual", "recurring") for every in (1, 3, 200)]),
    "long-tail": st.fixed_dictionaries({"exponent": st.sampled_from([0, 0.5, 2])}),
    "noisy-senses": st.fixed_dictionaries({"sigma": st.sampled_from([0, 0.3])}),
    "noisy-labels": st.fixed_dictionaries({"rate": st.sampled_from([0, 0.4, 1])}),
    "sparse-labels": st.fixed_dictionaries({"keep": st.sampled_from([0, 0.4, 1])}),
    "limited": st.fixed_dictionaries({"samples": st.sampled_from([1, 300, 2000]), "repeats": st.integers(1, 3)}),
}


@st.composite
def sources(draw):
    count = draw(st.sampled_from([1, 5, 256, 700, 1200]))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    labels = [[None, "a", "b", "c", "d"][one] for one in rng.integers(draw(st.integers(0, 4)), 5, count)]
    more = {"segment": rng.integers(0, 3, count)} if draw(st.booleans()) else {}
    more |= {"t": rng.random(count), "ids": [f"i{n}" for n in range(count)]} if draw(st.booleans()) else {}
    form = draw(st.sampled_from(["uint8", "int16", "float32", "named"]))
    if form != "named":
        return Records(y=labels, x=rng.integers(0, 120, (count, 3)).astype(form), **more)
    return Records(y=labels, **more, columns={
        "number": [None if one > 0.8 else float(one) for one in rng.random(count)],
        "text": [f"{one:.3f}" for one in rng.random(count)], "array": rng.random(count),
        "category": [None if one > 0.9 else "red" for one in rng.random(count)]})


@st.composite
def listed_regimes(draw):
    kinds = draw(st.lists(st.sampled_from(list(SETTINGS)), min_size=1, max_size=3))
    listed = [{"kind": kind} | draw(SETTINGS[kind]) for kind in kinds]
    return [*listed, {"kind": "bursty", "rate": 10, "burst": 7}] if draw(st.booleans()) else listed


@settings(max_examples=150)
@given(sources(), listed_regimes(), st.lists(st.integers(1, 1199), min_size=1, max_size=30), st.integers(0, 5))
def test_the_stream_does_not_depend_on_the_chunks_of_the_source(source, listed, cuts, seed):
    whole = reshaped(source, *listed, seed=seed)
    cut = reshaped(source, *listed, seed=seed, cuts=[cut for cut in cuts if cut < len(source)])
    assert same(whole, cut)
    assert same(whole, reshaped(source, *listed, seed=seed))


@pytest.mark.parametrize("kind", ["correlated", "class-incremental"])  # which would, if the chunks came as they are
def test_what_is_drawn_ahead_does_not_depend_on_the_chunks_of_the_source(kind):
    listed = {"kind": kind} | LAZY[kind][0]
    source = labelled(5000, (1, 2, 3))
    whole = reshaped(source, listed)
    for size in (1, 100, 300, 2000):
        assert same(whole, reshaped(source, listed, cuts=range(size, 5000, size)))


def test_every_regime_is_in_these_tests_and_in_the_demo():
    assert list(REGIMES) == list(DEMO_REGIMES)
    assert set(REGIMES) == {*SETTINGS, "bursty", "delayed-labels"}  # the last one in test_delayed_labels.py


@pytest.mark.parametrize("kind", [kind for kind in SETTINGS if kind != "bursty"])
def test_another_seed_gives_another_stream(kind):
    other = {"class-incremental": True, "drift": False}  # the one draws nothing
    listed = {"kind": kind} | {
        "correlated": {"dwell": 3}, "class-incremental": {"classes_per_block": 2, "samples_per_block": 50},
        "drift": {"what": "labels", "every": 100}, "long-tail": {"exponent": 1}, "noisy-senses": {"sigma": 0.1},
        "noisy-labels": {"rate": 0.1}, "sparse-labels": {"keep": 0.5}, "limited": {"samples": 100, "repeats": 2},
    }.get(kind, {})
    source = labelled(1000)
    assert same(reshaped(source, listed, seed=1), reshaped(source, listed, seed=2)) is other.get(kind, False)


def test_regimes_work_in_the_order_of_the_file():
    source = labelled(1000)
    keep, first = {"kind": "limited", "samples": 100, "repeats": 1}, {"kind": "single-pass"}
    assert set(places(reshaped(source, keep, first))) == set(range(100))
    assert set(places(reshaped(source, first, keep))) != set(range(100))


def test_a_regime_that_is_added_leaves_the_choices_of_the_others():
    source = labelled(1000)
    noisy, sparse = {"kind": "noisy-labels", "rate": 0.3}, {"kind": "sparse-labels", "keep": 0.5}
    alone = reshaped(source, noisy).y
    assert alone != source.y
    for others in ([{"kind": "noisy-senses", "sigma": 0}, noisy], [noisy, {"kind": "long-tail", "exponent": 0}]):
        assert reshaped(source, *others).y[:1] == alone[:1] and len(alone) == 1000
    assert reshaped(source, {"kind": "noisy-senses", "sigma": 1}, noisy).y == alone
    hidden = [label is None for label in reshaped(source, sparse).y]
    assert [label is None for label in reshaped(source, noisy, sparse).y] == hidden
    # two of a kind differ: a quarter is left, not a half
    assert 0.2 < np.mean([label is not None for label in reshaped(source, sparse, sparse).y]) < 0.3


def test_the_first_single_pass_is_in_the_order_of_the_seed_alone():
    source = labelled(1000)
    published = np.random.default_rng(7).permutation(1000).tolist()
    assert places(reshaped(source, {"kind": "single-pass"}, seed=7)) == published
    assert places(reshaped(source, {"kind": "sparse-labels", "keep": 1}, {"kind": "single-pass"}, seed=7)) == published
    assert places(reshaped(source, {"kind": "single-pass"}, {"kind": "single-pass"}, seed=7)) != [
        published[place] for place in published]


# -- endless sources, and memory

LAZY = {  # settings, and how far ahead of what was given the source may be drawn, beside one chunk
    "correlated": ({"dwell": 10}, RUNS * 10 * 4 + CHUNK),
    "class-incremental": ({"classes_per_block": 2, "samples_per_block": 300}, 4 * 300),
    "drift": ({"what": "features", "every": 300}, 0), "noisy-senses": ({"sigma": 1}, 0),
    "noisy-labels": ({"rate": 0.5}, 0), "sparse-labels": ({"keep": 0.5}, 0), "bursty": ({"rate": 1, "burst": 3}, 0),
    "limited": ({"samples": 5000, "repeats": 2}, 0), "long-tail": ({"exponent": 0}, 50),
}


class Endless:
    """A source that counts what was drawn; chunks of 100."""

    def __init__(self, width=2, classes=4):
        self.drawn, self.width, self.classes = 0, width, classes
        self.rng = np.random.default_rng(0)

    def __iter__(self):
        while True:
            self.drawn += 100
            yield Records(y=[str(one) for one in self.rng.integers(0, self.classes, 100)],
                          x=self.rng.integers(0, 256, (100, self.width)).astype(np.uint8))


def test_all_but_those_that_need_an_end_are_lazy():
    assert {*LAZY, *NEED_AN_END, "delayed-labels"} == set(REGIMES)


@pytest.mark.parametrize("kind", LAZY)
def test_endless_sources_are_drawn_no_further_than_promised(kind):
    more, ahead = LAZY[kind]
    source, given_out = Endless(), 0
    for records in reshape(iter(source), regimes_of({"kind": kind} | more), 1, finite=False):
        given_out += len(records)
        if kind != "limited" or given_out < 5000:
            assert source.drawn - given_out <= ahead + CHUNK + 100
        if given_out >= 9000:
            break
    assert given_out >= 9000 and source.drawn >= 5000


@pytest.mark.parametrize("kind", ["correlated", "class-incremental", "drift", "noisy-senses", "long-tail"])
def test_memory_does_not_grow_with_the_stream(kind):
    # all samples together are 20 MB or more
    more, ahead = LAZY[kind]
    bound = 3 * 400 * (ahead + 2 * CHUNK) + 8_000_000 * (kind == "noisy-senses") + 1_000_000
    stream = reshape(iter(Endless(400)), regimes_of({"kind": kind} | more), 1, finite=False)
    tracemalloc.start()
    try:
        assert sum(len(records) for records in itertools.islice(stream, 600)) > 40_000
        assert tracemalloc.get_traced_memory()[1] < bound
    finally:
        tracemalloc.stop()


def test_what_needs_an_end_is_refused_without_one_and_limited_makes_one(tmp_path):
    source = {"kind": "river", "name": "SEA"}
    stream = Stream.model_validate({"source": source, "regimes": [{"kind": "sparse-labels", "keep": 1}, {"kind": "single-pass"}]})
    with pytest.raises(SourceError, match=r"river: regime single-pass needs a source that ends.*kind: limited"):
        open_stream(stream, tmp_path)
    stream = Stream.model_validate({"source": source, "regimes": [
        {"kind": "limited", "samples": 30, "repeats": 1}, {"kind": "single-pass"}]})
    assert sum(map(len, open_stream(stream, tmp_path))) == 30
    assert {"limited"} == MAKE_AN_END


@pytest.mark.parametrize(("kind", "more"), [
    ("single-pass", {}), ("limited", {"samples": 100_000, "repeats": 1}), ("correlated", {"dwell": 1000}),
    ("class-incremental", {"classes_per_block": 1, "samples_per_block": 100_000})])
def test_a_regime_that_would_hold_too_much_ends_with_one_line(monkeypatch, kind, more):
    monkeypatch.setattr(memory, "MEMORY_LIMIT", 50_000)
    with pytest.raises(SourceError, match=rf"^{kind}: it has to hold samples, 50000 bytes are full") as caught:
        for _ in reshape(itertools.islice(Endless(50), 1000), regimes_of({"kind": kind} | more), 1, finite=True):
            pass
    assert len(str(caught.value).splitlines()) == 1


# -- correlated

@pytest.mark.parametrize("shares", [(1,) * 10, (1, 1), (0.7, 0.3)])
def test_correlated_runs_are_geometric_with_the_promised_mean(shares):
    source = labelled(60_000, shares)
    after = reshaped(source, {"kind": "correlated", "dwell": 20})
    assert sorted(places(after)) == list(range(60_000))
    assert all(np.all(np.diff([place for place, label in zip(places(after), after.y, strict=True) if label == one]) > 0)
               for one in set(after.y))
    runs = runs_of(after.y)[:-5]
    lengths = np.array([length for _, length in runs])
    assert np.mean(lengths) == pytest.approx(20, rel=0.06)
    for label, share in zip("abcdefghij", shares, strict=False):
        expected = 20 * len(shares) * share / sum(shares)
        own = np.array([length for one, length in runs if one == label])
        assert np.mean(own) == pytest.approx(expected, rel=0.2)
        assert np.mean(own <= expected / 2) == pytest.approx(1 - math.exp(-0.5), abs=0.1)
        # shares stay as they are, all along
        assert after.y[:30_000].count(label) / 30_000 == pytest.approx(share / sum(shares), abs=0.03)


def test_correlated_with_a_single_class_or_sample_gives_it():
    source = labelled(500, (1,))
    assert places(reshaped(source, {"kind": "correlated", "dwell": 5})) == list(range(500))
    assert places(reshaped(source[:1], {"kind": "correlated", "dwell": 5})) == [0]


# -- class-incremental

BLOCKS = {"kind": "class-incremental", "classes_per_block": 2, "samples_per_block": 100}


def blocks_of(records):
    return [(number, [row for row in range(len(records)) if records.segment[row] == number])
            for number in dict.fromkeys(records.segment.tolist())]


def test_blocks_have_the_promised_classes_sizes_and_stamps():
    source = labelled(3000, (1,) * 6)
    appearance = list(dict.fromkeys(source.y))
    after = reshaped(source, BLOCKS)
    found = blocks_of(after)
    assert [number for number, _ in found] == list(range(len(found)))
    assert np.all(np.diff(after.segment) >= 0)
    for number, rows in found[:20]:
        assert len(rows) == 100
        assert set(np.array(after.y)[rows]) == set((appearance * 20)[2 * number:2 * number + 2])
        assert np.all(np.diff(after.x[rows, 0]) > 0)  # in the order of the source
    assert len(set(places(after))) == len(after) >= 2800  # nothing twice, hardly anything left out
    assert after.y == [source.y[place] for place in places(after)]
    # no sample of a class overtakes another one's
    for label in appearance:
        own = [place for place, one in zip(places(after), after.y, strict=True) if one == label]
        assert own == sorted(own)


def test_each_class_comes_once_where_blocks_are_large_enough():
    source = labelled(1000, (1, 2, 3, 4, 5))
    after = reshaped(source, BLOCKS | {"samples_per_block": 1000})
    assert sorted(places(after)) == list(range(1000))
    assert [len(set(np.array(after.y)[rows])) for _, rows in blocks_of(after)] == [2, 2, 1]


def test_of_a_common_class_no_more_waits_than_a_block_holds():
    source = Records(y=["a"] * 50 + ["b"] * 950 + ["a"] * 50, x=np.arange(1050)[:, None])
    after = reshaped(source, BLOCKS | {"classes_per_block": 1})
    # a's block takes the first 50, waits in vain for more until the end, while 100 of b wait
    assert places(after) == [*range(50), *range(1000, 1050), *range(50, 150)]
    assert after.segment.tolist() == [0] * 100 + [1] * 100


def test_a_class_that_comes_late_has_the_next_block():
    labels = ["a", "b"] * 150 + ["c"] * 10 + ["a", "b"] * 200
    after = reshaped(Records(y=labels, x=np.arange(len(labels))[:, None]), BLOCKS | {"classes_per_block": 1})
    blocks = [after.y[rows[0]] for _, rows in blocks_of(after)]
    assert blocks[:5] == ["a", "b", "a", "c", "b"]  # c comes while the second block of a is filled


def test_a_class_that_is_gone_is_waited_for_in_patience_then_left(monkeypatch):
    def source():
        yield Records(y=["a"] * 10, x=np.zeros((10, 1)))
        while True:
            yield Records(y=["b", "c"], x=np.ones((2, 1)))

    monkeypatch.setattr(import_module("streamil.streams.regimes.class_incremental"), "PATIENCE", 2000)
    stream = reshape(source(), regimes_of(BLOCKS | {"classes_per_block": 1}), 1, finite=False)
    after = join(list(itertools.islice(stream, 12)))
    assert [(after.y[rows[0]], len(rows)) for _, rows in blocks_of(after)][:5] == [
        ("a", 10), ("b", 100), ("c", 100), ("b", 100), ("c", 100)]


# -- drift

def drift(**more):
    return {"kind": "drift", "what": "labels", "every": 500} | more


def test_labels_are_exchanged_at_the_promised_places():
    source = labelled(2500, (1,) * 5)
    after = reshaped(source, drift())
    assert after.segment.tolist() == [place // 500 for place in range(2500)]
    assert places(after) == list(range(2500))
    before = {label: label for label in "abcde"}
    for concept in range(5):
        pairs = set(zip(source.y[500 * concept:500 * (concept + 1)], after.y[500 * concept:500 * (concept + 1)], strict=True))
        mapping = dict(pairs)
        assert len(pairs) == len(set(mapping.values())) == 5  # one to one
        assert all((mapping[label] == before[label]) is (concept == 0) for label in "abcde")
        before = mapping


def test_a_class_first_met_in_a_concept_keeps_its_label_until_the_next():
    source = Records(y=["a", "b"] * 5 + ["a", "b", "c", None, "c"] + ["c", "a", "b"] * 2, x=np.zeros((21, 1)))
    after = reshaped(source, drift(every=10, how="abrupt"))
    assert after.y == [*source.y[:10], "b", "a", "c", None, "c", *after.y[15:]]
    assert after.y[12] == "c" and after.y[20] != source.y[20] and after.segment[20] == 2


def test_recurring_concepts_come_back_with_their_stamps():
    source = labelled(2000, (1,) * 5)
    after = reshaped(source, drift(how="recurring"))
    assert after.segment.tolist() == [place // 500 % 2 for place in range(2000)]
    assert after.y[:500] + after.y[1000:1500] == source.y[:500] + source.y[1000:1500]
    assert len(set(zip(source.y[500:1000] + source.y[1500:], after.y[500:1000] + after.y[1500:], strict=True))) == 5


@pytest.mark.parametrize(("how", "width"), [("gradual", 400), ("gradual", None), ("recurring", 300)])
def test_a_gradual_change_is_a_mixture_around_the_stamp(how, width):
    source = labelled(40_000, (1, 1))
    after = reshaped(source, drift(how=how, every=1000, width=width))
    new = np.array(after.y) != np.array(source.y)  # with two classes concepts alternate
    assert np.array_equal(after.segment % 2, np.arange(40_000) // 1000 % 2)
    # all changes one upon the other, in samples from the change: the share that is under the later concept
    late = new[500:39_500].reshape(39, 1000) ^ (np.arange(39) % 2 == 1)[:, None]
    share = late.mean(0)
    half = (width or 500) // 2
    assert not share[:500 - half].any() and share[500 + half:].all()
    expected = (np.arange(2 * half) + 0.5) / (2 * half)
    assert np.abs(share[500 - half:500 + half].reshape(10, -1).mean(1) - expected.reshape(10, -1).mean(1)).max() < 0.07


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_dense_features_change_their_places(dtype):
    x = np.random.default_rng(0).integers(0, 255, (1500, 6)).astype(dtype)
    after = reshaped(Records(y=["a"] * 1500, x=x), drift(what="features"))
    assert after.x.dtype == dtype
    found = []
    for concept in range(3):
        rows = slice(500 * concept, 500 * (concept + 1))
        found.append([next(place for place in range(6) if np.array_equal(after.x[rows, column], x[rows, place]))
                      for column in range(6)])
        assert sorted(found[-1]) == list(range(6))
    assert found[0] == list(range(6))
    assert all(one != other for concept in (0, 1) for one, other in zip(found[concept], found[concept + 1], strict=True))


def test_a_mixture_of_concepts_leaves_samples_in_their_order():
    x = np.arange(6000).reshape(1000, 6)
    after = reshaped(Records(y=["a"] * 1000, x=x), drift(what="features", how="gradual", every=100, width=100))
    assert np.array_equal(np.sort(after.x, axis=1), x)
    assert 0.3 < np.mean((after.x[1:] % 6 != after.x[:-1] % 6).any(axis=1)) < 0.7  # back and forth all the time


def test_named_numbers_change_their_places_and_categories_stay():
    rng = np.random.default_rng(0)
    columns = {"a": [f"{one}" for one in rng.random(900)], "b": rng.integers(0, 99, 900),
               "c": [None if one > 0.7 else float(one) for one in rng.random(900)], "d": ["red", "4", "blue"] * 300}
    after = reshaped(Records(y=["a"] * 900, columns=columns), drift(what="features", every=300))
    assert list(after.columns["d"]) == columns["d"]
    numbers = {"a": np.array(columns["a"], float), "b": columns["b"].astype(float),
               "c": np.array([math.nan if one is None else one for one in columns["c"]])}
    before = {name: name for name in numbers}
    for concept in range(3):
        rows = slice(300 * concept, 300 * (concept + 1))
        taken = {name: next(one for one in numbers if np.array_equal(
            after.columns[name][rows], numbers[one][rows], equal_nan=True)) for name in numbers}
        assert sorted(taken.values()) == ["a", "b", "c"]
        assert all((taken[name] == before[name]) is (concept == 0) for name in numbers)
        before = taken


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_turned_images_are_those_of_numpy_and_scipy(dtype):
    x = np.random.default_rng(0).integers(0, 120, (5, 81)).astype(dtype)
    records, rotations = Records(y=["a"] * 5, x=x), Rotations("drift")
    for quarter in range(4):
        turned = rotations.turned(records, 90.0 * quarter)
        assert turned.dtype == x.dtype
        expected = np.rot90(x.reshape(5, 9, 9), quarter, axes=(1, 2)).reshape(5, 81)
        assert np.allclose(turned, expected, atol=1e-3)
    # inside the circle that no corner leaves; scipy treats what is outside in another way
    turned = rotations.turned(records, 37.0).reshape(5, 9, 9)
    expected = np.stack([ndimage.rotate(image.astype(float), 37.0, reshape=False, order=1) for image in x.reshape(5, 9, 9)])
    down, right = np.mgrid[:9, :9] - 4
    inside = np.hypot(down, right) < 4
    assert np.abs(turned - expected)[:, inside].max() < (0.51 if x.dtype.kind != "f" else 0.01)
    assert not turned[:, 0, 0].any()


def test_images_turn_by_another_angle_in_each_concept():
    image = np.zeros((28, 28), np.uint8)
    image[2:12, 13:15] = 255
    after = reshaped(Records(y=["a"] * 40, x=np.tile(image.ravel(), (40, 1))), drift(what="rotation", every=10))
    assert np.array_equal(after.x[:10], np.tile(image.ravel(), (10, 1)))
    concepts = {after.x[row].tobytes(): row // 10 for row in range(40)}
    assert sorted(concepts.values()) == [0, 1, 2, 3]
    assert after.x.dtype == np.uint8


@pytest.mark.parametrize(("source", "more", "says"), [
    (Records(y=["a"], x=np.zeros((1, 6))), {"what": "rotation"}, "6 inputs are none"),
    (Records(y=["a"], columns={"a": [1]}), {"what": "rotation"}, "1 named features are none"),
    (Records(y=["a"] * 9, x=np.zeros((9, 1))), {"what": "features", "every": 3}, "no two of them"),
    (Records(y=["a"] * 9, columns={"a": [1] * 9, "b": ["red"] * 9}), {"what": "features", "every": 3}, "no two of them"),
    (Records(y=["a"] * 2, columns={"a": [1, "red"], "b": [1, 2]}), {"what": "features"}, "feature 'a' is 'red'"),
])
def test_what_cannot_drift_is_one_clear_error(source, more, says):
    with pytest.raises(SourceError, match=rf"^drift: .*{says}"):
        reshaped(source, drift(**more))


# -- frequencies, noise, labels

@pytest.mark.parametrize("exponent", [0.5, 1, 2])
@pytest.mark.parametrize("shares", [(1,) * 6, (1, 5, 2, 9, 3, 4)])
def test_long_tail_frequencies_hold_all_along(exponent, shares):
    source = labelled(30_000, shares)
    after = reshaped(source, {"kind": "long-tail", "exponent": exponent})
    assert places(after) == sorted(places(after))
    ranks = {label: rank for rank, label in enumerate(dict.fromkeys(source.y), 1)}
    head = next(iter(ranks))
    assert after.y.count(head) == source.y.count(head)
    for end in (len(after) // 3, len(after)):
        counts = Counter(after.y[:end])
        for label, rank in ranks.items():
            wanted = counts[head] * rank ** -exponent
            rarer = source.y[:places(after)[end - 1] + 1].count(label) < wanted * 1.3
            assert counts[label] <= wanted + 2
            assert rarer or counts[label] >= wanted - 8


def test_long_tail_holds_for_classes_that_come_sorted_and_keeps_rare_ones():
    source = Records(y=["a"] * 1000 + ["b"] * 1000 + ["c"] * 20, x=np.arange(2020)[:, None])
    assert Counter(reshaped(source, {"kind": "long-tail", "exponent": 1}).y) == {"a": 1000, "b": 500, "c": 20}


def test_noise_on_pixels_is_a_share_of_255():
    after = reshaped(Records(y=["a"] * 2000, x=np.full((2000, 20), 128, np.uint8)), {"kind": "noisy-senses", "sigma": 0.1})
    assert after.x.dtype == np.uint8
    noise = after.x.astype(float) - 128
    assert abs(noise.mean()) < 0.5 and noise.std() == pytest.approx(25.5, rel=0.02)
    assert stats.kstest(noise.ravel() + np.random.default_rng(0).uniform(-0.5, 0.5, noise.size), "norm", (0, 25.5)).pvalue > 0.001
    dark = reshaped(Records(y=["a"] * 2000, x=np.zeros((2000, 20), np.uint8)), {"kind": "noisy-senses", "sigma": 0.1})
    assert np.mean(dark.x == 0) == pytest.approx(0.5, abs=0.02)  # cut, never wrapped round
    assert dark.x.max() < 180


def test_noise_on_other_numbers_is_in_their_own_deviations():
    rng = np.random.default_rng(0)
    x = rng.normal(5, (1, 1000), (4000, 2))
    named = Records(y=["a"] * 4000, columns={
        "small": [f"{one}" for one in x[:, 0]], "large": [None if row % 5 == 1 else float(one) for row, one in enumerate(x[:, 1])],
        "colour": ["red"] * 4000, "fixed": [7] * 4000})
    noisy = {"kind": "noisy-senses", "sigma": 0.2}
    after = reshaped(named, noisy).columns
    there = np.array([row % 5 != 1 for row in range(4000)])
    assert list(after["colour"]) == ["red"] * 4000 and set(after["fixed"]) == {7.0}
    assert np.array_equal(np.isnan(after["large"]), ~there)
    assert after["small"][0] == x[0, 0]
    for name, place, unit in (("small", 0, 1), ("large", 1, 1000)):
        noise = (after[name] - x[:, place])[there]
        assert noise[200:].std() == pytest.approx(0.2 * unit, rel=0.05)
    for dtype in ("float32", "int16"):
        dense = reshaped(Records(y=["a"] * 4000, x=x.astype(dtype)), noisy)
        assert dense.x.dtype == (np.float32 if dtype == "float32" else np.float64)
        assert (dense.x - x.astype(dtype))[200:].std(0) == pytest.approx(0.2 * x.astype(dtype).std(0), rel=0.05)


def test_noise_on_numbers_that_are_none_passes_them_on():
    x = np.array([[1.0, np.nan], [np.inf, 2.0], [3.0, 1e308], [4.0, 5.0]])
    after = reshaped(Records(y=["a"] * 4, x=x), {"kind": "noisy-senses", "sigma": 0.1}).x
    assert np.isnan(after[0, 1]) and after[1, 0] == np.inf and after[2, 1] >= 1e307
    assert np.isfinite(after[3]).all() and after[3, 0] != 4.0


def test_wrong_labels_are_of_another_class_that_was_seen():
    source = labelled(20_000, (1,) * 5)
    after = reshaped(source, {"kind": "noisy-labels", "rate": 0.3})
    wrong = [row for row in range(20_000) if after.y[row] != source.y[row]]
    assert len(wrong) / 20_000 == pytest.approx(0.3, abs=0.015)
    pairs = Counter((source.y[row], after.y[row]) for row in wrong)
    assert len(pairs) == 20 and min(pairs.values()) > 0.75 * max(pairs.values())
    for rate in (0.3, 1):
        seen = set()
        for label, told in zip(source.y[:100], reshaped(source, {"kind": "noisy-labels", "rate": rate}).y, strict=False):
            seen.add(label)
            assert told in seen and (rate < 1 or len(seen) == 1 or told != label)
    assert reshaped(Records(y=[None, "a", "a"], x=np.zeros((3, 1))), {"kind": "noisy-labels", "rate": 1}).y == [None, "a", "a"]


@pytest.mark.parametrize("keep", [0, 0.2, 1])
def test_labels_are_kept_at_the_promised_share(keep):
    source = labelled(20_000)
    after = reshaped(source, {"kind": "sparse-labels", "keep": keep})
    kept = [row for row, label in enumerate(after.y) if label is not None]
    assert all(after.y[row] == source.y[row] for row in kept)
    assert len(kept) / 20_000 == pytest.approx(keep, abs=0.01)
    assert places(after) == list(range(20_000))


# -- passes and times

def test_limited_repeats_the_first_samples_whole():
    source = labelled(1000, ids=[f"i{n}" for n in range(1000)], t=np.arange(1000.0))
    after = reshaped(source, {"kind": "limited", "samples": 300, "repeats": 4})
    assert after.segment.tolist() == [place // 300 for place in range(1200)]
    passes = [places(after)[300 * number:300 * (number + 1)] for number in range(4)]
    assert passes[0] == list(range(300))
    assert all(sorted(one) == passes[0] for one in passes) and len(set(map(tuple, passes))) == 4
    assert after.y == [source.y[place] for place in places(after)]
    assert after.ids == [f"i{place}" for place in places(after)] and after.t.tolist() == places(after)
    short = reshaped(source[:7], {"kind": "limited", "samples": 300, "repeats": 2})
    assert len(short) == 14


def test_bursts_are_close_together_and_the_rate_holds():
    after = reshaped(labelled(40_000, t=np.zeros(40_000)), {"kind": "bursty", "rate": 50, "burst": 20})
    gaps = np.diff(after.t)
    assert after.t[0] == 0 and gaps.min() >= 0
    assert 40_000 / after.t[-1] == pytest.approx(50, rel=0.08)
    pause = np.arange(1, 40_000) % 20 == 0
    assert gaps[~pause].mean() == pytest.approx(1 / 500, rel=0.05)
    assert gaps[pause].mean() == pytest.approx(20 / 50 - 19 / 500, rel=0.08)
    assert stats.kstest(gaps[pause] / gaps[pause].mean(), "expon").pvalue > 0.001
    poisson = np.diff(reshaped(labelled(20_000), {"kind": "bursty", "rate": 50, "burst": 1}).t)
    assert poisson.mean() == pytest.approx(0.02, rel=0.03)
    assert stats.kstest(poisson / poisson.mean(), "expon").pvalue > 0.001


# -- segments of several

def test_segments_of_earlier_regimes_and_of_the_source_are_kept_apart():
    source = labelled(1200, (1, 1), segment=np.arange(1200) // 600 * 5)
    after = reshaped(source, drift(every=400), {"kind": "limited", "samples": 1000, "repeats": 2})
    place = np.array(places(after))
    pairs = list(zip(place // 600, place // 400, np.arange(2000) // 1000, strict=True))
    numbers = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
    assert after.segment.tolist() == [numbers[pair] for pair in pairs]
    assert len(numbers) == 8


def test_stamps_move_with_their_samples():
    source = labelled(1000, (1, 1))
    after = reshaped(source, drift(), {"kind": "single-pass"})
    assert after.segment.tolist() == [place // 500 for place in places(after)]


# -- the demo's

@pytest.mark.parametrize("name", DEMO_REGIMES)
def test_the_file_of_the_demo_is_an_experiment_with_that_regime(tmp_path, name):
    (tmp_path / "demo.yaml").write_text(demo_file(name, 100))
    kinds = [regime.kind for regime in load_experiment(tmp_path / "demo.yaml").stream.regimes]
    assert kinds == list(dict.fromkeys(["single-pass", name]))


@pytest.mark.parametrize("name", ["class-incremental", "long-tail", "limited"])
def test_the_demos_digits_last_as_long_as_it_says(name):
    stream = Stream.model_validate({"source": {"kind": "mnist"}, "seed": 1,
                                    "regimes": [{"kind": "single-pass"}, *DEMO_REGIMES[name]]})
    assert sum(map(len, open_stream(stream, Path()))) == SHORTER.get(name, 60_000)


def test_what_waits_is_counted_by_its_bytes():
    assert size_in_memory(labelled(10)) == 10 * 8 + 64 * 10
