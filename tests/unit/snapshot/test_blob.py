"""A blob comes back exactly, and nothing but what was packed does."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import load, save
from torch import Tensor

from streamil.errors import SnapshotDamaged, SnapshotError, SnapshotNewer
from streamil.snapshot import blob as format
from streamil.snapshot import pack, read_meta, unpack
from streamil.snapshot.encoding import DEPTH_LIMIT

VERSION_1 = Path(__file__).parent / "data" / "version-1.snapshot"
HEADER = struct.Struct("<8sIIQQ")
STATE = {
    "arms": {"il": {"w": torch.linspace(-1, 1, 12).reshape(3, 4), "alive": torch.tensor([True, False])}},
    "counts": np.arange(5), "labels": ["a", "b\ud800"], "hash": b"\x00\xff", "best": math.inf, "n": 2**70, "$odd": None,
}
META = {"experiment": "größe", "ordinal": 2**60, "plan": "cpu", "rate": math.nan, "offset": None, "resumed": True}
DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
          torch.float32, torch.float64, torch.complex64, torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn]


def same(one: Any, other: Any) -> bool:
    """Whether both are the same, to the bit and to the type; a tuple is a list."""
    if isinstance(one, list | tuple):
        return type(other) is list and len(one) == len(other) and all(map(same, one, other))
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, Tensor):
        one, other = one.detach().contiguous(), other.contiguous()
        return (one.dtype, one.shape) == (other.dtype, other.shape) and (one.numel() == 0 or torch.equal(
            one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8)))
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape) == (other.dtype, other.shape) and one.tobytes() == other.tobytes()
    return struct.pack(">d", one) == struct.pack(">d", other) if isinstance(one, float) else one == other


def sealed(meta: bytes = b"{}", structure: bytes = b"null", tensors: bytes | None = None, version: int = 1,
           sizes: tuple[int, int, int] | None = None) -> bytes:
    """A blob of any content, whose checksum holds."""
    parts = meta, structure, save({}) if tensors is None else tensors
    whole = HEADER.pack(b"STREAMIL", version, *(sizes or map(len, parts))) + b"".join(parts)
    return whole + hashlib.sha256(whole).digest()


texts = st.text(st.characters(exclude_categories=())) | st.sampled_from(["$", "$int", "\ud83d\ude00", "😀", "\0", "a.b", ""])
floats = st.floats() | st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack(">d", bits.to_bytes(8, "big"))[0])
numbers = floats | st.integers() | st.integers(-2**80, 2**80) | st.booleans()
arrays = hnp.arrays(st.one_of(hnp.boolean_dtypes(), hnp.integer_dtypes(endianness="="), hnp.unsigned_integer_dtypes(endianness="="),
                              hnp.floating_dtypes(endianness="=", sizes=(16, 32, 64)), st.just(np.dtype(np.complex64))),
                    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
views = arrays | arrays.map(lambda array: array.T) | arrays.filter(lambda a: a.ndim > 0).map(lambda a: a[::-2])
tensors = views.map(lambda array: torch.from_numpy(array.copy())) | arrays.map(lambda array: torch.from_numpy(array.copy()).T.mT
                                                                               if array.ndim == 2 else torch.from_numpy(array.copy()))
states = st.recursive(st.none() | numbers | texts | st.binary() | views | tensors, lambda inner: st.lists(inner, max_size=4)
                      | st.tuples(inner, inner) | st.dictionaries(texts, inner, max_size=4), max_leaves=12)


@given(states, st.dictionaries(texts, st.none() | numbers | texts, max_size=5))
@example([*(struct.unpack(">d", bytes.fromhex(bits))[0] for bits in ("7ff8000000000001", "fff8000000000000")), -0.0, 5e-324,
          2**53 - 1, -(2**53), 10**5000], {"$a": "\ud83d\ude00", "\ud800": True})
def test_what_is_packed_comes_back_to_the_bit(state, meta):
    blob = pack(state, meta)
    found, said = unpack(blob)
    assert same(state, found) and same(meta, said) and same(meta, read_meta(blob))
    assert pack(found, said) == blob  # one state, one blob


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3)])
def test_tensors_of_every_type_and_shape(dtype, shape):
    bits = torch.arange(math.prod(shape) * dtype.itemsize, dtype=torch.uint8) % 2
    tensor = bits.view(dtype).reshape(shape)
    assert same({"t": [tensor, tensor.T if tensor.dim() == 2 else tensor]}, unpack(pack({"t": (tensor, tensor.T if tensor.dim() == 2 else tensor)}, {}))[0])


def test_a_snapshot_of_version_1_is_read_for_ever():
    state, meta = unpack(VERSION_1.read_bytes())
    assert same(STATE, state) and same(META, meta)


def test_the_page_is_enough_to_write_a_reader():
    data = pack(STATE, META)
    magic, version, *sizes = struct.unpack("<8sIIQQ", data[:32])
    assert (magic, version) == (b"STREAMIL", 1) and hashlib.sha256(data[:-32]).digest() == data[-32:]
    meta, structure = data[32:32 + sizes[0]], data[32 + sizes[0]:32 + sum(sizes[:2])]
    tensors = load(data[32 + sum(sizes[:2]):-32])
    assert json.loads(meta)["experiment"] == "größe" and json.loads(meta)["ordinal"] == {"$int": f"{2**60:x}"}
    pairs = dict(json.loads(structure)["$dict"])  # the state has a key that begins with $
    assert pairs["labels"] == ["a", {"$str": "62eda080"}] and pairs["best"] == {"$float": "7ff0000000000000"}
    assert torch.equal(tensors[str(pairs["arms"]["il"]["w"]["$tensor"])], STATE["arms"]["il"]["w"])
    assert tensors[str(pairs["counts"]["$array"])].tolist() == [0, 1, 2, 3, 4]
    assert bytes(tensors[str(pairs["hash"]["$bytes"])].tolist()) == b"\x00\xff"


def test_views_parameters_and_big_endian_arrays_come_back_as_plain_values():
    weights = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    shared = weights.detach()
    found, _ = unpack(pack([weights, shared[:, 1], shared.expand(2, 2, 3), torch.tensor([1 + 2j]).conj(),
                            np.arange(3, dtype=">i4"), np.float32(0.5), np.int64(7), np.bool_(True)], {}))
    assert same(found[:4], [shared, shared[:, 1].clone(), shared.expand(2, 2, 3).clone(), torch.tensor([1 - 2j])])
    assert same(found[4:], [np.arange(3, dtype="i4"), 0.5, 7, True])
    found[0] += 1
    found[4] += 1  # writable, and the caller's own
    assert weights[0, 0] == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_tensors_of_a_gpu_come_back_on_the_cpu():
    assert same(unpack(pack(torch.arange(4.0, device="cuda")[::2], {}))[0], torch.tensor([0.0, 2.0]))


def test_the_state_is_not_changed_and_not_shared():
    state = {"w": torch.zeros(2), "a": np.zeros(2)}
    blob = pack(state, {})
    state["w"] += 1
    state["a"] += 1
    assert same(unpack(blob)[0], {"w": torch.zeros(2), "a": np.zeros(2)})


def deep(levels: int) -> list[Any]:
    state: list[Any] = []
    for _ in range(levels):
        state = [state]
    return state


@pytest.mark.parametrize(("state", "said"), [
    ({"a": {1: 2}}, "state['a']: the key 1 is no text"), ([{"x": {1, 2}}], "state[0]['x']: a snapshot cannot hold this set"),
    ({"o": np.array([None])}, "ndarray of object"), (np.array(["a"]), "ndarray of <U1"), (np.zeros(1, np.complex128), "of complex128"),
    (np.ma.masked_array([1.0]), "MaskedArray"), (1j, "complex"), (torch.zeros(2, dtype=torch.complex128), "complex128"),
    (torch.zeros(2, 2).to_sparse(), "Tensor of torch.float32"), (torch.zeros(2, device="meta"), "Tensor"), (torch.zeros([1] * 65), "Tensor"),
    (deep(DEPTH_LIMIT + 1), "nested deeper than 64"),
    (lambda: 0, "function"), (np.datetime64("2024-01-01"), "date")])
def test_what_would_not_come_back_is_refused_by_place(state, said):
    with pytest.raises(SnapshotError) as error:
        pack(state, {})
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_cycle_is_refused_and_the_deepest_state_is_not():
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(SnapshotError, match="nested deeper"):
        pack(cycle, {})
    assert unpack(pack(deep(DEPTH_LIMIT), {}))[0] == deep(DEPTH_LIMIT)


@pytest.mark.parametrize("meta", [{"a": [1]}, {"a": {"b": 1}}, {1: 2}, {"a": b"x"}, {"a": np.zeros(1)}])
def test_meta_is_flat_and_plain(meta):
    with pytest.raises(SnapshotError, match="meta"):
        pack({}, meta)


def test_what_is_past_the_limits_is_refused_on_both_ways(monkeypatch):
    with pytest.raises(SnapshotError, match=r"the meta of the snapshot would take .* 65,536 are allowed"):
        pack({}, {"a": "x" * format.META_LIMIT})
    large = sealed(meta=b'{"a":"' + b"x" * format.META_LIMIT + b'"}')
    with pytest.raises(SnapshotDamaged, match="limits"):
        unpack(large)
    monkeypatch.setattr(format, "_LIMITS", (1 << 16, 1000, 1000))
    with pytest.raises(SnapshotError, match="the structure"):
        pack(["x" * 1000], {})
    with pytest.raises(SnapshotError, match="the tensors"):
        pack(np.zeros(1000), {})


def test_every_changed_byte_is_noticed():
    blob = pack({**STATE, "big": np.random.default_rng(0).normal(size=500)}, META)
    rng = np.random.default_rng()
    places = rng.choice(len(blob), size=2000, replace=False)
    assert len(blob) > 4000
    for place, change in zip(places, rng.integers(1, 256, size=2000), strict=True):
        damaged = bytearray(blob)
        damaged[place] ^= change
        for read in unpack, read_meta:
            with pytest.raises(SnapshotDamaged):
                read(bytes(damaged))


def test_every_truncation_and_every_addition_is_noticed():
    blob = pack({"a": np.arange(3), "b": "c"}, {"ordinal": 1})
    for length in range(len(blob)):
        with pytest.raises(SnapshotDamaged):
            unpack(blob[:length])
    for more in (b"\0", b"\n", blob, blob[-32:]):
        with pytest.raises(SnapshotDamaged):
            unpack(blob + more)
        with pytest.raises(SnapshotDamaged):
            unpack(more + blob if more != blob else blob + more)


def test_a_newer_version_is_named_and_a_damaged_one_is_not_called_newer():
    newer = sealed(version=2, structure=b"\x00of a form that is not known")
    for read in unpack, read_meta:
        with pytest.raises(SnapshotNewer, match="format version 2, this streamil knows version 1"):
            read(newer)
    blob = bytearray(pack(STATE, META))
    blob[8] = 2
    with pytest.raises(SnapshotDamaged, match="checksum"):
        unpack(bytes(blob))


HEADS = [b"", b"\0" * 8, b"\xff" * 8, struct.pack("<Q", 2**62) + b"{}", struct.pack("<Q", 2) + b"{}" + b"x"]
TENSOR = '{"0":{"dtype":"%s","shape":%s,"data_offsets":[0,%d]}}'


def tensor(dtype: str, shape: str, size: int, data: bytes = b"") -> bytes:
    head = (TENSOR % (dtype, shape, size)).encode()
    return struct.pack("<Q", len(head)) + head + data


HOSTILE = {
    "sizes past the end": {"sizes": (2**32 - 1, 2**64 - 1, 2**64 - 1)}, "sizes that wrap": {"sizes": (2, 2**64 - 4, 2)},
    "sizes that leave some": {"sizes": (1, 1, 1)}, "deep JSON": {"structure": b"[" * 10_000_000},
    "deeper than allowed": {"structure": b"[" * 100 + b"]" * 100}, "deep objects": {"structure": b'{"a":' * 100_000},
    "deep $dict": {"structure": b'{"$dict":[["a",' * 200 + b"0" + b"]]}" * 200},
    "nan": {"structure": b"NaN"}, "infinity": {"structure": b"[-Infinity]"}, "beyond float64": {"structure": b"1e999"},
    "long digits": {"structure": b"9" * 100_000}, "no UTF-8": {"structure": b'"\xff"'}, "UTF-16": {"structure": '"a"'.encode("utf-16")},
    "a key twice": {"structure": b'{"a":1,"a":2}'}, "two documents": {"structure": b"1 2"}, "nothing": {"structure": b""},
    "unknown tag": {"structure": b'{"$pickle":"gASV"}'}, "tag with company": {"structure": b'{"$int":"1","a":1}'},
    "int": {"structure": b'{"$int":"0x1"}'}, "int with blanks": {"structure": b'{"$int":" 1_0"}'}, "int of a number": {"structure": b'{"$int":1}'},
    "float": {"structure": b'{"$float":"7ff"}'}, "float of a list": {"structure": b'{"$float":[]}'},
    "text": {"structure": b'{"$str":"ff"}'}, "text of a number": {"structure": b'{"$str":1}'},
    "dict of a text": {"structure": b'{"$dict":"ab"}'}, "dict of triples": {"structure": b'{"$dict":[["a",1,2]]}'},
    "dict with a key twice": {"structure": b'{"$dict":[["a",1],["a",2]]}'}, "dict with a list as key": {"structure": b'{"$dict":[[[],1]]}'},
    "no such tensor": {"structure": b'{"$tensor":0}'},
    "a tensor by text": {"structure": b'{"$tensor":"0"}', "tensors": save({"0": torch.zeros(1)})},
    "a tensor twice": {"structure": b'[{"$tensor":0},{"$tensor":0}]', "tensors": save({"0": torch.zeros(1)})},
    "a tensor of nobody": {"tensors": save({"0": torch.zeros(1)})}, "a tensor of another name": {"structure": b'{"$tensor":0}', "tensors": save({"w": torch.zeros(1)})},
    "a tensor of another name beside": {"structure": b'{"$tensor":0}', "tensors": save({"0": torch.zeros(1), "w": torch.zeros(1)})},
    "tensors by truth": {"structure": b'[{"$tensor":true},{"$tensor":0}]', "tensors": save({"0": torch.zeros(1), "1": torch.zeros(1)})},
    "a tensor by list": {"structure": b'{"$tensor":[]}', "tensors": save({"0": torch.zeros(1)})},
    "bytes that are none": {"structure": b'{"$bytes":0}', "tensors": save({"0": torch.zeros(1)})},
    "bytes in rows": {"structure": b'{"$bytes":0}', "tensors": save({"0": torch.zeros(1, 1, dtype=torch.uint8)})},
    "an array of bfloat16": {"structure": b'{"$array":0}', "tensors": save({"0": torch.zeros(1, dtype=torch.bfloat16)})},
    "a huge shape": {"structure": b'{"$tensor":0}', "tensors": tensor("F32", "[4611686018427387904,4]", 0)},
    "a huge shape of nothing": {"structure": b'{"$tensor":0}', "tensors": tensor("F32", "[0,9223372036854775808]", 0)},
    "declared data": {"structure": b'{"$tensor":0}', "tensors": tensor("F32", "[1099511627776]", 2**42)},
    "data that is not there": {"structure": b'{"$tensor":0}', "tensors": tensor("F32", "[2]", 8, b"1234")},
    "many dimensions": {"structure": b'{"$array":0}', "tensors": tensor("U8", str([1] * 500), 1, b"1")},
    "many dimensions of truth": {"structure": b'{"$array":0}', "tensors": tensor("BOOL", str([1] * 500), 1, b"\1")},
    "a type of nobody": {"structure": b'{"$tensor":0}', "tensors": tensor("F4", "[2]", 1, b"1")},
    "truth of 2": {"structure": b'{"$array":0}', "tensors": tensor("BOOL", "[2]", 2, b"\x01\x02")},
    "meta that is a list": {"meta": b"[]"}, "meta that nests": {"meta": b'{"a":[]}'}, "meta of bytes": {"meta": b'{"a":{"$bytes":0}}'},
    **{f"tensors {number}": {"tensors": head} for number, head in enumerate(HEADS)},
}


@pytest.mark.parametrize("parts", HOSTILE.values(), ids=HOSTILE)
def test_hostile_blobs_with_a_right_checksum_are_refused(parts):
    with pytest.raises(SnapshotDamaged) as error:
        unpack(sealed(**parts))
    assert len(str(error.value)) < 400


def test_what_the_hostile_ones_are_made_of_is_read():
    assert unpack(sealed(structure=b'[1,{"$int":"-ff"}]')) == ([1, -255], {})
    assert same(unpack(sealed(structure=b'{"$array":0}', tensors=tensor("BOOL", "[2]", 2, b"\x01\x00")))[0], np.array([True, False]))


def refused_or_read(blob: bytes) -> None:
    for read in unpack, read_meta:
        with contextlib.suppress(SnapshotDamaged):
            read(blob)


@given(st.binary(max_size=60), st.binary(max_size=200), st.binary(max_size=200))
def test_any_sections_are_read_or_refused(meta, structure, tensors):
    refused_or_read(sealed(meta, structure, tensors))


json_like = st.recursive(st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "0", "ff", "7ff0000000000000", "-1"]),
                         lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
                             ["a", "$int", "$float", "$str", "$dict", "$tensor", "$array", "$bytes", "$"]), inner, max_size=2), max_leaves=10)


@given(json_like, json_like)
def test_any_typed_structure_is_read_or_refused(structure, meta):
    from streamil.snapshot.encoding import to_json
    refused_or_read(sealed(to_json(meta), to_json(structure), save({"0": torch.zeros(2, dtype=torch.uint8), "1": torch.zeros(2)})))


@given(st.data())
def test_a_changed_blob_that_is_sealed_anew_is_read_or_refused(data):
    blob = bytearray(pack(STATE, META)[:-32])
    for place in data.draw(st.lists(st.integers(12, len(blob) - 1), min_size=1, max_size=4)):
        blob[place] = data.draw(st.integers(0, 255))
    refused_or_read(bytes(blob) + hashlib.sha256(blob).digest())
