"""Who may ask a process for its metrics and page, and how."""

from __future__ import annotations

from pydantic import Field, model_validator

from streamil.credentials import TOKEN
from streamil.experiment.credentials import SecretFile, no_secrets
from streamil.experiment.model import Model


def host_and_port(address: str) -> tuple[str, int]:
    """Return the two parts of an address to listen at; raise ValueError where it has not both.

    Examples
    --------
    >>> host_and_port("127.0.0.1:9108"), host_and_port("[::1]:0")
    (('127.0.0.1', 9108), ('::1', 0))
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("host:port, for example 127.0.0.1:9108")
    return host.strip("[]"), int(port)


class HttpTls(Model):
    """HTTPS instead of HTTP."""

    certificate_file: SecretFile = Field(description="the certificate that is shown (PEM)")
    key_file: SecretFile | None = Field(None, description="its private key; null: it stands in certificate_file")
    client_ca_file: SecretFile | None = Field(
        None, description="certificates (PEM) that have to vouch for who asks; null: nobody has to")


class Http(Model):
    """Who may ask for metrics and page; of consumer, judge and producer."""

    tls: HttpTls | None = Field(None, description="null: not encrypted")
    token_file: SecretFile | None = Field(
        None, description="the token (bearer, or password of any user) that everything but /livez and /readyz wants; "
                          f"null: the environment's {TOKEN}, and where there is none, nothing is wanted")

    _safe = model_validator(mode="before")(no_secrets)
