"""The methods of a channel, for both flavours. This module also decides how a waiting call gets its
slot, and when a call is made again.
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

# A server that stops ends the calls that reach it within some milliseconds with CANCELLED. Such a
# call is made again after each of these pauses: any method may be (see `transport`). gRPC's own
# retries would be used up by a handful of them.
PAUSES_SECONDS = (0.02, 0.1)


def was_dropped(error: Any) -> bool:
    """Returns True if the server cancelled the call, and not this client."""
    return isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.CANCELLED


def unary_of(channel: Any) -> dict[str, Callable[..., Any]]:
    """The methods with a single response, by name."""
    return {
        name: channel.unary_unary(
            path_of(name),
            request_serializer=getattr(pb, f"{name}Request").SerializeToString,
            response_deserializer=getattr(pb, f"{name}Response").FromString,
        )
        for name in METHODS
    }


def watch_of(channel: Any) -> Any:
    """The one method with a stream of responses, WatchEvents."""
    return channel.unary_stream(
        path_of("WatchEvents"),
        request_serializer=pb.WatchEventsRequest.SerializeToString,
        response_deserializer=pb.WatchEventsResponse.FromString,
    )


def grant(slot: Any, error: Unavailable | None) -> bool:
    """Tells a caller that waits for a slot that it has one, or why it gets none.

    `slot` is the caller's future, of asyncio or of threads. Returns False if the caller has gone.
    """
    with suppress(asyncio.InvalidStateError, InvalidStateError):
        if error is None:
            slot.set_result(None)
        else:
            slot.set_exception(error)
        return True
    return False
