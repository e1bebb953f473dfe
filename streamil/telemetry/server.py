"""A small HTTP server: metrics, health, status and the live page with its charts, on loopback unless told."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from importlib.resources import files
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.registry import Collector

from streamil.charts import charts_fragment, charts_script, plotly_script, style
from streamil.errors import ExperimentError, TelemetryError
from streamil.experiment.http import host_and_port
from streamil.telemetry import exposition
from streamil.telemetry.access import OPEN, Access
from streamil.telemetry.listener import Listener
from streamil.telemetry.sparing import Sparing

SCRIPT_SECONDS = 3600
"""How long a browser may keep plotly's script, which changes with its package alone."""
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:"
"""What the page may load: nothing from elsewhere. Plotly writes styles into the page."""

_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", re.IGNORECASE)


def _own(name: str) -> bytes:
    return files(__package__).joinpath(name).read_bytes()


def _page() -> bytes:
    return _own("page.html").replace(b"<!-- charts -->", charts_fragment().encode())


PARTS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "/": ("text/html", _page), "/page.js": ("text/javascript", lambda: _own("page.js")),
    "/charts.js": ("text/javascript", charts_script), "/style.css": ("text/css", style),
    "/plotly.js": ("text/javascript", plotly_script)}
"""What the page is made of: kind and content by path."""


class Server:
    """Serves what a process has to tell while it runs.

    Parameters
    ----------
    address
        `host:port`; port 0 takes a free one.
    metrics
        What `/metrics` shows.
    status
        Returns what `/status.json` and the page show: plain values.
    ready
        Whether `/readyz` answers 200.
    pictures
        Returns what `/pictures.json` and the page's charts show; None: there is no page.
    access
        How it is protected; None: not at all.

    Raises
    ------
    TelemetryError
        When the address is taken or not of this machine.
    ExperimentError
        When it is none.
    """

    def __init__(self, address: str, metrics: Collector, status: Callable[[], dict[str, Any]],
                 ready: Callable[[], bool] = lambda: True, pictures: Callable[[], dict[str, Any]] | None = None,
                 access: Access | None = None) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(metrics)
        ProcessCollector(registry=self._registry)
        self._exposed = Sparing(lambda: exposition.encode(self._registry.collect()))
        self._ready, self._access, self._page = ready, access or Access(), pictures is not None
        told = {"/status.json": status} | ({"/pictures.json": pictures} if pictures else {})
        self._told = {path: Sparing(partial(_json, make)) for path, make in told.items()}
        try:
            place = host_and_port(address)
        except ValueError as error:
            raise ExperimentError(f"--metrics: found {address!r}; allowed: {error}") from None
        try:
            self._listener = Listener(place, self._access.tls)
        except OSError as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise TelemetryError(
                f"metrics cannot be served at {address}: {reason}; another address: --metrics HOST:PORT") from None
        self._listener.set_app(self._answer)
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.1,), name="telemetry", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it really listens."""
        host, port = self._listener.server_address[:2]
        return f"{'https' if self._access.tls else 'http'}://{f'[{host!s}]' if ':' in str(host) else host!s}:{port}"

    def close(self) -> None:
        """Stop listening."""
        self._listener.shutdown()
        self._listener.server_close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", "/"), environ["REQUEST_METHOD"]
        admitted = self._access.admits(path, environ.get("HTTP_AUTHORIZATION", ""))
        status, kind, body, more = "200 OK", "text/plain; charset=utf-8", b"ok\n", []
        zipped = bool(_GZIP.search(environ.get("HTTP_ACCEPT_ENCODING", "")))
        keep = "no-store"
        if not admitted:
            status, body = "401 Unauthorized", b"a token is wanted: as bearer, or as password of any user\n"
            more = [("WWW-Authenticate", 'Basic realm="streamil", charset="UTF-8"'), ("WWW-Authenticate", "Bearer")]
        elif method not in ("GET", "HEAD"):
            status, body, more = "405 Method Not Allowed", b"nothing here can be changed\n", [("Allow", "GET, HEAD")]
        elif path in PARTS and self._page:
            kind, body = f"{PARTS[path][0]}; charset=utf-8", _part(path, zipped)
            more = [("Content-Security-Policy", POLICY), ("Vary", "Accept-Encoding"),
                    *([("Content-Encoding", "gzip")] if zipped else [])]
            keep = f"max-age={SCRIPT_SECONDS}" if path == "/plotly.js" else keep
        elif path == "/metrics":
            kind, body = exposition.KIND, self._exposed()
        elif path in self._told:
            kind, body = "application/json", self._told[path]()
        elif path == "/readyz" and not self._ready():
            status, body = "503 Service Unavailable", b"not ready\n"
        elif path not in OPEN:
            here = " ".join([*(["/"] if self._page else []), "/metrics", *self._told, *OPEN])
            status, body = "404 Not Found", f"here are {here}\n".encode()
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", keep),
                                ("X-Content-Type-Options", "nosniff"), *more])
        return [body] if method != "HEAD" else []


def _json(make: Callable[[], dict[str, Any]]) -> bytes:
    return json.dumps(make(), allow_nan=False).encode("utf-8", "replace")


@lru_cache
def _part(path: str, zipped: bool) -> bytes:
    """Return a part of the page: files of the package, read and compressed once."""
    content = PARTS[path][1]()
    return gzip.compress(content) if zipped else content
