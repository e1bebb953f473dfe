"""The base of all models of the experiment file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Base of all models of the file: frozen, strict about keys, and helpful about typing errors in them."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_max_length=4096, allow_inf_nan=False)
