"""Documents of somebody else's shape -> Records, by the field paths of an experiment file."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.codec._gather import Bad, Gather, require_sample_count, shown
from streamil.codec.json_format import beyond_exact, columns_of, dense_row, stacked
from streamil.errors import CodecError
from streamil.experiment.sources import LabelsTopic, TopicSource
from streamil.field_path import dotted
from streamil.samples import Records
from streamil.values import PER_SECOND, Seconds, date_seconds, decimal_number

Keys = tuple[str, ...]
DIGITS_BITS = 14_000
"""Bits of the longest whole number that Python writes as digits; what is longer is infinite."""


class FieldMapping:
    """Reads samples out of documents: dicts, lists and plain values, as JSON or a codec gives them.

    A document is a sample, a list of samples, or holds such a list (`samples`). Without the label a sample is
    unlabelled; label and id alone are a late label. Any other sample none of whose features is there is rejected: the
    object that should hold them is null in deletions and tombstones. Where no features are named they are all plain
    values of the object that holds the label (or else the identifier), but for label, id, time and segment. A
    feature's name is its path.

    Parameters
    ----------
    source
        Where the parts of a sample stand.

    Examples
    --------
    >>> source = TopicSource(kind="topic", label="after.fraud", time="ts", time_unit="ms")
    >>> records = FieldMapping(source).records({"after": {"amount": 1.5, "age": 20, "fraud": True}, "ts": 2500})
    >>> records.columns, records.y, records.t
    ({'after.amount': [1.5], 'after.age': [20]}, ['true'], array([2.5]))
    """

    def __init__(self, source: TopicSource) -> None:
        self._source = source
        self._holder = (source.label or source.id or ())[:-1]
        beside = (source.label, source.id, source.time, source.segment)
        self._beside = {path[-1] for path in beside if path is not None and path[:-1] == self._holder}
        self._prefix = f"{dotted(self._holder)}." if self._holder else ""
        self._groups: dict[Keys, list[tuple[str, str]]] = {}
        for path in source.features or ():
            self._groups.setdefault(path[:-1], []).append((path[-1], dotted(path)))

    def records(self, documents: Any) -> Records:
        """Return the samples of one record's document, or list of documents.

        Raises
        ------
        CodecError
            With a documented reason when no sample is left or the record is too large; nothing else is ever raised.
        """
        samples = self._samples(documents)
        require_sample_count(len(samples))
        gathered = Gather()
        inputs: list[Any] = []
        for index, sample in enumerate(samples):
            try:
                found = self._inputs_or_late(sample)
                if inputs and (found is None) != (inputs[0] is None):
                    raise Bad("wrong-shape", "a record has samples or late labels, never both")
                gathered.add(index, *self._what_stands_beside(sample))
            except Bad as bad:
                gathered.reject(index, bad)
                continue
            inputs.append(found)
        if not inputs or inputs[0] is None:
            return gathered.records(None, {})
        return gathered.records(stacked(inputs), {}) if self._source.x is not None else gathered.records(
            None, columns_of(inputs))

    def may_be_rounded(self, documents: Any) -> bool:
        """Return whether a label or identifier is a number past 2^53, whose digits a quick parser does not keep."""
        try:
            return any(beyond_exact(_find(sample, path)) for sample in self._samples(documents)
                       for path in (self._source.label, self._source.id) if path is not None)
        except (Bad, CodecError):
            return True  # a bad sample among them: the slow parser is no mistake

    def _samples(self, documents: Any) -> list[Any]:
        if documents is None:
            raise CodecError("null", "the document is null")
        listed = documents if isinstance(documents, list) else [documents]
        if self._source.samples is None:
            return listed
        found: list[Any] = []
        for document in listed:
            try:
                inner = _find(document, self._source.samples)
            except Bad as bad:
                raise CodecError(bad.reason, bad.detail) from None
            if inner is None:
                raise CodecError("no-samples", f"{dotted(self._source.samples)[:80]} is null or absent")
            found += inner if isinstance(inner, list) else [inner]
            require_sample_count(len(found))
        return found

    def _inputs_or_late(self, sample: Any) -> Any:
        """Return a sample's inputs, or None for a late label: it has label and id, and none of the features."""
        try:
            return self._inputs(sample)
        except Bad as bad:
            if bad.reason == "no-features" and self._has_label_and_id(sample):
                return None
            raise

    def _has_label_and_id(self, sample: Any) -> bool:
        paths = (self._source.label, self._source.id)
        return all(path is not None and _find(sample, path) is not None for path in paths)

    def _inputs(self, sample: Any) -> Any:
        if self._source.x is not None:
            return _dense(_find(sample, self._source.x), self._source.x)
        return self._named(sample) if self._groups else self._all_beside_the_label(sample)

    def _named(self, sample: Any) -> dict[str, Any]:
        values = {}
        for path, fields in self._groups.items():
            holder = _object(sample, path)
            for key, name in fields:
                if holder is not None and key in holder:
                    values[name] = plain(holder[key])
                    if not _scalar(values[name]):
                        raise Bad("wrong-shape", f"feature {name[:40]!r} is {shown(holder[key])}, neither number nor "
                                                 "text")
        if not values:
            raise Bad("no-features", "none of the features is there")
        return values

    def _all_beside_the_label(self, sample: Any) -> dict[str, Any]:
        holder = _object(sample, self._holder)
        if holder is None:
            what = "label" if self._source.label else "identifier"
            where = dotted(self._holder)[:80] or "a sample"
            raise Bad("no-features", f"{where}, which holds the {what}, is null or absent")
        fields = ((key, plain(value)) for key, value in holder.items()
                  if isinstance(key, str) and key not in self._beside)
        values = {self._prefix + key: value for key, value in fields if _scalar(value)}
        if not values:
            beside = dotted(self._source.label or self._source.id or ())
            raise Bad("no-features", f"no number, text or boolean stands beside {beside}")
        return values

    def _what_stands_beside(self, sample: Any) -> tuple[Any, ...]:
        """Return label, id, time in seconds and segment, None where absent."""
        source = self._source
        label, identifier, time, segment = (
            None if path is None else plain(_find(sample, path))
            for path in (source.label, source.id, source.time, source.segment))
        if isinstance(time, int | float) and not isinstance(time, bool | Seconds):
            try:
                seconds = time / PER_SECOND[source.time_unit]
            except OverflowError:
                seconds = np.inf
            if not abs(seconds) < 1e12:
                raise Bad("bad-time", f"{shown(time)} {source.time_unit} is outside the years 1 to 9999 (time_unit)")
            time = seconds
        return label, identifier, time, segment


class LabelMapping:
    """Reads late labels out of documents that hold nothing else of interest: an identifier and a label each.

    Parameters
    ----------
    labels
        Where the two stand.

    Examples
    --------
    >>> labels = LabelsTopic(topic="chargebacks", id="payment.id", label="fraud")
    >>> records = LabelMapping(labels).records([{"payment": {"id": 7}, "fraud": True}, {"fraud": False}])
    >>> records.ids, records.y, records.late, records.rejected[0].reason
    (['7'], ['true'], True, 'no-label')
    """

    def __init__(self, labels: LabelsTopic) -> None:
        self._id, self._label = labels.id, labels.label

    def records(self, documents: Any) -> Records:
        """Return the late labels of one record's document, or list of documents; raise as `FieldMapping.records`."""
        if documents is None:
            raise CodecError("null", "the document is null")
        listed = documents if isinstance(documents, list) else [documents]
        require_sample_count(len(listed))
        gathered = Gather()
        for index, one in enumerate(listed):
            try:
                identifier, label = plain(_find(one, self._id)), plain(_find(one, self._label))
                if identifier is None or label is None:
                    path = self._id if identifier is None else self._label
                    raise Bad("no-label", f"{dotted(path)[:80]} is null or absent: a late label has both")
                gathered.add(index, label, identifier, None, None)
            except Bad as bad:
                gathered.reject(index, bad)
        return gathered.records(None, {})

    def may_be_rounded(self, documents: Any) -> bool:
        """Return whether a label or identifier is a number past 2^53; see `FieldMapping.may_be_rounded`."""
        listed = documents if isinstance(documents, list) else [documents]
        try:
            return any(beyond_exact(_find(one, path)) for one in listed for path in (self._id, self._label))
        except Bad:
            return True


def plain(value: Any) -> Any:
    """Return a value that codecs give (numpy numbers, decimals, dates, times in UTC) as a plain one; others stay.

    Examples
    --------
    >>> plain(Decimal("1.5")), plain(Decimal(2**60 + 1)), plain(date(1970, 1, 2)), plain(np.int16(3)), plain("red")
    (1.5, 1152921504606846977, 86400.0, 3, 'red')
    """
    if value is None or type(value) in (str, float, bool, dict, list):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < DIGITS_BITS else np.inf
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Decimal):
        return decimal_number(value)
    if isinstance(value, date):
        return Seconds(date_seconds(value))
    return value


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _object(sample: Any, path: Keys) -> dict[Any, Any] | None:
    """Return the object at the path, None where it is null or absent, or raise `Bad` where it is no object."""
    found = _find(sample, path)
    if found is not None and not isinstance(found, dict):
        raise Bad("wrong-shape", f"{dotted(path)[:80] or 'a sample'} is {shown(found)}, not an object")
    return found


def _find(sample: Any, path: Keys) -> Any:
    """Return the value at the path, None where it is absent, or raise `Bad` where something on the way is no object."""
    found = sample
    for depth, key in enumerate(path):
        if found is None:
            return None
        if not isinstance(found, dict):
            raise Bad("wrong-shape", f"{dotted(path[:depth])[:80] or 'a sample'} is {shown(found)}, not an object")
        found = found.get(key)
    return found


def _dense(value: Any, path: Keys) -> NDArray[Any]:
    """Return a list or an array of numbers as a row [F]."""
    if value is None:
        raise Bad("no-features", f"{dotted(path)[:80]} is null or absent")
    if not isinstance(value, np.ndarray):
        row = dense_row(value)
    elif value.ndim == 1 and value.dtype.kind in "iuf" and value.dtype.itemsize <= 8:
        row = value.astype(value.dtype.newbyteorder("="), copy=False)
    else:
        raise Bad("wrong-shape", f"{dotted(path)[:80]} is an array of {value.dtype} {list(value.shape)}, not numbers "
                                 "in one row")
    if not len(row):
        raise Bad("no-features", f"{dotted(path)[:80]} is empty")
    if not np.isfinite(row).all():
        place = int(np.argmin(np.isfinite(row)))
        raise Bad("not-finite", f"{dotted(path)[:40]}[{place}] is {row[place]}")
    return row
