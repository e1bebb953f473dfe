"""How a client comes in: kafka-python's settings for TLS and login, and what it means when a broker refuses us."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from typing import Any, NamedTuple

from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

from streamil.credentials import KEY_PASSWORD, PASSWORD, load_certificate, secret, told
from streamil.errors import ExperimentError
from streamil.experiment import Kafka
from streamil.experiment.kafka import Tls


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
        raise ExperimentError(f"kafka.tls.ca_file: {tls.ca_file}: {told(error)}") from None
    context.check_hostname = tls.check_hostname
    if tls.certificate_file is not None:
        password = secret("kafka.tls.key_password_file", tls.key_password_file, KEY_PASSWORD)
        load_certificate(context, "kafka.tls", tls.certificate_file, tls.key_file, password or _no_key_password)
    return context


def _no_key_password() -> str:
    raise ExperimentError(f"kafka.tls: the private key is encrypted: name a file with its password in "
                          f"key_password_file, or set {KEY_PASSWORD}")
