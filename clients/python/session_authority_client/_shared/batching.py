"""Decides which validations go into a batch, and gives each caller its own part of the response.

`_async/batching.py` and `_sync/batching.py` wait for slots and send the batches.
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

# The service accepts up to 500 requests in one BatchValidateSessions message, and messages of up to
# 4 MiB.
MAX_BATCH_ITEMS = 500
MAX_BATCH_BYTES = 3 * 1024 * 1024
# A valid request is smaller than this number of bytes. The service may refuse a larger request, and
# refuses every validation of more than 64 KiB. The client never puts a larger request into a batch,
# because a refusal of the batch would also fail the requests of other callers.
MAX_ITEM_BYTES = 8 * 1024
# While a call is under way, new callers wait for the next batch. Each caller waits at most this
# many seconds, and at most this share of its timeout. When a caller has waited so long, the next
# batch is sent, although the call is still under way.
MAX_WAIT_SECONDS = 0.05
MAX_WAIT_SHARE = 0.25


class Waiter:
    """A caller that waits in the queue for the next batch. `deadline` is in seconds: a time of the
    event loop's clock with asyncio, and a time of the monotonic clock with threads.
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
    """Returns how many seconds a caller waits at most for the next batch while another call is
    under way. `seconds` is the caller's timeout.
    """
    return min(MAX_WAIT_SECONDS, seconds * MAX_WAIT_SHARE)


def take_batch(queue: list[Waiter]) -> list[Waiter]:
    """Removes the callers of the next batch from the queue, in the order of their arrival, and
    returns these callers.

    Callers that no longer wait for a result are also removed, but are not in the batch.
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
    """Makes the BatchValidateSessions request for the callers of a batch."""
    return pb.BatchValidateSessionsRequest(requests=[waiter.request for waiter in waiters])


def seconds_for(waiters: Sequence[Waiter], now: float) -> float:
    """Returns the timeout of a batch in seconds: the time from `now` until the latest deadline of
    its callers. A caller with an earlier deadline stops waiting at its own deadline.
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
        with suppress(InvalidStateError):  # the caller has just stopped waiting
            if result.HasField("response"):
                waiter.future.set_result(result.response)
            else:
                waiter.future.set_exception(error_of_item(result.error))


def fail(waiters: Sequence[Waiter], error: BaseException) -> None:
    """Gives an error to each caller that still waits. If the error is a SessionAuthorityError, each
    caller gets its own copy, because a caller may add notes to the exception that it catches. If
    the error has another class, all callers get the same object.
    """
    for waiter in waiters:
        if not waiter.future.done():
            with suppress(InvalidStateError):
                waiter.future.set_exception(copy_of(error))
