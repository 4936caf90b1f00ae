"""Decides which validations may share one request. This module also recognizes the failure of a
shared request that had too little time. A caller with more time then sends another request.
"""

from __future__ import annotations

import grpc

from session_authority_client.cache import Ticket
from session_authority_client.errors import Unavailable
from session_authority_client.wire import session_authority_pb2 as pb


def flight_key(request: pb.ValidateSessionRequest, ticket: Ticket) -> tuple[str, str, int, int]:
    """Returns the key of a validation. Two callers can share a request if their keys are equal. The
    key consists of the token, the device ID, the watch of the cache, and the number of events that
    this watch has brought.
    """
    return request.access_token, request.device_id, ticket.watch, ticket.events


def had_too_little_time(error: BaseException) -> bool:
    """Returns True if a call failed only because it had too little time. A caller with more time
    may then send another request.

    If the service can't answer a call before the deadline, it refuses the call. The error is then
    an `Unavailable` with the reason DEADLINE_TOO_SHORT.
    """
    return isinstance(error, Unavailable) and (
        error.code is grpc.StatusCode.DEADLINE_EXCEEDED or error.reason == "DEADLINE_TOO_SHORT"
    )
