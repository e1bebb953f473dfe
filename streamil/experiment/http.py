"""Who may ask a process for its metrics and page, and how."""

from __future__ import annotations

from pydantic import Field, model_validator

from streamil.credentials import TOKEN
from streamil.experiment.credentials import SecretFile, no_secrets
from streamil.experiment.model import Model


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
