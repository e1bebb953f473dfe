"""Equality of records, and hypothesis strategies of records that both codecs can hold."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamil.samples import Records

TYPES = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)


def listed(values):
    return values.tolist() if isinstance(values, np.ndarray) else None if values is None else list(values)


def assert_equal(one, other):
    for name in ("y", "x", "ids", "segment", "index"):
        assert listed(getattr(one, name)) == listed(getattr(other, name)), name
    assert (one.t is None) == (other.t is None)
    assert one.t is None or np.array_equal(one.t, other.t, equal_nan=True)
    assert one.rejected == other.rejected
    assert one.columns.keys() == other.columns.keys()
    for name, values in one.columns.items():
        assert listed(values) == listed(other.columns[name]), name


@st.composite
def records(draw):
    count = draw(st.integers(1, 5))

    def column(element, *, missing=True):
        return draw(st.lists(st.none() | element if missing else element, min_size=count, max_size=count))

    def beside(element):
        values = column(element)
        return values if draw(st.booleans()) and any(value is not None for value in values) else None

    fields = {"y": column(TEXT), "ids": beside(TEXT)}
    times = beside(st.floats(-6.2e10, 2.5e11))
    fields["t"] = None if times is None else np.array([np.nan if t is None else t for t in times])
    if draw(st.booleans()):
        fields["segment"] = np.array(column(st.integers(0, 2**62), missing=False))
    if draw(st.booleans()):
        dtype = np.dtype(draw(st.sampled_from(TYPES)))
        shape = (count, draw(st.integers(1, 4)))
        finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
        fields["x"] = draw(hnp.arrays(dtype, shape, elements=hnp.from_dtype(dtype, **finite)))
    else:
        names = draw(st.lists(TEXT | st.sampled_from(["x", "y", "t", "features.t"]), min_size=1, max_size=3,
                              unique=True))
        kinds = (st.integers(-2**60, 2**60), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), TEXT)
        fields["columns"] = {name: column(draw(st.sampled_from(kinds))) for name in names}
    return Records(**fields)
