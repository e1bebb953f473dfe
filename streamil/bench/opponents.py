"""Other people's learners of the same network: torch's own, as it is and compiled, river's and deep-river's."""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from streamil.bench.machine import installed
from streamil.bench.turns import Contestant
from streamil.user_code import first_line

CACHE = "TORCHINDUCTOR_CACHE_DIR"
Records = Sequence[tuple[Tensor, Tensor]]
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "BP-SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.03),
    "BP-Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.001),
}
"""What every ratio is to."""
RIVER, DEEP_RIVER = "SoftmaxRegression (no hidden layer)", "Classifier, SGD"


def network(layers: Sequence[int]) -> nn.Sequential:
    """Return the network that all learn."""
    parts = [part for inputs, outputs in pairwise(layers) for part in (nn.Linear(inputs, outputs), nn.ReLU())]
    return nn.Sequential(*parts[:-1])


def torch_learner(rule: str, layers: Sequence[int], batch_size: int, records: Records, *,
                  compiled: bool = False) -> Contestant:
    """Return backpropagation as torch's users write it: zero_grad, cross_entropy, backward, step."""
    module = network(layers).to(records[0][0].device)
    optimizer = OPTIMIZERS[rule](module.parameters())

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(module(x), y)

    forward: Callable[[Tensor, Tensor], Tensor] = loss_of
    step: Callable[[], Any] = optimizer.step
    if compiled:
        forward, step = torch.compile(loss_of, dynamic=False), torch.compile(optimizer.step, dynamic=False)

    def learn(x: Tensor, y: Tensor) -> None:
        for first in range(0, len(y), batch_size):
            optimizer.zero_grad()
            forward(x[first:first + batch_size], y[first:first + batch_size]).backward()  # type: ignore[no-untyped-call]
            step()

    return Contestant(f"torch {rule}", "compiled" if compiled else "eager", 1, batch_size, learn, records)


def river_learner(batch_size: int, records: Records) -> Contestant | str:
    """Return river's classifier of many classes that learns by gradient descent, or why there is none."""
    if installed("river") is None:
        return "river is not installed"
    if batch_size != 1:
        return "river's SoftmaxRegression learns single samples"
    model: Any = importlib.import_module("river.linear_model").SoftmaxRegression()
    own = [([dict(enumerate(row)) for row in x.tolist()], y.tolist()) for x, y in records]

    def learn(x: Sequence[dict[int, float]], y: Sequence[int]) -> None:
        for row, label in zip(x, y, strict=True):
            model.learn_one(row, label)

    return Contestant(RIVER, "river", 1, 1, learn, own)


def deep_river_learner(layers: Sequence[int], batch_size: int, records: Records) -> Contestant | str:
    """Return deep-river's classifier of the same network, or why there is none."""
    if installed("deep-river") is None:
        return "deep-river is not installed"
    pandas: Any = importlib.import_module("pandas")
    model: Any = importlib.import_module("deep_river.classification").Classifier(
        module=network(layers), loss_fn="cross_entropy", optimizer_fn="sgd", lr=0.03,
        device=str(records[0][0].device), is_class_incremental=False)
    own: list[tuple[Any, Any]]
    if batch_size == 1:
        own = [([dict(enumerate(row)) for row in x.tolist()], y.tolist()) for x, y in records]

        def learn(x: Any, y: Any) -> None:
            for row, label in zip(x, y, strict=True):
                model.learn_one(row, label)
    else:
        own = [(pandas.DataFrame(x.cpu().numpy()), pandas.Series(y.tolist())) for x, y in records]

        def learn(x: Any, y: Any) -> None:
            for first in range(0, len(y), batch_size):
                model.learn_many(x.iloc[first:first + batch_size], y.iloc[first:first + batch_size])

    return Contestant(DEEP_RIVER, "deep-river", 1, batch_size, learn, own)


def libraries(layers: Sequence[int], batch_size: int, records: Records) -> Iterator[tuple[str, str, Contestant | str]]:
    """Yield rule, library, and its learner or why there is none."""
    known: list[tuple[str, str, Callable[[], Contestant | str]]] = [
        (RIVER, "river", lambda: river_learner(batch_size, records)),
        (DEEP_RIVER, "deep-river", lambda: deep_river_learner(layers, batch_size, records))]
    for rule, library, build in known:
        try:
            yield rule, library, build()
        except Exception as error:  # what others' code raises is theirs to choose
            yield rule, library, first_line(error)


@contextmanager
def fresh_compiler() -> Iterator[None]:
    """Let torch.compile begin with nothing compiled before, in this process alone, without a word on the way."""
    import torch._inductor.config as inductor
    from torch._logging import _internal as logs

    logs.set_logs(all=logging.ERROR)
    before, name = os.environ.get(CACHE), tempfile.mkdtemp(prefix="streamil-bench-")
    os.environ[CACHE] = name
    try:
        with inductor.patch(compile_threads=1):
            yield
    finally:
        os.environ.pop(CACHE)
        if before is not None:
            os.environ[CACHE] = before
        shutil.rmtree(name, ignore_errors=True)
