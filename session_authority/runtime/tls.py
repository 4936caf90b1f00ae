"""Reads the certificate of the service, the private key of the certificate, and the CA of callers
from files. The files are read again when they change.

All files are checked before they are used. For example, a private key that does not belong to the
certificate is reported as an error. Without the checks of this module, a wrong key would make the
TLS handshakes of all callers fail. If changed files are broken or incomplete, the old certificates
stay in use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurvePrivateKey,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from session_authority.runtime.files import Reread

MIN_RSA_BITS = 2048
# The elliptic curves that gRPC's clients accept. If a key has another curve, or is an Ed25519 key,
# the TLS handshake fails.
_CURVES = (SECP256R1, SECP384R1)


class CertificateError(Exception):
    """Certificates or a key can't be used. The message has a line for each fault, and never
    contains a key.
    """

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The paths of the TLS files. If `client_ca` is set, callers need a certificate that this CA
    signed.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Certificates:
    """The checked content of TLS files, in PEM form as the TLS library needs it. `ends_at` is the
    time when the first certificate of `chain` expires.
    """

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    ends_at: datetime


class TlsSource(Reread[Certificates]):
    """Reads certificates from files, and reads the files again when they change. While changed
    files are broken, the old certificates stay in use. The constructor and `refresh` raise
    CertificateError if the files are broken.
    """

    def __init__(self, files: TlsFiles, clock: Callable[[], datetime]) -> None:
        paths = [files.certificate, files.key, files.client_ca]
        super().__init__(paths, lambda: load_certificates(files, clock()), CertificateError)


def load_certificates(files: TlsFiles, now: datetime, *, for_server: bool = True) -> Certificates:
    """Reads and checks the TLS files of a server, or of a client if `for_server` is False. Raises
    CertificateError with all faults of the files.
    """
    reading = _Reading(now)
    chain, certificates = reading.chain(files.certificate, for_server)
    key = reading.key(files.key, certificates[0] if certificates else None)
    ca = None
    if files.client_ca is not None:
        ca = reading.cas(files.client_ca)
    if reading.faults:
        raise CertificateError(*reading.faults)
    return Certificates(chain, key, ca, certificates[0].not_valid_after_utc)


def load_cas(path: Path, now: datetime) -> bytes:
    """Reads a file of trusted CAs, and returns the content of the file, which is in PEM form.
    Raises CertificateError if the file can't be read, or has no valid CA.
    """
    reading = _Reading(now)
    pem = reading.cas(path)
    if reading.faults:
        raise CertificateError(*reading.faults)
    return pem


class _Reading:
    """Reads TLS files, and collects the faults of these files."""

    def __init__(self, now: datetime) -> None:
        self.faults: list[str] = []
        self._now = now

    def _broken(self, path: Path, fault: str) -> None:
        self.faults.append(f"{path}: {fault}")

    def _bytes(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except OSError as error:
            self._broken(path, f"can't be read: {error.strerror}")
            return None

    def _certificates(self, path: Path) -> tuple[bytes, list[x509.Certificate]]:
        pem = self._bytes(path)
        if pem is None:
            return b"", []
        try:
            return pem, x509.load_pem_x509_certificates(pem)
        except ValueError:
            self._broken(path, "holds no certificates in PEM form")
            return pem, []

    def chain(self, path: Path, for_server: bool) -> tuple[bytes, list[x509.Certificate]]:
        """Reads a file with a certificate chain. Returns the content of the file, which is in PEM
        form, and the certificates. The first certificate must be valid now. If `for_server` is
        True, the first certificate must also be allowed for servers.
        """
        pem, certificates = self._certificates(path)
        if certificates and (fault := self._fault_of(certificates[0])):
            self._broken(path, fault)
        if for_server and certificates and not _is_for_servers(certificates[0]):
            self._broken(
                path,
                "is not for servers: its extended key usage lacks serverAuth, and clients would"
                " hang up",
            )
        return pem, certificates

    def cas(self, path: Path) -> bytes:
        """Reads a file of CA certificates, and returns the content of the file, which is in PEM
        form. At least one of the certificates must be valid now, and at least one must be a CA.
        """
        pem, certificates = self._certificates(path)
        faults = [self._fault_of(certificate) for certificate in certificates]
        if faults and all(faults):
            self._broken(path, str(faults[0]))
        if certificates and not any(map(_is_ca, certificates)):
            self._broken(path, "holds no CA: none of its certificates may sign others")
        return pem

    def _fault_of(self, certificate: x509.Certificate) -> str | None:
        if self._now > certificate.not_valid_after_utc:
            return f"expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%SZ}"
        if self._now < certificate.not_valid_before_utc:
            return f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%SZ}"
        return None

    def key(self, path: Path, certificate: x509.Certificate | None) -> bytes:
        """Reads a file with a private key, and returns the content of the file, which is in PEM
        form. The key must not be encrypted. Only RSA keys of at least 2,048 bits and keys for the
        curves P-256 and P-384 are accepted. The key must belong to `certificate`, unless
        `certificate` is None.
        """
        pem = self._bytes(path)
        if pem is None:
            return b""
        try:
            key = load_pem_private_key(pem, password=None)
        # the text of these errors may quote the key
        except (ValueError, TypeError, UnsupportedAlgorithm):
            self._broken(path, "holds no private key in PEM form that is not encrypted")
            return pem
        if isinstance(key, RSAPrivateKey):
            if key.key_size < MIN_RSA_BITS:
                self._broken(
                    path, f"has {key.key_size} bits; an RSA key needs at least {MIN_RSA_BITS}"
                )
        elif not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, _CURVES):
            self._broken(path, "must be an RSA, P-256 or P-384 key: gRPC speaks TLS with no other")
            return pem
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if certificate is not None and key.public_key().public_bytes(
            *form
        ) != certificate.public_key().public_bytes(*form):
            self._broken(path, "is not the key of the certificate")
        return pem


def _is_for_servers(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True  # without an extended key usage, all uses are allowed
    return bool(
        {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usage)
    )


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
