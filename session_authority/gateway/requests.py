"""Describes the original request that a proxy asks about, in one form for all protocols of
proxies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

Headers = Mapping[str, Sequence[str]]
"""The headers of a request. Each key is a lower-case name, and each value has all values of that
header.
"""


class Kind(Enum):
    """The kind of a request. The form of a denial depends on the kind."""

    HTTP = "http"
    PREFLIGHT = "preflight"
    GRPC = "grpc"
    GRPC_WEB = "grpc-web"
    WEBSOCKET = "websocket"


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """The original request of an end user's browser or app, as it reached the proxy.

    `target` is the path with its query, as the client sent them, without a scheme and a host.
    `target` can also be `*`. `peer` is the address that the flow compares with `trusted_proxies`.
    If the proxy asks over HTTP, `peer` is the address of the proxy, or an empty text if the proxy
    uses a unix socket. If Envoy asks over gRPC, `peer` is the address of the client that Envoy
    reports. `deadline` is the time of the monotonic clock at which the answer must be ready, in
    seconds. `deadline` is None if the proxy names no time limit, and always None if the proxy asks
    over HTTP.
    """

    method: str
    scheme: str
    host: str
    target: str
    headers: Headers = field(repr=False)
    peer: str
    deadline: float | None = None
    kind: Kind = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", _kind_of(self.method, self.headers))

    def headers_at_origin(self) -> Headers:
        """Returns the headers as the client sent them. The header `Host` has the host that the
        client asked for.

        A WebSocket handshake gets its `Upgrade` header back. A proxy that asks over HTTP drops the
        `Upgrade` header, because the header concerns only the connection between the client and the
        proxy.
        """
        if self.kind is not Kind.HTTP and _is_handshake(self.headers):
            return {**self.headers, "host": (self.host,), "upgrade": ("websocket",)}
        return {**self.headers, "host": (self.host,)}


def _kind_of(method: str, headers: Headers) -> Kind:
    if _is_preflight(method, headers):
        return Kind.PREFLIGHT
    content = "".join(headers.get("content-type", ())[:1]).lower()
    if content.startswith("application/grpc-web"):
        return Kind.GRPC_WEB
    if content.startswith("application/grpc"):
        return Kind.GRPC
    return Kind.WEBSOCKET if _is_handshake(headers) else Kind.HTTP


def _is_preflight(method: str, headers: Headers) -> bool:
    """Returns True if the request is a CORS preflight. With a preflight, a browser asks whether a
    script of another origin may send a request.
    """
    return (
        method == "OPTIONS"
        and len(headers.get("origin", ())) == 1
        and len(headers.get("access-control-request-method", ())) == 1
    )


def _is_handshake(headers: Headers) -> bool:
    """Returns True if the request opens a WebSocket.

    The request needs to have only one of the headers of a handshake. A request that is wrongly
    taken for a handshake is only treated more strictly: it gets no redirect, and the flow checks
    its origin.
    """
    return (
        "websocket" in ",".join(headers.get("upgrade", ())).lower()
        or "sec-websocket-key" in headers
        or "sec-websocket-version" in headers
        or "websocket" in headers.get("sec-fetch-mode", ())
    )
