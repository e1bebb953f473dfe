"""Where the secrets of an experiment are: in files of their own or in the environment, never in its file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from streamil.credentials import KEY_PASSWORD, PASSWORD, TOKEN

_VARIABLES = {"password": PASSWORD, "key_password": KEY_PASSWORD, "token": TOKEN}


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    return info.context["folder"] / path if info.context else path


SecretFile = Annotated[Path, AfterValidator(_beside_the_file)]
"""A path relative to the experiment file, given as `folder` of the context; clients know of no experiment."""


def no_secrets(data: Any) -> Any:
    """Refuse a secret in the file, without repeating it."""
    for key, variable in _VARIABLES.items() if isinstance(data, dict) else ():
        if key in data:
            raise PydanticCustomError("secret", "{message}", {
                "message": f"a {key} does not stand in an experiment file: write it to a file of its own and name "
                           f"that as {key}_file, or put it into the environment as {variable}"})
    return data
