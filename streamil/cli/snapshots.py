"""Commands that look into snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamil.cli.app import app

snapshots = typer.Typer(no_args_is_help=True, help="What snapshots hold, and whether they are whole.")
app.add_typer(snapshots, name="snapshot")


@snapshots.command("inspect")
def inspect_snapshot(file: Annotated[Path, typer.Argument(metavar="FILE", help="snapshot")]) -> None:
    """Show what a snapshot says of itself, and a table of its entries."""
    from streamil.snapshot.show import inspect

    for line in inspect(file):
        typer.echo(line)


@snapshots.command("verify")
def verify_snapshots(files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="snapshots")]) -> None:
    """Say of each file whether it is a whole snapshot; exit 1 when one is not."""
    from streamil.snapshot.show import verify

    whole = True
    for good, line in verify(files):
        typer.echo(line)
        whole &= good
    if not whole:
        raise typer.Exit(1)
