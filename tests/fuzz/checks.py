"""Envoy's requests, from bytes to the answer that Envoy gets.

The first byte says whether the service answers or is unreachable. The service knows no user, so no
request on a route that needs a session passes, and no request causes a fault of the gateway. A
request passes only on a route with the option `session=optional` or `session=disabled`, or as the
preflight of a cross-origin request. A request that passes has no identity.
"""

from __future__ import annotations

import asyncio
import atexit
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from session_authority.gateway.decision import Gateway
from session_authority.gateway.ext_authz.check import Checks
from session_authority.gateway.identity import IDENTITY_HEADERS
from session_authority.gateway.requests import Kind
from session_authority.gateway.routes import Routes
from session_authority.internal.v1 import external_authorization_pb2 as pb
from session_authority_client import SessionStatus, Unavailable, Validation
from session_authority_client.flow import Flow
from tests.fuzz.target import Target
from tests.gateway.envoy import check_request

_OPEN = ("optional", "disabled")
_DEVICE = "123e4567-e89b-42d3-a456-426614174000"
_COOKIES = f"__Host-session=a.b.c; __Host-device={_DEVICE}"


class _Nobody:
    """A client of a service that knows no user or is unreachable."""

    away = False
    timeout = timedelta(seconds=1)

    async def validate_session(self, *_: object, **__: object) -> Validation:
        if self.away:
            raise Unavailable("away", grpc.StatusCode.UNAVAILABLE)
        return Validation(False, SessionStatus.NO_SESSION, _DEVICE, False, None, False, 0)

    async def renew_session(self, *_: object, **__: object) -> Any:
        raise Unavailable("away", grpc.StatusCode.UNAVAILABLE)


_NOBODY: Any = _Nobody()
_FLOW = Flow(sign_in_url="/sign-in", trusted_proxies=["10.0.0.0/8"])
_CHECKS = Checks(Gateway(_NOBODY, _FLOW, routes=Routes({"shop": "shop"})))
_LOOP = asyncio.new_event_loop()
atexit.register(_LOOP.close)


def check(data: bytes) -> None:
    """Sends a request."""
    if not data:
        return
    _NOBODY.away = bool(data[0] % 2)
    reply = _LOOP.run_until_complete(_CHECKS.reply(data[1:], 1.0))
    if reply is None:
        assert _NOBODY.away, "the gateway reports an outage, and there is none"
        return
    said = pb.CheckResponse.FromString(reply)
    kind = said.WhichOneof("http_response")
    assert (said.status.code == 0) == (kind == "ok_response"), "allowed and denied at once"
    if kind == "ok_response":
        _check_passed(data[1:], said)


def _check_passed(data: bytes, said: pb.CheckResponse) -> None:
    """Checks that the request passes as the route says, without an identity."""
    try:
        attributes = pb.CheckRequest.FromString(data).attributes
    except DecodeError:
        raise AssertionError("bytes that are no request pass") from None
    named = {option.header.key.decode(): option.header.value for option in said.ok_response.headers}
    assert all(named[name] == b"" for name in IDENTITY_HEADERS), "an identity out of nothing"
    is_preflight = attributes.request.http.method == b"OPTIONS"
    assert is_preflight or attributes.context_extensions.get("session") in _OPEN, "a closed route"
    assert "user" not in said.dynamic_metadata


_QUESTIONS = [
    check_request([("cookie", _COOKIES)]),
    check_request([("cookie", _COOKIES), ("cookie", "__Host-session=x.y.z")], raw=True),
    check_request([("authorization", "Bearer a.b.c"), ("x-device-id", _DEVICE)], peer="10.0.0.1"),
    check_request([("content-type", f"application/{Kind.GRPC_WEB.value}")], method="POST"),
    check_request([("origin", "https://evil.example"), ("upgrade", "websocket")]),
    check_request(
        [("x-session-user", "root"), ("x_session_id", "1")], options={"session": "optional"}
    ),
    check_request(options={"session": "disabled", "app": "shop"}),
    check_request(options={"session": "maybe"}),
    check_request(options={"max_age": "5m", "auth_methods": "otp", "sign_in": "401"}),
    check_request(
        [("origin", "https://a.example"), ("access-control-request-method", "POST")],
        method="OPTIONS",
        options={"preflight": "deny"},
    ),
    check_request(target="https://other.example/%2f..//a;b?x", host="[::1]:8080"),
]
TARGET = Target(
    check,
    seeds=[bytes([away]) + asked for asked in _QUESTIONS for away in (0, 1)],
    words=[
        *(name.lower().encode() for name in IDENTITY_HEADERS),
        b"cookie",
        b"x-forwarded-for",
        b"session",
        b"optional",
        b"__Host-session=",
        b"\r\n",
        b"\xff\xff\xff\xff\x0f",
    ],
)
