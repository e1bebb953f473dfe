"""A small HTTP server: metrics, health, status and the live page with its charts, on loopback unless told."""

from __future__ import annotations

import gzip
import json
import threading
import urllib.request
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.resources import files
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.registry import Collector

from streamil.charts import charts_fragment, charts_script, plotly_script, style
from streamil.errors import TelemetryError

CLIENTS_LIMIT = 32
"""Requests served at once; a flood beyond is closed unanswered, so that it costs no threads."""
CLIENT_SECONDS = 5
"""A client that sends nothing for so long is dropped."""
SCRIPT_SECONDS = 3600
"""How long a browser may keep plotly's script, which changes with its package alone."""
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:"
"""What the page may load: nothing from elsewhere. Plotly writes styles into the page."""


def _own(name: str) -> bytes:
    return files(__package__).joinpath(name).read_bytes()


def _page() -> bytes:
    return _own("page.html").replace(b"<!-- charts -->", charts_fragment().encode())


PARTS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "/": ("text/html", _page), "/page.js": ("text/javascript", lambda: _own("page.js")),
    "/charts.js": ("text/javascript", charts_script), "/style.css": ("text/css", style),
    "/plotly.js": ("text/javascript", plotly_script)}
"""What the page is made of: kind and content by path."""


class _Listener(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int]) -> None:
        self._free = threading.BoundedSemaphore(CLIENTS_LIMIT)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # WSGIServer's own method looks up the host's name, which may ask a name server and wait for it.
        TCPServer.server_bind(self)  # and takes a port that a killed process has left a moment ago
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or sent nonsense is no event of ours."""


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: scrapes come every few seconds."""


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

    Raises
    ------
    TelemetryError
        When the address is taken or not of this machine.
    """

    def __init__(self, address: str, metrics: Collector, status: Callable[[], dict[str, Any]],
                 ready: Callable[[], bool] = lambda: True, pictures: Callable[[], dict[str, Any]] | None = None,
                 ) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(metrics)
        self._metrics = make_wsgi_app(registry)
        self._status, self._ready, self._pictures = status, ready, pictures
        host, _, port = address.rpartition(":")
        try:
            self._listener = _Listener((host.strip("[]"), int(port)))
        except (OSError, OverflowError) as error:
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
        return f"http://{host!s}:{port}"

    def close(self) -> None:
        """Stop listening."""
        self._listener.shutdown()
        self._listener.server_close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            families: Iterable[bytes] = self._metrics(environ, start_response)
            return families
        status, kind, body, more = "200 OK", "text/plain; charset=utf-8", b"ok\n", []
        told = {"/status.json": self._status} | ({"/pictures.json": self._pictures} if self._pictures else {})
        zipped = "gzip" in environ.get("HTTP_ACCEPT_ENCODING", "")
        keep = "no-store"
        if path in PARTS and self._pictures:
            kind, body = f"{PARTS[path][0]}; charset=utf-8", _part(path, zipped)
            more = [("Content-Security-Policy", POLICY), *([("Content-Encoding", "gzip")] if zipped else [])]
            keep = f"max-age={SCRIPT_SECONDS}" if path == "/plotly.js" else keep
        elif path in told:
            kind, body = "application/json", json.dumps(told[path](), allow_nan=False).encode("utf-8", "replace")
        elif path == "/readyz" and not self._ready():
            status, body = "503 Service Unavailable", b"not ready\n"
        elif path not in ("/livez", "/readyz"):
            here = " ".join([*(["/"] if self._pictures else []), "/metrics", *told, "/livez", "/readyz"])
            status, body = "404 Not Found", f"here are {here}\n".encode()
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", keep),
                                ("X-Content-Type-Options", "nosniff"), *more])
        return [body]


@lru_cache
def _part(path: str, zipped: bool) -> bytes:
    """Return a part of the page: files of the package, read and compressed once."""
    content = PARTS[path][1]()
    return gzip.compress(content) if zipped else content


def fetch_status(url: str, timeout: float = 2.0) -> dict[str, Any] | None:
    """Return what a running process says of itself, or None while nobody answers at `url`."""
    return _fetch(f"{url}/status.json", timeout)


def fetch_pictures(url: str, timeout: float = 2.0) -> dict[str, Any] | None:
    """Return what the charts of a running process show, or None while nobody answers, or where there are none."""
    return _fetch(f"{url}/pictures.json", timeout)


def _fetch(url: str, timeout: float) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            found: dict[str, Any] = json.loads(answer.read(1 << 22))
            return found
    except (OSError, ValueError):
        return None
