"""Writes docs/experiment-file.md from the models of the experiment file: `python docs/experiment_file.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from streamil.experiment import Experiment
from streamil.experiment.features import Feature
from streamil.experiment.regimes import Regime
from streamil.experiment.sources import Source
from streamil.learners import ALGORITHMS, learner_class

PAGE = Path(__file__).with_name("experiment-file.md")
INTRODUCTION = """# The experiment file

One YAML 1.2 file says what is raced: a stream, a network, arms and comparisons. Everything but `stream.source`
and `arms` has a default; an unknown key is an error that names the nearest known one. `streamil check FILE` says
what a file means, `streamil init FILE` writes one to begin with. Relative paths are relative to the file. (This page is
written by `python docs/experiment_file.py`.)

How each source's samples become inputs, with examples: [features.md](features.md). A stream of your own in ten lines:
[custom-streams.md](custom-streams.md). What stands on the topic: [wire-format.md](wire-format.md). What regimes do:
[regimes.md](regimes.md).

An arm's list-valued hyperparameter is a sweep: `alpha: [0.1, 1, 10]` with `seeds: 3` makes nine members. A list of
batch sizes makes one arm each, named `arm@size`. Without `comparisons`, every IL arm is compared with every arm that
is not IL, at equal batch size.
"""


def page() -> str:
    """Return the page."""
    return "\n".join([INTRODUCTION, *_model("The file", Experiment, ""), *_unions(), *_algorithms()]).rstrip() + "\n"


def _model(title: str, model: type[BaseModel], place: str) -> Iterator[str]:
    yield f"## {title}\n"
    if model.__doc__:
        yield model.__doc__.strip().splitlines()[0] + "\n"
    yield from _table(model.model_fields)
    for name, field in model.model_fields.items():
        inner = [one for one in (field.annotation, *get_args(field.annotation)) if _is_model(one)]
        if len(inner) == 1 and name not in ("regimes", "source"):
            key = f"{place}{name}"
            yield from _model(f"`{key}`", inner[0], f"{key}.")


def _unions() -> Iterator[str]:
    for title, models in (("Sources", get_args(get_args(Source)[0])), ("Regimes", get_args(get_args(Regime)[0])),
                          ("Kinds of features", get_args(get_args(Feature)[0]))):
        yield f"## {title}\n"
        for model in models:
            kind = get_args(model.model_fields["kind"].annotation)[0]
            yield f"### `kind: {kind}`\n\n{model.__doc__.strip().splitlines()[0]}\n"
            fields = {name: field for name, field in model.model_fields.items() if name != "kind"}
            if fields:
                yield from _table(fields)
            for name, field in fields.items():
                for inner in filter(_is_model, get_args(field.annotation)):
                    yield f"#### `{name}` of `kind: {kind}`\n\n{(inner.__doc__ or '').strip().splitlines()[0]}\n"
                    yield from _table(inner.model_fields)


def _algorithms() -> Iterator[str]:
    yield "## Algorithms and their hyperparameters\n"
    yield ("Beside these, `river:<module>.<Class>` is [a classifier of river](algorithms/river.md) and "
           "`torch:<module>:<callable>` [a torch module of your own](algorithms/torch.md). What each one does: "
           "[algorithms/](algorithms/README.md).\n")
    for algorithm in ALGORITHMS:
        rule = learner_class(algorithm)
        yield f"### `{algorithm}`\n\n{(rule.__doc__ or '').strip().splitlines()[0]}\n"
        yield from _table(rule.Hyperparameters.model_fields)


def _table(fields: dict[str, FieldInfo]) -> Iterator[str]:
    yield "| key | default | meaning |\n|---|---|---|"
    for row in rows_of(fields):
        yield f"| {' | '.join(row)} |"
    yield ""


def rows_of(fields: dict[str, FieldInfo]) -> list[list[str]]:
    """Return the cells of a table of fields: key, default, meaning."""
    return [[f"`{name}`", _default(field), _meaning(field)] for name, field in fields.items()]


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True) if not field.is_required() else PydanticUndefined
    if default is PydanticUndefined:
        return "required"
    if isinstance(default, BaseModel):
        return "as below"
    return f"`{_plain(default)}`"


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value) if value != "" else "''"


def _meaning(field: FieldInfo) -> str:
    words = [field.description.rstrip(".")] if field.description else []
    limits = [text for rule in field.metadata for key, text in (
        ("gt", "above {}"), ("ge", "at least {}"), ("lt", "below {}"), ("le", "at most {}"))
        if (bound := getattr(rule, key, None)) is not None for text in (text.format(bound),)]
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    allowed = ["one of " + ", ".join(f"`{choice}`" for choice in choices)] if choices else []
    return "; ".join([*words, *limits, *allowed])


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE} written\n")
