"""Decides which validations may share one request. This module also recognizes the failure of a
shared request that had too little time. After the failure of a shared request, a caller with a
longer timeout sends another request.
"""

from __future__ import annotations

import grpc

from session_authority_client.cache import Ticket
from session_authority_client.errors import Unavailable
from session_authority_client.wire import session_authority_pb2 as pb


def flight_key(request: pb.ValidateSessionRequest, ticket: Ticket) -> tuple[str, str, int, int]:
    """Returns the key of a validation. Two callers can share a request if their keys are equal. The
    key consists of the token, the device ID, the number of the near cache's watch, and the number
    of events that this watch has received.
    """
    return request.access_token, request.device_id, ticket.watch, ticket.events


def had_too_little_time(error: BaseException) -> bool:
    """Returns True if a call failed only because it had too little time. If the result is True, a
    caller with a longer timeout may send another request.

    A call that had too little time failed with DEADLINE_EXCEEDED, or was refused by the service
    with DEADLINE_TOO_SHORT. The service refuses a call with DEADLINE_TOO_SHORT if it can't answer
    before the call's deadline.
    """
    return isinstance(error, Unavailable) and (
        error.code is grpc.StatusCode.DEADLINE_EXCEEDED or error.reason == "DEADLINE_TOO_SHORT"
    )
