"""What proves who somebody is: secrets and certificates, from files of their own or the environment."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

from streamil.errors import ExperimentError

PASSWORD = "STREAMIL_KAFKA_PASSWORD"
"""Environment variable with the password, where no file is named."""
KEY_PASSWORD = "STREAMIL_KAFKA_KEY_PASSWORD"
"""Environment variable with the password of `key_file`, where no file is named."""
TOKEN = "STREAMIL_HTTP_TOKEN"
"""Environment variable with the token of metrics and page, where no file is named."""
SECRET_BYTES = 4096
"""More than any password has."""


def secret(key: str, file: Path | None, variable: str) -> str | None:
    """Return a secret from its file or, where none is named, the environment; None: it is nowhere.

    One line break at the end of a file is no part of it. No error repeats what was read.

    Parameters
    ----------
    key
        Key of the experiment file that names `file`.
    file
        Where the secret stands, alone; None: in the environment, if anywhere.
    variable
        Its name there.

    Raises
    ------
    ExperimentError
        For a file that cannot be read, and for what no secret is.
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
        raise ExperimentError(f"{where}: holds no secret: it is empty, longer than {SECRET_BYTES} bytes, or binary")
    return found or None


def load_certificate(context: ssl.SSLContext, key: str, certificate: Path, private: Path | None,
                     password: str | Callable[[], str]) -> None:
    """Let a context show this certificate; `password` opens the private key, or raises why nothing does.

    Raises
    ------
    ExperimentError
        Under the file's `key`, for files that cannot be read or do not belong together.
    """
    try:  # without a password of ours OpenSSL would ask the terminal for one
        context.load_cert_chain(certificate, private, password)
    except (OSError, ssl.SSLError) as error:
        files = " and ".join(str(file) for file in (certificate, private) if file)
        raise ExperimentError(f"{key}: {files}: {told(error)}") from None


def told(error: OSError) -> str:
    """Return what is wrong with a file of certificates, in words."""
    if not isinstance(error, ssl.SSLError):
        return error.strerror or str(error)
    known = {"NO_CERTIFICATE_OR_CRL_FOUND": "holds no certificate (PEM)", "NO_START_LINE": "holds no PEM text",
             "KEY_VALUES_MISMATCH": "the key is not the certificate's"}
    return known.get(error.reason or "", "no PEM that can be read, or another password than the key's")
