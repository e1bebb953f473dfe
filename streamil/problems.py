"""What pydantic found wrong, as lines that name the key, what was found, what is allowed, the nearest known key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from streamil.experiment_file import Lines, nearest


def problems(error: ValidationError, model: type[BaseModel], data: Any, lines: Lines | None = None,
             inside: tuple[int | str, ...] = ()) -> list[str]:
    """Return one line per problem: line of the file, key, what is wrong, what was found, what is allowed.

    `data` is what `model` was given; it stands in the file at the place `inside`.
    """
    told: dict[str, str] = {}
    for entry in error.errors(include_url=False):
        context = entry.get("ctx", {})
        location = (*inside, *(context.get("place") or _location(entry["loc"], data)))
        key = ".".join(str(part) for part in location) or "the file"
        if entry["type"] == "extra_forbidden":
            known = _known_keys(model, entry["loc"][:-1])
            message = f"unknown key{nearest(str(location[-1]), known)}; allowed: {', '.join(known)}"
        elif entry["type"] in ("model_type", "model_attributes_type"):
            message = f"keys are wanted here: {', '.join(_known_keys(model, entry['loc']))}"
        elif entry["type"] == "union_tag_invalid":
            allowed = context["expected_tags"].replace("'", "")
            key, message = f"{key}.kind", (
                f"found {context['tag']!r}{nearest(context['tag'], allowed.split(', '))}; allowed: {allowed}")
        else:
            message = str(context.get("message") or entry["msg"]).removeprefix("Value error, ")
            message = message[:1].lower() + message[1:]
            if entry["type"] not in ("missing", "secret") and "place" not in context:
                message += f"; found {_short(entry['input'])}"
        line = lines and next((lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in lines), None)
        told.setdefault(key, f"{f'line {line}: ' if line else ''}{key}: {message}")
    return list(told.values())


def _location(location: tuple[int | str, ...], data: Any) -> tuple[int | str, ...]:
    """Strip what pydantic adds to a location (names of a union's members), which nobody wrote."""
    kept: list[int | str] = []
    for depth, part in enumerate(location):
        inside = (isinstance(data, Mapping) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data))  # a part may be what is missing
        if inside:
            data = data[part]
        elif depth < len(location) - 1 or not isinstance(data, Mapping):
            continue
        kept.append(part)
    return tuple(kept)


def _known_keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Return the keys that the model at `location` knows."""
    models = [model]
    for part in location:
        fields = [(one, one.model_fields) for one in models]
        tagged = [one for one, known in fields if "kind" in known and part in get_args(known["kind"].annotation)]
        inner = [found for _, known in fields if part in known for found in _models_in(known[str(part)].annotation)]
        models = tagged or inner or models
    return list(dict.fromkeys(key for one in models for key in one.model_fields))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
