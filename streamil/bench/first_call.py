"""What the first call of a kernel takes: with nothing compiled before, and with what is on disk from then on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from streamil import orphan
from streamil.bench.findings import Findings
from streamil.bench.plan import Plan
from streamil.bench.turns import Progress

CACHES = ("NUMBA_CACHE_DIR", "TRITON_CACHE_DIR")
CHILD = """
import json, sys, time
import numpy, torch
from streamil.learners import create
from streamil.orphan import end_with_parent
end_with_parent()
layers, device, threads, rules = json.loads(sys.argv[1])
torch.set_num_threads(threads)
x, y = numpy.zeros((64, layers[0]), numpy.float32), numpy.arange(64) % 2
for algorithm, hyperparameters in rules:
    create("bp-sgd", [2, 2], device=device, kernels="none").learn([[0, 1]], [0])  # torch's own first call
    begin = time.perf_counter()
    population = create(algorithm, layers, [hyperparameters], device=device)
    population.learn(x, y).logits.cpu()
    seconds = time.perf_counter() - begin
    print(json.dumps(None if getattr(population, "kernel", None) is None else seconds), flush=True)
"""
"""Says, for each rule, what it took to make and feed the first population; null where it has no kernel."""
WAIT_SECONDS = 0.1


def measure_first_calls(plan: Plan, findings: Findings, *, stop: threading.Event, tell: Progress) -> None:
    """Measure the first call of each rule's kernel, in processes of their own with an empty folder for what is compiled.

    Rules share compiled code, so the first of them takes most.
    """
    with tempfile.TemporaryDirectory(prefix="streamil-bench-") as folder:
        tell(0.0, "compiling kernels")
        compiled = list(_first_calls(plan, folder, stop))
        tell(0.5, "loading kernels")
        loaded = list(_first_calls(plan, folder, stop))
    for subject, first, second in zip(plan.subjects, compiled, loaded, strict=False):
        if first is not None:
            findings.first_calls.append({"rule": subject.text, "compiled": first, "from_disk": second})


def _first_calls(plan: Plan, folder: str, stop: threading.Event) -> Iterator[float | None]:
    rules = [(subject.algorithm, subject.hyperparameters) for subject in plan.subjects]
    asked = json.dumps([plan.layers, plan.device, plan.threads, rules])
    environment: dict[str, Any] = os.environ | dict.fromkeys(CACHES, folder) | {orphan.VARIABLE: "1"}
    # its own session: a Ctrl-C is for us, who then end it
    with subprocess.Popen([sys.executable, "-c", CHILD, asked], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, env=environment, start_new_session=True) as process:
        try:
            while not stop.is_set():
                with suppress(subprocess.TimeoutExpired):
                    said, _ = process.communicate(timeout=WAIT_SECONDS)
                    yield from map(json.loads, said.splitlines())
                    return
        finally:
            process.kill()
