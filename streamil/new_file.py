"""An experiment file to begin with: a race that runs as it is, and every key there is, at its default."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from streamil.errors import ExperimentError
from streamil.experiment import Experiment

HEAD = """\
# A race: one stream, and arms that learn it side by side, each sample predicted before it is learned.
#   streamil check {file}              what this file means
#   streamil run {file} --out result   the race in one process
#   streamil produce {file}            ... or through Kafka (streamil broker runs one here),
#   streamil consume {file}            in two processes
# Keys behind a # stand at their defaults: take away the # of a key, and of those above it, to change it.

name: {name}

stream:
  source: {{kind: mnist}}  # digits from the package; or instead
  # source: {{kind: csv, path: readings.csv, label: state}}
  # source: {{kind: parquet, path: readings.parquet, label: state}}
  # source: {{kind: npz, path: arrays.npz}}  # arrays x and y
  # source: {{kind: idx, images: images-idx3-ubyte.gz, labels: labels-idx1-ubyte.gz}}
  # source: {{kind: river, name: Phishing}}
  # source: {{kind: python, callable: "module:function"}}  # yields x, y
  # source: {{kind: topic, label: state}}  # records that others write to the topic
"""
ARMS = """\

arms:  # a list is a sweep: each value learns beside the others, and the best is told with what the search cost
  il-prox: {algorithm: il-prox, alpha: [0.1, 1, 5]}
  bp-adam: {algorithm: bp-adam, learning_rate: [0.0003, 0.001, 0.003]}

# comparisons: null  # null: every il arm against every other; else [{challenger: A, baseline: B}]
"""
WRITTEN = ("name", "stream", "arms", "comparisons")
"""Keys of the file that stand in the texts above."""


def write_new_file(file: Path) -> None:
    """Write the file, unless there is one already.

    Raises
    ------
    ExperimentError
        Where it is there already, or cannot be written.
    """
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(new_file(file))
    except FileExistsError:
        raise ExperimentError("is there already: name another file", str(file)) from None
    except OSError as error:
        raise ExperimentError(f"cannot be written: {error.strerror}", str(file)) from None


def new_file(file: Path) -> str:
    """Return the text of an experiment file that is to stand there.

    Examples
    --------
    >>> new_file(Path("my race.yaml")).splitlines()[7]
    'name: my-race'
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip(".-")[:100] or "race"
    stream = Experiment.model_fields["stream"].annotation
    assert isinstance(stream, type) and issubclass(stream, BaseModel)
    text = HEAD.format(file=shlex.quote(str(file)), name=json.dumps(name) if name.isdecimal() else name)
    text += "".join(f"  # {line}\n" for line in _keys(stream, except_for=("source",)))
    return text + ARMS + "".join(f"# {line}\n" for line in _keys(Experiment, except_for=WRITTEN))


def _keys(model: type[BaseModel], *, except_for: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a line for each key with its default and meaning, and those within it further in."""
    for name, field in model.model_fields.items():
        if name in except_for:
            continue
        default = field.get_default(call_default_factory=True)
        said = f"  # {field.description}" if field.description else ""
        if isinstance(default, BaseModel):
            yield f"{name}:{said}"
            yield from (f"  {line}" for line in _keys(type(default)))
        else:
            yield f"{name}: {_written(default)}{said}"


def _written(value: Any) -> str:
    """Return a default as YAML."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w-]*", value):
        return value
    return json.dumps(list(value) if isinstance(value, tuple) else value)
