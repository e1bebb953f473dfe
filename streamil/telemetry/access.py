"""Who may ask: the certificate and the token that a process wants or shows."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import ssl
from typing import NamedTuple

from streamil.credentials import TOKEN, load_certificate, secret, told
from streamil.errors import ExperimentError
from streamil.experiment.http import Http, HttpTls

OPEN = ("/livez", "/readyz")
"""What answers without a token: whoever restarts a process has none, and learns nothing else."""


class Access(NamedTuple):
    """How metrics and page are protected.

    Attributes
    ----------
    tls
        How connections are encrypted; None: not at all.
    token
        What a request has to bring; None: nothing.
    """

    tls: ssl.SSLContext | None = None
    token: str | None = None

    @classmethod
    def of(cls, http: Http) -> Access:
        """Read the files that an experiment names; raise `ExperimentError` for one that cannot be used."""
        token = secret("service.http.token_file", http.token_file, TOKEN)
        if token is not None and not re.fullmatch(r"[!-~]+", token):
            raise ExperimentError("service.http: the token may hold letters, digits and signs of ASCII, and no spaces: "
                                  "it travels in a header")
        return cls(_context(http.tls) if http.tls else None, token)

    def admits(self, path: str, authorization: str) -> bool:
        """Return whether a request with this Authorization header may have what is at the path."""
        if self.token is None or path in OPEN:
            return True
        kind, _, shown = authorization.partition(" ")
        if kind.lower() == "basic":  # browsers ask their user for a name and a password: the token is the password
            try:
                shown = base64.b64decode(shown, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif kind.lower() != "bearer":
            return False
        return hmac.compare_digest(shown.strip().encode("utf-8", "replace"), self.token.encode())


def _context(tls: HttpTls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, "service.http.tls", tls.certificate_file, tls.key_file, _no_password)
    if tls.client_ca_file is not None:
        try:
            context.load_verify_locations(tls.client_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ExperimentError(f"service.http.tls.client_ca_file: {tls.client_ca_file}: {told(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> str:
    raise ExperimentError("service.http.tls: the private key is encrypted: name one that is not, in a file that "
                          "nobody else can read")
