"""Serves token introspection (RFC 7662) and revocation (RFC 7009), for frameworks and API gateways
that support no other protocol.

A token alone is not enough: a request must also have the device ID, as the parameter `device_id`.
With the device ID, an introspection is an ordinary validation, which also finds a replay. An
introspection without the device ID returns that the token is not active. The gateway does not call
the service for an introspection without the device ID, because the call could raise an alarm. A
revocation without the device ID is an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from urllib.parse import parse_qsl

import structlog

from session_authority.gateway.forward_auth import Reply
from session_authority.gateway.oauth_callers import (
    AmbiguousCaller,
    NotAuthenticated,
    OAuthCaller,
    OAuthCallers,
    TooManyFailures,
)
from session_authority.gateway.web import App, Receive, Scope, Send, send_reply
from session_authority_client import (
    AsyncSessionAuthority,
    CallerNotAllowed,
    InvalidRequest,
    Session,
    SessionAuthorityError,
    SessionStatus,
)

INTROSPECTION_PATH, REVOCATION_PATH = "/introspect", "/revoke"

_log = structlog.get_logger(__name__)

_MAX_BODY_BYTES = 16 * 1024
_MAX_FIELDS = 20
_FORM = "application/x-www-form-urlencoded"
_REASON = "the token was revoked"
_SHORTEST_WAIT = timedelta(seconds=1)
_HEADERS = (
    ("Content-Type", "application/json"),
    ("Cache-Control", "no-store"),
    ("Pragma", "no-cache"),
)
_INACTIVE = {"active": False}

Form = Mapping[str, str]


class BadForm(Exception):
    """The request has no valid form. The text of the error says why."""


class OAuth:
    """Answers introspections and revocations. The client `authority` needs the role `manager` for
    revocations.
    """

    def __init__(self, authority: AsyncSessionAuthority, callers: OAuthCallers) -> None:
        self._authority = authority
        self._callers = callers

    def apps(self) -> list[tuple[str, App]]:
        """Returns the paths that this class serves, each with its ASGI app."""
        return [
            (INTROSPECTION_PATH, self._app(self._introspect)),
            (REVOCATION_PATH, self._app(self._revoke)),
        ]

    def _app(self, answer: Callable[[Form, OAuthCaller], Awaitable[Reply]]) -> App:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send_reply(scope, await self._reply(scope, receive, answer), send)

        return app

    async def _reply(
        self,
        scope: Scope,
        receive: Receive,
        answer: Callable[[Form, OAuthCaller], Awaitable[Reply]],
    ) -> Reply:
        try:
            form = await _form(scope, receive)
            address = (scope.get("client") or ("",))[0]
            authorization = [
                value.decode("latin-1")
                for name, value in scope["headers"]
                if name.lower() == b"authorization"
            ]
            caller = self._callers.authenticate(address, authorization, form)
            return await answer(form, caller)
        except BadForm as error:
            return _error(400, "invalid_request", str(error))
        except AmbiguousCaller:
            return _error(400, "invalid_request", "the client must authenticate in one way")
        except NotAuthenticated:
            challenge = ("WWW-Authenticate", 'Basic realm="session-authority"')
            return _error(401, "invalid_client", "", challenge)
        except TooManyFailures as error:
            wait = ("Retry-After", str(error.retry_after_seconds))
            return _error(429, "temporarily_unavailable", "too many failures", wait)
        except SessionAuthorityError as error:
            if isinstance(error, CallerNotAllowed):
                _log.error("gateway_not_allowed")
            seconds = max(error.retry_after or _SHORTEST_WAIT, _SHORTEST_WAIT).total_seconds()
            wait = ("Retry-After", str(math.ceil(seconds)))
            return _error(503, "temporarily_unavailable", "", wait)

    async def _introspect(self, form: Form, caller: OAuthCaller) -> Reply:
        del caller
        token, device_id = _token(form), form.get("device_id", "")
        if not device_id:
            return _json(200, _INACTIVE)
        try:
            found = await self._authority.validate_session(token, device_id)
        except InvalidRequest:
            return _json(200, _INACTIVE)
        return _json(200, _INACTIVE if found.session is None else _told(found.session))

    async def _revoke(self, form: Form, caller: OAuthCaller) -> Reply:
        if not caller.may_revoke:
            return _error(400, "unauthorized_client", "this client may not revoke")
        token, device_id = _token(form), form.get("device_id", "")
        if not device_id:
            raise BadForm("device_id must be given: without it no token can be told")
        try:
            session = await self._session_of(token, device_id)
        except InvalidRequest:
            session = None
        if session is not None:
            await self._authority.revoke_device(session.user_id, session.device_id, reason=_REASON)
        return Reply(200, _HEADERS[1:])

    async def _session_of(self, token: str, device_id: str) -> Session | None:
        """Returns the session of a token, or None if the token is not good. Renews an expired
        token, because only a renewal returns the session of an expired token.
        """
        found = await self._authority.validate_session(token, device_id)
        if found.status is not SessionStatus.TOKEN_EXPIRED:
            return found.session
        return (await self._authority.renew_session(token, device_id)).session


def _told(session: Session) -> dict[str, object]:
    """Returns the facts of an active session for an introspection. A fact that has a name in RFC
    7662 has the same name in the result.
    """
    return {
        "active": True,
        "token_type": "Bearer",
        "sub": session.user_id,
        "exp": int(session.token_expire_time.timestamp()),
        "sid": session.session_id,
        "device_id": session.device_id,
        "amr": list(session.auth_methods),
        "auth_time": int(session.sign_in_time.timestamp()),
        "claims": dict(session.claims),
    }


def _token(form: Form) -> str:
    token = form.get("token", "")
    if not token:
        raise BadForm("token must be given")
    return token


async def _form(scope: Scope, receive: Receive) -> Form:
    """Reads the form from a request. Raises BadForm if the request has no valid form."""
    if scope["method"] != "POST":
        raise BadForm("the method must be POST")
    kinds = [value for name, value in scope["headers"] if name.lower() == b"content-type"]
    if [kind.decode("latin-1").partition(";")[0].strip().lower() for kind in kinds] != [_FORM]:
        raise BadForm(f"the content type must be {_FORM}")
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise BadForm("the request has ended")
        body, more = body + message.get("body", b""), message.get("more_body", False)
        if len(body) > _MAX_BODY_BYTES:
            raise BadForm("the form is too long")
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError:
        raise BadForm("the form can't be read") from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise BadForm("a parameter is given twice")
    return dict(pairs)


def _json(status: int, value: Mapping[str, object], *headers: tuple[str, str]) -> Reply:
    return Reply(status, (*_HEADERS, *headers), json.dumps(value).encode())


def _error(status: int, code: str, text: str, *headers: tuple[str, str]) -> Reply:
    told = {"error": code} | ({"error_description": text} if text else {})
    return _json(status, told, *headers)
