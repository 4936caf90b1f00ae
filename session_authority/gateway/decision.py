"""Decides whether the original request of a client may go on to an app, and makes the gateway's
answer to the proxy.

The flow of the Python client decides about the session, and calls the service. This module makes
the answer from the decision of the flow. This module does not depend on the protocol of the proxy.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from time import monotonic

import structlog

from session_authority.gateway import answers
from session_authority.gateway.answers import Answer
from session_authority.gateway.assertions import CannotSign
from session_authority.gateway.credentials import Onward, onward
from session_authority.gateway.identity import ANONYMOUS, IdentityHeaders, Pairs
from session_authority.gateway.metrics import GatewayMetrics
from session_authority.gateway.requests import GatewayRequest, Kind
from session_authority.gateway.routes import (
    Credentials,
    Need,
    Preflights,
    Route,
    RouteFault,
    Routes,
    SignIn,
)
from session_authority_client import AsyncSessionAuthority, Session
from session_authority_client.adapter import VARIES, AsyncVisit, AsyncVisits, Refused, Response
from session_authority_client.flow import Flow

_log = structlog.get_logger(__name__)

Assertions = Callable[[Session, Route], str]
"""A function that makes the assertion of a session for the app of a route. The function returns an
empty text if the app gets no assertion.
"""

_VARY = ("Vary", ", ".join(VARIES))
# The gateway can't see the headers of the app's response. So the gateway assumes that the app sets
# `Cache-Control` itself.
_APP_DECIDES = ("cache-control",)
# A fault in a proxy's configuration occurs with each request. So the gateway logs at most one such
# fault in this time.
_FAULT_LOG_SECONDS = 60.0


class Gateway:
    """Decides whether requests go on to their apps. The gateway does not close `authority`: the
    code that opened `authority` closes it.

    Args:
        authority: The client of the service.
        flow: The settings of the flow.
        routes: Reads the options of routes. If None, the gateway makes a reader that knows no apps.
        assertions: Makes the assertions for apps. None if apps get no assertions.
        metrics: Counts the answers. If None, the gateway makes its own metrics.
    """

    def __init__(
        self,
        authority: AsyncSessionAuthority,
        flow: Flow,
        *,
        routes: Routes | None = None,
        assertions: Assertions | None = None,
        metrics: GatewayMetrics | None = None,
    ) -> None:
        self.flow = flow
        self.routes = routes or Routes()
        self.metrics = metrics or GatewayMetrics()
        self._assertions = assertions
        self._identity_headers = IdentityHeaders()
        self._visits = {
            SignIn.REDIRECT: AsyncVisits(authority, flow),
            SignIn.STATUS: AsyncVisits(authority, replace(flow, sign_in_url=None)),
        }
        self._next_fault_log = 0.0

    async def decide(self, request: GatewayRequest, route: Route) -> Answer:
        """Returns the answer for an original request on a route. If the request is faulty or the
        service gives no answer, the result is a denial and not an exception.
        """
        began = monotonic()
        answer = await self._decide(request, route)
        self.metrics.count(answer, monotonic() - began)
        return answer

    def misrouted(self, request: GatewayRequest, fault: RouteFault) -> Answer:
        """Returns a denial for a request on a route whose options are wrong. Logs the fault, unless
        a fault was logged less than a minute ago.
        """
        self._log_fault("route_options_wrong", fault)
        answer = answers.denied(request, _told(500, "misconfigured"), code="misconfigured")
        self.metrics.count(answer, 0.0)
        return answer

    def not_understood(self, fault: Exception) -> Answer:
        """Returns a denial for an authorization request that does not describe the original
        request. Logs the fault, unless a fault was logged less than a minute ago.
        """
        self._log_fault("authorization_request_not_understood", fault)
        answer = answers.not_understood(_told(400, "not_understood"))
        self.metrics.count(answer, 0.0)
        return answer

    def _log_fault(self, event: str, fault: Exception) -> None:
        now = monotonic()
        if now >= self._next_fault_log:
            self._next_fault_log = now + _FAULT_LOG_SECONDS
            _log.error(event, fault=str(fault))

    async def _decide(self, request: GatewayRequest, route: Route) -> Answer:
        keep = route.credentials is Credentials.KEEP
        carried = onward(self.flow, request.headers, keep=keep)
        if route.session is Need.DISABLED:
            return answers.allowed(request, self.flow, carried)
        if request.kind is Kind.PREFLIGHT:
            if route.preflights is Preflights.PASS:
                return answers.allowed(request, self.flow, carried)
            return answers.denied(request, _told(403, "preflight"), code="preflight")
        # Only a request for a page may be redirected to the sign-in. A gRPC call or a WebSocket
        # handshake is no request for a page.
        sign_in = route.sign_in if request.kind is Kind.HTTP else SignIn.STATUS
        try:
            visit = await self._visits[sign_in].open(
                request.method,
                request.headers_at_origin(),
                request.peer,
                request.target,
                timeout=_time_left(request),
            )
        except Refused as refusal:
            return answers.refused(request, refusal)
        try:
            return await self._judge(request, route, visit, carried)
        finally:
            visit.leave()

    async def _judge(
        self, request: GatewayRequest, route: Route, visit: AsyncVisit, carried: Onward
    ) -> Answer:
        try:
            self._admitted(route, visit)
            # The renewal in `close` may find that the session has just ended, so the session is
            # checked again.
            cookies = tuple(await visit.close())
            session = self._admitted(route, visit)
        except Refused as refusal:
            cookies = tuple(await visit.close())
            headers = visit.caching((), "").added
            answer = answers.refused(request, refusal, cookies=cookies)
            sent = {name.lower() for name, _ in answer.headers}
            more = tuple(pair for pair in headers if pair[0].lower() not in sent)
            return replace(answer, headers=(*answer.headers, *more), device_id=visit.device_id)
        try:
            identity = ANONYMOUS if session is None else self._identity(session, route)
        except CannotSign as fault:
            self._log_fault("assertion_not_signed", fault)
            told = _told(500, "misconfigured")
            return answers.denied(request, told, code="misconfigured", cookies=cookies)
        headers = (_VARY, *visit.caching(_APP_DECIDES, "").added)
        accept_ch = self.flow.accept_ch(
            request.method, request.headers, request.peer, request.scheme
        )
        if accept_ch:
            headers = (*headers, ("Accept-CH", accept_ch))
        return answers.allowed(
            request,
            self.flow,
            carried,
            identity=identity,
            headers=headers,
            cookies=cookies,
            session=session,
            device_id=visit.device_id,
        )

    def _admitted(self, route: Route, visit: AsyncVisit) -> Session | None:
        """Returns the session of the visit. Returns None if the visit has no session and the route
        does not need a session. Raises Refused if the route needs a session and the visit has no
        session. Also raises Refused if the sign-in of the session does not meet the options
        `max_age` or `auth_methods` of the route.
        """
        if route.session is Need.OPTIONAL:
            return visit.session
        return visit.require(max_age=route.max_age, auth_methods=route.auth_methods or None)

    def _identity(self, session: Session, route: Route) -> Pairs:
        assertion = self._assertions(session, route) if self._assertions is not None else ""
        return self._identity_headers.of(session, assertion)


def _time_left(request: GatewayRequest) -> timedelta | None:
    if request.deadline is None:
        return None
    return timedelta(seconds=max(request.deadline - monotonic(), 0.0))


def _told(status: int, code: str) -> Response:
    body = json.dumps({"error": code}).encode()
    headers = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
    return Response(status, headers, body)
