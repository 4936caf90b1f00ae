"""The end user's address, from the many forms in which proxies and libraries write one.

It is only shown, so there is no wrong one: what is no address is none.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address

# Longer text is cut before it is looked at. The longest honest form is a list of hops.
_MAX_READ_CHARACTERS = 1024
# `for` in the first element of a `Forwarded` header (RFC 7239).
_FORWARDED = re.compile(r"(?:^|;)\s*for\s*=\s*(\"[^\"]*\"|[^\s;,\"]+)", re.IGNORECASE | re.ASCII)
# How gRPC and mail name the family, and what Java writes before the address of a peer.
_PREFIX = re.compile(r"(?:ipv4:|ipv6:|/)", re.IGNORECASE | re.ASCII)
# A port may be obfuscated (RFC 7239 §6.3), and is missing after some colons.
_PORT = r"(?::(?:\d{1,5}|_[\w.-]+)?)?"
_IN_BRACKETS = re.compile(rf"\[([^\[\]]*)\]{_PORT}", re.ASCII)
_V4_WITH_PORT = re.compile(rf"([\d.]+){_PORT}", re.ASCII)


def shown_address(text: str) -> str:
    """The IPv4 or IPv6 address that the text names, in its usual form; empty if it names none.

    A port, brackets and a zone are left out, an IPv4 address that is written as IPv6 is what it is,
    and of a list the first counts, which is the client of `X-Forwarded-For`.
    """
    if not text:
        return ""
    return _canonical(text) or _canonical(_bare(text[:_MAX_READ_CHARACTERS]))


def _bare(text: str) -> str:
    """The part of the text that is the address, if one is there."""
    first = next((hop for hop in text.split(",") if hop.strip()), "")
    if forwarded := _FORWARDED.search(first):
        first = forwarded[1]
    plain = first.strip().strip('"').strip()
    plain = _PREFIX.sub("", plain, count=1) if _PREFIX.match(plain) else plain
    plain = plain.replace("%5B", "[").replace("%5D", "]")  # as gRPC writes a peer's brackets
    for form in (_IN_BRACKETS, _V4_WITH_PORT):
        if found := form.fullmatch(plain):
            return found[1].strip()
    return plain


def _canonical(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Address(int(address)))
    return str(address)
