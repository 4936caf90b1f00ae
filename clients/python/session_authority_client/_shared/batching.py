"""Decides which validations go into a batch, and gives each caller its own part of the response.

`_async/batching.py` and `_sync/batching.py` do the waiting and the sending.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import InvalidStateError
from contextlib import suppress
from typing import Any

import grpc

from session_authority_client._shared.failures import copy_of, error_of_item
from session_authority_client.errors import SessionAuthorityError
from session_authority_client.wire import session_authority_pb2 as pb

# The service accepts up to 500 requests in a message, and up to 4 MiB.
MAX_BATCH_ITEMS = 500
MAX_BATCH_BYTES = 3 * 1024 * 1024
# A good request is smaller than this. The service refuses a single validation of more than 64 KiB.
# The client sends a request over this limit alone, so that the requests of other callers don't fail
# if this request is refused.
MAX_ITEM_BYTES = 8 * 1024
# A caller waits for the call under way for this time at most, and for this share of its timeout at
# most. Then a batch is sent, although the other call is still under way.
MAX_WAIT_SECONDS = 0.05
MAX_WAIT_SHARE = 0.25


class Waiter:
    """A caller in the queue. `deadline` is a time in seconds: by the event loop's clock with
    asyncio, and by the monotonic clock with threads.
    """

    __slots__ = ("asker", "deadline", "future", "request", "size")

    def __init__(
        self,
        request: pb.ValidateSessionRequest,
        size: int,
        deadline: float,
        future: Any,
        asker: Any = None,
    ) -> None:
        self.asker = asker  # the context of the caller's span, or None without a recorded span
        self.request = request
        self.size = size
        self.deadline = deadline
        self.future = future  # a future of asyncio or of threads


def max_wait_seconds(seconds: float) -> float:
    """Returns how many seconds a caller waits at most for the call under way. `seconds` is the
    caller's timeout.
    """
    return min(MAX_WAIT_SECONDS, seconds * MAX_WAIT_SHARE)


def take_batch(queue: list[Waiter]) -> list[Waiter]:
    """Removes the next batch from the queue, in the order of arrival, and returns it.

    Callers that have given up are also removed, but are not in the batch.
    """
    batch: list[Waiter] = []
    held = passed = 0
    for waiter in queue:
        if not waiter.future.done():
            if len(batch) == MAX_BATCH_ITEMS or held + waiter.size > MAX_BATCH_BYTES:
                break
            batch.append(waiter)
            held += waiter.size
        passed += 1
    del queue[:passed]
    return batch


def askers_of(waiters: Sequence[Waiter]) -> list[Any]:
    """Returns the contexts of the spans of a batch's callers. A caller without a recorded span is
    left out.
    """
    return [waiter.asker for waiter in waiters if waiter.asker is not None]


def message_of(waiters: Sequence[Waiter]) -> pb.BatchValidateSessionsRequest:
    """Makes the request of a batch."""
    return pb.BatchValidateSessionsRequest(requests=[waiter.request for waiter in waiters])


def seconds_for(waiters: Sequence[Waiter], now: float) -> float:
    """Returns the timeout of a batch in seconds: the time until the latest deadline of its callers.
    Every other caller stops waiting at its own deadline.
    """
    return max(max(waiter.deadline for waiter in waiters) - now, 0.0)


def settle(waiters: Sequence[Waiter], response: pb.BatchValidateSessionsResponse) -> None:
    """Gives each caller its own part of the response: a result or an exception. If the response
    does not have one result for each caller, all callers get a SessionAuthorityError.
    """
    if len(response.results) != len(waiters):
        text = "the answer is not one for each request"
        fail(waiters, SessionAuthorityError(text, grpc.StatusCode.INTERNAL))
        return
    for waiter, result in zip(waiters, response.results, strict=True):
        if waiter.future.done():
            continue
        with suppress(InvalidStateError):  # the caller gives up at this moment
            if result.HasField("response"):
                waiter.future.set_result(result.response)
            else:
                waiter.future.set_exception(error_of_item(result.error))


def fail(waiters: Sequence[Waiter], error: BaseException) -> None:
    """Fails each caller that still waits. Each caller gets its own copy of a SessionAuthorityError,
    because a caller may add notes to the exception that it catches. All callers share an exception
    of any other type.
    """
    for waiter in waiters:
        if not waiter.future.done():
            with suppress(InvalidStateError):
                waiter.future.set_exception(copy_of(error))
