"""One snapshot as bytes: header, meta, structure, tensors, checksum; `docs/snapshots.md` has the format on one page."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from streamil.errors import SnapshotDamaged, SnapshotError, SnapshotNewer
from streamil.snapshot.encoding import DIMENSIONS_LIMIT, decode, encode, from_json, to_json

Meta: TypeAlias = dict[str, "bool | int | float | str | None"]
"""What a snapshot says of itself: experiment, topic id, configuration hash, plan, ordinal, offset."""

MAGIC = b"STREAMIL"
VERSION = 1
META_LIMIT = 64 << 10
"""Bytes of the meta section."""
STRUCTURE_LIMIT = 64 << 20
"""Bytes of the structure section: what is large belongs into arrays, which are bounded by the blob's own size."""
TENSORS_LIMIT = 8 << 30
"""Bytes of the tensors section."""

_HEADER = struct.Struct("<8sIIQQ")  # magic, version, bytes of meta, of structure, of tensors
_DIGEST = hashlib.sha256().digest_size
_LIMITS = (META_LIMIT, STRUCTURE_LIMIT, TENSORS_LIMIT)
BLOB_LIMIT = _HEADER.size + sum(_LIMITS) + _DIGEST
"""Bytes of a whole blob."""


class _Sections(NamedTuple):
    meta: bytes
    structure: bytes
    tensors: bytes


def pack(state: Any, meta: Mapping[str, Any]) -> bytes:
    """Return state and meta as one blob.

    Parameters
    ----------
    state
        Any nesting of dict with text as keys, list, tuple (comes back as a list), None, bool, int, float, str, bytes,
        numpy arrays and torch tensors, which come back on the CPU. It is copied before this returns, and not changed.
    meta
        Flat: text -> None, bool, int, float or text. `read_meta` reads it without the rest.

    Raises
    ------
    SnapshotError
        When it holds something else, or too much.

    Examples
    --------
    >>> blob = pack({"weights": torch.ones(2), "seen": (b"a", float("nan"))}, {"experiment": "demo", "ordinal": 7})
    >>> unpack(blob)
    ({'weights': tensor([1., 1.]), 'seen': [b'a', nan]}, {'experiment': 'demo', 'ordinal': 7})
    """
    if wrong := _not_plain(meta):
        raise SnapshotError(f"meta[{wrong[0]!r:.50}]: got {type(wrong[1]).__name__}; None, numbers and texts are "
                            "allowed, with text as keys")
    document, tensors = encode(state)
    try:
        section = save_tensors({str(index): tensor for index, tensor in enumerate(tensors)})
    except KeyError as error:  # a dtype that safetensors has no name for
        raise SnapshotError(f"a snapshot cannot hold a tensor of {error}") from None
    sections = _Sections(to_json(encode(dict(meta))[0]), to_json(document), section)
    for name, part, limit in zip(sections._fields, sections, _LIMITS, strict=True):
        if len(part) > limit:
            raise SnapshotError(f"the {name} of the snapshot would take {len(part):,} bytes; {limit:,} are allowed")
    header = _HEADER.pack(MAGIC, VERSION, *map(len, sections))
    digest = hashlib.sha256(header)
    for part in sections:
        digest.update(part)
    return b"".join((header, *sections, digest.digest()))


def unpack(blob: bytes) -> tuple[Any, Meta]:
    """Return state and meta of a blob; arrays and tensors are the caller's own, to be written to.

    Raises
    ------
    SnapshotDamaged
        When the bytes are not exactly what `pack` returned.
    SnapshotNewer
        When they are whole, in a version of the format that is not known here.
    """
    sections = _sections(blob)
    return decode(from_json(sections.structure), _tensors(sections.tensors)), _meta(sections.meta)


def read_meta(blob: bytes) -> Meta:
    """Return the meta of a blob alone; the checksum is of everything. Raises what `unpack` does.

    Examples
    --------
    >>> read_meta(pack([], {"experiment": "demo"}))
    {'experiment': 'demo'}
    """
    return _meta(_sections(blob).meta)


def declared_size(start: bytes) -> int:
    """Return how long a blob that begins so says it is; of version 1 only, -1 where that is not known.

    Examples
    --------
    >>> blob = pack([1, 2], {})
    >>> declared_size(blob[:32]) == len(blob)
    True
    """
    if len(start) < _HEADER.size:
        return -1
    magic, version, *sizes = _HEADER.unpack(start[:_HEADER.size])
    return _HEADER.size + sum(sizes) + _DIGEST if (magic, version) == (MAGIC, VERSION) else -1


def _sections(blob: bytes) -> _Sections:
    """Return the sections of a blob whose checksum holds.

    Magic, version and a SHA-256 at the end stand in the same places in every version, so a damaged version is told
    from a newer one.
    """
    if not blob.startswith(MAGIC):
        raise SnapshotDamaged("this is no snapshot of streamil" if blob else "the snapshot is empty")
    if len(blob) < _HEADER.size + _DIGEST:
        raise SnapshotDamaged(f"the snapshot ends after {len(blob)} bytes, within its header")
    whole = memoryview(blob)
    if hashlib.sha256(whole[:-_DIGEST]).digest() != whole[-_DIGEST:]:
        size = declared_size(blob)
        cut = f"; {len(blob):,} bytes are there of {size:,}" if size not in (-1, len(blob)) else ""
        raise SnapshotDamaged(f"the snapshot is damaged: its checksum does not hold{cut}")
    _, version, *sizes = _HEADER.unpack_from(blob)
    if version != VERSION:
        raise SnapshotNewer(f"the snapshot is of format version {version}, this streamil knows version {VERSION}; "
                            "use the streamil that wrote it, or a newer one")
    if declared_size(blob) != len(blob) or any(size > limit for size, limit in zip(sizes, _LIMITS, strict=True)):
        raise SnapshotDamaged(f"the sizes in the header, {sizes}, do not fit {len(blob):,} bytes, or pass the limits")
    parts, start = [], _HEADER.size
    for size in sizes:
        parts.append(bytes(whole[start:start + size]))
        start += size
    return _Sections(*parts)


def _tensors(section: bytes) -> list[Tensor]:
    try:
        found = load_tensors(section)
    except Exception as error:  # whatever a reader of foreign bytes raises, they are damaged
        raise SnapshotDamaged(f"the tensors of the snapshot cannot be read: {str(error)[:200]}") from None
    tensors = [found[name] for number in range(len(found)) if (name := str(number)) in found]
    if len(tensors) != len(found):
        raise SnapshotDamaged(f"the {len(found)} tensors of the snapshot are not numbered from 0")
    if any(tensor.dim() > DIMENSIONS_LIMIT for tensor in tensors):
        raise SnapshotDamaged(f"a tensor of the snapshot has more than {DIMENSIONS_LIMIT} dimensions")
    if any(tensor.dtype == torch.bool and bool((tensor.view(torch.uint8) > 1).any()) for tensor in tensors):
        raise SnapshotDamaged("a truth value in the snapshot is neither 0 nor 1")
    return tensors


def _meta(section: bytes) -> Meta:
    meta = decode(from_json(section), [])
    if not isinstance(meta, dict) or _not_plain(meta):
        raise SnapshotDamaged("the meta of the snapshot is no flat object of plain values")
    return meta


def _not_plain(meta: Mapping[Any, Any]) -> tuple[Any, Any] | None:
    """Return the first key and value that meta cannot hold, None where all is well."""
    return next(((key, value) for key, value in meta.items() if not isinstance(key, str)
                 or not (value is None or isinstance(value, bool | int | float | str))), None)
