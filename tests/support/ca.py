"""Certificate authorities and the certificates that they sign, as PEM files: good certificates, and
bad ones of every kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import count
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

Key = CertificateIssuerPrivateKeyTypes
KEYS: dict[str, Callable[[], Key]] = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa1024": lambda: rsa.generate_private_key(65537, 1024),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate, followed by the certificates that vouch for it if there are any, and its
    key.
    """

    certificate: Path
    key: Path

    def copy_to(self, other: Pair) -> None:
        """Replaces another certificate's files by copies of these."""
        other.certificate.write_bytes(self.certificate.read_bytes())
        other.key.write_bytes(self.key.read_bytes())


class CA:
    """Signs the certificates that a test needs. `file` is its own certificate, which `above` signed
    if given.
    """

    def __init__(self, folder: Path, name: str = "ca", above: CA | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / f"{name}.pem"
        self._folder = folder
        self._subject = _name(name)
        self._key = KEYS["p256"]()
        self._number = count()
        builder = _builder(self._subject, self._key, -_HOUR, _DAY)
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        issuer, key = (above._subject, above._key) if above else (self._subject, self._key)
        self.pem = builder.issuer_name(issuer).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
        self.file.write_bytes(self.pem)

    def sign(
        self,
        *,
        uris: Iterable[str] = (),
        hosts: Iterable[str] = (),
        addresses: Iterable[str] = (),
        common_name: str = "somebody",
        key: str = "p256",
        starts: timedelta = -_HOUR,
        ends: timedelta = _DAY,
        self_signed: bool = False,
        purposes: Iterable[x509.ObjectIdentifier] = (),
    ) -> Pair:
        """Returns a certificate with these names, and its key. `starts` and `ends` are relative to
        now.
        """
        own = KEYS[key]()
        builder = _builder(_name(common_name), own, starts, ends)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        names += [x509.DNSName(host) for host in hosts]
        names += [x509.IPAddress(ip_address(address)) for address in addresses]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if purposes := list(purposes):
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if self_signed:
            certificate = builder.issuer_name(_name(common_name)).sign(own, _hash_for(own))
        else:
            certificate = builder.issuer_name(self._subject).sign(self._key, hashes.SHA256())
        stem = f"{self.file.stem}-{next(self._number)}"
        pair = Pair(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        pair.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        pair.key.write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair


def encrypted_key(password: bytes) -> bytes:
    """A key that can't be used without the password."""
    return KEYS["p256"]().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, key: Key, starts: timedelta, ends: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject_name=subject, public_key=key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now + starts).not_valid_after(now + ends)


def _hash_for(key: Key) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
