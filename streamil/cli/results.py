"""Commands about results: judge arms that learn elsewhere, and make a report of what a run left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamil.cli.app import File, app, load, stopping
from streamil.cli.log import Log, report, say
from streamil.cli.race import Metrics, OnTrimmed, Out, Stay, report_result


@app.command(short_help="Judge arms that learn in other processes, by what they predict.")
def judge(
    file: File,
    until: Annotated[int | None, typer.Option(
        min=1, metavar="N", help="end when each arm is judged on N labelled samples")] = None,
    out: Out = None,
    metrics: Metrics = None,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="wait so long for broker and topic")] = 0.0,
    stay: Stay = False,
    on_trimmed: OnTrimmed = "fail",
    log: Log = "text",
) -> None:
    """Judge the arms of an experiment by the topic NAME.predictions, wherever each learns.

    Consumers write it where the file sets service.predictions; `consume --arm NAME` learns one arm alone.
    """
    experiment = load(file)
    experiment.require_topic_names()
    from streamil_consumer import judge as run

    with stopping() as stop:
        report_result(run(experiment, until=until, out=out, metrics=metrics, wait=wait, stay=stay,
                          on_trimmed=on_trimmed, stop=stop, tell=say))


@app.command(name="report", short_help="Make an HTML report of what a run left in DIR.")
def make_report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="folder that a run, a consumer or the demo wrote to")],
) -> None:
    """Make one self-contained HTML file of what a run left in DIR: DIR/report.html."""
    from streamil.report.page import write_report

    report(f"report in {write_report(folder)}")
