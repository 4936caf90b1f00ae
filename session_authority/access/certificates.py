"""Reads the names in a certificate that may stand for a caller.

The names that the TLS library returns are not used: this library cuts a name at its first NUL byte,
so that one name could look like another.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography import x509

# The names of certificates up to this size are cached. The certificates in the cache need at most
# 16 MiB. Their names need more memory in addition, above all if they are many and short.
_MAX_REMEMBERED_BYTES = 16 * 1024


def names_in(pem: bytes) -> tuple[str, ...]:
    """The URIs and the DNS names among a certificate's subject alternative names (RFC 5280
    §4.2.1.6). The DNS names are in lower case.

    A certificate that can't be read has no names. URIs without "://" and DNS names with "://" are
    left out: a CA may check only one of the two kinds, so they must not look alike.
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
