"""Commands about what a consumer rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamil.cli.app import File, app, load, stopping
from streamil.cli.log import say
from streamil.errors import ExperimentError

if TYPE_CHECKING:
    from streamil.dead_letters import DeadTopic, Wanted

dead_letters = typer.Typer(no_args_is_help=True, help="What a consumer rejected and why; put it back on the stream.")
app.add_typer(dead_letters, name="dead-letters")

Reason = Annotated[str | None, typer.Option(metavar="R", help="letters of this reason alone")]
Partition = Annotated[int | None, typer.Option(min=0, metavar="P", help="letters from this partition alone")]


@dead_letters.command("list")
def list_letters(
    file: File, reason: Reason = None, partition: Partition = None,
    limit: Annotated[int, typer.Option(min=0, max=100_000, metavar="N", help="letters to show, the newest")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="as one JSON document")] = False,
) -> None:
    """Show what was rejected: counts by reason, then the newest letters."""
    from streamil.dead_letters import Summary

    topic = opened(file, wanted(reason, partition))
    summary = Summary.of(topic, limit)
    if as_json:
        typer.echo(json.dumps({"topic": topic.name, "repeats": topic.repeats, "others": topic.others,
                               "strange": topic.strange, "beyond": topic.beyond, **summary.data()}))
        return
    if summary.count:
        for line in summary.lines():
            typer.echo(line)
    tell_left_out(topic, summary.count)


@dead_letters.command("export", short_help="Write what was rejected to a file, to be corrected.")
def export_letters(
    file: File,
    out: Annotated[Path, typer.Option(metavar="DIR|FILE.jsonl", help="where to")],
    reason: Reason = None, partition: Partition = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite the file")] = False,
) -> None:
    """Write what was rejected to a file, a line of JSON each, to be corrected and put back."""
    from streamil.dead_letters import export

    topic = opened(file, wanted(reason, partition))
    path = out if out.suffix == ".jsonl" else out / f"{topic.name}.jsonl"
    count = export(topic, path, force=force)
    tell_left_out(topic, count)
    say(f"{count:,} letters in {path}")


@dead_letters.command("replay", short_help="Put what was rejected back on its topic.")
def replay_letters(
    file: File, reason: Reason = None, partition: Partition = None,
    corrected: Annotated[Path | None, typer.Option(
        "--from", metavar="FILE.jsonl", help="put back the letters of this file, as corrected, instead")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be put back, and write nothing")] = False,
) -> None:
    """Put what was rejected back on its topic: a consumer learns each sample once."""
    from streamil.dead_letters import corrected as read
    from streamil.dead_letters import replay
    from streamil.dead_letters.replay import LEFT_OUT

    chosen = wanted(reason, partition)
    experiment = load(file)
    experiment.require_topic_names()
    if corrected is not None:
        for _ in read(corrected, experiment.topic):  # all of it is looked at before any of it is put back
            pass
        letters = (letter for letter in read(corrected, experiment.topic) if letter in chosen)
    else:
        topic = opened(file, chosen)
        letters = (letter for letter in topic)
    with stopping() as stop:
        counts = replay(experiment, letters, dry_run=dry_run, look_back=corrected is None, stop=stop)
        if corrected is None:
            tell_left_out(topic, counts.total())
        say(f"{'would put' if dry_run else 'put'} back {counts['back']:,} samples and records on topic "
            f"{experiment.topic}")
        for word, meaning in LEFT_OUT.items():
            if counts[word]:
                say(f"left out {counts[word]:,}, {meaning}")


def wanted(reason: str | None, partition: int | None) -> Wanted:
    """Return which letters are wanted."""
    from streamil.codec.reasons import REASONS
    from streamil.dead_letters import Wanted
    from streamil.experiment_file import nearest

    if reason is not None and reason not in REASONS:
        raise ExperimentError(f"unknown reason {reason!r}{nearest(reason, REASONS)}; reasons: {', '.join(REASONS)}",
                              "--reason")
    return Wanted(reason, partition)


def opened(file: Path, chosen: Wanted) -> DeadTopic:
    """Return the dead letters of an experiment."""
    from streamil.dead_letters import DeadTopic

    experiment = load(file)
    experiment.require_topic_names()
    return DeadTopic(experiment, chosen, say)


def tell_left_out(topic: DeadTopic, count: int) -> None:
    """Say what of the topic was left out, and why there is nothing."""
    if topic.missing:
        say(f"nothing was rejected: topic {topic.name} does not exist")
        return
    if not count:
        say(f"topic {topic.name}: no letters of those that are wanted")
    for number, what in ((topic.repeats, "older letters of the same samples"), (topic.others, "of other experiments"),
                         (topic.strange, "records that are no dead letters")):
        if number:
            say(f"topic {topic.name}: left out {number:,} {what}")
    if topic.beyond:
        say(f"topic {topic.name}: the last {topic.beyond:,} were taken as they come, repeats among them too")
