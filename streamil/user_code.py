"""Modules of the user's own, found in the experiment's folder first."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from streamil.errors import StreamilError


def load_module(name: str, folder: Path | None, where: str, error: type[StreamilError]) -> ModuleType:
    """Return the module `name` out of `folder` if there is one, or else out of the import path.

    Raises
    ------
    StreamilError
        The given class of it, its message beginning with `where`: no such module, or importing it failed.
    """
    file = folder.joinpath(*name.split(".")).with_suffix(".py") if folder else None
    places = [str(folder.absolute())] if folder else []  # for what the module itself imports, too
    sys.path[:0] = places
    try:
        if file is None or not file.is_file():
            return importlib.import_module(name)
        # under a name of its own: another folder's module of that name, or the library's, may be loaded already
        own = f"streamil_source_{abs(hash(file.absolute()))}_{file.stem}"
        spec = importlib.util.spec_from_file_location(own, file)
        assert spec is not None and spec.loader is not None
        module = sys.modules[own] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except ModuleNotFoundError as missing:
        there = f"in {places[0]} or " if places else ""
        raise error(f"{where}: no module {missing.name!r} {there}on the import path") from None
    except (Exception, SystemExit) as failure:  # a script without a main guard may end the interpreter
        raise error(f"{where}: importing it failed: {first_line(failure)}") from failure
    finally:
        for place in places:
            sys.path.remove(place)


def first_line(error: BaseException) -> str:
    """Return `Type: message` of an error of somebody else's code, on one line."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
