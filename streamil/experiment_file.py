"""Reads a YAML 1.2 file into plain values, and remembers the line of every key."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from streamil.errors import ExperimentError

FILE_LIMIT = 1 << 20
NODES_LIMIT = 100_000
"""Aliases may repeat a node; past this many a file of a few lines could fill the memory."""

Lines = dict[tuple[Any, ...], int]


def read_yaml(path: Path) -> tuple[Any, Lines]:
    """Return the file's plain values and the line of every key, counted from 1.

    Raises
    ------
    ExperimentError
        When the file is absent, too large, not UTF-8 or not YAML, or gives a key twice.
    """
    try:
        with path.open("rb") as file:
            content = file.read(FILE_LIMIT + 1)
        if len(content) > FILE_LIMIT:
            raise ExperimentError(f"larger than {FILE_LIMIT} bytes, which no experiment file is", str(path))
        data = YAML(typ="rt").load(content.decode("utf-8-sig"))
    except OSError as error:
        raise ExperimentError(f"cannot be read: {error.strerror}", str(path)) from None
    except UnicodeDecodeError:
        raise ExperimentError("is not UTF-8 text", str(path)) from None
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        problem = (error.problem or "is not YAML").splitlines()[0]
        raise ExperimentError(f"{line}{problem}", str(path)) from None
    except (YAMLError, RecursionError, ValueError) as error:
        first_line = [*str(error).splitlines(), type(error).__name__][0]
        raise ExperimentError(f"is not YAML: {first_line}", str(path)) from None
    lines: Lines = {}
    return _plain(data, (), lines, [0], path), lines


def nearest(key: str, known: Iterable[str]) -> str:
    """Return ` (nearest known: x)` for the known key most like `key`, or nothing."""
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f" (nearest known: {close[0]})" if close else ""


def key_text(name: str) -> str:
    """Return a name as it may stand in the file as a key, quoted where it must be, for what errors tell to write."""
    return name if re.fullmatch(r"[A-Za-z_][\w.-]*", name, re.ASCII) else json.dumps(name[:40])


def _plain(node: Any, place: tuple[Any, ...], lines: Lines, count: list[int], path: Path) -> Any:
    """Turn the reader's own types into dict, list, int, float, bool and str; note the lines on the way."""
    count[0] += 1
    if count[0] > NODES_LIMIT or len(place) > 50:
        raise ExperimentError(f"has more than {NODES_LIMIT} values or is nested deeper than 50", str(path))
    if isinstance(node, TaggedScalar) and str(node.tag) == "tag:yaml.org,2002:str":
        return str(node.value)
    if isinstance(node, CommentedMap):
        written = node.lc.data or {}
        for key in node:
            at = written.get(key)  # None: merged in by <<, and written elsewhere
            lines[(*place, key)] = at[0] + 1 if at else lines.get(place, node.lc.line + 1)
        return {_scalar(key): _plain(value, (*place, key), lines, count, path) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        written = node.lc.data or {}
        for index in range(len(node)):
            lines[(*place, index)] = written[index][0] + 1 if index in written else node.lc.line + 1
        return [_plain(value, (*place, index), lines, count, path) for index, value in enumerate(node)]
    if not isinstance(node, str | int | float | date | None):
        found = node.tag if isinstance(node, TaggedScalar) else type(node).__name__
        line, key = lines.get(place, 1), ".".join(map(str, place)) or "the file"
        raise ExperimentError(f"line {line}: {key}: numbers, texts, lists and keys are allowed; found {found}",
                              str(path))
    return _scalar(node)


def _scalar(value: Any) -> Any:
    if isinstance(value, ScalarBoolean):
        return bool(value)
    for plain in (str, float):
        if isinstance(value, plain):
            return plain(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value
