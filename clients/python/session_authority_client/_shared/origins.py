"""Finds requests that a page of another origin sent. Browsers say in headers which origin a request
comes from, and no script can change these headers.

All browsers of today send `Sec-Fetch-Site`, but only over HTTPS and at localhost. If
`Sec-Fetch-Site` is missing, `Origin` is compared with `Host`. A client that sends neither
`Sec-Fetch-Site` nor `Origin` counts as no browser, and its requests are accepted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv6Address

# Requests with these methods change nothing (RFC 9110, section 9.2.1), so any page may send them.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_OWN = frozenset({"same-origin", "none"})  # "none" means that no page sent the request
_ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?",
    re.IGNORECASE | re.ASCII,
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


def normal(origin: str) -> str | None:
    """Returns an origin as browsers write it: in lower case, and without the default port of its
    scheme. Returns None if the text is no origin.
    """
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return None
    scheme, host, port = found[1].lower(), found[2].lower(), found[3]
    if host.startswith("["):
        try:
            host = f"[{IPv6Address(host[1:-1]).compressed}]"
        except ValueError:
            return None
    if port is None or int(port) == _DEFAULT_PORTS.get(scheme):
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{int(port)}" if 0 < int(port) < 65536 else None


def is_foreign(method: str, headers: Mapping[str, Sequence[str]], trusted: Collection[str]) -> bool:
    """Returns True if a page of another origin sent a request that may change something. Returns
    False if the page's origin is in `trusted`, which contains normalized origins.

    The handshake of a WebSocket counts as a request that may change something, although its method
    is GET. Browsers let every page open a WebSocket to any origin, and send the cookies.
    """
    upgrades = ",".join(headers.get("upgrade", ())).lower()
    if method in _SAFE_METHODS and "websocket" not in upgrades:
        return False
    sites, origins = headers.get("sec-fetch-site", ()), headers.get("origin", ())
    if len(sites) == 1 and sites[0] in _OWN:
        return False
    origin = normal(origins[0]) if len(origins) == 1 else None
    if origin is not None and origin in trusted:
        return False
    if sites:
        return True
    return len(origins) > 0 and (origin is None or not _is_at(origin, headers.get("host", ())))


def _is_at(origin: str, hosts: Sequence[str]) -> bool:
    """Returns True if the request was sent to this origin. Only host and port are compared, because
    a proxy that ends TLS may hide the scheme from the app.
    """
    scheme = origin.partition(":")[0]
    return (
        len(hosts) == 1 and scheme in _DEFAULT_PORTS and normal(f"{scheme}://{hosts[0]}") == origin
    )
