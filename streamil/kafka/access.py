"""How a client comes in: kafka-python's settings for TLS and login, and what it means when a broker refuses us."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

from streamil.errors import ExperimentError
from streamil.experiment import Kafka
from streamil.experiment.kafka import KEY_PASSWORD, PASSWORD, Tls

SECRET_BYTES = 4096
"""More than any password has."""


class Refusal(NamedTuple):
    """Why somebody who answers is no use to us: what the library says, what that means, and the way out."""

    sign: str
    meaning: str
    way_out: str

    def told(self, who: str = "") -> str:
        """Return meaning and way out in one line."""
        return f"{self.meaning}{who}: {self.way_out}"


REFUSED_LOGIN = Refusal(
    r"SaslAuthenticationFailed|Invalid server (signature|nonce)", "the broker refuses the user or the password",
    f"correct kafka.login: username, password_file or {PASSWORD}")

# The first one that fits a line counts.
REFUSALS = (
    Refusal(r"UnsupportedSaslMechanism|is not one of the enabled|enabled mechanisms",
            "the broker takes no login by this mechanism", "correct kafka.login.mechanism"),
    Refusal(r"IllegalSaslState", "the broker wants no login on this port",
            "leave kafka.login out, or take another port"),
    REFUSED_LOGIN,
    Refusal(r"Hostname mismatch|IP address mismatch", "the broker's certificate is for another address",
            "use the address it is for in kafka.bootstrap_servers"),
    Refusal(r"certificate has expired|not yet valid", "the broker's certificate is not valid today",
            "renew it, or set this machine's clock"),
    Refusal(r"CERTIFICATE_VERIFY_FAILED", "nobody we trust vouches for the broker's certificate",
            "name the certificate of who does in kafka.tls.ca_file"),
    Refusal(r"CERTIFICATE_REQUIRED|ALERT_HANDSHAKE_FAILURE|ALERT_BAD_CERTIFICATE|ALERT_UNKNOWN_CA|ALERT_CERTIFICATE",
            "the broker wants a certificate of ours that it trusts", "name one in kafka.tls.certificate_file"),
    Refusal(r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE", "the broker speaks no TLS on this port",
            "leave kafka.tls out, or take another port"),
    # the first four bytes of an alert that TLS sends to those who do not speak it
    Refusal(r"Invalid frame length: 35251(8400|8656|8912)$", "the broker wants TLS on this port",
            "set kafka.tls, `tls: {}` for a certificate that the system trusts"),
)


def refusal(lines: Sequence[str]) -> Refusal | None:
    """Return what the newest telling line means; None: none of them tells of a refusal."""
    return next((one for line in reversed(lines) for one in REFUSALS if re.search(one.sign, line)), None)


def hear_out(transport: type[Any]) -> None:
    """Let a transport hand on what came with the end of a connection: in it stands why the broker ended it.

    kafka-python 3.0 drops it. The end comes again with the next call.
    """
    receive = transport._sock_recv

    def receive_first(self: Any) -> tuple[bytes, Exception | None]:
        received, ended = receive(self)
        return received, None if received else ended

    transport._sock_recv = receive_first


for _transport in (KafkaTCPTransport, KafkaSSLTransport):
    hear_out(_transport)


def access(kafka: Kafka) -> dict[str, Any]:
    """Return kafka-python's settings for TLS and login.

    Raises
    ------
    ExperimentError
        For a file that cannot be read, or is not what it should be, and for a password that is nowhere.
    """
    login, tls = kafka.login, kafka.tls
    settings: dict[str, Any] = {
        "security_protocol": f"{'SASL_' if login else ''}{'SSL' if tls else 'PLAINTEXT'}"}
    if tls is not None:
        settings["ssl_context"] = tls_context(tls)
    if login is not None:
        password = secret("kafka.login.password_file", login.password_file, PASSWORD)
        if password is None:
            raise ExperimentError(f"kafka.login: no password: name a file in password_file, or set {PASSWORD}")
        settings |= {"sasl_mechanism": login.mechanism, "sasl_plain_username": login.username,
                     "sasl_plain_password": password}
    return settings


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Return the context of an encrypted connection; raise as `access`."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ExperimentError(f"kafka.tls.ca_file: {tls.ca_file}: {_told(error)}") from None
    context.check_hostname = tls.check_hostname
    if tls.certificate_file is not None:
        password = secret("kafka.tls.key_password_file", tls.key_password_file, KEY_PASSWORD)
        # without a password of ours OpenSSL would ask the terminal for one
        try:
            context.load_cert_chain(tls.certificate_file, tls.key_file, password or _no_key_password)
        except (OSError, ssl.SSLError) as error:
            files = " and ".join(str(file) for file in (tls.certificate_file, tls.key_file) if file)
            raise ExperimentError(f"kafka.tls: {files}: {_told(error)}") from None
    return context


def secret(key: str, file: Path | None, variable: str) -> str | None:
    """Return a secret from its file or, where none is named, the environment; None: it is nowhere.

    One line break at the end of a file is no part of it. No error repeats what was read.
    """
    if file is None:
        found, where = os.environ.get(variable), variable
    else:
        where = f"{key}: {file}"
        try:
            with file.open("rb") as opened:
                read = opened.read(SECRET_BYTES + 1)
            found = read.decode().removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise ExperimentError(f"{where}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ExperimentError(f"{where}: is not UTF-8 text") from None
    if found is not None and (not found or len(found) > SECRET_BYTES or "\0" in found):
        raise ExperimentError(f"{where}: holds no password: it is empty, longer than {SECRET_BYTES} bytes, or binary")
    return found or None


def _no_key_password() -> str:
    raise ExperimentError(f"kafka.tls: the private key is encrypted: name a file with its password in "
                          f"key_password_file, or set {KEY_PASSWORD}")


def _told(error: OSError) -> str:
    """Return what is wrong with a file of certificates, in words."""
    if not isinstance(error, ssl.SSLError):
        return error.strerror or str(error)
    known = {"NO_CERTIFICATE_OR_CRL_FOUND": "holds no certificate (PEM)", "NO_START_LINE": "holds no PEM text",
             "KEY_VALUES_MISMATCH": "the key is not the certificate's"}
    return known.get(error.reason or "", "no PEM that can be read, or another password than the key's")
