"""Reads the names in a TLS certificate. The names may identify a caller.

This module does not use the names that gRPC's TLS library returns, because that library cuts a name
at its first NUL byte. A name that was cut could be equal to another caller's name.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography import x509

# For certificates of up to this size, the names are cached. The certificates in the cache need at
# most 16 MiB. The names in the cache need more memory in addition, especially if a certificate has
# many short names.
_MAX_REMEMBERED_BYTES = 16 * 1024


def names_in(pem: bytes) -> tuple[str, ...]:
    """Returns the URIs and the DNS names among a certificate's subject alternative names (RFC 5280
    §4.2.1.6). The DNS names are returned in lower case.

    Returns no names if the certificate can't be read. A URI without "://" is left out, and so is a
    DNS name with "://". A CA may check only URIs, or only DNS names, so a URI must never be equal
    to a DNS name.
    """
    return _remembered(pem) if len(pem) <= _MAX_REMEMBERED_BYTES else _read(pem)


@lru_cache(1024)
def _remembered(pem: bytes) -> tuple[str, ...]:
    return _read(pem)


def _read(pem: bytes) -> tuple[str, ...]:
    try:
        found = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        uris = found.value.get_values_for_type(x509.UniformResourceIdentifier)
        hosts = found.value.get_values_for_type(x509.DNSName)
    except (
        ValueError,
        TypeError,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):
        return ()
    return (
        *(uri for uri in uris if "://" in uri),
        *(host.lower() for host in hosts if "://" not in host),
    )
