"""A whole record taken in at once is what one by one gives."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamil.codec._gather import Bad, Gather
from streamil.values import EARLIEST, LATEST

DTYPES = st.sampled_from(["uint8", "int8", "int64", "uint64", "float16", "float64", "bool"])
EDGES = st.sampled_from([None, True, 0, 1, -1, 2**63 - 1, 2**63, 1.5, 2.0, np.nan, np.inf, EARLIEST, LATEST,
                         np.nextafter(LATEST, 0), "a", "", "2023-11-14T22:13:20Z"])


def columns(count):
    arrays = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, count, elements=hnp.from_dtype(np.dtype(dtype))))
    small = hnp.arrays("int64", count, elements=st.integers(0, 9))
    return st.lists(EDGES, min_size=count, max_size=count) | arrays | small


@st.composite
def beside(draw):
    count = draw(st.integers(1, 3))
    texts = st.lists(st.none() | st.text(max_size=2), min_size=count, max_size=count)
    return [draw(texts | columns(count)), *(draw(st.none() | texts | columns(count)) for _ in range(3))]


@given(beside())
@example([["a"], None, None, np.array([-1])])
@example([["a"], None, None, np.array([2**63], np.uint64)])
@example([["a"], None, None, np.array([True])])
@example([["a"], None, np.array([np.nan]), None])
@example([["a"], None, np.array([LATEST]), None])
@example([["a"], None, np.array([-100_000_000_000]), None])
@example([np.array([1.5]), None, None, None])
def test_what_is_taken_at_once_is_what_one_by_one_takes(values):
    count = len(values[0])
    lists = [[None] * count if one is None else one.tolist() if isinstance(one, np.ndarray) else one for one in values]
    single = Gather()
    for row, sample in enumerate(zip(*lists, strict=True)):
        try:
            single.add(row, *sample)
        except Bad as bad:
            single.reject(row, bad)
    whole = Gather()
    if whole.add_all(*values):
        got, expected = whole.records(np.zeros((count, 1)), {}), single.records(np.zeros((count, 1)), {})
        assert not expected.rejected
        assert (got.y, got.ids) == (expected.y, expected.ids)
        for one, other in ((got.t, expected.t), (got.segment, expected.segment), (got.index, expected.index)):
            assert (one is None) == (other is None)
            assert one is None or (one.dtype == other.dtype and one.tolist() == other.tolist())
    else:
        assert not whole.index


def test_plain_records_are_taken_at_once():
    labels, whole = ["a", None], np.array([1, 2])
    for values in ((labels, None, None, None), (whole, labels, np.array([0.5, 2.0]), whole.astype(np.uint8))):
        assert Gather().add_all(*values)
