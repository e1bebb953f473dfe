"""The command that looks at a process that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamil.cli.app import app, stopping
from streamil.cli.log import report
from streamil.credentials import TOKEN, secret
from streamil.errors import TelemetryError

if TYPE_CHECKING:
    from streamil.telemetry.client import Ask


RENEW_SECONDS = 1.0


@app.command()
def status(
    url: Annotated[str, typer.Argument(metavar="[URL]", help="address of its metrics and page")] = "127.0.0.1:9108",
    as_json: Annotated[bool, typer.Option("--json", help="as /status.json has it")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="go on showing it, with curves, until Ctrl-C")] = False,
    token_file: Annotated[Path | None, typer.Option(
        metavar="FILE", help=f"file with the token it wants; default: the environment's {TOKEN}")] = None,
    ca_file: Annotated[Path | None, typer.Option(
        metavar="FILE", help="certificates (PEM) that may vouch for it; default: the system's")] = None,
) -> None:
    """Show how a running consumer, or producer, stands."""
    from streamil.report.lines import status_lines
    from streamil.telemetry.client import Ask

    address = (url if "://" in url else f"http://{url}").rstrip("/")
    ask = Ask(address, secret("--token-file", token_file, TOKEN), ca_file)
    found = ask.status() if address.startswith(("http://", "https://")) else None
    if found is None:
        raise TelemetryError(f"no streamil answers at {address}: name the address that it said at its start "
                             "(service.metrics, or --metrics)")
    if as_json:
        typer.echo(json.dumps(found))
        return
    try:
        lines = list(status_lines(found))
        if watch and "arms" in found:
            _watch(ask)
            return
    except (KeyError, TypeError, ValueError):
        raise TelemetryError(f"{address}: what answers there is no streamil of this version") from None
    for line in lines:
        report(line)


def _watch(ask: Ask) -> None:
    """Show a race until Ctrl-C, or until nobody answers any more."""
    from streamil.live_view import live_race

    with stopping() as stop, live_race() as show:
        while not stop.is_set() and (found := ask.status()) is not None:
            show(found, ask.pictures())
            stop.wait(RENEW_SECONDS)
