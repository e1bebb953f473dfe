"""A state as strict JSON and tensors: what JSON has no form for is an object with one key that begins with `$`."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamil.errors import SnapshotDamaged, SnapshotError

DEPTH_LIMIT = 64
"""Levels of nesting; a state of ours has about ten."""
DIMENSIONS_LIMIT = 64
"""Dimensions of an array or tensor; neither numpy nor torch computes with more."""
EXACT = 2**53
"""Integers from here on are written as hexadecimal text: other readers of JSON would round them."""

_HEX = re.compile(r"-?(?:0|[1-9a-f][0-9a-f]*)")
_BITS = re.compile(r"[0-9a-f]{16}")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_DTYPES = frozenset("?bBhHiIlLqQefdF")
"""Codes of numpy's dtypes that a tensor can hold as they are."""


def encode(state: Any) -> tuple[Any, list[Tensor]]:
    """Return the state as plain JSON values, and what it holds of tensors, arrays and bytes, in order.

    Parameters
    ----------
    state
        Any nesting of dict with text as keys, list, tuple, None, bool, int, float, str, bytes, numpy arrays, torch
        tensors. Tuples come back as lists, numpy's scalars as numbers, tensors of any device on the CPU.

    Raises
    ------
    SnapshotError
        For anything else, with its place in the state.

    Examples
    --------
    >>> encode({"lr": 0.5, "best": float("inf"), "w": np.zeros(2)})
    ({'lr': 0.5, 'best': {'$float': '7ff0000000000000'}, 'w': {'$array': 0}}, [tensor([0., 0.], dtype=torch.float64)])
    """
    tensors: list[Tensor] = []
    return _encoded(state, (), tensors), tensors


def decode(document: Any, tensors: list[Tensor]) -> Any:
    """Return the state out of its JSON and its tensors: the inverse of `encode`.

    Raises
    ------
    SnapshotDamaged
        When it is none, or does not use every tensor exactly once.

    Examples
    --------
    >>> decode(*encode({"best": float("inf"), "id": b"ab", "n": 2**64}))
    {'best': inf, 'id': b'ab', 'n': 18446744073709551616}
    """
    left = dict(enumerate(tensors))
    state = _decoded(document, 0, left)
    if left:
        raise SnapshotDamaged(f"{len(left)} of {len(tensors)} tensors belong to nothing")
    return state


def to_json(document: Any) -> bytes:
    """Return strict JSON in UTF-8, without blanks."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def from_json(section: bytes) -> Any:
    """Return the document; only strict JSON with each key once is one.

    Raises
    ------
    SnapshotDamaged
        When it is none.
    """
    try:
        return json.loads(section.decode(), object_pairs_hook=_once)
    except RecursionError:
        raise SnapshotDamaged(f"JSON nested deeper than {DEPTH_LIMIT}") from None
    except ValueError as error:  # with it UnicodeDecodeError, and numbers of too many digits
        raise SnapshotDamaged(f"no strict JSON: {str(error)[:200]}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in an object")
    return found


def _encoded(value: Any, place: tuple[str | int, ...], tensors: list[Tensor]) -> Any:
    if len(place) > DEPTH_LIMIT:
        raise SnapshotError(f"state{_shown(place)}: nested deeper than {DEPTH_LIMIT} levels")
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < EXACT else {"$int": f"{value:x}"}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": struct.pack(">d", value).hex()}
    if isinstance(value, str):
        return {"$str": value.encode("utf-8", "surrogatepass").hex()} if _SURROGATE.search(value) else str(value)
    if isinstance(value, list | tuple):
        return [_encoded(inner, (*place, index), tensors) for index, inner in enumerate(value)]
    if isinstance(value, dict):
        return _encoded_dict(value, place, tensors)
    if isinstance(value, bytes):
        return _kept("$bytes", torch.from_numpy(np.frombuffer(value, np.uint8).copy()), tensors)
    if type(value) is np.ndarray and value.dtype.char in _DTYPES:
        native = value.astype(value.dtype.newbyteorder("="), order="C", copy=True)
        return _kept("$array", torch.from_numpy(native), tensors)
    if isinstance(value, Tensor) and _is_dense(value):
        plain = value.detach()
        return _kept("$tensor", torch.empty(plain.shape, dtype=plain.dtype).copy_(plain), tensors)
    kind = type(value).__name__ + (f" of {value.dtype}" if hasattr(value, "dtype") else "")
    raise SnapshotError(f"state{_shown(place)}: a snapshot cannot hold this {kind}; it holds None, numbers, texts, "
                        "bytes, lists, dicts with text as keys, and dense arrays and tensors of numbers")


def _is_dense(tensor: Tensor) -> bool:
    return (tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta
            and tensor.dim() <= DIMENSIONS_LIMIT)


def _kept(tag: str, tensor: Tensor, tensors: list[Tensor]) -> dict[str, int]:
    tensors.append(tensor)
    return {tag: len(tensors) - 1}


def _encoded_dict(value: dict[Any, Any], place: tuple[str | int, ...], tensors: list[Tensor]) -> dict[str, Any]:
    for key in value:
        if not isinstance(key, str):
            raise SnapshotError(f"state{_shown(place)}: the key {key!r:.50} is no text")
    pairs = [(str(key), _encoded(inner, (*place, key), tensors)) for key, inner in value.items()]
    if any(key.startswith("$") or _SURROGATE.search(key) for key, _ in pairs):
        return {"$dict": [[_encoded(key, (), tensors), inner] for key, inner in pairs]}
    return dict(pairs)


def _shown(place: tuple[str | int, ...]) -> str:
    return "".join(f"[{step!r}]" for step in place[:5]) + ("[...]" if len(place) > 5 else "")


def _decoded(value: Any, depth: int, left: dict[int, Tensor]) -> Any:
    if depth > DEPTH_LIMIT:
        raise SnapshotDamaged(f"nested deeper than {DEPTH_LIMIT} levels")
    if isinstance(value, list):
        return [_decoded(inner, depth + 1, left) for inner in value]
    if isinstance(value, dict):
        for key in value:
            if key.startswith("$"):
                if len(value) == 1 and key in _TYPED:
                    return _TYPED[key](value[key], depth, left)
                raise SnapshotDamaged(f"{key[:20]!r} stands where no such key can")
        return {key: _decoded(inner, depth + 1, left) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise SnapshotDamaged("a number that strict JSON and float64 do not both have")
    return value


def _text(value: Any, form: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise SnapshotDamaged(f"{str(value)[:30]!r} where digits are due")
    return value


def _decoded_int(value: Any, depth: int, left: dict[int, Tensor]) -> int:
    return int(_text(value, _HEX), 16)


def _decoded_float(value: Any, depth: int, left: dict[int, Tensor]) -> float:
    (number,) = struct.unpack(">d", bytes.fromhex(_text(value, _BITS)))
    return float(number)


def _decoded_str(value: Any, depth: int, left: dict[int, Tensor]) -> str:
    try:
        return bytes.fromhex(value).decode("utf-8", "surrogatepass")
    except (TypeError, ValueError):
        raise SnapshotDamaged(f"{str(value)[:30]!r} where text in UTF-8 is due") from None


def _decoded_dict(value: Any, depth: int, left: dict[int, Tensor]) -> dict[str, Any]:
    if not isinstance(value, list) or any(not isinstance(pair, list) or len(pair) != 2 for pair in value):
        raise SnapshotDamaged("$dict without a list of pairs")
    found = {}
    for key, inner in value:
        name = _decoded(key, depth + 1, left)
        if not isinstance(name, str) or name in found:
            raise SnapshotDamaged("$dict with a key that is no text or stands twice")
        found[name] = _decoded(inner, depth + 1, left)
    return found


def _taken(value: Any, left: dict[int, Tensor]) -> Tensor:
    if type(value) is not int or value not in left:
        raise SnapshotDamaged(f"tensor {str(value)[:30]} is not there, or used twice")
    return left.pop(value)


def _decoded_tensor(value: Any, depth: int, left: dict[int, Tensor]) -> Tensor:
    return _taken(value, left)


def _decoded_array(value: Any, depth: int, left: dict[int, Tensor]) -> Any:
    try:
        return _taken(value, left).numpy()
    except TypeError:
        raise SnapshotDamaged(f"tensor {value} is of a type that no array has") from None


def _decoded_bytes(value: Any, depth: int, left: dict[int, Tensor]) -> bytes:
    tensor = _taken(value, left)
    if tensor.dtype != torch.uint8 or tensor.dim() != 1:
        raise SnapshotDamaged(f"tensor {value} is not of bytes")
    return tensor.numpy().tobytes()


_TYPED: dict[str, Callable[[Any, int, dict[int, Tensor]], Any]] = {
    "$int": _decoded_int, "$float": _decoded_float, "$str": _decoded_str, "$dict": _decoded_dict,
    "$tensor": _decoded_tensor, "$array": _decoded_array, "$bytes": _decoded_bytes,
}
