from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamil.codec import REASONS, cast, decode, encode
from streamil.experiment import Stream
from streamil.features import Featurizer
from streamil.kinds import SLOTS
from streamil.samples import Records
from streamil.standardiser import Standardiser
from streamil.streams import open_stream, pack
from streamil.streams.chunks import join


def featurizer(**stream):
    return Featurizer(Stream.model_validate({"source": {"kind": "mnist"}, **stream}))


def transform(made, records):
    return made.transform(records, np.arange(len(records)))


def reasons(rejected):
    assert all(bad.reason in REASONS for bad in rejected)
    return [(bad.index, bad.reason) for bad in rejected]


def assert_same(one, other):
    for name in ("x", "y", "ordinals", "segment"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
        assert getattr(one, name).dtype == getattr(other, name).dtype


def batches_of(made, records, cuts):
    parts = [made.transform(records[first:last], np.arange(first, last))[0]
             for first, last in pairwise([0, *cuts, len(records)])]
    parts = [part for part in parts if len(part)] or parts[:1]  # without a good sample the width is not known yet
    return [np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y", "ordinals", "segment")]


def test_pixels_are_divided_by_255():
    batch, rejected = transform(featurizer(), Records(y=["7"], x=np.arange(256, dtype=np.uint8)[None, :]))
    assert batch.x.dtype == np.float32
    assert np.array_equal(batch.x[0], (np.arange(256) / 255).astype(np.float32))
    assert rejected == ()


def test_other_inputs_are_standardised_by_what_was_known_before():
    x = np.random.default_rng(0).normal(3, 10, (50, 2))
    batch, _ = transform(featurizer(), Records(y=["a"] * 50, x=x))
    for row in range(50):
        before = x[:row]
        deviation = before.std(axis=0) if row > 1 else np.zeros(2)
        expected = np.where(deviation > 0, (x[row] - before.mean(axis=0) if row else 0) / np.where(
            deviation > 0, deviation, 1), 0).clip(-5, 5)
        assert batch.x[row] == pytest.approx(expected, rel=1e-6)


def test_an_epoch_time_keeps_its_digits():
    t = 1.7e9 + np.arange(100.0)
    batch, _ = transform(featurizer(), Records(y=["a"] * 100, columns={"t": t}))
    expected = (t[99] - t[:99].mean()) / t[:99].std()
    assert batch.x[99, 0] == pytest.approx(expected, rel=1e-6)


def test_scale_none_passes_numbers_on_and_a_constant_is_zero():
    x = np.array([[1.5, 255], [7, 3]])
    assert transform(featurizer(scale="none"), Records(y=["a", "a"], x=x))[0].x.tolist() == x.tolist()
    assert transform(featurizer(), Records(y=["a"] * 3, x=np.full((3, 1), 1e6)))[0].x.tolist() == [[0], [0], [0]]
    pixels = Records(y=["a"] * 3, x=np.array([[0], [4], [6]], dtype=np.uint8))
    assert transform(featurizer(scale="standardise"), pixels)[0].x[2, 0] == 2.0


COLUMN = st.one_of(
    st.lists(st.none() | st.floats(-1e30, 1e30) | st.integers(-9, 9) | st.sampled_from(["1", "2.5", "red", "nan"]),
             min_size=30, max_size=30),
    st.lists(st.none() | st.text(max_size=1), min_size=30, max_size=30))


@given(columns=st.dictionaries(st.sampled_from("abcd"), COLUMN, min_size=1, max_size=3),
       labels=st.lists(st.sampled_from(["u", "v", "w", None]), min_size=30, max_size=30),
       cuts=st.lists(st.integers(1, 29), unique=True).map(sorted))
@settings(max_examples=150, deadline=None)
def test_named_features_do_not_depend_on_how_samples_are_cut(columns, labels, cuts):
    records = Records(y=labels, columns=columns)
    settings_ = {"classes": ["u", "v"]}
    one, many = featurizer(**settings_), featurizer(**settings_)
    whole = batches_of(one, records, [])
    parts = batches_of(many, records, cuts)
    assert [part.tobytes() for part in parts] == [part.tobytes() for part in whole]
    assert (one.inputs, one.features.ignored, one.features.shared) == (many.inputs, many.features.ignored, many.features.shared)


def test_dense_inputs_do_not_depend_on_how_samples_are_cut():
    rng = np.random.default_rng(1)
    x = rng.normal(5, 100, (700, 3)) * 10.0 ** rng.integers(-8, 8, 3)
    x[rng.integers(700, size=40), 1] = np.nan
    records = Records(y=[str(n % 3) for n in range(700)], x=x)
    whole = batches_of(featurizer(), records, [])
    assert len(whole[0]) < 700
    for cuts in (range(1, 700), [1, 255, 256, 257, 600], [3]):
        for a, b in zip(batches_of(featurizer(), records, list(cuts)), whole, strict=True):
            assert a.tobytes() == b.tobytes()


def test_statistics_do_not_know_missing_values():
    full, holed = Standardiser(1), Standardiser(1)
    values = np.random.default_rng(2).normal(size=(40, 1))
    with_holes = np.insert(values, [0, 3, 3, 39], np.nan, axis=0)
    there = ~np.isnan(with_holes[:, 0])
    z = holed.scale(with_holes)
    assert np.array_equal(z[there], full.scale(values))
    assert not z[~there].any()


BAD = [
    (Records(y=["u"], x=np.array([[1.0, np.inf]])), "not-finite"),
    (Records(y=["u"], x=np.array([[1.0, 1e39]])), "not-finite"),
    (Records(y=["u"], x=np.array([[1.0, np.inf]], dtype=np.float16)), "not-finite"),
    (Records(y=["u"], x=np.array([[1.0]])), "wrong-width"),
    (Records(y=["u"], columns={"a": [1.0]}), "wrong-width"),
    (Records(y=["x"], x=np.array([[1.0, 2.0]])), "unknown-label"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_a_bad_dense_sample_is_rejected_alone_and_changes_nothing(bad, reason):
    good = Records(y=["u", "v", None], x=np.array([[1.0, 2.0], [2.0, 5.0], [4.0, 0.0]]))
    one, other = featurizer(classes=["u", "v"]), featurizer(classes=["u", "v"])
    transform(one, good)
    transform(other, good)
    batch, rejected = transform(one, bad)
    assert len(batch) == 0
    assert batch.x.shape == (0, 2)
    assert reasons(rejected) == [(0, reason)]
    assert_same(transform(one, good)[0], transform(other, good)[0])


@pytest.mark.parametrize(("column", "reason"), [
    ("red", "bad-number"), ("1_000", "bad-number"), ("inf", "not-finite"), ("nan", "not-finite"),
    (1e300, "not-finite"), (10**400, "not-finite"), ("1,5", "bad-number"),
])
def test_a_bad_value_is_rejected_with_the_features_name(column, reason):
    made = featurizer()
    records = Records(y=["u", "v", "w"], columns={"amount": [1.0, column, 2.0]}, index=np.array([4, 6, 9]))
    batch, rejected = transform(made, records)
    assert reasons(rejected) == [(6, reason)]
    assert "'amount'" in rejected[0].detail
    assert batch.ordinals.tolist() == [0, 2]
    assert made.labels.names == ["u", "w"]


def test_good_samples_beside_bad_ones_keep_label_ordinal_and_segment():
    records = Records(y=["u", "x", "v"], x=np.eye(3), segment=np.array([5, 6, 7]))
    batch, rejected = featurizer(classes=["v", "u"]).transform(records, np.array([10, 11, 12]))
    assert reasons(rejected) == [(1, "unknown-label")]
    assert batch.y.tolist() == [1, 0]
    assert batch.ordinals.tolist() == [10, 12]
    assert batch.segment.tolist() == [5, 7]


def test_labels_are_renamed_first_and_none_is_unlabelled():
    made = featurizer(label_map={True: "fraud", "false": "ok"}, classes=["ok", "fraud"])
    batch, _ = transform(made, Records(y=["true", "false", None], x=np.ones((3, 1))))
    assert batch.y.tolist() == [1, 0, -1]


def test_a_category_is_a_block_of_slots_and_the_rest_share_the_last():
    made = featurizer()
    colours = [f"colour {n}" for n in range(40)] + [None, "colour 0", "colour 35"]
    batch, _ = transform(made, Records(y=["u"] * 43, columns={"n": [1] * 43, "c": colours}))
    assert made.names == ["c", "n"]
    assert made.inputs == SLOTS + 1
    hot = [np.flatnonzero(row[:SLOTS]).tolist() for row in batch.x]
    assert hot == [[min(n, SLOTS - 1)] for n in range(40)] + [[], [0], [SLOTS - 1]]
    assert made.features.shared == 10


def test_features_are_fixed_by_the_first_good_sample():
    made = featurizer()
    first = Records(y=["u", "u"], columns={"b": ["inf", "3"], "a": ["x", True], "c": ["red", "blue"], "d": [None] * 2})
    batch, rejected = transform(made, first)
    assert reasons(rejected) == [(0, "not-finite")]
    assert made.names == ["a", "b", "c", "d"]
    assert made.inputs == 3 + SLOTS  # a was a text in the bad sample, and is a number
    later = Records(y=["u"], columns={"d": [1], "e": [2], "c": [7]})
    batch, rejected = transform(made, later)
    assert rejected == ()
    assert batch.x.shape == (1, 3 + SLOTS)
    assert made.features.ignored == 1


def test_a_state_goes_on_where_it_was(tmp_path):
    rng = np.random.default_rng(3)
    named = Records(y=[str(n % 4) for n in range(60)], columns={
        "a": rng.normal(size=60), "b": [str(n % 37) for n in range(60)], "c": [f"t{n % 50}" for n in range(60)]})
    for records in (named, Records(y=named.y, x=rng.normal(size=(60, 2))),
                    Records(y=named.y, x=rng.integers(0, 255, (60, 2)).astype(np.uint8))):
        made, again = featurizer(), featurizer()
        transform(made, records[:40])
        again.load_state_dict(made.state_dict())
        assert_same(transform(again, records[40:])[0], transform(made, records[40:])[0])
        assert again.labels.names == made.labels.names
        assert (again.inputs, again.names, again.features.shared) == (made.inputs, made.names, made.features.shared)
    fresh = featurizer()
    fresh.load_state_dict(featurizer().state_dict())
    assert fresh.inputs is None
    assert_same(transform(fresh, records)[0], transform(featurizer(), records)[0])


CSV = "i,amount,colour,wind,label\n" + "".join(
    f"{n},{'' if n % 5 == 0 else n * 0.37},{('red', 'blue', '?', 'a;b')[n % 4]},{n % 2},{'' if n % 6 == 0 else n % 3}\n"
    for n in range(1, 300))


@pytest.mark.parametrize("codec", ["arrow", "json"])
@pytest.mark.parametrize("kind", ["csv", "uint8", "float64", "float32", "python"])
def test_with_and_without_a_topic_in_between_the_batches_are_the_same(tmp_path, codec, kind):
    if kind == "csv":
        (tmp_path / "d.csv").write_text(CSV)
        source = {"kind": "csv", "path": "d.csv", "label": "label", "id": "i"}
    elif kind == "python":
        (tmp_path / "rows.py").write_text(
            "def f():\n    for n in range(300):\n"
            "        yield {'a': n / 7, 'b': None if n % 3 else n, 'c': f't{n % 40}', 'd': n % 2 == 0, "
            "'e': float('nan') if n % 4 else 1.5}, n % 3\n")
        source = {"kind": "python", "callable": "rows:f"}
    else:
        x = np.random.default_rng(4).normal(100, 50, (300, 5)).clip(0, 255).astype(kind)
        if kind != "uint8":
            x[7, 2] = np.nan
        np.savez(tmp_path / "d.npz", x=x, y=np.arange(300) % 4)
        source = {"kind": "npz", "path": "d.npz"}
    stream = Stream.model_validate({"source": source, "seed": 3, "regimes": [{"kind": "single-pass"}]})

    direct, through = Featurizer(stream), Featurizer(stream)
    ordinal = 0
    ran = []
    for records in open_stream(stream, tmp_path):
        ran.append(direct.transform(records, np.arange(ordinal, ordinal + len(records)))[0])
        ordinal += len(records)
    ordinal = 0
    consumed = []
    for sent in pack(open_stream(stream, tmp_path), 7):
        got = decode(encode(sent, codec))
        if codec == "json" and sent.x is not None:
            got = cast(got, sent.x.dtype.name)
        consumed.append(through.transform(got, ordinal + got.places)[0])
        ordinal += len(sent)
    assert sum(map(len, ran)) >= 299
    for name in ("x", "y", "ordinals"):
        one, other = (np.concatenate([getattr(batch, name) for batch in batches]) for batches in (ran, consumed))
        assert one.tobytes() == other.tobytes(), name
    assert direct.labels.names == through.labels.names


def test_elec_reads_as_six_numbers():
    stream = Stream.model_validate({"source": {"kind": "elec"}, "limit": 500})
    made = Featurizer(stream)
    batch, rejected = transform(made, join(list(open_stream(stream, Path()))))
    assert rejected == ()
    assert batch.x.shape == (500, 6)
    assert np.isfinite(batch.x).all()


def test_an_open_set_of_classes_fills_up_and_those_met_stay():
    """A stranger who sends a new label with every sample costs rejects, not memory."""
    made = featurizer(max_classes=3)
    labels = [f"l{place}" for place in (0, 1, 2, 3, 0, 4)]
    batch, rejected = transform(made, Records(y=labels, x=np.zeros((6, 2))))
    assert reasons(rejected) == [(3, "too-many-classes"), (5, "too-many-classes")] and "'l3'" in rejected[0].detail
    assert batch.y.tolist() == [0, 1, 2, 0] and made.labels.names == ["l0", "l1", "l2"]
    narrower = featurizer(max_classes=2)
    narrower.load_state_dict(made.state_dict())
    batch, rejected = transform(narrower, Records(y=["l2", "l5", None], x=np.zeros((3, 2))))
    assert batch.y.tolist() == [2, -1] and reasons(rejected) == [(1, "too-many-classes")]
    named = featurizer(max_classes=2)
    batch, rejected = transform(named, Records(y=["a", "b", "c"], columns={"v": [1.0, 2.0, 3.0]}))
    assert reasons(rejected) == [(2, "too-many-classes")] and len(batch.x) == 2
