"""What the first call of a kernel takes: with nothing compiled before, and with what is on disk from then on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from streamil import orphan
from streamil.bench.findings import Absent, Findings
from streamil.bench.plan import Plan
from streamil.bench.turns import Progress

FIRST_CALLS = "first calls"
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
    """Measure the first call of each rule's kernel, in processes of their own an empty folder for what is compiled.

    Rules share compiled code, so the first of them takes most.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="streamil-bench-") as folder:
            tell(0.0, "compiling kernels")
            compiled = _first_calls(plan, Path(folder), stop)
            tell(0.7, "loading kernels")
            loaded = _first_calls(plan, Path(folder), stop)
    except ChildProcessError as error:
        findings.absent.append(Absent(FIRST_CALLS, "kernel", 1, 1, str(error)))
        return
    for subject, first, second in zip(plan.subjects, compiled, loaded, strict=False):
        if first is not None:
            findings.first_calls.append({"rule": subject.text, "compiled": first, "from_disk": second})


def _first_calls(plan: Plan, folder: Path, stop: threading.Event) -> list[float | None]:
    """Return what each rule's first call takes in a fresh process; nothing when stopped.

    Raises
    ------
    ChildProcessError
        With what that process said last.
    """
    rules = [(subject.algorithm, subject.hyperparameters) for subject in plan.subjects]
    asked = json.dumps([plan.layers, plan.device, plan.threads, rules])
    environment = os.environ | dict.fromkeys(CACHES, str(folder)) | {orphan.VARIABLE: "1"}
    with ExitStack() as stack:
        said, wrong = (stack.enter_context((folder / name).open("w+")) for name in ("stdout", "stderr"))
        # its own session: a Ctrl-C is for us, who then end it
        process = stack.enter_context(subprocess.Popen(
            [sys.executable, "-c", CHILD, asked], stdin=subprocess.PIPE, stdout=said, stderr=wrong, env=environment,
            start_new_session=True))
        stack.callback(process.kill)
        while process.poll() is None:
            if stop.wait(WAIT_SECONDS):
                return []
        if process.returncode:
            raise ChildProcessError((folder / "stderr").read_text().strip().rpartition("\n")[2] or "it ended by itself")
        return [json.loads(line) for line in (folder / "stdout").read_text().splitlines()]
