"""The command that looks at a process that runs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from streamil.cli.app import app, stopping
from streamil.cli.log import report
from streamil.errors import TelemetryError

RENEW_SECONDS = 1.0


@app.command()
def status(
    url: Annotated[str, typer.Argument(metavar="[URL]", help="address of its metrics and page")] = "127.0.0.1:9108",
    as_json: Annotated[bool, typer.Option("--json", help="as /status.json has it")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="go on showing it, with curves, until Ctrl-C")] = False,
) -> None:
    """Show how a running consumer, or producer, stands."""
    from streamil.report.lines import status_lines
    from streamil.telemetry.server import fetch_status

    address = (url if "://" in url else f"http://{url}").rstrip("/")
    found = fetch_status(address) if address.startswith(("http://", "https://")) else None
    if found is None:
        raise TelemetryError(f"no streamil answers at {address}: name the address that it said at its start "
                             "(service.metrics, or --metrics)")
    if as_json:
        typer.echo(json.dumps(found))
        return
    try:
        lines = list(status_lines(found))
        if watch and "arms" in found:
            _watch(address)
            return
    except (KeyError, TypeError, ValueError):
        raise TelemetryError(f"{address}: what answers there is no streamil of this version") from None
    for line in lines:
        report(line)


def _watch(address: str) -> None:
    """Show a race until Ctrl-C, or until nobody answers any more."""
    from streamil.live_view import live_race
    from streamil.telemetry.server import fetch_pictures, fetch_status

    with stopping() as stop, live_race() as show:
        while not stop.is_set() and (found := fetch_status(address)) is not None:
            show(found, fetch_pictures(address))
            stop.wait(RENEW_SECONDS)
