"""Answers the authorization requests that proxies send over HTTP, in the form that each kind of
proxy understands.

The proxy's configuration names the path of the authorization requests. The options of a route are a
part of this path, as in `/forward-auth:session=optional&max_age=5m`. The options must not be in the
query of the authorization request. Some proxies replace this query by the query of the original
request, which the client chooses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from session_authority.gateway.answers import Answer
from session_authority.gateway.decision import Gateway
from session_authority.gateway.originals import (
    AuthorizationRequest,
    NotUnderstood,
    forwarded,
    passed_on,
)
from session_authority.gateway.requests import GatewayRequest
from session_authority.gateway.routes import RouteFault

_PATH = re.compile(r"/(forward-auth|auth-request|ext-authz)(?::([^/]*))?(/.*)?", re.DOTALL)
# Each reply to nginx and each reply for an allowed request has this many headers
# `X-Session-Set-Cookie-N`, each with one cookie or empty. The numbered headers are for proxies that
# join several `Set-Cookie` headers into one. There are at most three cookies: the token, the device
# ID, and a cookie that says that the session ends with the browser.
MAX_COOKIES = 3
# nginx understands only these statuses of a denial. nginx turns every other status of a denial into
# its own 500.
_NGINX_STATUSES = frozenset({401, 403})
_FOR_NGINX = {303: 401}
_ENVOY_REMOVES = "X-Envoy-Auth-Headers-To-Remove"


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response of the gateway."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


class ForwardAuth:
    """Answers authorization requests over HTTP."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def reply(self, call: AuthorizationRequest) -> Reply | None:
        """Returns the response to the proxy's authorization request, or None if the request's path
        is not a path of authorization requests. If the original request can't be understood, the
        response has the status 400.
        """
        path, _, query = call.target.partition("?")
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        form, options, rest = found[1], found[2] or "", found[3] or ""
        try:
            if form == "ext-authz":
                # In the form `ext-authz`, the authorization request has the query of the original
                # request. The path of the authorization request is `/ext-authz` with the options,
                # and then the path of the original request.
                target = f"{rest or '/'}?{query}" if "?" in call.target else rest or "/"
                request = passed_on(call, target)
            elif rest not in ("", "/"):
                return None
            else:
                request = forwarded(self._gateway.flow, call)
                _check_query(query, request)
        except NotUnderstood as fault:
            return Reply(400, (("Content-Type", "text/plain"), *_NO_STORE), f"{fault}\n".encode())
        return _FORMS[form](await self._answer(request, options))

    async def _answer(self, request: GatewayRequest, options: str) -> Answer:
        try:
            route = self._gateway.routes.read_text(options)
        except RouteFault as fault:
            return self._gateway.misrouted(request, fault)
        return await self._gateway.decide(request, route)


_NO_STORE = (("Cache-Control", "no-store"),)
_Told = tuple[tuple[str, str], ...]


def _plain(answer: Answer) -> Reply:
    """Returns the reply for proxies that send a denial to the client unchanged.

    So a denial has only headers that may reach the browser. Scripts can read all headers of a
    response except `Set-Cookie`.
    """
    if answer.allowed:
        return Reply(200, (*answer.headers, *_for_proxy(answer)))
    return Reply(answer.denial_status, (*answer.headers, *_cookies(answer)), answer.body)


def _for_envoy(answer: Answer) -> Reply:
    """Returns the reply for Envoy.

    Envoy copies headers from the reply into the request to the app. If the reply lacks a header,
    Envoy keeps the client's header of this name. So the reply for an allowed request names the
    headers that Envoy must remove.
    """
    reply = _plain(answer)
    if not (answer.allowed and answer.removed):
        return reply
    removal = (_ENVOY_REMOVES, ",".join(answer.removed))
    return Reply(reply.status, (*reply.headers, removal), reply.body)


def _for_nginx(answer: Answer) -> Reply:
    """Returns the reply for nginx, which understands only the statuses 2xx, 401 and 403. Additional
    headers have the status for the client, the reason, and the target of a redirect. nginx does not
    send these headers to the browser.
    """
    told = (*_for_proxy(answer), *_details(answer))
    if answer.allowed:
        return Reply(204, (*answer.headers, *told))
    status = _FOR_NGINX.get(answer.denial_status, answer.denial_status)
    status = status if status in _NGINX_STATUSES else 403
    kept = tuple(pair for pair in answer.headers if pair[0].lower() != "location")
    return Reply(status, (*kept, *told), answer.body)


_FORMS: Mapping[str, Callable[[Answer], Reply]] = {
    "forward-auth": _plain,
    "ext-authz": _for_envoy,
    "auth-request": _for_nginx,
}


def _for_proxy(answer: Answer) -> _Told:
    """Returns the headers that the proxy copies into the request to the app, and the cookies for
    the client.

    All identity headers are always present, so that the proxy overwrites identity headers from the
    client. A header with credentials is left out if it is empty. An app would read an empty device
    ID as the device ID of a program, and so mistake a browser for a program.
    """
    return (*answer.upstream, *_cookies(answer), *_numbered(answer.cookies))


def _cookies(answer: Answer) -> _Told:
    return tuple(("Set-Cookie", cookie) for cookie in answer.cookies)


def _details(answer: Answer) -> _Told:
    """Returns headers with the status for the client, the reason, and the target of a redirect."""
    status = 200 if answer.allowed else answer.denial_status
    location = next((value for name, value in answer.headers if name == "Location"), "")
    return (
        ("X-Session-Status", str(status)),
        ("X-Session-Code", answer.code),
        ("X-Session-Location", location),
    )


def _numbered(cookies: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for number in range(MAX_COOKIES):
        cookie = cookies[number] if number < len(cookies) else ""
        yield f"X-Session-Set-Cookie-{number + 1}", cookie


def _check_query(query: str, request: GatewayRequest) -> None:
    """Checks the query of an authorization request. Raises NotUnderstood if the query is neither
    empty nor the query of the original request.

    Some proxies send the query of the original request, and the gateway ignores this query. Any
    other query probably has options of a route, which belong in the path.
    """
    if query and query != request.target.partition("?")[2]:
        raise NotUnderstood(
            "the options of a route belong in the path, like /forward-auth:session=optional, as the"
            " query may be the client's"
        )
