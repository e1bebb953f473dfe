"""Kinds that are declared: `stream.features`, times and their cycles, missing-value indicators, and what is said."""

import json
import math
import os
import time
from datetime import UTC, date, datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamil.codec import REASONS, decode, encode
from streamil.errors import ExperimentError, SourceError
from streamil.experiment import Experiment, Stream, load_experiment
from streamil.explain import explain
from streamil.features import Featurizer
from streamil.kinds import SLOTS
from streamil.samples import Records
from streamil.streams import open_stream, pack
from streamil.streams.chunks import join

NOON = 1_714_564_800  # 2024-05-01T12:00:00Z, a Wednesday
ARMS = {"bp": {"algorithm": "bp-sgd"}}


@pytest.fixture
def zone(monkeypatch):
    """A machine that is not in UTC."""
    before = os.environ.get("TZ")
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    assert os.environ.get("TZ") == before
    time.tzset()


def featurizer(**stream):
    return Featurizer(Stream.model_validate({"source": {"kind": "mnist"}, **stream}))


def transform(made, records):
    return made.transform(records, np.arange(len(records)))


def named(**columns):
    return Records(y=["u"] * len(next(iter(columns.values()))), columns=columns)


def test_a_declared_kind_overrides_the_first_value():
    made = featurizer(features={"code": "category", "size": "number"})
    batch, rejected = transform(made, named(code=["0123", "A1", 7, None], size=[None, "2", 4, 6]))
    assert rejected == ()
    assert made.inputs == SLOTS + 1
    assert [np.flatnonzero(row[:SLOTS]).tolist() for row in batch.x] == [[0], [1], [2], []]
    assert batch.x[:, SLOTS].tolist() == [0, 0, 0, 3]
    assert made.doubts == []


def test_a_category_has_the_slots_that_are_declared():
    made = featurizer(features={"c": {"kind": "category", "slots": 3}})
    batch, _ = transform(made, named(c=["red", "blue", "green", "red", "pink"]))
    assert batch.x.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert made.features.shared == 2


@pytest.mark.parametrize(("kind", "value", "reason"), [
    ("number", "red", "bad-number"), ("number", "inf", "not-finite"), ("time", "yesterday", "bad-time"),
    ("time", "2024-02-30", "bad-time"), ("time", 1e12, "bad-time"), ("time", True, "bad-time"), ("time", "nan", "bad-time"),
    ("time", math.inf, "bad-time"), ({"kind": "time", "unit": "ns"}, 1e30, "bad-time"), ("time", "24:00", "bad-time"),
    ("time", 10**400, "bad-time"), ("time", "2024-05-01T12:00:00+25:00", "bad-time"),
])
def test_a_value_that_is_not_of_its_kind_is_rejected_with_name_and_reason(kind, value, reason):
    made = featurizer(features={"amount": kind})
    batch, (bad,) = transform(made, named(amount=[value, 1, 2]))
    assert (bad.index, bad.reason) == (0, reason)
    assert reason in REASONS
    assert "'amount'" in bad.detail
    assert len(bad.detail.splitlines()) == 1
    assert len(batch) == 2
    later, (bad,) = transform(made, named(amount=[3, value]))
    assert (bad.index, bad.reason) == (1, reason)
    assert len(later) == 1


@pytest.mark.parametrize("records", [named(colour=["red"], size=[1]), Records(y=["u"], x=np.ones((1, 2)))])
def test_a_name_that_the_first_sample_does_not_have_is_an_error_that_names_the_nearest(records):
    with pytest.raises(ExperimentError) as caught:
        transform(featurizer(features={"color": "category"}), records)
    message = str(caught.value)
    assert "'color'" in message
    assert ("nearest known: colour" in message) if records.columns else ("no names" in message)
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(("features", "tells"), [
    ("{a: categry}", "stream.features.a.kind: found 'categry' (nearest known: category); allowed: number, category, time"),
    ("{a: {kind: category, slts: 3}}", "slts: unknown key (nearest known: slots)"),
    ("{a: {kind: category, slots: 1}}", "stream.features.a.slots: "),
    ("{a: {kind: time, unit: minutes}}", "stream.features.a.unit: "),
    ("{a: {kind: time, cycles: [day, day]}}", "stream.features.a.cycles: each cycle once"),
    ("[a, b]", "stream.features: "),
])
def test_a_bad_declaration_is_one_clear_error(tmp_path, features, tells):
    path = tmp_path / "race.yaml"
    path.write_text(f"stream:\n  source: {{kind: elec}}\n  features: {features}\narms: {{a: {{algorithm: bp-sgd}}}}\n")
    with pytest.raises(ExperimentError) as caught:
        load_experiment(path)
    (problem,) = caught.value.problems
    assert problem.startswith("line 3: ")
    assert tells in problem


@pytest.mark.parametrize("value", [
    NOON, float(NOON), str(NOON), "2024-05-01T12:00:00Z", "2024-05-01 14:00:00+02:00", "2024-05-01T12:00:00"])
def test_one_moment_in_every_form_is_the_same_inputs(value):
    def inputs(one):
        made = featurizer(features={"at": {"kind": "time", "cycles": ["day", "week", "year"]}})
        return transform(made, named(at=[0, 86_400, one]))[0].x.tolist()

    assert inputs(value) == inputs(NOON)
    assert transform(featurizer(features={"at": "time"}), named(at=["1970-01-03", 0, "1970-01-02"]))[0].x.tolist() == [
        [0], [0], [0]]


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
@pytest.mark.parametrize("form", [list, np.array, lambda values: list(map(str, values))])
def test_numbers_count_the_unit_that_is_declared(unit, per_second, form):
    made, seconds = (featurizer(features={"at": {"kind": "time", "unit": one}}) for one in (unit, "s"))
    moments = [86_400 + n * n for n in range(50)] + [NOON + n * n for n in range(50)]
    got, rejected = transform(made, named(at=form([moment * per_second for moment in moments])))
    assert rejected == ()
    assert got.x == pytest.approx(transform(seconds, named(at=moments))[0].x, abs=1e-5)
    assert np.ptp(got.x) > 1


def test_times_are_standardised_in_float64_whatever_scale_says():
    for scale in ("auto", "standardise", "none"):
        moments = NOON + np.arange(100.0)
        batch, _ = transform(featurizer(scale=scale, features={"at": "time"}), named(at=moments, n=moments))
        expected = (moments[99] - moments[:99].mean()) / moments[:99].std()
        assert batch.x[99, 0] == pytest.approx(expected, rel=1e-6)
        assert (batch.x[99, 1] == np.float32(moments[99])) == (scale == "none")


def test_cycles_turn_once_in_their_time_and_start_where_they_say():
    def angles(cycle, *texts):
        made = featurizer(features={"at": {"kind": "time", "cycles": [cycle]}})
        x = transform(made, named(at=list(texts)))[0].x
        assert np.hypot(x[:, 1], x[:, 2]) == pytest.approx(1)
        return np.degrees(np.arctan2(x[:, 1], x[:, 2])) % 360

    day = angles("day", "2024-05-01T00:00:00Z", "2024-05-01T06:00:00Z", "1969-12-31T12:00:00Z", "2031-01-07T18:00:00Z")
    assert day == pytest.approx([0, 90, 180, 270], abs=1e-3)
    week = angles("week", "2024-04-29T00:00:00Z", "2024-05-02T12:00:00Z", "2024-05-06T00:00:01Z")
    assert week == pytest.approx([0, 180, 0], abs=1e-3)
    year = angles("year", "1970-01-01", "2024-01-03", "2024-07-01")
    assert year == pytest.approx([0, 2, 180], abs=2)


def test_a_missing_time_has_no_place_in_a_cycle():
    made = featurizer(features={"at": {"kind": "time", "cycles": ["day"]}}, missing_indicators=True)
    batch, _ = transform(made, named(at=[None, math.nan, NOON]))
    assert batch.x.round(6).tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, -1, 0]]


def test_indicators_say_what_was_missing_beside_numbers_and_times_alone():
    columns = {"a": [1, None, 3, math.nan], "b": ["red", None, "red", "blue"], "c": [None, "2024-01-01", None, 0]}
    plain, marked = (featurizer(missing_indicators=mark, features={"c": "time"}) for mark in (False, True))
    x, y = (transform(made, named(**columns))[0].x for made in (plain, marked))
    assert (plain.inputs, marked.inputs) == (1 + SLOTS + 1, 2 + SLOTS + 2)
    assert y[:, [1, -1]].T.tolist() == [[0, 1, 0, 1], [1, 0, 1, 0]]
    assert np.array_equal(np.delete(y, [1, y.shape[1] - 1], axis=1), x)
    dense = featurizer(missing_indicators=True)
    assert transform(dense, Records(y=["u"], x=np.ones((1, 3))))[0].x.shape == (1, 3)


def test_a_number_by_default_is_told_with_the_declaration_that_helps(tmp_path):
    made = featurizer()
    _, (bad,) = transform(made, named(colour=[None, "red"], size=[1, 2]))
    (told,) = made.doubts
    for text in (told, bad.detail):
        assert "'colour'" in text
        assert "missing" in text
        assert "stream.features" in text
    assert "{colour: number}" in told
    (tmp_path / "t.csv").write_text("colour,size,label\n,1,u\nred,2,v\n")
    source = {"kind": "csv", "path": str(tmp_path / "t.csv"), "label": "label"}
    lines = list(explain(Experiment.model_validate({"stream": {"source": source}, "arms": ARMS})))
    assert f"warning: {told}" in lines
    assert any("1 of the first 2 samples are rejected" in line and "bad-number" in line for line in lines)
    declared = {"source": source, "features": {"colour": "category"}}
    lines = list(explain(Experiment.model_validate({"stream": declared, "arms": ARMS})))
    assert "kinds: number size; category colour" in lines
    assert not [line for line in lines if line.startswith("warning")]


def test_run_tells_of_a_number_by_default_once(tmp_path):
    from streamil import run

    (tmp_path / "t.csv").write_text("a,label\n" + "".join(f"{n or ''},{n % 2}\n" for n in range(300)))
    source = {"kind": "csv", "path": str(tmp_path / "t.csv"), "label": "label"}
    told = []
    run(Experiment.model_validate({"stream": {"source": source}, "arms": ARMS}), tell=told.append)
    assert [line for line in told if "'a'" in line] == told
    assert len(told) == 1


KINDS = ["number", "category", "time", {"kind": "category", "slots": 2}, {"kind": "time", "unit": "ms", "cycles": ["day"]},
         {"kind": "time", "cycles": ["week", "year", "day"]}]
VALUE = st.one_of(st.none(), st.floats(-1e12, 1e12), st.integers(-10**13, 10**13), st.booleans(),
                  st.sampled_from(["1", "2.5", "red", "nan", "2024-05-01", "2024-05-01T12:00:00.25Z", ""]))


@given(data=st.data(), scale=st.sampled_from(["auto", "none"]), indicators=st.booleans(),
       cuts=st.lists(st.integers(1, 29), unique=True).map(sorted))
@settings(max_examples=150, deadline=None)
def test_nothing_depends_on_how_samples_are_cut_and_a_state_goes_on_in_between(data, scale, indicators, cuts):
    names = data.draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True))
    declared = {name: data.draw(st.sampled_from(KINDS)) for name in names if data.draw(st.booleans())}
    columns = {name: data.draw(st.lists(VALUE, min_size=30, max_size=30)) for name in names}
    for name in names:  # as arrays, too, like numeric columns of Arrow
        if data.draw(st.booleans()):
            columns[name] = np.array(data.draw(st.lists(st.integers(-10**13, 10**13), min_size=30, max_size=30)))
    records = Records(y=["u", "v", None] * 10, columns=columns)

    def made():
        return featurizer(features=declared, scale=scale, missing_indicators=indicators)

    whole, rejected = made().transform(records, np.arange(30))
    one, parts, bad = made(), [], []
    for first, last in pairwise([0, *cuts, 30]):
        again = made()
        again.load_state_dict(json.loads(json.dumps(one.state_dict(), default=lambda array: array.tolist())))
        assert (again.doubts, again.inputs, again.features.shared) == (one.doubts, one.inputs, one.features.shared)
        batch, wrong = again.transform(records[first:last], np.arange(first, last))
        parts += [batch] if len(batch) else []
        bad += [(first + each.index, each.reason, each.detail) for each in wrong]
        one = again
    assert bad == [(each.index, each.reason, each.detail) for each in rejected]
    for field in ("x", "y", "ordinals"):
        joined = np.concatenate([getattr(part, field) for part in parts]) if parts else getattr(whole, field)
        assert joined.tobytes() == getattr(whole, field).tobytes(), field
    assert np.isfinite(whole.x).all()


@pytest.mark.parametrize("codec", ["arrow", "json"])
@pytest.mark.parametrize("kind", ["csv", "parquet", "python"])
def test_with_and_without_a_topic_in_between_declared_kinds_are_the_same(tmp_path, codec, kind):
    count = 200
    days = [date(2024, 1, 1 + n % 28) if n % 5 else None for n in range(count)]
    stamps = [NOON * 10**9 + n * 1_234_567_891 for n in range(count)]
    codes = [f"0{n % 7}" for n in range(count)]
    labels = [str(n % 3) for n in range(count)]
    if kind == "csv":
        (tmp_path / "d.csv").write_text("day,ns,code,label\n" + "".join(
            f"{day or ''},{ns},{code},{label}\n" for day, ns, code, label in zip(days, stamps, codes, labels, strict=True)))
    elif kind == "parquet":
        pq.write_table(pa.table({"day": pa.array(days), "ns": stamps, "code": codes, "label": labels}), tmp_path / "d.parquet")
    else:
        (tmp_path / "rows_of_kinds.py").write_text(
            "import numpy as np\nfrom datetime import date, datetime, timezone\ndef f():\n"
            f"    for n in range({count}):\n"
            f"        yield {{'day': date(2024, 1, 1 + n % 28) if n % 5 else np.datetime64('NaT'),\n"
            f"               'ns': {NOON} * 10**9 + n * 1_234_567_891, 'code': f'0{{n % 7}}'}}, n % 3\n")
    source = ({"kind": "python", "callable": "rows_of_kinds:f"} if kind == "python" else
              {"kind": kind, "path": f"d.{kind}", "label": "label"})
    stream = Stream.model_validate({"source": source, "missing_indicators": True, "features": {
        "day": {"kind": "time", "cycles": ["week"]}, "ns": {"kind": "time", "unit": "ns", "cycles": ["day"]},
        "code": {"kind": "category", "slots": 8}}})
    direct, through = Featurizer(stream), Featurizer(stream)
    ran = transform(direct, join(list(open_stream(stream, tmp_path))))[0]
    consumed, ordinal = [], 0
    for sent in pack(open_stream(stream, tmp_path), 7):
        got = decode(encode(sent, codec))
        consumed.append(through.transform(got, np.arange(ordinal, ordinal + len(got)))[0])
        ordinal += len(got)
    assert ran.x.shape == (count, 8 + 4 + 4)
    assert np.concatenate([batch.x for batch in consumed]).tobytes() == ran.x.tobytes()
    # what all three sources hold is one and the same
    expected = featurizer(features={"day": {"kind": "time", "cycles": ["week"]}}, missing_indicators=True)
    day = transform(expected, named(day=[None if one is None else one.isoformat() for one in days]))[0]
    assert ran.x[:, 8:12].tobytes() == day.x.tobytes()


def test_times_of_python_sources_are_seconds_of_utc_whatever_the_machines_zone(tmp_path, zone):
    (tmp_path / "times.py").write_text(
        "from datetime import date, datetime, timedelta, timezone\nimport numpy as np\n"
        "def f():\n"
        "    for at in (datetime(2024, 5, 1, 12), datetime(2024, 5, 1, 14, tzinfo=timezone(timedelta(hours=2))),\n"
        "               np.datetime64('2024-05-01T12:00:00.000000000'), date(2024, 5, 1), np.datetime64('NaT')):\n"
        "        yield {'at': at}, 1\n")
    stream = Stream.model_validate({"source": {"kind": "python", "callable": "times:f"}})
    at = join(list(open_stream(stream, tmp_path))).columns["at"]
    assert at == [NOON, NOON, NOON, NOON - 43_200, None]
    assert datetime.fromtimestamp(NOON, UTC).isoformat() == "2024-05-01T12:00:00+00:00"


def test_arrow_dates_and_timestamps_know_their_unit(tmp_path):
    day = pa.array([date(2024, 5, 1), None])
    columns = {"d": day, "s": day.cast(pa.timestamp("s")), "ns": day.cast(pa.timestamp("ns")), "d64": day.cast(pa.date64())}
    pq.write_table(pa.table({**columns, "label": ["u", "v"]}), tmp_path / "d.parquet")

    def read(**features):
        source = {"kind": "parquet", "path": "d.parquet", "label": "label"}
        return join(list(open_stream(Stream.model_validate({"source": source, "features": features}), tmp_path)))

    records = read(d="time", ns="time")
    assert all(list(values) == [NOON - 43_200, None] for values in records.columns.values())
    with pytest.raises(SourceError, match=r"'ns' is timestamp.*leave unit out"):
        read(ns={"kind": "time", "unit": "ns"})


def test_the_streams_hash_follows_declared_kinds_of_tables_alone():
    def hash_of(source, **features):
        return Experiment.model_validate({"stream": {"source": source, "features": features}, "arms": ARMS}).stream_hash

    table, other = {"kind": "csv", "path": "t.csv", "label": "y"}, {"kind": "elec"}
    assert hash_of(table) != hash_of(table, a="number") != hash_of(table, a="time")
    assert hash_of(table, a="category") == hash_of(table, a={"kind": "category", "slots": 5})
    assert hash_of(table, a="time") == hash_of(table, a={"kind": "time", "cycles": ["day"]})
    assert hash_of(table, a="time") != hash_of(table, a={"kind": "time", "unit": "ms"})
    assert hash_of(other) == hash_of(other, a="number")
    # as published before there were kinds
    assert hash_of(other) == "1866851abe81944f9adfdfd0aaa1e3e8"


SUSPECTS = {
    "row": (range(7, 307), "row numbers or an id", "drop: [row], or id: row"),
    "when": ([1_714_564_800_123 + (n * 7919) % 1000 for n in range(300)], "times in ms", "unit: ms"),
    "unix": ([1.7e9 + n for n in range(300)], "times in s", "{unix: time}, time: unix"),
    "at": ([f"2024-05-{1 + n % 28:02}T00:00:00Z" for n in range(300)], "times", "{at: time}, time: at"),
    "user": ([f"u{n * 7919 % 10_007}" for n in range(300)], "an id or free text", "drop: [user]"),
    "odd name": (range(300), "row numbers", 'drop: ["odd name"]'),
    "colour": (["red", "blue", "green"] * 100, None, None), "hour": ([n % 24 for n in range(300)], None, None),
    "price": ([n * n % 97 / 7 for n in range(300)], None, None), "flag": ([True, False] * 150, None, None),
    "steps": ([n / 2 for n in range(300)], None, None),
}


@pytest.mark.parametrize("regimes", [[], [{"kind": "single-pass"}]])
@pytest.mark.parametrize("kind", ["csv", "python"])
def test_check_warns_of_columns_that_look_like_no_feature(tmp_path, kind, regimes):
    names = [name for name in SUSPECTS if kind == "csv" or name != "unix"]
    rows = list(zip(*(SUSPECTS[name][0] for name in names), strict=True))
    if kind == "csv":
        (tmp_path / "t.csv").write_text("\n".join(
            [",".join([*names, "label"])] + [",".join(map(str, row)) + f",{row[0] % 2}" for row in rows]))
        source = {"kind": "csv", "path": str(tmp_path / "t.csv"), "label": "label"}
    else:
        (tmp_path / "suspicious_rows.py").write_text(
            f"def f():\n    for row in {rows!r}:\n        yield dict(zip({names!r}, row)), row[0] % 2\n")
        source = {"kind": "python", "callable": "suspicious_rows:f"}
    path = tmp_path / "race.yaml"
    settings_ = {"stream": {"source": source, "regimes": regimes}, "arms": ARMS}
    path.write_text(json.dumps(settings_))
    told = [line for line in explain(load_experiment(path)) if line.startswith("warning: ")]
    for name in names:
        _, looks, way_out = SUSPECTS[name]
        lines = [line for line in told if line.startswith(f"warning: feature {name!r} ")]
        assert len(lines) == (looks is not None), name
        if looks is not None:
            assert looks in lines[0]
            assert (way_out if kind == "csv" else "leave it out") in lines[0]
    settings_["stream"]["features"] = {"row": "number", "at": {"kind": "time", "cycles": ["day"]}}
    path.write_text(json.dumps(settings_))
    declared = [line for line in explain(load_experiment(path)) if line.startswith("warning: ")]
    assert len(declared) == len(told) - 2


def test_elec_and_weather_are_above_suspicion():
    for kind in ("elec", "weather"):
        experiment = Experiment.model_validate({"stream": {"source": {"kind": kind}}, "arms": ARMS})
        assert not [line for line in explain(experiment) if line.startswith("warning")]
