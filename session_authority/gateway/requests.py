"""Describes the request that a proxy asks about, for all proxy protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

Headers = Mapping[str, Sequence[str]]
"""The headers of a request: their values under their lower-case names."""


class Kind(Enum):
    """The kind of a request. The form of a denial depends on the kind."""

    HTTP = "http"
    PREFLIGHT = "preflight"
    GRPC = "grpc"
    GRPC_WEB = "grpc-web"
    WEBSOCKET = "websocket"


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """The request of an end user's browser or app, as it reached the proxy.

    `target` is the path with its query, as the client sent them, without a scheme and a host. It
    can also be `*`. `peer` is the address that the flow compares with `trusted_proxies`. If the
    proxy asks over HTTP, `peer` is the address of the proxy, and empty at a unix socket. If Envoy
    asks over gRPC, `peer` is the source that Envoy reports. `deadline` is the time of the monotonic
    clock at which the answer must be ready. It is None if the proxy names no time limit, and always
    if the proxy asks over HTTP.
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
        """Returns the headers as the browser sent them, with the host that the browser asked for.

        A WebSocket handshake gets its `Upgrade` header back. A proxy that asks over HTTP drops that
        header, as the header concerns only the connection between the client and the proxy.
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
    """Returns True if a browser asks whether a script of another origin may send a request (Fetch,
    "CORS").
    """
    return (
        method == "OPTIONS"
        and len(headers.get("origin", ())) == 1
        and len(headers.get("access-control-request-method", ())) == 1
    )


def _is_handshake(headers: Headers) -> bool:
    """Returns True if the request opens a WebSocket.

    One header of a handshake is enough. If another request is taken for a handshake, it is only
    treated more strictly: it gets no redirect, and the flow checks its origin like the origin of a
    handshake.
    """
    return (
        "websocket" in ",".join(headers.get("upgrade", ())).lower()
        or "sec-websocket-key" in headers
        or "sec-websocket-version" in headers
        or "websocket" in headers.get("sec-fetch-mode", ())
    )
