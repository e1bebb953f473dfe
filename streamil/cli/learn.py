"""The command that needs no file: one learner on one topic."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from streamil.cli.app import app, stopping
from streamil.cli.log import Log, say
from streamil.cli.race import (
    AcceptRejects,
    Compacted,
    Metrics,
    OnTrimmed,
    Out,
    Partition,
    Replan,
    Stay,
    report_result,
)
from streamil.errors import BrokerUnavailable, ExperimentError, TopicMissing


@app.command(short_help="Learn from an existing topic, without an experiment file.")
def learn(
    topic: Annotated[str, typer.Option(metavar="T", help="an existing topic")],
    label: Annotated[str, typer.Option(metavar="FIELD", help="path of the label, for example payload.after.is_fraud")],
    bootstrap_servers: Annotated[str | None, typer.Option(
        metavar="HOST:PORT", help="the broker; default: 127.0.0.1:9092")] = None,
    kafka_file: Annotated[Path | None, typer.Option(
        "--kafka", metavar="FILE", help="YAML with the keys that stand under `kafka` in an experiment file")] = None,
    features: Annotated[str | None, typer.Option(
        metavar="A,B", help="paths of the features; default: all but what looks like an id or a time")] = None,
    x: Annotated[str | None, typer.Option(metavar="FIELD", help="path of a list of numbers as inputs")] = None,
    id_: Annotated[str | None, typer.Option("--id", metavar="FIELD", help="path of the identifier")] = None,
    time_: Annotated[str | None, typer.Option("--time", metavar="FIELD", help="path of the event time")] = None,
    classes: Annotated[str | None, typer.Option(
        metavar="A,B", help="a fixed list of labels; default: as they come")] = None,
    algorithm: Annotated[str | None, typer.Option(
        metavar="NAME", help="default: il-kfac, or il-prox above 2,048 inputs")] = None,
    hidden: Annotated[str, typer.Option(metavar="A,B", help="sizes of the hidden layers")] = "64,64",
    batch_size: Annotated[int, typer.Option(min=1, max=4096, metavar="B", help="samples of an update")] = 1,
    set_: Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="a hyperparameter")] = [],  # noqa: B006
    snapshots: Annotated[Path | None, typer.Option(
        metavar="DIR", help="folder of the snapshots; default: snapshots/TOPIC")] = None,
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
    log: Log = "text",
) -> None:
    """Learn from an existing topic with one learner, without an experiment file, until --until or Ctrl-C."""
    from streamil.experiment import Kafka, load_kafka

    kafka = load_kafka(kafka_file) if kafka_file else Kafka()
    if bootstrap_servers is not None:
        kafka = kafka.model_copy(update={"bootstrap_servers": bootstrap_servers})
    _require_topic(kafka, topic, wait)
    from streamil_consumer import Options, consume

    from streamil.one_learner import Learner, experiment_of

    learner = Learner(algorithm, hidden=read_sizes(hidden), features=_listed(features), classes=_listed(classes),
                      batch_size=batch_size, **dict(map(_setting, set_)))
    experiment = experiment_of(learner, topic, label=label, x=x, id=id_, time=time_, kafka=kafka,
                               snapshots=snapshots or Path("snapshots", topic), tell=say)
    options = Options(partition=partition, replan=replan, on_trimmed=on_trimmed, compacted=compacted,
                      accept_rejects=accept_rejects)
    with stopping() as stop:
        report_result(consume(experiment, until=until, options=options, out=out, metrics=metrics, wait=wait, stay=stay,
                              stop=stop, tell=say))


def _require_topic(kafka: Any, topic: str, wait: float) -> None:
    from streamil.kafka import describe_topic

    deadline = time.monotonic() + wait
    while True:
        try:
            describe_topic(kafka, topic)
            return
        except (BrokerUnavailable, TopicMissing):
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.2)


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [one.strip() for one in text.split(",")]


def read_sizes(text: str) -> list[int]:
    """Return sizes of hidden layers."""
    sizes = [one.strip() for one in text.split(",") if one.strip()]
    if not all(size.isdecimal() for size in sizes):
        raise ExperimentError(f"--hidden: {text!r} is no list of sizes, for example 64,64")
    return [int(size) for size in sizes]


def _setting(text: str) -> tuple[str, Any]:
    """Return name and value of a hyperparameter, read as YAML reads it."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ExperimentError(f"--set: {text!r} is not NAME=VALUE, for example alpha=5")
    from io import StringIO

    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return name.strip(), YAML(typ="safe", pure=True).load(StringIO(value))
    except YAMLError:
        raise ExperimentError(f"--set: {value!r} is no value") from None
