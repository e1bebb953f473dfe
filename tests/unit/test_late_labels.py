"""Labels that come later: scored by what was said at arrival, learned once, counted by what became of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamil.codec import CodecError, decode, encode
from streamil.experiment import Experiment
from streamil.explain import explain
from streamil.late_labels import SETTLED_LIMIT, LateLabels
from streamil.race import Race
from streamil.results import summary
from streamil.samples import Records

ARMS = {
    "il": {"algorithm": "il-prox", "alpha": [0.1, 5], "batch_size": [1, 3]},
    "bp": {"algorithm": "bp-adam", "learning_rate": 0.01, "batch_size": [1, 3]},
    "kfac": {"algorithm": "il-kfac"},
}


def race(**stream):
    return Race(Experiment.model_validate({
        "stream": {"source": {"kind": "elec"}, **stream}, "network": {"hidden": [5]}, "arms": ARMS}))


def samples(count, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 4))
    return Records(y=["up" if row[0] > 0 else "down" for row in x], x=x, ids=[f"s{n}" for n in range(count)])


def bare(records):
    return Records(y=[None] * len(records), x=records.x, ids=records.ids)


def labels(ids, y):
    return Records(y=list(y), ids=list(ids))


def fed(one, entries):
    """Feed entries: samples numbered as they come, and late labels."""
    ordinal = 0
    for entry in entries:
        one.feed(entry, np.arange(ordinal, ordinal + len(entry)))
        ordinal += 0 if entry.late else len(entry)
    return one


def test_a_label_that_comes_before_anything_is_learned_gives_what_a_sample_with_its_label_gives():
    whole = samples(40)
    late = [entry for n in range(40) for entry in (bare(whole[n:n + 1]), labels(whole.ids[n:n + 1], whole.y[n:n + 1]))]
    plain, joined = fed(race(), [whole]), fed(race(), late)
    ours, theirs = summary(joined)["arms"], summary(plain)["arms"]
    for arm in ("il@1", "bp@1", "kfac"):  # at mini-batches of 3 the first two are predicted earlier, by the same weights
        for one, other in zip(ours[arm]["members"], theirs[arm]["members"], strict=True):
            assert one["correct"] == other["correct"] and one["samples"] == 40
            assert one["log_loss"] == pytest.approx(other["log_loss"], rel=1e-4)
    assert ours["il@3"]["members"][0]["correct"] == theirs["il@3"]["members"][0]["correct"]
    assert joined.late.counts["joined"] == 40 and len(joined.late) == 0 and joined.late.bytes == 0
    assert joined.unlabelled == 40 and joined.samples == 40


def test_the_prediction_made_at_arrival_counts():
    """Twenty samples of one kind arrive; before their labels come, the learners are taught the opposite."""
    first = Records(y=["up"] * 20, x=np.full((20, 4), 3.0), ids=[f"f{n}" for n in range(20)])
    lesson = samples(60)
    up = Records(y=["up", "down"] * 30, x=np.tile([[3.0] * 4, [-3.0] * 4], (30, 1)))
    down = Records(y=["down", "up"] * 100, x=up.x[np.arange(200) % 60])
    one = fed(race(scale="none"), [up, lesson, bare(first), down])
    figures = one.arms["bp@1"].figures
    scored, right = figures.samples, figures.correct.copy()
    names = one.featurizer.labels.names

    def leaning():
        logits = one.arms["bp@1"].population.predict(np.full((1, 4), 3.0))[0, 0]
        return float(logits[names.index("up")] - logits[names.index("down")])

    before = leaning()
    assert before < 0
    fed(one, [labels(first.ids, first.y)])
    assert figures.samples == scored + 20
    assert (figures.correct - right).tolist() == [20], "judged by what was said at arrival"
    assert leaning() > before, "and learned"


@settings(max_examples=20)
@given(data=st.data())
def test_nothing_depends_on_how_samples_and_labels_are_cut(data):
    whole, kept = samples(30), data.draw(st.lists(st.booleans(), min_size=30, max_size=30))
    shown = Records(y=[label if keep else None for label, keep in zip(whole.y, kept, strict=True)], x=whole.x, ids=whole.ids)
    due = [n for n in range(20) if not kept[n]]
    late = labels([whole.ids[n] for n in due], [whole.y[n] for n in due])
    cuts = sorted(data.draw(st.sets(st.integers(1, 29), max_size=5)))

    def entries(places):
        edges = [0, *places, 20, 30] if 20 not in places else [0, *places, 30]
        edges = sorted(edges)
        out = []
        for begin, end in pairwise(edges):
            if begin == 20 and due:
                half = data.draw(st.integers(0, len(due))) if places else 0
                out += [part for part in (late[:half], late[half:]) if len(part)]
            out.append(shown[begin:end])
        return out

    assert summary(fed(race(), entries([]))) == summary(fed(race(), entries(cuts)))


def test_labels_are_counted_by_what_became_of_them():
    whole = samples(6)
    one = fed(race(), [whole[:2], bare(whole[2:]), bare(whole[2:3]), labels(["s2", "s2", "s0", "s1", "nobody"], [
        whole.y[2], "other", whole.y[0], "other", "up"])])
    assert one.late.counts == {"joined": 1, "unknown": 1, "second": 1, "contradicting": 2, "early": 0, "dropped": 0, "repeated": 1}
    assert one.samples == 7 and len(one.late) == 3


def test_a_closed_set_rejects_a_late_label_outside_it_and_the_sample_waits_on():
    whole = samples(2)
    one = fed(race(classes=["up", "down"]), [bare(whole)])
    rejected = one.feed(labels(["s0", "s1"], ["sideways", "up"]), np.arange(2))
    assert [(each.index, each.reason) for each in rejected] == [(0, "unknown-label")]
    assert one.rejected["unknown-label"] == 1 and len(one.late) == 1 and one.late.counts["joined"] == 1
    fed(one, [labels(["s0"], ["up"])])
    assert one.late.counts["joined"] == 2


def test_room_is_bounded_and_the_oldest_is_dropped():
    whole = samples(200)
    one = fed(race(pending_bytes=1 << 16), [bare(whole)])
    assert one.late.bytes <= 1 << 16 and 0 < len(one.late) < 200
    assert one.late.counts["dropped"] == 200 - len(one.late)
    fed(one, [labels(["s0", "s199"], ["up", "up"])])
    assert one.late.counts["unknown"] == 1 and one.late.counts["joined"] == 1


def test_remembered_identifiers_are_bounded():
    late = LateLabels(1 << 20)
    for number in range(SETTLED_LIMIT + 5):
        late.settle(str(number), "up")
    late.label("0", "up")
    late.label(str(SETTLED_LIMIT), "up")
    assert late.counts["unknown"] == 1 and late.counts["second"] == 1


def test_the_hash_tells_a_label_that_came_late():
    whole = samples(4)
    entries = [bare(whole), labels(whole.ids, whole.y)]
    one, other = fed(race(), entries), fed(race(), [whole])
    assert one.learned_hash != other.learned_hash
    assert fed(race(), [bare(whole), labels(whole.ids[:2], whole.y[:2]), labels(whole.ids[2:], whole.y[2:])]).learned_hash == one.learned_hash


def test_a_class_that_was_not_met_at_arrival_is_wrong_with_its_loss():
    one = fed(race(), [bare(samples(1)), labels(["s0"], ["up"])])
    member = summary(one)["arms"]["bp@1"]["members"][0]
    assert (member["samples"], member["correct"], member["log_loss"]) == (1, 0, 0.0)


@pytest.mark.parametrize("codec", ["json", "arrow"])
@pytest.mark.parametrize("count", [1, 3])
def test_late_labels_travel(codec, count):
    sent = labels(["a", "b", "c"][:count], ["up", "down", "1"][:count])
    back = decode(encode(sent, codec))
    assert back.late and (list(back.ids), list(back.y)) == (list(sent.ids), list(sent.y))


@pytest.mark.parametrize(("text", "reason"), [
    (b'{"id": "a"}', "no-features"), (b'{"y": "up"}', "no-features"), (b'{"id": null, "y": "up"}', "no-features"),
])
def test_half_a_late_label_is_rejected(text, reason):
    with pytest.raises(CodecError) as told:
        decode(text)
    assert told.value.reason == reason


def test_a_record_holds_samples_or_labels():
    records = decode(b'[{"id": "a", "y": "up"}, {"x": [1], "y": "up"}]')
    assert records.late and [one.reason for one in records.rejected] == ["wrong-shape"]
    records = decode(b'[{"x": [1], "y": "up"}, {"id": "a", "y": "up"}]')
    assert not records.late and [one.reason for one in records.rejected] == ["wrong-shape"]


def test_an_arrow_row_without_its_half_is_rejected_alone():
    import pyarrow as pa
    batch = pa.RecordBatch.from_pydict({"id": ["a", None, "c"], "y": ["up", "up", None]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    records = decode(sink.getvalue().to_pybytes())
    assert records.late and records.ids == ["a"] and [one.index for one in records.rejected] == [1, 2]


def test_check_takes_late_labels_for_what_they_are():
    experiment = Experiment.model_validate({"arms": ARMS, "stream": {"source": {"kind": "elec"}, "regimes": [
        {"kind": "delayed-labels", "samples": 10}]}})
    lines = list(explain(experiment))
    assert "classes: 1, 0 (met in the first 256 samples; more may come)" in lines
    assert not [line for line in lines if line.startswith("warning")]
