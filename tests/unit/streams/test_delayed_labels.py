"""delayed-labels: every label comes once, when it is due, whatever the chunks of the source."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamil_producer.publish import _skip
from streamil_producer.wire import Position

from streamil.direct import run
from streamil.errors import SourceError
from streamil.experiment import Experiment, Stream
from streamil.experiment.regimes import DelayedLabels
from streamil.samples import Records
from streamil.streams import open_stream, pack
from streamil.streams.regimes import reshape


def source(count: int, ids: list[str | None] | None = None, t: list[float] | None = None) -> Records:
    y = [None if place % 10 == 9 else f"c{place % 3}" for place in range(count)]
    return Records(y=y, x=np.arange(float(count)).reshape(-1, 1), ids=ids, t=None if t is None else np.array(t))


def delayed(records: Records, cuts: list[int] | None = None, **settings: object) -> Iterator[Records]:
    edges = [0, *(cuts or []), len(records)]
    chunks = (records[first:last] for first, last in pairwise(edges) if last > first)
    return reshape(chunks, [DelayedLabels(kind="delayed-labels", **settings)], 1, finite=True)


def told(entries: Iterator[Records]) -> list[tuple[object, ...]]:
    """Each sample and each late label, in order."""
    found: list[tuple[object, ...]] = []
    for entry in entries:
        for row in range(len(entry)):
            assert entry.ids is not None
            found.append(("label", entry.ids[row], entry.y[row]) if entry.x is None
                         else ("sample", entry.ids[row], entry.y[row], float(entry.x[row, 0])))
    return found


def test_a_label_comes_after_so_many_further_samples_at_the_next_place_for_labels():
    found = told(delayed(source(40), samples=5, together=4))
    samples = [one for one in found if one[0] == "sample"]
    assert samples == [("sample", str(place) if place % 10 != 9 else None, None, float(place)) for place in range(40)]
    for place in range(40):
        if place % 10 == 9:
            continue
        due = -(-(place + 6) // 4) * 4  # the first multiple of 4 with 5 further samples behind the sample
        if due < 40:
            at = found.index(("label", str(place), f"c{place % 3}"))
            assert sum(one[0] == "sample" for one in found[:at]) == due
        else:
            assert ("label", str(place), f"c{place % 3}") not in found, "labels still out at the end never come"
    assert found[-1][0] == "sample"


def test_seconds_go_by_event_times():
    found = told(delayed(source(8, t=[0, 1, 2, 3, 10, 11, 12, 30]), seconds=5, together=1))
    places = {one[1]: sum(other[0] == "sample" for other in found[:at]) for at, one in enumerate(found) if one[0] == "label"}
    assert places == {"0": 4, "1": 4, "2": 4, "3": 4, "4": 7, "5": 7, "6": 7}


def test_a_delay_in_seconds_needs_times():
    with pytest.raises(SourceError, match="needs the event time of every sample"):
        list(delayed(source(3), seconds=1))
    with pytest.raises(SourceError, match="needs the event time of every sample"):
        list(delayed(source(3, t=[0, float("nan"), 2]), seconds=1))


def test_identifiers_of_the_source_stay_and_the_rest_get_one_where_a_label_comes():
    found = told(delayed(source(12, ids=["a", None, *"cdefghi", None, "k", "l"]), samples=1, together=1))
    assert [one[1] for one in found if one[0] == "sample"] == ["a", "#1", *"cdefghi", None, "k", "l"]
    assert [one[1] for one in found if one[0] == "label"] == ["a", "#1", *"cdefghi", "k"][:9]


@given(st.sets(st.integers(1, 59), max_size=8), st.integers(1, 20), st.integers(1, 9))
def test_chunks_of_the_source_change_nothing(cuts, samples, together):
    settings = {"samples": samples, "together": together}
    assert told(delayed(source(60), sorted(cuts), **settings)) == told(delayed(source(60), **settings))


@given(st.integers(0, 60), st.integers(1, 8))
def test_what_is_left_after_any_position_is_what_was_not_sent(count, size):
    stream = Stream.model_validate({"source": {"kind": "elec"}, "limit": 60, "regimes": [
        {"kind": "delayed-labels", "samples": 10, "together": 4}]})
    entries = list(pack(open_stream(stream, Path()), size))
    at = Position()
    for done, entry in enumerate(entries):
        if done == count:
            break
        at = at.after(entry)
    rest = pack(_skip(open_stream(stream, Path()), at, threading.Event()), size)
    names = [(entry.late, name) for entry in rest for name in entry.ids or ()]
    assert names == [(entry.late, name) for entry in entries[count:] for name in entry.ids or ()]


def test_a_source_without_an_end_is_read_no_further_than_is_handed_out():
    drawn = 0

    def endless() -> Iterator[Records]:
        nonlocal drawn
        while True:
            drawn += 100
            yield source(100)

    entries = reshape(endless(), [DelayedLabels(kind="delayed-labels", samples=50)], 1, finite=False)
    given_out = labels = 0
    while given_out < 3000:
        entry = next(entries)
        labels, given_out = (labels + len(entry), given_out) if entry.late else (labels, given_out + len(entry))
        assert drawn - given_out <= 256 + 100
    assert labels > 2000


def test_the_regime_is_the_last_and_has_one_delay():
    with pytest.raises(ValueError, match="put it last"):
        Stream.model_validate({"source": {"kind": "elec"}, "regimes": [
            {"kind": "delayed-labels", "samples": 3}, {"kind": "sparse-labels", "keep": 0.5}]})
    for given_delay in ({}, {"samples": 1, "seconds": 1.0}):
        with pytest.raises(ValueError, match="one of the two"):
            DelayedLabels(kind="delayed-labels", **given_delay)


def test_a_race_scores_what_was_said_when_the_sample_came():
    def raced(*regimes):
        return run(Experiment.model_validate({
            "stream": {"source": {"kind": "elec"}, "limit": 1000, "regimes": list(regimes)},
            "arms": {"bp": {"algorithm": "bp-sgd"}}}))

    late = raced({"kind": "delayed-labels", "samples": 100, "together": 10})["arms"]["bp"]["members"][0]
    now = raced()["arms"]["bp"]["members"][0]
    assert late["samples"] == 890, "the labels of the last 110 are still out"
    assert late["accuracy"] < now["accuracy"] - 0.05, "Elec2's labels come in runs: late ones help less"
