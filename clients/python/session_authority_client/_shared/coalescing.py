"""Which validations may share one request, and when a shared failure says nothing to a caller."""

from __future__ import annotations

import grpc

from session_authority_client.cache import Ticket
from session_authority_client.errors import Unavailable
from session_authority_client.wire import session_authority_pb2 as pb


def flight_key(request: pb.ValidateSessionRequest, ticket: Ticket) -> tuple[str, str, int, int]:
    """The key that is equal if two callers can share a request. It consists of the token, the
    device ID, the watch of the cache, and how many events this watch has brought.
    """
    return request.access_token, request.device_id, ticket.watch, ticket.events


def had_too_little_time(error: BaseException) -> bool:
    """Returns True if a call failed only because it had too little time. A caller with more time
    may ask again.

    The service refuses a call that it can't answer in time as if the service was away.
    """
    return isinstance(error, Unavailable) and (
        error.code is grpc.StatusCode.DEADLINE_EXCEEDED or error.reason == "DEADLINE_TOO_SHORT"
    )
