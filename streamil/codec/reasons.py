"""Why a record or a sample is rejected: the few words under which rejects are counted."""

from __future__ import annotations

REASONS: dict[str, str] = {
    "empty": "the record has no bytes, or blanks only",
    "null": "the record has no value (a tombstone), or is JSON's null",
    "not-json": "neither Arrow nor strict JSON in UTF-8",
    "trailing-data": "something follows the first document, for example a second one",
    "too-deep": "JSON nested deeper than any record of ours",
    "gzip": "the value is gzip-compressed; compress in Kafka instead",
    "schema-registry": "the value has a schema registry's frame (a zero byte and four of the schema's number)",
    "undecodable": "the stream's own codec (stream.source.codec) does not take the value, or fails",
    "arrow-file": "an Arrow file; an Arrow IPC stream is wanted",
    "arrow-damaged": "an Arrow stream that is cut, damaged or makes impossible claims",
    "too-large": "more bytes, samples or cells than a record may have",
    "no-samples": "the record holds no sample",
    "no-features": "a sample without x and without features, or half a late label",
    "wrong-shape": "a sample or column that is not of the form of its record",
    "wrong-width": "another number of inputs than the stream has, or another kind of inputs",
    "not-finite": "an input is null, NaN, infinite or beyond float32",
    "bad-number": "an input that should be a number is none",
    "no-label": "a record of a topic of labels without identifier or label",
    "bad-label": "a label that is neither text nor whole number nor boolean, or too long",
    "unknown-label": "a label outside the closed set of classes",
    "too-many-classes": "a label not met before, where as many classes as may be (stream.max_classes) have been",
    "bad-id": "an identifier that is neither text nor whole number nor boolean, or too long",
    "bad-time": "an event time or a feature of kind time that reads as none, or is outside the years 1 to 9999",
    "foreign": "a record without a producer's numbers on a topic that has them, or the other way round",
    "bad-segment": "a segment that is not a whole number from 0",
}
"""Reason -> what it means, in one line. Every reject of the project is counted under one of these."""
