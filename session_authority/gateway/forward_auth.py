"""Answers the questions that proxies ask over HTTP, in the form that each kind of proxy
understands.

The options of a route are a part of the path that the proxy's configuration names, such as
`/forward-auth:session=optional&max_age=5m`. The options are not in the query. Some proxies send the
query of the original request as the query of their authorization request, and the client chooses
the original query.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from session_authority.gateway.answers import Answer
from session_authority.gateway.decision import Gateway
from session_authority.gateway.originals import BadQuestion, Question, forwarded, passed_on
from session_authority.gateway.requests import GatewayRequest
from session_authority.gateway.routes import RouteFault

_PATH = re.compile(r"/(forward-auth|auth-request|ext-authz)(?::([^/]*))?(/.*)?", re.DOTALL)
# A reply has this many headers `X-Session-Set-Cookie-N`. Each of them has one cookie or is empty.
# They are for proxies that join the lines of `Set-Cookie`. The cookies are the token, the device
# ID, and the mark of a session that ends with the browser.
MAX_COOKIES = 3
# nginx passes on only these statuses of a denial. It turns every other status into its own 500.
_NGINX_STATUSES = frozenset({401, 403})
_FOR_NGINX = {303: 401}
_ENVOY_REMOVES = "X-Envoy-Auth-Headers-To-Remove"


@dataclass(frozen=True, slots=True)
class Reply:
    """A response to a proxy."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


class ForwardAuth:
    """Answers proxies that ask over HTTP."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def reply(self, question: Question) -> Reply | None:
        """Returns the response to the proxy's authorization request, or None if its path is not a
        path of authorization requests. If the original request can't be understood, the response
        has the status 400.
        """
        path, _, query = question.target.partition("?")
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        form, options, rest = found[1], found[2] or "", found[3] or ""
        try:
            if form == "ext-authz":
                # In this form the query and the path below the prefix are those of the original
                # request.
                target = f"{rest or '/'}?{query}" if "?" in question.target else rest or "/"
                request = passed_on(question, target)
            elif rest not in ("", "/"):
                return None
            else:
                request = forwarded(self._gateway.flow, question)
                _check_query(query, request)
        except BadQuestion as fault:
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
    """Returns the reply for proxies that pass a denial on unchanged.

    A denial therefore has only headers for the browser. A script can read all of them except
    `Set-Cookie`.
    """
    if answer.allowed:
        return Reply(200, (*answer.headers, *_for_proxy(answer)))
    return Reply(answer.denial_status, (*answer.headers, *_cookies(answer)), answer.body)


def _for_envoy(answer: Answer) -> Reply:
    """Returns the reply for Envoy.

    Envoy copies headers from the reply to the request, and keeps the client's own header if the
    reply lacks it. So the reply for an allowed request names the headers that Envoy must remove.
    """
    reply = _plain(answer)
    if not (answer.allowed and answer.removed):
        return reply
    removal = (_ENVOY_REMOVES, ",".join(answer.removed))
    return Reply(reply.status, (*reply.headers, removal), reply.body)


def _for_nginx(answer: Answer) -> Reply:
    """Returns the reply for nginx, which understands 2xx, 401 and 403. The status for the client,
    the reason and the target of a redirect are in headers that no browser gets.
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
    """Returns the headers for the proxy to copy to the app, and the cookies.

    Identity headers are always present. A proxy that copies them thus overwrites identity headers
    from the client. A header with credentials is never empty. An app would read an empty device ID
    as a device ID, and mistake a browser for an app.
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
    """Checks the query of a question. Raises BadQuestion.

    Some proxies send the query of the original request, which is ignored. Any other query is an
    option in the wrong place.
    """
    if query and query != request.target.partition("?")[2]:
        raise BadQuestion(
            "the options of a route belong in the path, like /forward-auth:session=optional, as the"
            " query may be the client's"
        )
