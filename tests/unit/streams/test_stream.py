from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from streamil.experiment import Stream
from streamil.samples import Records
from streamil.streams import open_stream, pack
from streamil.streams.chunks import join


@pytest.fixture
def numbered(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.arange(1000)[:, None], y=np.arange(1000))
    return tmp_path


def order(folder, **stream):
    source = {"kind": "npz", "path": "d.npz"}
    records = join(list(open_stream(Stream.model_validate({"source": source, **stream}), folder)))
    assert [str(number) for number in records.x[:, 0]] == list(records.y)
    return records.x[:, 0].tolist()


def test_without_regimes_the_order_is_the_sources(numbered):
    assert order(numbered) == list(range(1000))


def test_single_pass_takes_every_sample_once_in_an_order_of_the_seed(numbered):
    regimes = [{"kind": "single-pass"}]
    one = order(numbered, seed=1, regimes=regimes)
    assert sorted(one) == list(range(1000))
    assert one != list(range(1000))
    assert one == order(numbered, seed=1, regimes=regimes)
    assert one != order(numbered, seed=2, regimes=regimes)
    # the limit comes after the regimes
    assert order(numbered, seed=1, regimes=regimes, limit=300) == one[:300]


def test_single_pass_keeps_the_parts_of_a_sample_together():
    stream = {"source": {"kind": "elec"}, "limit": 1000}
    plain = join(list(open_stream(Stream.model_validate(stream | {"limit": None}), Path())))
    shuffled = join(list(open_stream(Stream.model_validate(
        stream | {"regimes": [{"kind": "single-pass"}]}), Path())))

    def rows(records):
        return list(zip(*(records.columns[name] for name in sorted(records.columns)), records.y, strict=True))

    known = set(rows(plain))
    assert len(shuffled) == 1000
    assert all(row in known for row in rows(shuffled))
    assert rows(shuffled) != rows(plain)[:1000]


def test_a_limit_takes_no_more_than_it_needs_from_the_source(tmp_path):
    (tmp_path / "endless.py").write_text("def f():\n    for i in range(513):\n        yield [float(i)], i % 2\n"
                                         "    raise RuntimeError('taken too far')\n")
    stream = Stream.model_validate({"source": {"kind": "python", "callable": "endless:f"}, "limit": 512})
    assert sum(map(len, open_stream(stream, tmp_path))) == 512


@pytest.mark.parametrize("size", [1, 7, 64, 300])
def test_pack_gives_records_of_exactly_one_size(size):
    x = np.arange(1000)[:, None]
    whole = Records(y=[str(n) for n in range(1000)], x=x, segment=np.arange(1000) // 100,
                    columns={}, t=np.arange(1000.0), ids=[f"i{n}" for n in range(1000)])
    cuts = [0, 1, 3, 250, 251, 600, 1000]
    chunks = [whole[first:last] for first, last in pairwise(cuts)]
    packed = list(pack(chunks, size))
    assert {len(record) for record in packed[:-1]} <= {size}
    assert 1 <= len(packed[-1]) <= size
    again = join(packed)
    assert np.array_equal(again.x, x)
    assert again.y == whole.y
    assert again.ids == whole.ids
    assert np.array_equal(again.t, whole.t)
    assert np.array_equal(again.segment, whole.segment)
