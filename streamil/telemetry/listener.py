"""What accepts HTTP connections: so many at once, so many a second, each for so long; by TLS where told."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

CLIENTS_LIMIT = 32
"""Requests served at once; a flood beyond is closed unanswered, so that it costs no threads."""
RATE, BURST = 20, 60
"""Requests a second, and in a row; who comes sooner waits. This bounds what answering costs learning."""
CLIENT_SECONDS = 5
"""A client that sends or takes nothing for so long is dropped."""
REQUEST_SECONDS = 30
"""A request that is not answered by then is dropped: a client that sends a byte now and then is never silent."""


class Listener(ThreadingMixIn, WSGIServer):
    """A WSGI server whose requests cannot pile up.

    Parameters
    ----------
    address
        Host and port; port 0 takes a free one.
    tls
        How connections are encrypted; None: not at all.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = CLIENTS_LIMIT

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._free = threading.BoundedSemaphore(CLIENTS_LIMIT)
        self._budget, self._counted = float(BURST), time.monotonic()
        self._since: dict[socket.socket, float] = {}
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind, without looking up the host's name as WSGIServer does: that may ask a name server and wait for it."""
        TCPServer.server_bind(self)  # and takes a port that a killed process has left a moment ago
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; what TLS has to agree on is read with the request, in its own thread."""
        request, client = super().get_request()
        if self._tls is not None:
            request = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        return request, client

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, or close it where there is no room."""
        self._pace()
        if self._free.acquire(blocking=False):
            self._since[request] = time.monotonic()
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def _pace(self) -> None:
        """Wait until one more request is within the rate; the next ones wait in the system's queue meanwhile."""
        now = time.monotonic()
        self._budget = min(BURST, self._budget + (now - self._counted) * RATE) - 1
        self._counted = now
        if self._budget < 0:
            time.sleep(-self._budget / RATE)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Make room again at the end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._since.pop(request, None)
            self._free.release()

    def service_actions(self) -> None:
        """End what takes too long; called several times a second."""
        for request, since in tuple(self._since.items()):
            if time.monotonic() - since > REQUEST_SECONDS:
                self._since.pop(request, None)
                try:
                    socket.socket.shutdown(request, socket.SHUT_RDWR)  # its thread reads an end, and ends
                except OSError:
                    continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or sent nonsense is no event of ours."""


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: scrapes come every few seconds."""
