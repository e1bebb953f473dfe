"""Commands that run a race, its producer, and the broker between them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from streamil.cli.app import File, app, load, stopping
from streamil.cli.log import Log, report, say
from streamil.demo_regimes import DEMO_REGIMES
from streamil.errors import LocalKafkaError
from streamil.log import Event

Out = Annotated[Path | None, typer.Option(metavar="DIR", help="folder for summary.json, curve.parquet and the plot")]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="samples of the stream to take; default: all")]
Metrics = Annotated[str | None, typer.Option(
    metavar="HOST:PORT", help="address of metrics and page, instead of the file's; port 0: a free one")]
Stay = Annotated[bool, typer.Option("--stay", help="keep page and metrics up after the end, until Ctrl-C")]
Partition = Annotated[int | None, typer.Option(min=0, metavar="P", help="partition to learn, where there are several")]
Replan = Annotated[bool, typer.Option("--replan", help="go on from a snapshot of another plan")]
OnTrimmed = Annotated[Literal["fail", "earliest"], typer.Option(
    help="what to do where records were deleted before they were read")]
Compacted = Annotated[bool, typer.Option("--compacted", help="accept a topic whose compaction loses samples")]
AcceptRejects = Annotated[bool, typer.Option(
    "--accept-rejects", help="pass over the bad records that come next, however many, until a good one")]


@app.command(short_help="Race IL-prox against backpropagation, all on this machine.")
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder for the results")] = Path("streamil-demo"),
    samples: Annotated[int, typer.Option(min=100, max=60_000, metavar="N", help="samples to race over")] = 10_000,
    regime: Annotated[str, typer.Option(metavar="NAME", help=f"how the stream is reshaped: {', '.join(DEMO_REGIMES)}")
                      ] = "single-pass",
    stay: Stay = False,
    metrics: Metrics = "127.0.0.1:0",
) -> None:
    """Race IL-prox against backpropagation on MNIST, through a local Kafka: everything on this machine."""
    from streamil.demo import run_demo

    run_demo(out, samples=samples, regime=regime, stay=stay, metrics=metrics or "127.0.0.1:0", stopping=stopping)


@app.command(short_help="Write an experiment file to begin with.")
def init(file: Annotated[Path, typer.Argument(metavar="FILE", help="experiment file (YAML) to write")]) -> None:
    """Write an experiment file to begin with: a race on digits that runs as it is, and every key at its default."""
    from streamil.new_file import write_new_file

    write_new_file(file)
    say(f"{file} written; what it means: streamil check {file}")


@app.command(short_help="Validate an experiment file and say what it means.")
def check(file: File) -> None:
    """Validate an experiment file and say what it means: inputs, classes, arms, members, parameters, memory."""
    experiment = load(file)
    experiment.require_topic_names()
    from streamil.explain import explain

    for line in explain(experiment):
        typer.echo(line)


@app.command(short_help="Run a local single-node Kafka, until Ctrl-C.")
def broker(
    folder: Annotated[Path, typer.Option(metavar="DIR", help="where its data and log stay")] = Path("streamil-broker"),
    port: Annotated[int | None, typer.Option(
        min=1, max=65535, help="port; default: 9092, or a free one where that is taken; then kept")] = None,
    install_only: Annotated[bool, typer.Option("--install-only", help="fetch what it needs, then end")] = False,
) -> None:
    """Run a local single-node Kafka in the foreground, until Ctrl-C."""
    from streamil.experiment import Kafka
    from streamil.local_kafka import LocalKafka
    from streamil.views import download_progress

    expected = Kafka().bootstrap_servers
    kafka = LocalKafka(folder, port=port, preferred=int(expected.rpartition(":")[2]))
    with download_progress() as report:
        kafka.install(report)
    if install_only:
        return
    with kafka, stopping() as stop:
        other = "" if kafka.address == expected else f" (for others: kafka.bootstrap_servers: {kafka.address})"
        typer.echo(f"Kafka at {kafka.address}{other}; log in {kafka.log}; Ctrl-C ends it")
        while not stop.wait(0.5):
            if not kafka.running:
                raise LocalKafkaError(f"the local Kafka has ended by itself; see {kafka.log}")


@app.command(short_help="Publish the stream of an experiment file to its topic.")
def produce(
    file: File, limit: Limit = None, metrics: Metrics = None, log: Log = "text",
) -> None:
    """Publish the stream of an experiment file to its topic; go on where an earlier run stopped."""
    from streamil_producer import publish

    from streamil.telemetry.access import Access
    from streamil.telemetry.producer import ProducerMetrics
    from streamil.telemetry.server import Server

    experiment = load(file)
    experiment.require_own_stream()
    experiment.require_topic_names()
    with stopping() as stop:
        figures = ProducerMetrics()
        with served(Server(metrics or experiment.service.producer_metrics, figures, figures.status,
                           access=Access.of(experiment.service.http))) as url:
            say(Event(f"publishing to topic {experiment.topic} at {experiment.kafka.bootstrap_servers}; "
                      f"metrics at {url}/metrics", topic=experiment.topic, url=url))
            with figures.shown(sys.stderr.isatty()):
                done = publish(experiment, limit=limit, on_progress=figures.progress, stop=stop, tell=say)
        say(Event(f"published {done.samples} samples in {done.seconds:.1f} s, from sample {done.first} on",
                  samples=done.samples, seconds=done.seconds, first=done.first))
        for line in done.skipped.told():
            say(line)


@app.command(short_help="Learn from the topic of an experiment file.")
def consume(
    file: File,
    until: Annotated[int | None, typer.Option(min=1, metavar="N", help="end when N samples are taken in")] = None,
    out: Out = None,
    metrics: Metrics = None,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="wait so long for broker and topic")] = 0.0,
    stay: Stay = False,
    partition: Partition = None,
    replan: Replan = False,
    on_trimmed: OnTrimmed = "fail",
    compacted: Compacted = False,
    accept_rejects: AcceptRejects = False,
    arm: Annotated[list[str] | None, typer.Option(
        metavar="NAME", help="learn this arm alone, others in other processes; again for more; `judge` compares them")
    ] = None,
    log: Log = "text",
) -> None:
    """Learn from the topic of an experiment file, until --until or Ctrl-C."""
    experiment = load(file).only(arm) if arm else load(file)
    experiment.require_topic_names()
    from streamil.kafka import describe_topic

    if arm and experiment.service.predictions is None:
        say(Event("service.predictions is not set, so no judge can compare these arms with those of other processes",
                  level="warning"))
    if not wait:
        describe_topic(experiment.kafka, experiment.topic)  # before torch is imported, which takes seconds
    from streamil_consumer import Options
    from streamil_consumer import consume as learn

    options = Options(partition=partition, replan=replan, on_trimmed=on_trimmed, compacted=compacted,
                      accept_rejects=accept_rejects)
    with stopping() as stop:
        report_result(learn(experiment, until=until, options=options, out=out, metrics=metrics, wait=wait, stay=stay,
                            stop=stop, tell=say))


@app.command()
def run(file: File, limit: Limit = None, out: Out = None, log: Log = "text") -> None:
    """Run the same race in one process, without Kafka."""
    experiment = load(file)
    from streamil.direct import run as race
    from streamil.views import race_progress

    with stopping() as stop:
        with race_progress(limit or experiment.stream.limit) as progress:
            result = race(experiment, limit=limit, out=out, on_progress=progress, tell=say, stop=stop)
        report_result(result)
        if out is not None:
            say(f"results in {out}")


def report_result(result: dict[str, Any]) -> None:
    """Print the result in a few plain lines."""
    from streamil.report.lines import result_lines

    for line in result_lines(result):
        report(line)


@contextmanager
def served(server: Any) -> Iterator[str]:
    """Close the server at the end."""
    try:
        yield server.url
    finally:
        server.close()
