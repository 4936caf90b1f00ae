"""The methods of a gRPC channel, for both clients. This module also grants slots to waiting calls,
and says after which pauses a dropped call is repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from contextlib import suppress
from typing import Any

import grpc

from session_authority_client._shared.transport import METHODS, path_of
from session_authority_client.errors import Unavailable
from session_authority_client.wire import session_authority_pb2 as pb

# A server that is stopping ends new calls with CANCELLED for some milliseconds. Such a call is
# repeated after each of these pauses. Every method may be repeated (see `transport`). gRPC's own
# retries don't repeat these calls, because a few such calls would use up the retries that gRPC
# allows.
PAUSES_SECONDS = (0.02, 0.1)


def was_dropped(error: Any) -> bool:
    """Returns True if a call failed with CANCELLED, which is how a server that stops drops a
    call.
    """
    return isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.CANCELLED


def unary_of(channel: Any) -> dict[str, Callable[..., Any]]:
    """Returns the methods with a single response, by name."""
    return {
        name: channel.unary_unary(
            path_of(name),
            request_serializer=getattr(pb, f"{name}Request").SerializeToString,
            response_deserializer=getattr(pb, f"{name}Response").FromString,
        )
        for name in METHODS
    }


def watch_of(channel: Any) -> Any:
    """Returns the method WatchEvents, the only one with a stream of responses."""
    return channel.unary_stream(
        path_of("WatchEvents"),
        request_serializer=pb.WatchEventsRequest.SerializeToString,
        response_deserializer=pb.WatchEventsResponse.FromString,
    )


def grant(slot: Any, error: Unavailable | None) -> bool:
    """Gives a waiting caller a slot, or the error that says why it gets none.

    `slot` is the caller's future, of asyncio or of threads. Returns False if the caller has stopped
    waiting.
    """
    with suppress(asyncio.InvalidStateError, InvalidStateError):
        if error is None:
            slot.set_result(None)
        else:
            slot.set_exception(error)
        return True
    return False
