"""Pickles of river's classifiers, read by an unpickler that takes river's own classes and a fixed list of others."""

from __future__ import annotations

import importlib
import inspect
import io
import pickle
import types
from typing import Any

from streamil.errors import LearnerError

ROOMS = frozenset({
    "_river_rust", "anomaly", "base", "drift", "dummy", "ensemble", "facto", "forest", "linear_model", "metrics",
    "misc", "naive_bayes", "neighbors", "optim", "proba", "rules", "stats", "tree", "utils",
})
"""Packages of river whose classes can be part of a classifier; none of them reads files or the network."""

PLAIN = frozenset({
    ("builtins", "bool"), ("builtins", "bytearray"), ("builtins", "complex"), ("builtins", "dict"),
    ("builtins", "float"), ("builtins", "frozenset"), ("builtins", "int"), ("builtins", "list"),
    ("builtins", "range"), ("builtins", "set"), ("builtins", "slice"), ("builtins", "str"), ("builtins", "tuple"),
    ("collections", "Counter"), ("collections", "OrderedDict"), ("collections", "defaultdict"),
    ("collections", "deque"), ("copy", "deepcopy"), ("datetime", "datetime"), ("datetime", "timedelta"),
    ("functools", "partial"), ("numpy", "dtype"), ("numpy", "ndarray"), ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"), ("numpy._core.numeric", "_frombuffer"), ("numpy.random._mt19937", "MT19937"),
    ("numpy.random._pcg64", "PCG64"), ("numpy.random._pickle", "__bit_generator_ctor"),
    ("numpy.random._pickle", "__generator_ctor"), ("numpy.random._pickle", "__randomstate_ctor"),
    ("random", "Random"), ("streamil.learners.river_arm", "OneVersusRest"),
})
"""What else a pickle may name: values, containers, generators of random numbers."""

FUNCTIONS = frozenset({
    ("river._river_rust.vectordict", "euclidean_distance_tuple"),
    ("river.naive_bayes.gaussian", "GaussianNB._make_gaussian"),
})
"""Functions of river that classifiers hold."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):  # how a bound method is pickled
            return _method
        if (module, name) in PLAIN:
            return super().find_class(module, name)
        package, _, rest = module.partition(".")
        if package != "river" or rest.partition(".")[0] not in ROOMS:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        if (module, name) in FUNCTIONS:
            return super().find_class(module, name)
        # not getattr along the dots: a module of river's holds other modules, os among them
        found = vars(importlib.import_module(module)).get(name)
        if not inspect.isclass(found) or not _is_rivers(found):
            raise pickle.UnpicklingError(f"{module}.{name} is not a class of river's own")
        return found


def _method(owner: Any, name: str) -> Any:
    """Return a method of an object of river's, and nothing else that `getattr` would lead to."""
    function = inspect.getattr_static(type(owner), name, None)
    if name.startswith("__") or not _is_rivers(type(owner)) or not inspect.isfunction(function):
        raise pickle.UnpicklingError(f"{name} of {type(owner).__name__} is not a method of river's own")
    return types.MethodType(function, owner)


def _is_rivers(one: type) -> bool:
    package, _, rest = one.__module__.partition(".")
    return package == "river" and rest.partition(".")[0] in ROOMS


def dump(models: list[Any], algorithm: str) -> bytes:
    """Return the pickle of the models, tried out: what could not be read again is refused here.

    Raises
    ------
    LearnerError
        When the models cannot be pickled, or hold what `load` does not take.
    """
    try:
        data = pickle.dumps(models, protocol=5)
    except Exception as error:
        raise LearnerError(f"state: {algorithm} cannot be saved: {type(error).__name__}: {error}") from None
    load(data, algorithm)
    return data


def load(data: bytes, algorithm: str) -> Any:
    """Return what a pickle holds, if it names nothing but river's classes and plain types.

    Raises
    ------
    LearnerError
        For anything else, before it is called.

    Examples
    --------
    >>> import os
    >>> load(pickle.dumps(os.getpid), "river:any")
    Traceback (most recent call last):
    streamil.errors.LearnerError: state: a pickle of river:any: posix.getpid is not allowed
    """
    try:
        return _Reader(io.BytesIO(data)).load()
    except Exception as error:
        raise LearnerError(f"state: a pickle of {algorithm}: {error}") from None
