"""The schedule of a producer: absolute, so that nothing adds up, and without bursts after a long pause."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamil_producer.pace import CATCH_UP_SECONDS, Pace

from streamil.samples import Records


def records(size, t=None):
    return Records(y=["a"] * size, t=None if t is None else np.array(t, dtype=np.float64))


def sent(make, sizes, delays, start=1000.0):
    """When each record leaves, where sending it takes so long."""
    now, times = start, []
    pace = make(lambda: now)
    for record, delay in zip(sizes, delays, strict=True):
        now += max(0.0, pace.ahead(record if isinstance(record, Records) else records(record)))
        times.append(now - start)
        now += delay
    return pace, np.array(times)


@given(rate=st.floats(0.1, 1e6), sizes=st.lists(st.integers(1, 64), min_size=1, max_size=50), delay=st.floats(0, 0.9))
def test_short_delays_are_made_up_for_and_never_add_up(rate, sizes, delay):
    delays = [0.0] * len(sizes)
    delays[len(sizes) // 2] = delay
    pace, times = sent(lambda clock: Pace(rate, clock=clock), sizes, delays)
    due = np.cumsum(sizes) / rate
    assert pace.moved == 0
    assert (times >= due - 1e-6).all()
    assert times == pytest.approx(np.maximum(due, [0, *(times + delays)[:-1]]), abs=1e-6)


def test_after_a_long_pause_the_schedule_goes_on_without_a_burst():
    delays = [0.0] * 10
    delays[4] = 30.0
    pace, times = sent(lambda clock: Pace(100, clock=clock), [10] * 10, delays)
    assert np.diff(times) == pytest.approx([0.1] * 4 + [30.0] + [0.1] * 4)
    assert pace.moved == pytest.approx(29.9)
    assert CATCH_UP_SECONDS == 1


def test_too_high_a_rate_is_told_as_growing_delay():
    pace, times = sent(lambda clock: Pace(1000, clock=clock), [10] * 500, [0.02] * 500)
    assert times[-1] == pytest.approx(499 * 0.02 + 0.01)
    behind = times[-1] - 5.0
    assert behind - CATCH_UP_SECONDS <= pace.moved <= behind


def test_event_times_are_kept_from_the_first_records_on():
    stamped = [records(2, [50.0, 50.1]), records(2, [50.2, 53.0]), records(1), records(1, [np.nan]),
               records(2, [40.0, 42.5]), records(2, [54.0, np.nan])]
    _, times = sent(lambda clock: Pace(by_time=True, clock=clock), stamped, [0.0] * 6)
    assert times == pytest.approx([0.1, 3.0, 3.0, 3.0, 3.0, 4.0])


def test_without_a_rate_every_record_is_due():
    _, times = sent(lambda clock: Pace(clock=clock), [1] * 5, [0.5] * 5)
    assert times == pytest.approx([0, 0.5, 1.0, 1.5, 2.0])
