"""Reads an end user's IP address from the forms in which proxies and libraries write it. It also
decides how exactly the service keeps the address.

The address is only shown to people. So a text without an address is no error, and gives an empty
address.
"""

from __future__ import annotations

import re
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

# A text that is not a plain address is cut at this length, and then searched for an address. The
# longest correct form is a list of hops.
_MAX_READ_CHARACTERS = 1024
# The parameter `for` in the first element of a `Forwarded` header (RFC 7239).
_FORWARDED = re.compile(r"(?:^|;)\s*for\s*=\s*(\"[^\"]*\"|[^\s;,\"]+)", re.IGNORECASE | re.ASCII)
# The prefixes of an address: gRPC and mail write the name of the address family, and Java writes a
# slash before the address of a peer.
_PREFIX = re.compile(r"(?:ipv4:|ipv6:|/)", re.IGNORECASE | re.ASCII)
# A port may be obfuscated (RFC 7239 §6.3). It may also be missing after the colon.
_PORT = r"(?::(?:\d{1,5}|_[\w.-]+)?)?"
_IN_BRACKETS = re.compile(rf"\[([^\[\]]*)\]{_PORT}", re.ASCII)
_V4_WITH_PORT = re.compile(rf"([\d.]+){_PORT}", re.ASCII)

_NETWORK_BITS = {4: 24, 6: 48}
# The bits of a 6to4 address before the IPv4 address in it (RFC 3056).
_6TO4_BITS = 16
# Networks whose addresses do not tell a place: the addresses of a machine, a link or a site, the
# addresses inside a carrier's network (RFC 6598), and multicast and reserved addresses.
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
    """How exactly the service keeps addresses of end users: in full, as their network, or not at
    all.
    """

    FULL = "full"
    NETWORK = "network"
    NONE = "none"


def kept_address(shown: str, detail: AddressDetail) -> str:
    """Returns the part of a shown address that the service keeps: the full address, its network, or
    nothing.

    The network is /24 for IPv4 and /48 for IPv6. For a 6to4 address it is /40, which is the /24 of
    the IPv4 address inside. If a stored address is already a network, NETWORK keeps it unchanged.
    FULL returns `shown` unchanged. Otherwise a text that is no address becomes empty.
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
    """Returns the address with which a place can be looked up. For a 6to4 address it is the IPv4
    address inside. None if `shown` is empty or a network, or if the address does not tell a place.
    An example is a private address.
    """
    if not shown or not _canonical(shown):
        return None
    address = ip_address(shown)
    if isinstance(address, IPv6Address):
        address = address.sixtofour or address
    return None if any(address in network for network in _PLACELESS) else address


def shown_address(text: str) -> str:
    """Returns the IPv4 or IPv6 address in a text, in its usual form. Empty if there is none.

    A port, brackets and a zone are removed. An IPv4 address that is mapped to IPv6
    (`::ffff:192.0.2.1`) becomes IPv4. In a list, only the first entry that is not blank counts: in
    `X-Forwarded-For` it is the address of the client. If this entry is no address (`unknown`), the
    result is empty.
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
    # gRPC writes the brackets of a peer in this way
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
