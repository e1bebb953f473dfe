"""Asks a running process how it stands."""

from __future__ import annotations

import json
import ssl
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError

from streamil.credentials import TOKEN, told
from streamil.errors import TelemetryError

ANSWER_BYTES = 1 << 22
"""More than any status has."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token is for who was asked, and for nobody that it names."""

    def redirect_request(self, *args: Any) -> None:
        """Follow nothing."""


class Ask(NamedTuple):
    """How to ask the process at `url`.

    Attributes
    ----------
    url
        `http://` or `https://`, host and port.
    token
        The token that it wants; None: none.
    ca_file
        Certificates (PEM) that may vouch for it; None: the system's.
    timeout
        Seconds to wait.
    """

    url: str
    token: str | None = None
    ca_file: Path | None = None
    timeout: float = 2.0

    def status(self) -> dict[str, Any] | None:
        """Return what the process says of itself, or None while nobody answers; raise `TelemetryError` if refused."""
        return self._get("/status.json")

    def pictures(self) -> dict[str, Any] | None:
        """Return what its charts show, or None while nobody answers, or where there are none; raise as `status`."""
        return self._get("/pictures.json")

    def _get(self, path: str) -> dict[str, Any] | None:
        request = urllib.request.Request(f"{self.url}{path}")
        if self.token is not None:
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        handlers: list[Any] = [urllib.request.ProxyHandler({}), _NoRedirect]
        if self.url.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=self._context()))
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=self.timeout) as answer:
                found: dict[str, Any] = json.loads(answer.read(ANSWER_BYTES))
                return found
        except HTTPError as error:
            if error.code == 401:
                raise TelemetryError(f"{self.url} wants {'another' if self.token else 'a'} token: name its file with "
                                     f"--token-file, or set {TOKEN}") from None
            return None
        except (OSError, ValueError, HTTPException) as error:
            reason = getattr(error, "reason", None)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise TelemetryError(f"{self.url}: its certificate is not one we trust ({reason.verify_message}): name "
                                     "who vouches for it with --ca-file") from None
            return None

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise TelemetryError(f"{self.ca_file}: {told(error)}") from None


def fetch_status(url: str, timeout: float = 2.0) -> dict[str, Any] | None:
    """Return what the process at `url` says of itself, or None while nobody answers."""
    return Ask(url, timeout=timeout).status()


def fetch_pictures(url: str, timeout: float = 2.0) -> dict[str, Any] | None:
    """Return what the charts of the process at `url` show, or None while nobody answers, or where there are none."""
    return Ask(url, timeout=timeout).pictures()
