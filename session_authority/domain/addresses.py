"""Reads an end user's IP address from a text in any form that proxies and libraries write. Reduces
the address to the part that the service keeps.

The address is shown to people, and its place is looked up. No decision depends on the address, so a
text without an address is no error, and gives an empty address.
"""

from __future__ import annotations

import re
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

# `shown_address` cuts a text that is not a plain address at this number of characters, and then
# searches the text for an address. The limit leaves room for the addresses of many proxies.
_MAX_READ_CHARACTERS = 1024
# Finds the parameter `for` in the first element of a `Forwarded` header (RFC 7239). The value of
# `for` is the address of the client.
_FORWARDED = re.compile(r"(?:^|;)\s*for\s*=\s*(\"[^\"]*\"|[^\s;,\"]+)", re.IGNORECASE | re.ASCII)
# The prefixes that an address may have. gRPC and mail write the name of the address family before
# the address. Java writes a slash before the address of a peer.
_PREFIX = re.compile(r"(?:ipv4:|ipv6:|/)", re.IGNORECASE | re.ASCII)
# The port that may follow an address. The port may be obfuscated (RFC 7239 §6.3), or be missing
# after the colon.
_PORT = r"(?::(?:\d{1,5}|_[\w.-]+)?)?"
_IN_BRACKETS = re.compile(rf"\[([^\[\]]*)\]{_PORT}", re.ASCII)
_V4_WITH_PORT = re.compile(rf"([\d.]+){_PORT}", re.ASCII)

_NETWORK_BITS = {4: 24, 6: 48}
# The number of bits of a 6to4 address before the IPv4 address that it contains (RFC 3056).
_6TO4_BITS = 16
# Networks whose addresses say nothing about the place of a device. The list has networks inside a
# machine, on a link, in a site or in a carrier's network (RFC 6598), multicast networks, and
# reserved networks.
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
    """Says how exactly the service keeps the addresses of end users: in full, as their network, or
    not at all.
    """

    FULL = "full"
    NETWORK = "network"
    NONE = "none"


def kept_address(shown: str, detail: AddressDetail) -> str:
    """Returns the part of an address that the service keeps. `shown` is a result of
    `shown_address`, or an earlier result of this function.

    With FULL, `shown` is returned unchanged. With NONE, the result is empty. With NETWORK, the
    result is the network of the address: /24 for IPv4, and /48 for IPv6. A 6to4 address becomes its
    /40, which ends with the /24 of the IPv4 address inside the 6to4 address. If `shown` is a
    network already, NETWORK keeps it unchanged. If `shown` is not an address, NETWORK makes it
    empty.
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
    """Returns the address with which a place can be looked up: the address in `shown`, or the IPv4
    address inside a 6to4 address. Returns None if `shown` is empty or a network, or if the address
    says nothing about a place. For example, a private address says nothing about a place.
    """
    if not shown or not _canonical(shown):
        return None
    address = ip_address(shown)
    if isinstance(address, IPv6Address):
        address = address.sixtofour or address
    return None if any(address in network for network in _PLACELESS) else address


def shown_address(text: str) -> str:
    """Returns the IPv4 or IPv6 address in a text, in its usual form. Returns an empty text if there
    is no address.

    A port, brackets and a zone are removed from the address. An IPv4 address that is mapped to IPv6
    (`::ffff:192.0.2.1`) becomes IPv4. In a list of addresses, only the first entry that is not
    blank counts. In `X-Forwarded-For`, the first entry is the address of the client. If the first
    entry of a list is not an address (for example, `unknown`), the result is empty.
    """
    if not text:
        return ""
    return _canonical(text) or _canonical(_bare(text[:_MAX_READ_CHARACTERS]))


def _bare(text: str) -> str:
    """Returns the part of a text that may be an address, without its prefix, brackets and port."""
    first = next((hop for hop in text.split(",") if hop.strip()), "")
    if forwarded := _FORWARDED.search(first):
        first = forwarded[1]
    plain = first.strip().strip('"').strip()
    plain = _PREFIX.sub("", plain, count=1) if _PREFIX.match(plain) else plain
    # gRPC writes the brackets of an IPv6 peer as %5B and %5D.
    plain = plain.replace("%5B", "[").replace("%5D", "]")
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
