"""Reads the original request from a proxy's question over HTTP, and checks original requests of all
protocols.

In most forms, the proxy describes the original request in headers, and the headers count only if
they come from a trusted proxy. In the form `ext-authz`, the proxy's authorization request has the
method, the host and the headers of the original request. Each fact must have only one value, as a
second value may come from the client. A question that can't be understood is a fault, and the
request is denied.
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


class BadQuestion(ValueError):
    """A proxy's question does not describe the original request, or is not allowed."""


@dataclass(frozen=True, slots=True)
class Question:
    """A proxy's question over HTTP. Its fields describe the request that the proxy itself sent."""

    method: str
    scheme: str
    target: str
    headers: Headers
    peer: str


def forwarded(flow: Flow, question: Question) -> GatewayRequest:
    """Returns the original request from `X-Forwarded-*`, or from `X-Original-Method`, `-URI`,
    `-URL`. Raises BadQuestion.
    """
    if not flow.trusts(question.peer):
        raise BadQuestion(
            f"{question.peer or 'a unix socket'} is none of trusted_proxies, so what it says of the"
            " original request is not believed"
        )
    headers, url = question.headers, _original_url(question.headers)
    method = _agreed("method", headers, "x-forwarded-method", "x-original-method")
    if not method:
        raise BadQuestion("X-Forwarded-Method or X-Original-Method must tell the original's method")
    target = _agreed("target", headers, "x-forwarded-uri", "x-original-uri", also=url[2])
    if not target:
        raise BadQuestion("X-Forwarded-Uri or X-Original-URI must tell the original's target")
    scheme = _agreed("scheme", headers, "x-forwarded-proto", also=url[0]) or question.scheme
    host = _agreed("host", headers, "x-forwarded-host", also=url[1])
    if not host and "x-forwarded-method" not in headers:
        # Without `X-Forwarded-Method`, the proxy counts as nginx. The configuration of nginx makes
        # nginx send the original `Host`.
        host = _agreed("host", headers, "host")
    if not host:
        raise BadQuestion("X-Forwarded-Host must tell the original's host")
    return original(method, scheme, host, target, question.headers, question.peer)


def passed_on(question: Question, target: str) -> GatewayRequest:
    """Returns the original request of a proxy whose authorization request has the method, the host
    and the headers of the original request. `target` is the original target.

    Raises BadQuestion.
    """
    host = _agreed("host", question.headers, "host")
    return original(question.method, question.scheme, host, target, question.headers, question.peer)


def _original_url(headers: Headers) -> tuple[str, str, str]:
    """Returns the scheme, host and target of `X-Original-URL`. They are empty without this
    header.
    """
    url = _agreed("URL", headers, "x-original-url")
    if not url:
        return "", "", ""
    found = _ABSOLUTE.fullmatch(url)
    if found is None:
        raise BadQuestion("X-Original-URL: must be a URL")
    return found[1], found[2], found[3] or "/"


def _agreed(what: str, headers: Headers, *names: str, also: str = "") -> str:
    """Returns the value on which these headers agree. Returns an empty text if none of them is
    present.

    Raises BadQuestion if two values differ: a proxy sets some of these headers, and a client may
    have sent the others.
    """
    values = {value.strip(" \t") for name in names for value in headers.get(name, ())}
    values |= {also} if also else set()
    if len(values) > 1:
        raise BadQuestion(f"the original's {what} is told in two ways, so neither counts")
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
    """Checks the facts that a proxy reports, and returns the original request. Raises
    BadQuestion.
    """
    if not _METHOD.fullmatch(method):
        raise BadQuestion("the original's method is none")
    if scheme.lower() not in _SCHEMES:
        raise BadQuestion("the original's scheme is neither http nor https")
    if not _HOST.fullmatch(host):
        raise BadQuestion("the original's host is none")
    # Clients may send the absolute form of a target, even to a server (RFC 9112, section 3.2.2).
    # The proxy has already decided which host is meant.
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        target = absolute[3] if absolute[3].startswith("/") else f"/{absolute[3]}"
    if not target.startswith("/") and target != "*":
        raise BadQuestion("the original's target is no path")
    if _CONTROL.search(target):
        raise BadQuestion("the original's target has white space or control characters")
    return GatewayRequest(method, _SCHEMES[scheme.lower()], host, target, headers, peer, deadline)
