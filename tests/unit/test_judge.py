"""The judge's join: equal to one process, each sample once, hostile rows rejected."""

from __future__ import annotations

import contextlib
import functools
import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamil.attachment.prediction_rows import PredictionRows
from streamil.codec.prediction_rows import decode_predictions
from streamil.errors import CodecError
from streamil.experiment import Experiment
from streamil.experiment.race import PredictionsTopic
from streamil.judge import AHEAD, Judge
from streamil.race import Race
from streamil.results import curve_table, summary
from streamil.samples import Records

ARMS = {"il": {"algorithm": "il-prox", "batch_size": [1, 4], "alpha": [0.1, 1], "seeds": 2}, "bp": {"algorithm": "bp-sgd", "batch_size": [1, 4]}}
COUNT = 350


def experiment(**more: object) -> Experiment:
    return Experiment.model_validate({
        "stream": {"source": {"kind": "elec"}, **more.pop("stream", {})}, "network": {"hidden": [4]}, "arms": ARMS,
        "evaluation": {"window": 30}, "verdict": {"controls": ["bp@1"]}, **more})


class Kept:
    """An outbox that keeps records, by partition."""

    topic = "x.predictions"

    def __init__(self) -> None:
        self.letters: list[tuple[int, bytes]] = []

    def put(self, letter) -> None:
        self.letters.append((letter.partition, letter.value))


@functools.cache
def told(form: str = "json", *, unlabelled: bool = False) -> tuple[Race, list[tuple[int, bytes]]]:
    """A race in one process, and what it told."""
    race, outbox = Race(experiment()), Kept()
    race.told = PredictionRows(PredictionsTopic(format=form), list(race.arms), outbox)
    luck = np.random.default_rng(0)
    x = luck.normal(size=(COUNT, 3)).astype(np.float32)
    y = [None if unlabelled and n % 7 == 3 else f"class {int(n / 60 * one)}" for n, one in enumerate(luck.random(COUNT))]
    race.feed(Records(y=y, x=x, segment=np.arange(COUNT) // 120), np.arange(COUNT))
    return race, outbox.letters


def without_learning(result: dict) -> dict:
    """What a judge can know of a summary."""
    kept = json.loads(json.dumps(result))
    del kept["learned_hash"], kept["samples"]
    for arm in kept["arms"].values():
        del arm["forgetting"]
        for member in arm["members"]:
            for name in ("log_loss", "forgetting", "hyperparameters"):
                del member[name]
            member["recall"] = dict(sorted(member["recall"].items()))
    return kept


@pytest.mark.parametrize("form", ["json", "arrow"])
@pytest.mark.parametrize("unlabelled", [False, True])
def test_verdicts_and_figures_are_those_of_one_process(form: str, unlabelled: bool) -> None:
    race, letters = told(form, unlabelled=unlabelled)
    judge = Judge(Race(experiment()))
    for _, value in letters:
        judge.take(decode_predictions(value))
    one, other = summary(race), summary(judge.race)
    assert without_learning(other) == without_learning(one)
    assert all(row["samples"] > 290 and row["lower"] is not None for row in other["comparisons"])
    assert [row["since_segment"]["samples"] for row in other["comparisons"]] == [row["since_segment"]["samples"] for row in one["comparisons"]]
    assert curve_table(judge.race).equals(curve_table(race))
    assert (judge.unlabelled > 0) == unlabelled and judge.unmatched == judge.repeats == 0
    assert [comparison.timeline()[1].tolist() for comparison in judge.race.comparisons.values()] == [
        comparison.timeline()[1].tolist() for comparison in race.comparisons.values()]


@settings(max_examples=20)
@given(st.randoms(use_true_random=False))
def test_neither_the_order_of_arms_nor_repeats_matter(luck) -> None:
    race, letters = told()
    by_arm = {place: [value for at, value in letters if at == place] for place in range(len(race.arms))}
    judge = Judge(Race(experiment()))
    while any(by_arm.values()):
        arm = luck.choice([place for place, left in by_arm.items() if left])
        value = by_arm[arm].pop(0)
        for _ in range(luck.choice([1, 1, 2])):
            judge.take(decode_predictions(value))
    assert summary(judge.race)["comparisons"] == summary(race)["comparisons"]
    assert without_learning(summary(judge.race))["arms"] == without_learning(summary(race))["arms"]


ROW = {"arm": ["il"] * 2000, "ordinal": range(2000), "label": ["a"] * 2000, "predicted": [["a"]] * 2000}


@pytest.mark.parametrize("bomb", [
    {"predicted": pa.FixedSizeListArray.from_arrays(pa.nulls(2_000_000), 1000)},
    {"arm": pa.DictionaryArray.from_arrays(pa.array(np.zeros(2000, np.int8)), pa.array(["long" * 5000]))},
    {"label": pa.RunEndEncodedArray.from_arrays(pa.array([2000], pa.int32()), pa.array(["long" * 5000]))},
])
def test_small_records_of_rows_do_not_fill_the_memory(bomb: dict[str, pa.Array]) -> None:
    batch, sink = pa.record_batch(ROW | bomb), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    data = sink.getvalue().to_pybytes()
    tracemalloc.start()
    try:
        with contextlib.suppress(CodecError):
            decode_predictions(data)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def rows(arm: str, ordinals: list[int], right: list[bool], members: int = 1, **more: object) -> bytes:
    return json.dumps([{"arm": arm, "ordinal": at, "label": "a", "predicted": ["a" if one else "b"] * members, **more}
                       for at, one in zip(ordinals, right, strict=True)]).encode()


def small(**more: object) -> Judge:
    return Judge(Race(Experiment.model_validate({"stream": {"source": {"kind": "elec"}, **more}, "network": {"hidden": [4]}, "arms": {
        "il": {"algorithm": "il-prox"}, "bp": {"algorithm": "bp-sgd"}}})))


def test_samples_of_one_arm_alone_are_counted_and_not_compared() -> None:
    judge = small()
    judge.take(decode_predictions(rows("il", [0, 1, 2, 5, 6], [True] * 5)))
    judge.take(decode_predictions(rows("bp", [1, 2, 3, 6], [False] * 4)))
    found = judge.race.comparisons["il", "bp"].summary()
    assert found["samples"] == 3 and found["mean_difference"] == 1 and judge.unmatched == 3  # 0, 3 and 5
    assert judge.race.arms["il"].figures.samples == 5


def test_rows_below_the_next_ordinal_are_repeats_also_within_a_record() -> None:
    judge = small()
    judge.take(decode_predictions(rows("il", [0, 1, 1, 0, 2], [True] * 5)))
    judge.take(decode_predictions(rows("il", [1, 2, 3], [False] * 3)))
    assert judge.repeats == 4 and judge.race.arms["il"].figures.samples == 4
    assert int(judge.race.arms["il"].figures.correct[0]) == 3


def test_an_arm_that_is_ahead_waits_and_one_that_is_done_is_not_read() -> None:
    judge = Judge(small().race, until=3)
    assert judge.behind == ["il", "bp"] and not judge.done
    judge.take(decode_predictions(rows("il", [0, 1, 2, 3], [True] * 4)))
    assert judge.behind == ["bp"] and judge.race.arms["il"].figures.samples == 3
    judge.take(decode_predictions(rows("bp", [0, 1, 2], [True] * 3)))
    assert judge.done and judge.behind == []
    judge = small()
    judge.take(decode_predictions(rows("il", [AHEAD], [True])))
    assert judge.behind == ["bp"]


def test_what_waits_is_bounded_by_the_arm_that_is_last() -> None:
    judge = small()
    for first in range(0, 3 * AHEAD, 1000):
        for arm in ("il", "bp") if first < AHEAD else ("il",):
            if arm in judge.behind:
                judge.take(decode_predictions(rows(arm, list(range(first, first + 1000)), [True] * 1000)))
    waiting = judge._sides["il", "bp"][0]
    assert len(waiting.ordinals) == waiting.correct.shape[1] == len(waiting.segment) <= AHEAD + 1000


@pytest.mark.parametrize(("value", "reason"), [
    (None, "null"), (b"", "not-json"), (b"{", "not-json"), (b"{}", "wrong-shape"), (b"[]", "no-samples"), (b"[3]", "wrong-shape"),
    (b"[" * 100_000, "not-json"), (rows("il", [-1], [True]), "wrong-shape"), (rows("il", [2**63], [True]), "wrong-shape"),
    (b'[{"arm": "il", "ordinal": true, "label": "a", "predicted": ["a"]}]', "wrong-shape"),
    (b'[{"arm": "il", "ordinal": 0, "label": 3, "predicted": ["a"]}]', "bad-label"),
    (b'[{"arm": "il", "ordinal": 0, "label": "a", "predicted": [3]}]', "bad-label"),
    (b'[{"arm": "il", "ordinal": 0, "label": "a", "predicted": []}]', "wrong-shape"),
    (b'[{"arm": "il", "ordinal": 0, "predicted": ["a"]}]', "wrong-shape"),
    (b'[{"arm": "il", "ordinal": 0, "label": "a", "predicted": ["a"], "segment": -3}]', "wrong-shape"),
    (rows("il", [0], [True])[:-1] + b"," + rows("bp", [1], [True])[1:], "wrong-shape"),
    (rows("il", [0], [True])[:-1] + b"," + rows("il", [1], [True], members=2)[1:], "wrong-shape"),
    (b"\xff\xff\xff\xff\x00\x00\x00\x00", "arrow-damaged"), (b"ARROW1", "arrow-file")])
def test_hostile_records_are_rejected_with_a_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(CodecError) as error:
        decode_predictions(value)
    assert error.value.reason == reason


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_rejected(data: bytes) -> None:
    _, letters = told("arrow")
    good = letters[0][1]
    for value in (data, b"\xff\xff\xff\xff" + data, good[: len(data)], good[:50] + data + good[50 + len(data):]):
        with contextlib.suppress(CodecError):
            decode_predictions(value)


def test_arrow_columns_of_other_types_are_rejected() -> None:
    table = pa.table({"arm": ["il"], "ordinal": ["0"], "label": ["a"], "predicted": [["a"]]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(CodecError, match="ordinal"):
        decode_predictions(bytes(sink.getvalue()))


@pytest.mark.parametrize(("value", "reason"), [
    (rows("other", [0], [True]), "foreign"), (rows("il", [0], [True], members=2), "wrong-shape")])
def test_rows_that_do_not_fit_the_experiment_change_nothing(value: bytes, reason: str) -> None:
    judge = small()
    with pytest.raises(CodecError) as error:
        judge.take(decode_predictions(value))
    assert error.value.reason == reason and judge.race.arms["il"].figures.samples == 0


def test_a_label_outside_a_closed_set_is_rejected() -> None:
    judge = small(classes=["b", "c"])
    with pytest.raises(CodecError, match="label 'a' is none of b, c"):
        judge.take(decode_predictions(rows("il", [0], [True])))


def test_an_arm_of_larger_mini_batches_is_done_without_what_fills_none() -> None:
    judge = Judge(Race(Experiment.model_validate({"stream": {"source": {"kind": "elec"}}, "network": {"hidden": [4]}, "arms": {
        "il": {"algorithm": "il-prox", "batch_size": [1, 4]}}, "comparisons": []})), until=10)
    judge.take(decode_predictions(rows("il@1", list(range(12)), [True] * 12)))
    judge.take(decode_predictions(rows("il@4", list(range(12)), [True] * 12)))
    assert judge.done and [arm.figures.samples for arm in judge.race.arms.values()] == [10, 8]


def test_an_arrow_stream_that_claims_too_much_is_rejected_before_it_is_read() -> None:
    table = pa.table({"ordinal": np.zeros(2_000_000, np.int64)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    value = bytes(sink.getvalue())
    assert len(value) < 1_000_000
    with pytest.raises(CodecError) as error:
        decode_predictions(value)
    assert error.value.reason == "too-large"
