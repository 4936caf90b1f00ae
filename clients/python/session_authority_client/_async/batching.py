"""Sends validations in adaptive batches, for asyncio. If no validation is under way, a new
validation is sent at once. Validations that arrive during a call wait in a queue, and are sent
together when the call ends. If 32 callers wait and only one call is under way, the queue is sent
before this call ends. The queue is also sent when its first caller has waited for 50 ms or for a
quarter of the caller's timeout, whichever is shorter.

No caller waits for a batch to fill. At low load every validation is a call of its own, as without
batching. A request of more than 8 KiB is always a call of its own. Each caller in a batch has its
own deadline, can be cancelled alone, and gets its own result or error.

This module and `_sync/batching.py` are both written by hand, because tasks and threads wait in
different ways. In an event loop no other code runs between two awaits, so this module has no locks.
Timers of the event loop start the batches, and fail the callers whose timeout ends. A task sends
each batch. In `_sync/batching.py`, a lock guards the queue, and the thread whose call has ended
sends the next batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context

from session_authority_client._async.calls import AsyncCalls
from session_authority_client._shared.batching import (
    MAX_ITEM_BYTES,
    Waiter,
    askers_of,
    fail,
    max_wait_seconds,
    message_of,
    seconds_for,
    settle,
    take_batch,
)
from session_authority_client._shared.failures import client_closed, too_late
from session_authority_client.errors import Unavailable
from session_authority_client.wire import session_authority_pb2 as pb

# When this many callers are queued, a second batch is sent. The service can read the second batch
# while it answers the first batch.
_SECOND_BATCH_WAITERS = 32


class AsyncBatchQueue:
    """Sends the validations of the tasks of one event loop, alone or in batches."""

    def __init__(self, calls: AsyncCalls, *, batching: bool) -> None:
        self._calls = calls
        self._batching = batching
        self._queue: list[Waiter] = []
        self._under_way = 0
        self._waits_for_slot = False
        self._due: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def validate(
        self, request: pb.ValidateSessionRequest, seconds: float
    ) -> pb.ValidateSessionResponse:
        """Validates one token, and returns the service's response. Raises Unavailable if there is
        no response within `seconds`.
        """
        if not self._batching:
            return await self._call(request, seconds)
        if not self._under_way and not self._queue:
            self._under_way += 1
            try:
                return await self._call(request, seconds)
            finally:
                self._ended()
        size = request.ByteSize()
        if size > MAX_ITEM_BYTES:
            return await self._call(request, seconds)
        return await self._wait(request, size, seconds)

    async def _call(
        self, request: pb.ValidateSessionRequest, seconds: float
    ) -> pb.ValidateSessionResponse:
        if self._calls.recorder is not None:
            self._calls.recorder.batch(1)
        response: pb.ValidateSessionResponse = await self._calls.make(
            "ValidateSession", request, seconds
        )
        return response

    async def _wait(
        self, request: pb.ValidateSessionRequest, size: int, seconds: float
    ) -> pb.ValidateSessionResponse:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[pb.ValidateSessionResponse] = loop.create_future()
        tracer = self._calls.tracer
        asker = None if tracer is None else tracer.asking()
        waiter = Waiter(request, size, loop.time() + seconds, future, asker)
        self._queue.append(waiter)
        if self._due is None and not self._waits_for_slot:
            self._due = loop.call_later(max_wait_seconds(seconds), self._send)
        if (
            self._due is not None
            and len(self._queue) == _SECOND_BATCH_WAITERS
            and self._under_way < 2
        ):
            self._due.cancel()
            self._due = loop.call_soon(self._send)
        expiry = loop.call_later(seconds, self._expire, waiter)
        try:
            return await future
        finally:
            expiry.cancel()

    def _expire(self, waiter: Waiter) -> None:
        if not waiter.future.done():
            without_slot = self._waits_for_slot and waiter in self._queue
            waiter.future.set_exception(
                self._calls.limiter.timed_out() if without_slot else too_late()
            )

    def _ended(self) -> None:
        """Notes that a call has ended. The next batch is sent only after the callers of the ended
        call have continued, because these callers often send another validation.
        """
        self._under_way -= 1
        if self._queue and not self._under_way:
            if self._due is not None:
                self._due.cancel()
            self._due = asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._due = None
        while self._queue and not self._waits_for_slot:
            self._waits_for_slot = True
            if not self._calls.limiter.acquire_or_queue(self._granted):
                return
            if not self._granted(None):
                self._calls.limiter.release()

    def _granted(self, closed: Unavailable | None) -> bool:
        """Sends a batch in a slot that was granted. The batch contains the validations of the
        callers that wait at this moment. Returns False if no batch was sent. `closed` is None, or
        the error for all waiting callers if the client is closed.
        """
        self._waits_for_slot = False
        if closed is not None:
            self._fail_queue(closed)
            return False
        waiters = take_batch(self._queue)
        if not waiters:
            return False
        self._under_way += 1
        loop = asyncio.get_running_loop()
        # The batch serves many callers, so its task has a context of its own.
        task = loop.create_task(self._send_batch(waiters), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._queue and self._due is None:
            self._due = loop.call_soon(self._send)
        return True

    async def _send_batch(self, waiters: Sequence[Waiter]) -> None:
        seconds = seconds_for(waiters, asyncio.get_running_loop().time())
        if self._calls.recorder is not None:
            self._calls.recorder.batch(len(waiters))
        make, askers = self._calls.make_in_slot, askers_of(waiters)
        try:
            if len(waiters) == 1:
                alone = await make("ValidateSession", waiters[0].request, seconds, askers)
                result = pb.BatchValidateSessionsResult(response=alone)
                settle(waiters, pb.BatchValidateSessionsResponse(results=[result]))
            else:
                message = message_of(waiters)
                settle(waiters, await make("BatchValidateSessions", message, seconds, askers))
        except asyncio.CancelledError:  # the event loop is closing
            fail(waiters, client_closed())
            raise
        except Exception as error:  # noqa: BLE001 - the callers get every error
            fail(waiters, error)
        finally:
            self._ended()

    async def close(self) -> None:
        """Fails all waiting callers, and waits until no batch is under way. Call this method after
        the client has stopped making calls.
        """
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._fail_queue(client_closed())
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _fail_queue(self, error: Unavailable) -> None:
        fail(self._queue, error)
        self._queue.clear()
