"""Reads the original request from a proxy's authorization request over HTTP. Also checks the
original requests that Envoy describes over gRPC.

In the forms `forward-auth` and `auth-request`, the proxy describes the original request in headers.
The gateway uses such headers only if a trusted proxy sent them. In the form `ext-authz`, the
authorization request has the method, the host and the headers of the original request. If a fact,
such as the host, has two different values, one value may come from the client. So the original
request is denied. The original request is also denied if the authorization request can't be
understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from session_authority.gateway.requests import GatewayRequest, Headers
from session_authority_client.flow import Flow

_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}", re.ASCII)
_HOST = re.compile(r"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,64}\])(:[0-9]{1,5})?", re.ASCII)
_ABSOLUTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(.*)", re.ASCII | re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class NotUnderstood(ValueError):
    """A proxy's authorization request does not describe a valid original request, has options in
    its query, or comes from a proxy that is not trusted.
    """


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A proxy's authorization request over HTTP. The fields describe the authorization request
    itself, and not the original request.
    """

    method: str
    scheme: str
    target: str
    headers: Headers
    peer: str


def forwarded(flow: Flow, call: AuthorizationRequest) -> GatewayRequest:
    """Returns the original request from the headers `X-Forwarded-*`, or from `X-Original-Method`,
    `X-Original-URI` and `X-Original-URL`. Raises NotUnderstood if the proxy is not trusted, or if
    the headers do not describe a valid request.
    """
    if not flow.trusts(call.peer):
        raise NotUnderstood(
            f"{call.peer or 'a unix socket'} is none of trusted_proxies, so what it says of the"
            " original request is not believed"
        )
    headers, url = call.headers, _original_url(call.headers)
    method = _agreed("method", headers, "x-forwarded-method", "x-original-method")
    if not method:
        raise NotUnderstood(
            "X-Forwarded-Method or X-Original-Method must have the original's method"
        )
    target = _agreed("target", headers, "x-forwarded-uri", "x-original-uri", also=url[2])
    if not target:
        raise NotUnderstood("X-Forwarded-Uri or X-Original-URI must have the original's target")
    scheme = _agreed("scheme", headers, "x-forwarded-proto", also=url[0]) or call.scheme
    host = _agreed("host", headers, "x-forwarded-host", also=url[1])
    if not host and "x-forwarded-method" not in headers:
        # If `X-Forwarded-Method` is missing, the proxy is taken for nginx. In the documented
        # configuration, nginx sends the original `Host`.
        host = _agreed("host", headers, "host")
    if not host:
        raise NotUnderstood("X-Forwarded-Host must have the original's host")
    return original(method, scheme, host, target, call.headers, call.peer)


def passed_on(call: AuthorizationRequest, target: str) -> GatewayRequest:
    """Returns the original request of a proxy whose authorization request has the method, the host
    and the headers of the original request. `target` is the original target.

    Raises NotUnderstood if the original request is not valid.
    """
    host = _agreed("host", call.headers, "host")
    return original(call.method, call.scheme, host, target, call.headers, call.peer)


def _original_url(headers: Headers) -> tuple[str, str, str]:
    """Returns the scheme, the host and the target of `X-Original-URL`. The scheme, the host and the
    target are empty if the header is missing. Raises NotUnderstood if the header is not a URL.
    """
    url = _agreed("URL", headers, "x-original-url")
    if not url:
        return "", "", ""
    found = _ABSOLUTE.fullmatch(url)
    if found is None:
        raise NotUnderstood("X-Original-URL: must be a URL")
    return found[1], found[2], found[3] or "/"


def _agreed(what: str, headers: Headers, *names: str, also: str = "") -> str:
    """Returns the value on which the headers with these names and `also` agree. Returns an empty
    text if there is no value.

    Raises NotUnderstood if two of these values differ. A proxy sets only some of these headers, so
    a client may have sent the others.
    """
    values = {value.strip(" \t") for name in names for value in headers.get(name, ())}
    values |= {also} if also else set()
    if len(values) > 1:
        raise NotUnderstood(f"the original's {what} is told in two ways, so neither counts")
    return values.pop() if values else ""


def original(
    method: str,
    scheme: str,
    host: str,
    target: str,
    headers: Headers,
    peer: str,
    deadline: float | None = None,
) -> GatewayRequest:
    """Checks the facts that a proxy reports, and returns the original request. Raises NotUnderstood
    if the method, the scheme, the host or the target is not valid.
    """
    if not _METHOD.fullmatch(method):
        raise NotUnderstood("the original's method is none")
    if scheme.lower() not in _SCHEMES:
        raise NotUnderstood("the original's scheme is neither http nor https")
    if not _HOST.fullmatch(host):
        raise NotUnderstood("the original's host is none")
    # Clients may send a target in its absolute form, with a scheme and a host (RFC 9112, section
    # 3.2.2). The scheme and the host of such a target are dropped, because the proxy has already
    # decided which host is meant.
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        target = absolute[3] if absolute[3].startswith("/") else f"/{absolute[3]}"
    if not target.startswith("/") and target != "*":
        raise NotUnderstood("the original's target is no path")
    if _CONTROL.search(target):
        raise NotUnderstood("the original's target has white space or control characters")
    return GatewayRequest(method, _SCHEMES[scheme.lower()], host, target, headers, peer, deadline)
