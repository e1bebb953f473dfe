"""Where the broker is, and how a client comes in: address, TLS, login."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from streamil.credentials import KEY_PASSWORD, PASSWORD
from streamil.experiment.credentials import SecretFile, no_secrets
from streamil.experiment.model import Model


class Login(Model):
    """Who we are to the broker (SASL)."""

    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512", description="PLAIN shows the password to whoever listens, unless `tls` is there")
    username: str = Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f]+$")
    password_file: SecretFile | None = Field(None, description=f"null: the environment's {PASSWORD}")

    _safe = model_validator(mode="before")(no_secrets)


class Tls(Model):
    """An encrypted connection; `tls: {}` trusts what the system trusts."""

    ca_file: SecretFile | None = Field(
        None, description="certificates (PEM) that may vouch for the broker; null: the system's")
    check_hostname: bool = Field(True, description="whether the broker's certificate has to be for its address")
    certificate_file: SecretFile | None = Field(
        None, description="our own certificate (PEM), where the broker wants one")
    key_file: SecretFile | None = Field(None, description="its private key; null: it stands in certificate_file")
    key_password_file: SecretFile | None = Field(
        None, description=f"what the key is encrypted with; null: the environment's {KEY_PASSWORD}, if at all")

    _safe = model_validator(mode="before")(no_secrets)

    @model_validator(mode="after")
    def _key_has_certificate(self) -> Tls:
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError("key_file is the key of a certificate_file, and none is named")
        return self


class Kafka(Model):
    """Where the broker is."""

    bootstrap_servers: str = "127.0.0.1:9092"
    start: Literal["earliest", "latest"] = Field("earliest", description="where a consumer without a position starts")
    fetch_bytes: int = Field(1 << 20, ge=1 << 10, le=1 << 30, description="of records that a consumer asks for at a "
                             "time: while these are learned the next ones come; a larger record comes alone")
    tls: Tls | None = Field(None, description="null: not encrypted")
    login: Login | None = Field(None, description="null: none")

    _safe = model_validator(mode="before")(no_secrets)
