"""Documents of somebody else's shape become samples by field paths, or are rejected for a documented reason."""

import json
import time
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from codec_records import assert_equal, listed, records
from hypothesis import given, settings
from hypothesis import strategies as st

from streamil.codec import REASONS, CodecError
from streamil.codec._gather import CELLS_LIMIT, SAMPLES_LIMIT
from streamil.codec.mapping import FieldMapping
from streamil.codec.topic import decoder
from streamil.experiment import Stream
from streamil.experiment.sources import TopicSource
from streamil.samples import Records


def mapped(documents, **source):
    return FieldMapping(TopicSource.model_validate({"kind": "topic", "label": "y", **source})).records(documents)


def decoded(text, **source):
    stream = Stream.model_validate({"source": {"kind": "topic", "label": "y", **source}})
    return decoder(stream, Path())(text.encode(), {})


def reason(documents, **source):
    with pytest.raises(CodecError) as caught:
        mapped(documents, **source)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value.reason


ENVELOPE = {"op": "c", "after": {"amount": 1.5, "age": 20, "who": {"id": 7}, "tags": [1], "fraud": True}, "ts": 5}


def test_without_named_features_they_are_all_plain_values_beside_the_label():
    found = mapped(ENVELOPE, label="after.fraud", id="after.who.id", time="ts")
    assert found.columns == {"after.amount": [1.5], "after.age": [20]}
    assert (found.y, found.ids, found.t.tolist()) == (["true"], ["7"], [5.0])
    flat = {"a": 1, "b": None, "c": "red", "d": False, "y": "up", "n": 3, "at": 4, "s": 2}
    found = mapped(flat, id="n", time="at", segment="s")
    assert found.columns == {"a": [1], "b": [None], "c": ["red"], "d": [False]}
    assert found.segment.tolist() == [2]


def test_a_name_beside_the_label_is_left_out_only_where_it_stands():
    """`id` of the envelope is the identifier, `id` of the object within is a feature."""
    found = mapped({"id": 1, "row": {"id": 2, "y": "up"}}, label="row.y", id="id")
    assert found.columns == {"row.id": [2]}
    assert found.ids == ["1"]


def test_named_features_are_called_by_their_path_and_a_list_of_keys_is_for_names_with_dots():
    document = {"a": {"b": 1, "c.d": 2}, "c.d": 3, "y": 0}
    found = mapped(document, features=["a.b", ["a", "c.d"], ["c.d"]])
    assert found.columns == {"a.b": [1], "a.c.d": [2], "c.d": [3]}


def test_absent_features_are_missing_and_no_feature_at_all_is_no_sample():
    documents = [{"a": 1, "y": 0}, {"b": None, "y": 1}, {"y": 1, "c": 5}, {"b": [1], "y": 1}]
    found = mapped(documents, features=["a", "b"])
    assert {name: listed(values) for name, values in found.columns.items()} == {"a": [1, None], "b": [None, None]}
    assert found.index.tolist() == [0, 1]
    assert [(one.index, one.reason) for one in found.rejected] == [(2, "no-features"), (3, "wrong-shape")]


@pytest.mark.parametrize(("document", "why"), [
    ({"op": "d", "after": None}, "no-features"),
    ({"op": "d"}, "no-features"),
    ({"after": {"fraud": True}}, "no-features"),
    ({"after": {"fraud": True, "who": {"id": 3}}}, "no-features"),
    ({"after": "gone"}, "wrong-shape"),
    ({"after": [ENVELOPE["after"]]}, "wrong-shape"),
    (5, "wrong-shape"), ("text", "wrong-shape"), (None, "null"), ([], "no-samples"), ([[ENVELOPE]], "wrong-shape"),
    ({"after": {"a": 1, "fraud": 0.5}}, "bad-label"), ({"after": {"a": 1, "fraud": {}}}, "bad-label"),
    (lambda: 1, "wrong-shape"),
])
@pytest.mark.parametrize("features", [None, ["after.amount", "after.a"]])
def test_a_document_without_the_object_is_rejected_with_a_reason(document, why, features):
    assert reason(document, label="after.fraud", features=features) == why


def test_a_sample_without_its_label_is_unlabelled():
    assert mapped([{"a": 1}, {"a": 2, "y": None}, {"a": 3, "y": ""}, {"a": 4, "y": 1.0}]).y == [None, None, "", "1"]
    found = mapped({"a": 1}, label="late.y", features=["a"])
    assert found.y == [None]


def test_a_list_is_samples_and_a_path_leads_to_one_within():
    rows = [{"a": n, "y": n % 2} for n in range(3)]
    assert mapped(rows).columns == {"a": [0, 1, 2]}
    found = mapped({"batch": {"rows": rows}}, samples="batch.rows")
    assert (found.columns, found.y) == ({"a": [0, 1, 2]}, ["0", "1", "0"])
    assert mapped([{"r": rows}, {"r": rows[0]}], samples="r").columns == {"a": [0, 1, 2, 0]}
    assert reason({"batch": {}}, samples="batch.rows") == "no-samples"
    assert reason({"batch": []}, samples="batch.rows") == "wrong-shape"
    assert reason({"batch": {"rows": []}}, samples="batch.rows") == "no-samples"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_number_of_time_is_in_the_unit_of_the_file(unit):
    per = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]

    def at(value):
        return mapped({"a": 1, "y": 0, "at": value}, time="at", time_unit=unit).t.tolist()

    assert at(1_700_000_000 * per + per // 4) == [1_700_000_000 + (per // 4) / per]
    assert at(0) == [0.0]
    assert at(-per) == [-1.0]
    assert at("2023-11-14T22:13:20Z") == [1.7e9]  # a text has its own
    assert at(datetime(2023, 11, 14, 22, 13, 20)) == [1.7e9]  # and so has a codec's
    for wrong in (253_402_300_800 * per, -62_135_596_801 * per, 10**400, -10**5000, True, "1700000000", [], np.inf, np.nan):
        assert reason({"a": 1, "y": 0, "at": wrong}, time="at", time_unit=unit) == "bad-time"


def test_milliseconds_are_never_taken_for_seconds():
    with pytest.raises(CodecError, match="time_unit"):
        mapped({"a": 1, "y": 0, "at": 1_700_000_000_123}, time="at")


def test_what_codecs_give_beside_json(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        found = mapped({
            "number": np.float32(0.5), "money": Decimal("1.25"), "day": date(1970, 1, 3), "at": datetime(1970, 1, 1, 1),
            "zoned": datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "raw": b"bytes", "y": np.bool_(True),
            "n": np.int64(4), "end": datetime.max.replace(tzinfo=UTC), "nothing": Decimal("sNaN"),
        }, id="n", time="at")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert np.isnan(found.columns.pop("nothing")[0])
    assert found.columns == {"number": [0.5], "money": [1.25], "day": [172_800.0], "zoned": [0.0],
                             "end": [pytest.approx(253_402_300_800, abs=1)]}
    assert (found.y, found.ids, found.t.tolist()) == (["true"], ["4"], [3600.0])


def test_decimals_that_are_whole_keep_their_digits():
    large = [Decimal(2**60 + 1), Decimal(10**30 + 1), Decimal("1.00"), Decimal("1e9999")]
    found = mapped([{"a": one, "y": "u", "id": one} for one in large[:3]], id="id")
    assert found.ids == [str(2**60 + 1), str(10**30 + 1), "1"]
    assert reason({"a": 1, "y": large[3]}) == "bad-label"


def test_dense_inputs_stand_under_one_path():
    found = mapped([{"v": {"x": [1, 2]}, "y": 0}, {"v": {"x": [0.5, 3]}, "y": 1}], x="v.x")
    assert found.x.tolist() == [[1, 2], [0.5, 3]]
    images = mapped({"x": np.frombuffer(b"\0\xff", np.uint8), "y": 0}, x="x")
    assert images.x.dtype == np.uint8
    assert reason([{"x": [1, 2]}, {"x": [1]}], x="x") == "wrong-shape"
    for value, why in [([1, None], "not-finite"), ([1, "a"], "bad-number"), ([[1]], "wrong-shape"), ([], "no-features"),
                       (None, "no-features"), ("1,2", "wrong-shape"), ([1.0, np.nan], "not-finite"),
                       (np.ones((2, 2)), "wrong-shape"), (np.array(["a"]), "wrong-shape"), (np.ones(0), "no-features"),
                       ([10**400], "not-finite")]:
        assert reason({"x": value, "y": 0}, x="x") == why


def test_digits_of_long_labels_and_identifiers_are_kept():
    found = decoded(json.dumps([{"a": 1, "y": 2**70 + 1, "k": {"id": 2**80 + 1}}, {"a": 2, "y": 3}]), id="k.id")
    assert (found.y, found.ids) == ([str(2**70 + 1), "3"], [str(2**80 + 1), None])
    beside = decoded(json.dumps([5, {"a": 1, "y": 2**70 + 1}]))  # a bad neighbour changes nothing
    assert beside.y == [str(2**70 + 1)]


def test_whole_numbers_that_python_would_not_write_as_digits_are_rejected():
    for key, why in (("y", "bad-label"), ("n", "bad-id"), ("s", "bad-segment"), ("at", "bad-time")):
        assert reason({"a": 1, "y": 0} | {key: 1 << 20_000}, id="n", segment="s", time="at") == why
    assert mapped({"a": 1 << 20_000, "y": 0}).columns == {"a": [np.inf]}


def test_half_a_character_is_no_label_and_no_identifier():
    """What a codec read with errors="surrogateescape": no JSON and no Arrow could say it of a prediction."""
    assert reason({"a": 1, "y": "d\udce9but"}) == "bad-label"
    assert reason({"a": 1, "y": 0, "n": "d\udce9but"}, id="n") == "bad-id"


def test_a_null_among_samples_is_told_as_such():
    found = mapped([{"a": 1, "y": 0}, None])
    assert found.rejected[0].detail == "a sample, which holds the label, is null or absent"


def test_a_record_is_bounded():
    assert reason([{"a": 1}] * (SAMPLES_LIMIT + 1)) == "too-large"
    assert reason([{"r": [{"a": 1}] * 1000}] * 70, samples="r") == "too-large"
    count = int(CELLS_LIMIT ** 0.5) + 1
    assert reason([{f"f{n}": 1, "y": 0} for n in range(count)]) == "too-large"


KEYS = st.text(st.characters(codec="utf-8", exclude_characters="."), min_size=1, max_size=4)


def put(document, path, value):
    for key in path[:-1]:
        document = document.setdefault(key, {})
    document[path[-1]] = value


@given(records(), st.data())
def test_samples_are_the_same_wherever_their_parts_stand(sent, data):
    """Each part is put under a path of its own, in a shape that the mapping then undoes."""
    names = list(sent.columns)
    roots = data.draw(st.lists(KEYS, min_size=5 + len(names), max_size=5 + len(names), unique=True))
    paths = [[root, *data.draw(st.lists(KEYS, max_size=2))] for root in roots]
    beside = dict(zip(("label", "id", "time", "segment", "x"), paths[:5], strict=True))
    places = dict(zip(names, paths[5:], strict=True))
    documents = []
    for row in range(len(sent)):
        document = {}
        put(document, beside["label"], sent.y[row])
        for name, values in (("id", sent.ids), ("time", sent.t), ("segment", sent.segment), ("x", sent.x)):
            if values is not None and not (name == "time" and np.isnan(values[row])):
                put(document, beside[name], values[row])
        for name, path in places.items():
            put(document, path, sent.columns[name][row])
        documents.append(document)
    inputs = {"x": beside["x"]} if sent.x is not None else {"features": list(places.values())}
    got = mapped(documents, **{name: path for name, path in beside.items() if name != "x"}, **inputs)
    renamed = {".".join(places[name]): values for name, values in sent.columns.items()}
    assert_equal(got, Records(y=sent.y, x=sent.x, columns=renamed, ids=sent.ids, t=sent.t, segment=sent.segment))
    assert sent.x is None or got.x.dtype == sent.x.dtype


NAMES = st.sampled_from(["a", "b", "y", "t"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=20)
FIELD = st.lists(NAMES, min_size=1, max_size=2)
SOURCES = st.fixed_dictionaries({"label": FIELD}, optional={
    "id": FIELD, "time": FIELD, "segment": FIELD, "samples": FIELD, "time_unit": st.sampled_from(["s", "ms", "us", "ns"]),
    "features": st.lists(FIELD, min_size=1, max_size=3, unique_by=".".join), "x": FIELD})


@given(JSON, SOURCES)
@settings(max_examples=1000)
def test_any_json_is_samples_or_rejected(document, source):
    if "x" in source:
        source.pop("features", None)
    named = {".".join(path) for path in source.get("features", [source.get("x", ["-"])])}
    for key in ("label", "id", "time", "segment"):
        if key in source and ".".join(source[key]) in named:
            source[key] = [*source[key], "other"]
    try:
        got = decoded(json.dumps(document), **source)
    except CodecError as error:
        assert error.reason in REASONS
        assert len(error.detail.splitlines()) == 1
        return
    assert len(got) > 0
    assert all(label is None or isinstance(label, str) for label in got.y)
    assert got.x is None or np.isfinite(got.x).all()
    assert got.late or (got.x is None) == bool(got.columns)
    assert all(len(values) == len(got) for values in got.columns.values())
    assert {one.reason for one in got.rejected} <= REASONS.keys()


@pytest.mark.parametrize("given", [{}, {"features": ["amount"]}, {"x": "v"}])
def test_label_and_id_alone_are_a_late_label(given):
    mapping = FieldMapping(TopicSource(kind="topic", label="fraud", id="key", **given))
    late = mapping.records([{"key": 7, "fraud": True}, {"key": 8, "fraud": False}])
    assert late.late and (late.ids, late.y) == (["7", "8"], ["true", "false"])
    mixed = mapping.records([{"key": 7, "fraud": True, "amount": 1, "v": [1]}, {"key": 8, "fraud": False}])
    assert not mixed.late and [one.reason for one in mixed.rejected] == ["wrong-shape"]
    for half in ({"key": 7}, {"fraud": True}, {"key": None, "fraud": True}):
        with pytest.raises(CodecError, match=r"no number|none of the features|null or absent"):
            mapping.records(half)
