"""Reads an app's credentials for the service from environment variables. So the same code of an app
runs against `session-authority dev` and against a service in production.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypedDict

from session_authority_client._shared.transport import Tls

__all__ = ["Credentials", "credentials_from_environment"]

_CERTIFICATE = re.compile(
    rb"-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----.+?-----END (X509 |TRUSTED )?CERTIFICATE-----",
    re.DOTALL,
)
_KEY = re.compile(
    rb"-----BEGIN ([A-Z]+ )*PRIVATE KEY-----.+?-----END ([A-Z]+ )*PRIVATE KEY-----", re.DOTALL
)


class Credentials(TypedDict):
    """A dict with the credentials of a client. Pass the items of the dict to the constructor of the
    client as keyword arguments.
    """

    tls: Tls | None
    token: Callable[[], str] | None


def credentials_from_environment(environment: Mapping[str, str] = os.environ) -> Credentials:
    """Reads the credentials from files that environment variables name. AUTHORITY_CA names a PEM
    file with the certificates of the service's CA. AUTHORITY_CERT names a PEM file with this
    caller's certificate, and AUTHORITY_KEY names a PEM file with the private key of this
    certificate. AUTHORITY_TOKEN_FILE names the file with this caller's bearer token. The client
    reads the token file again for each call, so the token may change.

    If no variable names a PEM file, the connection is plaintext, as `session-authority dev`
    requires.

    Raises ValueError if only one of AUTHORITY_CERT and AUTHORITY_KEY is set. Raises ValueError if a
    PEM file lacks its certificate or key, or if the token is not ASCII. Raises OSError if a file
    can't be read. If the token file can't be read at a later call, or is empty, that call raises
    Unavailable.
    """

    def path(name: str) -> Path | None:
        value = environment.get(f"AUTHORITY_{name}")
        return Path(value) if value else None

    ca, certificate, key, token = map(path, ("CA", "CERT", "KEY", "TOKEN_FILE"))
    if (certificate is None) != (key is None):
        raise ValueError("AUTHORITY_CERT and AUTHORITY_KEY: set both or neither")
    if token is not None:
        _token(token)  # a missing file raises OSError at once
    pem = (
        _pem("AUTHORITY_CA", ca, _CERTIFICATE, "certificates"),
        _pem("AUTHORITY_CERT", certificate, _CERTIFICATE, "certificates"),
        _pem("AUTHORITY_KEY", key, _KEY, "private key"),
    )
    return Credentials(
        tls=None if pem == (None, None, None) else Tls(*pem),
        token=None if token is None else lambda: _token(token),
    )


def _pem(name: str, file: Path | None, form: re.Pattern[bytes], kind: str) -> bytes | None:
    """Returns the contents of a file, or None if `file` is None. Raises ValueError if the file
    contains no PEM data of the expected kind. If the client used a file without PEM data, the
    connection would be plaintext, or would trust CAs that are not in the file.
    """
    if file is None:
        return None
    held = file.read_bytes()
    if not form.search(held):
        raise ValueError(f"{name}: {file} holds no {kind} in PEM form")
    return held


def _token(file: Path) -> str:
    return file.read_text("ascii").strip()
