"""Describes the request that a proxy asks about, for all proxy protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

Headers = Mapping[str, Sequence[str]]
"""The headers of a request: their values under their lower-case names."""


class Kind(Enum):
    """The kind of a request. The form of a denial depends on it."""

    HTTP = "http"
    PREFLIGHT = "preflight"
    GRPC = "grpc"
    GRPC_WEB = "grpc-web"
    WEBSOCKET = "websocket"


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """The request of an end user's browser or app, as it reached the proxy.

    `target` is the path with its query, as the client sent it. `peer` is the address that the
    flow's `trusted_proxies` judge. It is the proxy that asks over HTTP, or the source that Envoy
    reports, and empty at a unix socket. `deadline` is the time of the monotonic clock at which the
    proxy stops waiting for the answer.
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
        header, as it concerns one connection alone.
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

    One of the signs is enough. A wrong result does no harm, as the origin of a handshake is always
    checked.
    """
    return (
        "websocket" in ",".join(headers.get("upgrade", ())).lower()
        or "sec-websocket-key" in headers
        or "sec-websocket-version" in headers
        or "websocket" in headers.get("sec-fetch-mode", ())
    )
