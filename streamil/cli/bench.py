"""The command that measures what learning costs on this machine."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streamil.cli.app import Stop, app, stopping
from streamil.cli.learn import read_sizes
from streamil.cli.log import report, say
from streamil.errors import ExperimentError, StreamilError

if TYPE_CHECKING:
    from streamil.bench import Plan
    from streamil.bench.findings import Findings

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What libraries read while they are imported."""


@app.command(short_help="Measure what an update costs here, beside torch's own backpropagation.")
def bench(
    algorithm: Annotated[list[str] | None, typer.Option(
        metavar="NAME[,KEY=VALUE]", help="a rule, with hyperparameters; again for more; default: il-prox at three "
        "inference_steps, il-sgd, il-kfac, bp-kfac, bp-sgd, bp-adam")] = None,
    batch_size: Annotated[list[int] | None, typer.Option(
        min=1, max=4096, metavar="B", help="samples of an update; again for more; default: 1, 8, 64")
    ] = None,
    members: Annotated[list[int] | None, typer.Option(
        min=1, max=100_000, metavar="A", help="learners side by side; again for more; default: 1 and 32, of K-FAC "
        "rules 1 and 4 (--quick: 1)")] = None,
    hidden: Annotated[str, typer.Option(metavar="A,B", help="sizes of the hidden layers")] = "256,256",
    threads: Annotated[int, typer.Option(min=1, max=1024, metavar="N", help="of everybody")] = 1,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(
        help="auto: a CUDA device where there is one")] = "auto",
    seconds: Annotated[float | None, typer.Option(
        min=0, metavar="S", help="what all turns take together, about; default: 90 (--quick: 25)")] = None,
    end_to_end: Annotated[bool, typer.Option(
        "--end-to-end", help="the demo's race and the codecs through a local Kafka instead")] = False,
    samples: Annotated[int | None, typer.Option(
        min=100, max=60_000, metavar="N", help="samples of the race with --end-to-end; default: 1000")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="within about a minute, with less to rely on")] = False,
    json_: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write everything as JSON, too")] = None,
) -> None:
    """Measure what an update of each rule costs on this machine, beside torch's own backpropagation.

    Everybody learns the same records of real digits, turn about, in one process, with equally many threads. Ratios come
    first: absolute times vary between machines, and from minute to minute.
    """
    if json_ is not None and (json_.is_dir() or not json_.absolute().parent.is_dir()):
        raise ExperimentError(f"--json: {json_}: a file in a folder that is there is allowed")
    others = {"--algorithm": algorithm, "--batch-size": batch_size, "--members": members, "--seconds": seconds}
    for option, given in others.items() if end_to_end else [("--samples", samples)]:
        if given is not None:
            raise ExperimentError(f"{option}: not allowed {'with' if end_to_end else 'without'} --end-to-end")
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    sizes = read_sizes(hidden)
    with stopping() as stop:
        from streamil.bench import ALGORITHMS, Findings, Plan, Subject
        from streamil.racing_arm import choose_device

        plan = Plan(
            [Subject.parse(text) for text in algorithm or ALGORITHMS], hidden=sizes,
            device=choose_device(device, "--device").type,
            threads=threads, compiled=not quick, turns=5 if quick else 9,
            batch_sizes=list(dict.fromkeys(batch_size or Plan.batch_sizes)),
            members=list(dict.fromkeys(members)) if members else [1] if quick else None,
            seconds=seconds if seconds is not None else 25.0 if quick else 90.0)
        findings = Findings()
        try:
            if end_to_end:
                _through_kafka(findings, plan.device, samples or 1000, quick, stop)
            else:
                _learners(plan, findings, quick, stop)
            findings.complete = not stop.is_set()
        except KeyboardInterrupt:  # stopped in the middle of something long
            stop.set()
        _tell(findings.result(plan), json_)


def _learners(plan: Plan, findings: Findings, quick: bool, stop: Stop) -> None:
    from streamil.bench.findings import QUICK, Absent
    from streamil.bench.first_call import FIRST_CALLS, measure_first_calls
    from streamil.bench.learners import measure_learners
    from streamil.views import bench_progress

    long = "a minute" if plan.minutes < 1.5 else f"{plan.minutes:.0f} minutes"
    say(f"measuring for about {long}; Ctrl-C ends it with what is measured so far")
    with bench_progress() as progress:
        measure_learners(plan, findings, stop=stop, tell=progress)
        if quick:
            findings.absent.append(Absent(FIRST_CALLS, "kernel", 1, 1, QUICK))
        elif not stop.is_set():
            measure_first_calls(plan, findings, stop=stop, tell=progress)


def _through_kafka(findings: Findings, device: str, samples: int, quick: bool, stop: Stop) -> None:
    from streamil_consumer import consume
    from streamil_producer import publish

    from streamil.bench import measure_end_to_end
    from streamil.views import bench_progress

    say("measuring for a minute or two, longer on a slow machine; Ctrl-C ends it with what is measured so far")
    with bench_progress() as progress:
        measure_end_to_end(findings, device=device, samples=samples, codec_samples=5_000 if quick else 20_000,
                           turns=1 if quick else 3, publish=publish, consume=consume, stop=stop, tell=progress)


def _tell(result: dict[str, Any], file: Path | None) -> None:
    from streamil.bench import result_text

    terminal = sys.stdout.isatty()
    if result["learners"] or result["end_to_end"] or result["complete"]:
        width = {"width": os.get_terminal_size(sys.stdout.fileno()).columns} if terminal else {}
        for line in result_text(result, terminal=terminal, **width).splitlines():
            report(line)
    else:
        say("interrupted before anything was measured")
    if file is not None:
        try:
            file.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise StreamilError(f"--json: {file}: {error.strerror}") from None
        say(f"results in {file}")
