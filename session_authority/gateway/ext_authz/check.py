"""Answers the RPC that Envoy calls: decodes an authorization request, and encodes the gateway's
answer.
"""

from __future__ import annotations

from time import monotonic

from google.protobuf.message import DecodeError

from session_authority.gateway.answers import Answer
from session_authority.gateway.decision import Gateway
from session_authority.gateway.ext_authz import replies
from session_authority.gateway.ext_authz.check_requests import request_of
from session_authority.gateway.originals import NotUnderstood
from session_authority.gateway.routes import RouteFault
from session_authority.internal.v1 import external_authorization_pb2 as pb

SERVICE, METHOD = "envoy.service.auth.v3.Authorization", "Check"
# The gateway's own time limit ends this much before Envoy's time limit, so that the answer arrives
# in time.
_SPARE_SECONDS = 0.020
# If a call has no deadline, gRPC may report that centuries are left. So if more time is left than
# this, the call counts as a call without a deadline.
_MAX_SECONDS = 3600.0


class Checks:
    """Answers Envoy's authorization requests.

    `error_responses` says what Envoy gets if the service gives no answer. If `error_responses` is
    True, Envoy gets an error response, which Envoy understands from version 1.37 on. If
    `error_responses` is False, Envoy's call fails, and Envoy's own configuration decides about the
    request.
    """

    def __init__(self, gateway: Gateway, *, error_responses: bool = False) -> None:
        self._gateway = gateway
        self._error_responses = error_responses

    async def reply(self, message: bytes, seconds_left: float | None) -> bytes | None:
        """Returns the serialized answer to a serialized authorization request. Returns None if the
        call must fail with UNAVAILABLE.

        `seconds_left` is the time for which Envoy still waits, or None if Envoy set no time limit.
        """
        answer = await self.answer(message, _deadline(seconds_left))
        if answer.outage:
            return replies.failed(answer) if self._error_responses else None
        return replies.allowed(answer) if answer.allowed else replies.denied(answer)

    async def answer(self, message: bytes, deadline: float | None) -> Answer:
        """Returns the gateway's answer to a serialized authorization request. `deadline` is a time
        of the monotonic clock in seconds, or None if there is no deadline.
        """
        try:
            attributes = pb.CheckRequest.FromString(message).attributes
            request = request_of(attributes, self._gateway.flow.cookies, deadline)
        except DecodeError:
            return self._gateway.not_understood(NotUnderstood("it is no CheckRequest"))
        except NotUnderstood as fault:
            return self._gateway.not_understood(fault)
        try:
            route = self._gateway.routes.read(attributes.context_extensions)
        except RouteFault as fault:
            return self._gateway.misrouted(request, fault)
        return await self._gateway.decide(request, route)


def _deadline(seconds_left: float | None) -> float | None:
    if seconds_left is None or seconds_left > _MAX_SECONDS:
        return None
    return monotonic() + max(seconds_left - _SPARE_SECONDS, 0.0)
