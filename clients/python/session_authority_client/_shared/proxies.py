"""Reads the end user's address and scheme from the headers of proxies that the app trusts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

__all__ = ["Proxies"]

# Only this many entries at the end of `X-Forwarded-For` are read, because a client can send a
# header with very many entries.
_MAX_HOPS = 64
# The longest text of an address is an IPv6 address in brackets with a zone and a port. A zone is
# the name of a network interface.
_MAX_ADDRESS_CHARACTERS = 100
_MAX_KEPT_ADDRESSES = 4096

_Headers = Mapping[str, Sequence[str]]


class Proxies:
    """Knows the proxies that an app trusts. Each entry of `trusted` is an IP address, a network, or
    "unix" for a proxy that connects through a unix socket. Raises ValueError for any other entry.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        self._unix = "unix" in trusted
        self._networks = tuple(_network(proxy) for proxy in trusted if proxy != "unix")

    def address(self, headers: _Headers, peer: str) -> str:
        """Returns the end user's IP address, or an empty text if the address is unknown. If `peer`
        is no trusted proxy, `peer` is the end user's address. If `peer` is a trusted proxy,
        `X-Forwarded-For` is read from its end, and the first address that belongs to no trusted
        proxy is returned. If all addresses in the header belong to trusted proxies, the address at
        the start of the header is returned.
        """
        if not self.trusts(peer):
            return _plain(peer)
        hops = [
            hop.strip()
            for header in headers.get("x-forwarded-for", ())
            for hop in header.split(",")
        ]
        hops = hops[-_MAX_HOPS:]
        for hop in reversed(hops):
            if not _plain(hop) or not self.trusts(hop):
                return _plain(hop)
        return _plain(hops[0] if hops else peer)

    def is_secure(self, headers: _Headers, peer: str, scheme: str) -> bool:
        """Returns True if the end user's connection uses HTTPS. If `peer` is a trusted proxy, the
        last value of `X-Forwarded-Proto` decides. If `peer` is no trusted proxy or the header is
        missing, the scheme of the request, `scheme`, decides.
        """
        if self.trusts(peer):
            told = ",".join(headers.get("x-forwarded-proto", ())).rpartition(",")[2].strip()
            scheme = told or scheme
        return scheme.lower() == "https"

    def trusts(self, peer: str) -> bool:
        """Returns True if the app trusts the headers of a proxy at this address. An empty address
        means a unix socket.
        """
        if not peer:
            return self._unix
        address = _address(peer)
        return address is not None and any(address in network for network in self._networks)


def _network(proxy: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(proxy)
    except ValueError as error:
        raise ValueError(f"trusted_proxies: {error}") from None


def _plain(address: str) -> str:
    """Returns an address without a zone or port. An IPv4 address in the notation of IPv6 becomes an
    IPv4 address. Returns an empty text if the text is no address.
    """
    found = _address(address)
    return "" if found is None else str(found)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Returns the address in a text, or None if the text is no address. A text that is too long for
    an address is not parsed, so that it can't fill the cache of parsed addresses.
    """
    return _parsed(text) if len(text) <= _MAX_ADDRESS_CHARACTERS else None


@lru_cache(maxsize=_MAX_KEPT_ADDRESSES)
def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed
