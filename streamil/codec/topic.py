"""How the records of an experiment's topic are read: our own form, or documents of others by a field mapping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from streamil.codec import cast as cast_inputs
from streamil.codec import decode
from streamil.codec._first_bytes import form_of, require_value
from streamil.codec.arrow_format import arrow_documents
from streamil.codec.json_format import parse_json
from streamil.codec.mapping import FieldMapping, LabelMapping
from streamil.codec.reasons import REASONS
from streamil.errors import CodecError, ExperimentError
from streamil.experiment import Stream
from streamil.experiment.sources import LabelsTopic, Source, TopicSource
from streamil.experiment_file import nearest
from streamil.samples import Records
from streamil.user_code import first_line, load_module

Decoder = Callable[[bytes | None, Mapping[str, bytes]], Records]
"""A record's value and headers -> its samples, or `CodecError` and nothing else."""
Codec = Callable[[bytes], Any]
"""A record's value -> a document (dict), or a list of them, or `ValueError`."""

GROUP = "streamil.codecs"
"""Entry points under which installed packages offer codecs."""
WHERE = "stream.source.codec"


def decoder(stream: Stream, folder: Path) -> Decoder:
    """Return the decoder of a stream's records.

    Parameters
    ----------
    stream
        Its `source` decides: records are ours, or documents that a `TopicSource` maps.
    folder
        Where the module of a codec is looked for first.

    Raises
    ------
    ExperimentError
        When there is no such codec, or importing it failed.

    Examples
    --------
    >>> stream = Stream.model_validate({"source": {"kind": "topic", "label": "fraud"}})
    >>> records = decoder(stream, Path())(b'[{"fraud": true, "amount": 3}, {"amount": 4}]', {})
    >>> records.columns, records.y
    ({'amount': [3, 4]}, ['true', None])
    """
    source = stream.source
    return _own if not isinstance(source, TopicSource) else _mapped(FieldMapping(source), source.codec, folder)


def labels_decoder(labels: LabelsTopic, folder: Path) -> Decoder:
    """Return the decoder of a topic of labels; see `decoder`."""
    return _mapped(LabelMapping(labels), labels.codec, folder)


def _mapped(mapping: FieldMapping | LabelMapping, name: str, folder: Path) -> Decoder:
    """Return the decoder of documents of others."""
    if name not in ("json", "auto"):
        codec = load_codec(name, folder)
        return lambda value, headers: mapping.records(_documents(codec, require_value(value)))

    def read(value: bytes | None, headers: Mapping[str, bytes]) -> Records:
        if name == "auto" and "streamil-stream" in headers and isinstance(mapping, FieldMapping):
            return _own(value, headers)
        data = require_value(value)
        if form_of(data) == "arrow" and name == "auto":
            return mapping.records(arrow_documents(data))
        return mapping.records(parse_json(data, mapping.may_be_rounded))

    return read


def lists_samples(source: Source | LabelsTopic) -> bool:
    """Return whether a record's bytes are a sample, or a list of them, that we know to cut apart."""
    if isinstance(source, TopicSource) and source.samples is not None:
        return False
    return not isinstance(source, TopicSource | LabelsTopic) or source.codec in ("auto", "json")


def load_codec(name: str, folder: Path) -> Codec:
    """Return the codec `module:function`, the module looked for in `folder` first, or an installed one by its name.

    Raises
    ------
    ExperimentError
        When it is not there, is offered twice, fails to import or cannot be called.
    """
    if ":" in name:
        where, (module, _, function) = f"{WHERE} {name}", name.partition(":")
        found = load_module(module, folder, where, ExperimentError)
        codec = getattr(found, function, None)
        known = [one for one in vars(found) if not one.startswith("_")]
        if not callable(codec):
            raise ExperimentError(f"{where}: module {module!r} has no function {function!r}{nearest(function, known)}")
        return cast(Codec, codec)
    offered = entry_points(group=GROUP)
    chosen = [one for one in offered if one.name == name]
    if len({one.value for one in chosen}) != 1:
        what = ("is offered by " + " and ".join(sorted(one.value for one in chosen)) if chosen
                else f"is not installed{nearest(name, ['auto', 'json', *offered.names])}")
        allowed = ", ".join(["auto", "json", "module:function", *sorted(offered.names)])
        raise ExperimentError(f"{WHERE}: codec {name} {what}; allowed: {allowed}")
    try:
        codec = chosen[0].load()
    except Exception as failure:
        raise ExperimentError(f"{WHERE}: loading codec {name} failed: {first_line(failure)}") from failure
    if not callable(codec):
        raise ExperimentError(f"{WHERE}: codec {name} ({chosen[0].value}) is no function")
    return cast(Codec, codec)


def _own(value: bytes | None, headers: Mapping[str, bytes]) -> Records:
    """Read a record of our own form."""
    records = decode(value)
    dtype = headers.get("streamil-dtype")
    return cast_inputs(records, dtype.decode("ascii", "replace")) if dtype is not None else records


def _documents(codec: Codec, value: bytes) -> Any:
    """Call somebody else's code: whatever it raises is a reject, never the end of a consumer."""
    try:
        return codec(value)
    except CodecError as error:
        if error.reason in REASONS:
            raise
        raise CodecError("undecodable", str(error)[:200]) from None
    except Exception as error:
        raise CodecError("undecodable", first_line(error)[:200]) from None
