"""Commands that look into snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamil.cli.app import app
from streamil.cli.log import say

snapshots = typer.Typer(no_args_is_help=True, help="What snapshots hold, and a learner out of one.")
app.add_typer(snapshots, name="snapshot")


@snapshots.command("inspect")
def inspect_snapshot(file: Annotated[Path, typer.Argument(metavar="FILE", help="snapshot")]) -> None:
    """Show what a snapshot says of itself, and a table of its entries."""
    from streamil.snapshot.show import inspect

    for line in inspect(file):
        typer.echo(line)


@snapshots.command("verify", short_help="Say of each file whether it is a whole snapshot.")
def verify_snapshots(files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="snapshots")]) -> None:
    """Say of each file whether it is a whole snapshot; exit 1 when one is not."""
    from streamil.snapshot.show import verify

    whole = True
    for good, line in verify(files):
        typer.echo(line)
        whole &= good
    if not whole:
        raise typer.Exit(1)


@snapshots.command("export", short_help="Take one learner out, as a torch program.")
def export_snapshot(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="snapshot")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="where model.pt2, model.safetensors and model.json go")],
    arm: Annotated[str | None, typer.Option(metavar="NAME", help="which arm; default: the only one")] = None,
    member: Annotated[int | None, typer.Option(min=0, metavar="N", help="which one; default: the best so far")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace what is there")] = False,
    code: Annotated[Path | None, typer.Option(metavar="DIR", help="where the module of a torch: arm is")] = None,
) -> None:
    """Take one member out of a snapshot, as a torch program that runs without streamil."""
    from streamil.member_export import export_member

    exported = export_member(file, out, arm=arm, member=member, force=force, code=code)
    what = exported.meaning
    accuracy = "" if what["accuracy"] is None else f", accuracy {what['accuracy']:.4f} over {what['samples']:,} samples"
    chosen = f", the best of {what['of_members']} after the fact" if member is None and what["of_members"] > 1 else ""
    typer.echo(f"arm {what['arm']} ({what['algorithm']}), member {what['member']}{accuracy}{chosen}")
    if what["diverged"]:
        say("warning: this member diverged: these are its last finite weights")
    typer.echo(f"{len(what['inputs'])} inputs, {len(what['classes'])} classes: "
               + ", ".join(str(written) for written in exported.files))
