"""Makes the methods of a gRPC channel, for the client for asyncio and the client for threads. This
module also gives slots to waiting calls, and says after which pauses a client repeats a call that a
stopping server dropped.
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

# While a server stops, it ends new calls with CANCELLED for some milliseconds. A client repeats a
# call that ends with CANCELLED after the first pause, and again after the second pause. All calls
# except watches may be repeated (see `transport`). gRPC's own retries don't repeat calls that end
# with CANCELLED, because a few of these calls would use up the retries that gRPC allows.
PAUSES_SECONDS = (0.02, 0.1)


def was_dropped(error: Any) -> bool:
    """Returns True if a call failed with CANCELLED. A server that stops drops calls with the status
    CANCELLED.
    """
    return isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.CANCELLED


def unary_of(channel: Any) -> dict[str, Callable[..., Any]]:
    """Returns the methods of the service that have a single response, by the methods' names."""
    return {
        name: channel.unary_unary(
            path_of(name),
            request_serializer=getattr(pb, f"{name}Request").SerializeToString,
            response_deserializer=getattr(pb, f"{name}Response").FromString,
        )
        for name in METHODS
    }


def watch_of(channel: Any) -> Any:
    """Returns the method WatchEvents. The response to a call of this method is a stream of
    messages.
    """
    return channel.unary_stream(
        path_of("WatchEvents"),
        request_serializer=pb.WatchEventsRequest.SerializeToString,
        response_deserializer=pb.WatchEventsResponse.FromString,
    )


def grant(slot: Any, error: Unavailable | None) -> bool:
    """Gives a waiting caller a slot, or the error that says why the caller gets no slot.

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
