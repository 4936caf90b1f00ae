"""Decides about one request for the gateway.

A proxy asks the gateway a question: whether the original request of a client may go on to an app.
The decision comes from the flow of the client, which asks the service. This module builds the
answer from the decision, and knows no protocol of a proxy.
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
"""Makes the assertion of a session for the app of a route. An empty text stands for no
assertion.
"""

_VARY = ("Vary", ", ".join(VARIES))
# The gateway can't see the app's rules for caches. So it assumes that the app sets `Cache-Control`.
_APP_DECIDES = ("cache-control",)
# A fault in a proxy's configuration shows with each request, so it is logged only once in this
# time.
_FAULT_LOG_SECONDS = 60.0


class Gateway:
    """Decides whether requests go on to their apps. The owner of the client closes the client and
    its cache.

    Args:
        authority: The client of the service.
        flow: The settings of the flow.
        routes: Reads the options of the proxies' routes.
        assertions: Makes the assertions for apps. None if apps get no assertions.
        metrics: Counts the answers.
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
        """Returns the answer to a request. Never raises for a fault of the request or the
        service.
        """
        began = monotonic()
        answer = await self._decide(request, route)
        self.metrics.count(answer, monotonic() - began)
        return answer

    def misrouted(self, request: GatewayRequest, fault: RouteFault) -> Answer:
        """Returns a denial for a request to a route whose options are wrong, and logs the fault."""
        self._log_fault("route_options_wrong", fault)
        answer = answers.denied(request, _told(500, "misconfigured"), code="misconfigured")
        self.metrics.count(answer, 0.0)
        return answer

    def not_understood(self, fault: Exception) -> Answer:
        """Returns a denial for a question that does not describe the original request, and logs the
        fault.
        """
        self._log_fault("question_not_understood", fault)
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
        # Only pages are redirected. gRPC calls and WebSocket handshakes are not pages.
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
        """Returns the session, or None on an `OPTIONAL` route if there is no session. Raises
        Refused.
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
