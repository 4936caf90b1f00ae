"""Reads the end user's address from the forms in which proxies and libraries write one, and decides
how exactly the service keeps it.

The address is only shown to people. So a text that is no address is no error: it counts as empty.
"""

from __future__ import annotations

import re
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

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

_NETWORK_BITS = {4: 24, 6: 48}
# A 6to4 address has an IPv4 address behind its first 16 bits (RFC 3056).
_6TO4_BITS = 16
# Networks in which an address says nothing of a place: of this machine, of a link, of a site, of a
# carrier's inside (RFC 6598).
_PLACELESS = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12"
            " 192.168.0.0/16 224.0.0.0/3 ::/127 fc00::/7 fe80::/9 ff00::/8"
        ).split(),
    )
)


class AddressDetail(Enum):
    """How exactly addresses of end users are kept: as they are, as their network, or not at all."""

    FULL = "full"
    NETWORK = "network"
    NONE = "none"


def kept_address(shown: str, detail: AddressDetail) -> str:
    """The part of a shown address that the service keeps: all of it, its network (/24 of IPv4, /48
    of IPv6), or nothing. A network that was stored earlier stays a network.
    """
    if detail is AddressDetail.FULL or not shown:
        return shown
    text, slash, _ = shown.partition("/")
    if detail is AddressDetail.NONE or not _canonical(text):
        return ""
    if slash:
        return shown
    address = ip_address(text)
    bits = _NETWORK_BITS[address.version]
    if isinstance(address, IPv6Address) and address.sixtofour is not None:
        bits = _6TO4_BITS + _NETWORK_BITS[4]
    return str(ip_network((address, bits), strict=False))


def placed_address(shown: str) -> IPv4Address | IPv6Address | None:
    """The address by which a place can be looked up. None if the address says nothing of a place,
    as a private address does.
    """
    if not shown or not _canonical(shown):
        return None
    address = ip_address(shown)
    if isinstance(address, IPv6Address):
        address = address.sixtofour or address
    return None if any(address in network for network in _PLACELESS) else address


def shown_address(text: str) -> str:
    """The IPv4 or IPv6 address in the text, in its usual form. Empty if the text has no address.

    A port, brackets and a zone are removed. An IPv4 address that is written as IPv6 becomes IPv4.
    Of a list, the first address counts: it is the client of `X-Forwarded-For`.
    """
    if not text:
        return ""
    return _canonical(text) or _canonical(_bare(text[:_MAX_READ_CHARACTERS]))


def _bare(text: str) -> str:
    """The part of the text where the address is, if the text has one."""
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
