"""Dead letters as lines of JSON, to be corrected with an editor, and read back."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from streamil.codec import RECORD_LIMIT
from streamil.dead_letters.letter import STAY, DeadLetter, utc
from streamil.errors import ExperimentError, SourceError
from streamil.origin import Origin

LINE_LIMIT = 2 * RECORD_LIMIT
FIELDS = ("origin", "topic", "reason", "detail", "time", "rejected", "row", "shortened", "key", "value", "headers")


def export(letters: Iterable[DeadLetter], path: Path, *, force: bool = False) -> int:
    """Write letters to a file, a line of JSON each, whole or not at all; return how many.

    Parameters
    ----------
    letters
        What to write.
    path
        Where to.
    force
        Overwrite what is there.

    Raises
    ------
    ExperimentError
        When the file exists, or cannot be written.
    """
    where = f"--out {path}"
    if path.exists() and not force:
        raise ExperimentError("the file exists: name another one, or overwrite it with --force", where)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _replace(path, letters)
    except OSError as error:
        raise ExperimentError(f"cannot be written: {error.strerror or error}", where) from None


def _replace(path: Path, letters: Iterable[DeadLetter]) -> int:
    temporary, count = path.with_name(f".{path.name}.{os.getpid()}"), 0
    try:
        with temporary.open("wb") as file:
            for letter in letters:
                file.write(line(letter) + b"\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def line(letter: DeadLetter) -> bytes:
    """Return a letter as a line of JSON: bytes as text where they are UTF-8, else as `{"base64": ...}`.

    Examples
    --------
    >>> line(DeadLetter(Origin("q2s", 0, 7, 3), "t", "gzip", "", None, bytes([31, 139]), {})).decode()[-50:]
    '"key":null,"value":{"base64":"H4s="},"headers":{}}'
    """
    values = (str(letter.origin), letter.topic, letter.reason, letter.detail, utc(letter.time_ms),
              utc(letter.rejected_ms), letter.row, letter.shortened, _text(letter.key), _text(letter.value),
              {name: _text(value) for name, value in letter.headers.items()})
    return orjson.dumps(dict(zip(FIELDS, values, strict=True)))


def corrected(path: Path, topic: str) -> Iterator[DeadLetter]:
    """Yield the letters of a file that `export` wrote and a person has corrected.

    `origin` and `value` have to stand in each line; `topic` is else the one that is named here, and `time` and
    `rejected` are not read.

    Raises
    ------
    SourceError
        When the file cannot be read, or a line is none: names the line and what is wrong with it.
    """
    seen: dict[Origin, int] = {}
    try:
        with path.open("rb") as file:
            number = 0
            while text := file.readline(LINE_LIMIT + 1):
                number += 1
                if not text.strip():
                    continue
                where = f"{path}, line {number}"
                try:
                    letter = _read(text, topic)
                except ValueError as error:
                    raise SourceError(f"{where}: {error}") from None
                if letter.origin in seen:
                    raise SourceError(f"{where}: {letter.origin} stands in line {seen[letter.origin]}, too: each "
                                      "sample can be put back once")
                seen[letter.origin] = number
                yield letter
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read(text: bytes, topic: str) -> DeadLetter:
    if len(text) > LINE_LIMIT:
        raise ValueError(f"longer than {LINE_LIMIT} bytes")
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("an object is wanted, as `streamil dead-letters export` writes it")
    for name in (*found, "origin", "value"):
        if name not in FIELDS or name not in found:
            raise ValueError(f"{name[:40]!r} is {'missing' if name in FIELDS else 'unknown'}; allowed: "
                             f"{', '.join(FIELDS)}")
    row, shortened = (_whole(found.get(name), name) for name in ("row", "shortened"))
    texts = {name: found.get(name, topic if name == "topic" else "") for name in FIELDS[:4]}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} is {str(value)[:40]!r}; a text is wanted")
    headers = found.get("headers") or {}
    if not isinstance(headers, dict):
        raise ValueError("headers: an object is wanted")
    own = {name: _bytes(value, f"headers.{name[:40]}") or b"" for name, value in headers.items()
           if not name.startswith("streamil-") or name in STAY}
    return DeadLetter(Origin.read(texts["origin"]), texts["topic"], texts["reason"], texts["detail"],
                      _bytes(found.get("key"), "key"), _bytes(found["value"], "value"), own, row, shortened)


def _whole(value: Any, name: str) -> int | None:
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError(f"{name} is {str(value)[:40]!r}; a whole number or null is wanted")
    return value


def _text(value: bytes | None) -> str | dict[str, str] | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _bytes(value: Any, name: str) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode()
    encoded = value.get("base64") if isinstance(value, Mapping) and len(value) == 1 else None
    if not isinstance(encoded, str):
        raise ValueError(f'{name}: a text, {{"base64": ...}} or null is wanted')
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise ValueError(f"{name}: no base64: {error}") from None
