"""Explains in plain words why a connection failed. For example, nothing listens at the port, the
server speaks another protocol, or a certificate is wrong. The error texts of gRPC are hard to
understand.
"""

from __future__ import annotations

import socket
import ssl

from session_authority.runtime.addresses import Listen

_PROBE_SECONDS = 2.0
_SPEAKS_TLS = "the server speaks TLS: give --tls, or its CA with --tls-ca"
_SPEAKS_PLAINTEXT = "the server speaks plaintext: leave --tls, --tls-ca and --tls-cert out"
_WANTS_CERTIFICATE = "the server wants a certificate: give --tls-cert and --tls-key"
_REFUSES_CERTIFICATE = "the server does not accept the certificate of --tls-cert"
# Each key is a part of gRPC's error text, and each value explains an error whose text has this
# part.
_REASONS = {
    "Connection refused": "nothing listens there: connection refused",
    "lookup failed": "there is no host of this name",
    "WRONG_VERSION_NUMBER": _SPEAKS_PLAINTEXT,
    "certificate has expired": "the server's certificate has ended",
    "CERTIFICATE_VERIFY_FAILED": (
        "no CA that is trusted here signed the server's certificate: give its CA with --tls-ca"
    ),
    "Hostname Verification Check failed": (
        "the server's certificate is for another name: give that name with --tls-server-name"
    ),
    "Expected SETTINGS frame": "the program that listens there is no gRPC server",
}
# gRPC's error text has one of these parts if the server closed the connection. For some mistakes of
# the caller, such as a missing certificate, the text says nothing more.
_HUNG_UP = ("Socket closed", "Connection reset", "Broken pipe", "CERTIFICATE_REQUIRED")


def why_unreachable(
    address: Listen, details: str, *, tls: bool = False, with_certificate: bool = False
) -> str:
    """Returns the reason why a call to the address failed, according to `details`, the error text
    of gRPC. If `details` only says that the server closed the connection, this function tries a TLS
    handshake to find the reason. Returns `details` if this module knows no reason for it.
    """
    for part, reason in _REASONS.items():
        if part in details:
            return reason
    if any(part in details for part in _HUNG_UP) and _speaks_tls(address):
        if not tls:
            return _SPEAKS_TLS
        return _REFUSES_CERTIFICATE if with_certificate else _WANTS_CERTIFICATE
    return details


def _speaks_tls(address: Listen) -> bool:
    """Returns True if a TLS handshake with the address succeeds. The certificate is not verified,
    because this function sends no data of a call.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((address.host, address.port), _PROBE_SECONDS) as connection,
            context.wrap_socket(connection),
        ):
            return True
    except (OSError, ValueError):
        return False
