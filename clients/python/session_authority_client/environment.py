"""Reads an app's own credentials from environment variables, so that the same code runs against
`session-authority dev` and against a service in production.
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
    """The arguments of a client that hold its credentials."""

    tls: Tls | None
    token: Callable[[], str] | None


def credentials_from_environment(environment: Mapping[str, str] = os.environ) -> Credentials:
    """Reads the credentials from files that environment variables name. AUTHORITY_CA names the file
    with the CA of the service. AUTHORITY_CERT and AUTHORITY_KEY name the files with this caller's
    certificate and its key. These three files are PEM. AUTHORITY_TOKEN_FILE names the file with
    this caller's bearer token. This file is read again for each call, so that the token may change.

    If no PEM file is named, the connection is plaintext, as `session-authority dev` needs it.

    Raises ValueError if a certificate has no key, if a key has no certificate, or if a file has the
    wrong contents. Raises OSError if a file can't be read. If the token can't be read at a later
    call, or is empty, the call raises Unavailable.
    """

    def path(name: str) -> Path | None:
        value = environment.get(f"AUTHORITY_{name}")
        return Path(value) if value else None

    ca, certificate, key, token = map(path, ("CA", "CERT", "KEY", "TOKEN_FILE"))
    if (certificate is None) != (key is None):
        raise ValueError("AUTHORITY_CERT and AUTHORITY_KEY: set both or neither")
    if token is not None:
        _token(token)  # a missing file raises at once
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
    """Returns the contents of a file, or None if no file is named. A file without PEM data of its
    kind is refused. Otherwise the connection would be plaintext, or would trust other CAs.
    """
    if file is None:
        return None
    held = file.read_bytes()
    if not form.search(held):
        raise ValueError(f"{name}: {file} holds no {kind} in PEM form")
    return held


def _token(file: Path) -> str:
    return file.read_text("ascii").strip()
