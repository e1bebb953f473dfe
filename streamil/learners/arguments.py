"""Arguments of learners, checked before any state changes; each error names argument, what it got, what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamil.errors import LearnerError

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


def read_layers(layers: Sequence[int], growing: bool) -> list[int]:
    """Return layer sizes [F, ..., C] of one layer of weights or more; a growing population may start with C = 0."""
    sizes = list(layers) if isinstance(layers, Iterable) else []
    whole = all(hasattr(size, "__index__") and not isinstance(size, bool) for size in sizes)
    if len(sizes) < 2 or not whole or min(sizes[:-1]) < 1 or sizes[-1] < (0 if growing else 1):
        raise LearnerError(f"layers: got {layers!r}, [inputs, ..., classes] is allowed, each at least 1")
    return [int(size) for size in sizes]


def read_batch_size(batch_size: Any) -> int:
    """Return the mini-batch size."""
    if isinstance(batch_size, bool) or not hasattr(batch_size, "__index__") or batch_size < 1:
        raise LearnerError(f"batch_size: got {batch_size!r}, a whole number from 1 is allowed")
    return int(batch_size)


def read_dtype(dtype: Any) -> torch.dtype:
    """Return the precision, given by name or as torch's own."""
    for name, precision in PRECISIONS.items():
        if dtype in (name, precision):
            return precision
    raise LearnerError(f"dtype: got {dtype!r}, one of {', '.join(PRECISIONS)} is allowed")


def read_device(device: Any) -> torch.device:
    """Return the device, tried out."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LearnerError(f"device: got {device!r}, a device that torch can use here is allowed ({reason})") from None


def read_inputs(x: Any, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return inputs [N, F] of the wanted dtype on the device, finite.

    Examples
    --------
    >>> read_inputs([[1, 2]], 2, torch.float32, torch.device("cpu"))
    tensor([[1., 2.]])
    """
    if isinstance(x, Tensor) and not x.is_complex():
        shape, inputs = tuple(x.shape), x.detach()
    else:
        try:
            array = np.asarray(x)
        except ValueError:
            raise LearnerError(f"x: got rows of several lengths, [N, {width}] is allowed") from None
        if array.dtype.kind not in "biuf":
            raise LearnerError(f"x: got values of type {array.dtype}, numbers are allowed")
        with np.errstate(over="ignore"):  # what overflows is found below, as not finite
            array = np.ascontiguousarray(array, dtype=np.float64 if dtype == torch.float64 else np.float32)
        shape = array.shape
        inputs = torch.from_numpy(array if array.flags.writeable else array.copy())
    if len(shape) != 2 or shape[1] != width:
        raise LearnerError(f"x: got shape {shape}, [N, {width}] is allowed")
    inputs = inputs.to(device=device, dtype=dtype)
    finite = np.isfinite(inputs.numpy()).all() if inputs.device.type == "cpu" else torch.isfinite(inputs).all()
    if not finite:  # numpy's takes a fifth of the time
        rows = (~torch.isfinite(inputs).all(1)).nonzero().flatten()[:3].tolist()
        raise LearnerError(f"x: got values that are not finite in {dtype}, first in rows {rows}")
    return inputs


def read_labels(y: Any, count: int, classes: int | None) -> NDArray[np.int64]:
    """Return class indices [N]; `classes` None lets them grow.

    Examples
    --------
    >>> read_labels([1, 0], 2, 2)
    array([1, 0])
    """
    labels = np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y)
    if labels.shape != (count,):
        raise LearnerError(f"y: got shape {labels.shape}, [{count}] is allowed, one label for each row of x")
    if labels.dtype.kind not in "iu" and labels.size:
        raise LearnerError(f"y: got values of type {labels.dtype}, whole numbers are allowed")
    allowed = "from 0" if classes is None else f"from 0 to {classes - 1}"
    if labels.size and (labels.min() < 0 or (classes is not None and labels.max() >= classes)):
        raise LearnerError(f"y: got classes {labels.min()} to {labels.max()}, {allowed} are allowed; unlabelled is not")
    return labels.astype(np.int64)
