"""Adaptive batching: a validation goes out at once if none is under way; those that come meanwhile
go together after it.

Nobody waits for a batch to fill: at low load every validation is a call of its own, as it would be
without this. Each caller's deadline, cancellation and errors stay their own.

`TaskLine` is for asyncio and `ThreadLine` for threads. What goes into a batch and who gets what of
its answer is one code; how they wait is not: in a loop nothing runs in between, threads need a
lock, and a batch there is nobody's own call.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as NoResultYet
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any

import grpc

from session_authority_client.calls import TaskCalls, ThreadCalls
from session_authority_client.errors import (
    SessionAuthorityError,
    Unavailable,
    client_closed,
    copy_of,
    error_of_item,
    too_late,
)
from session_authority_client.wire import session_authority_pb2 as pb

# The service takes 500, in a message of 4 MiB.
_BATCH_ITEMS, _BATCH_BYTES = 500, 3 * 1024 * 1024
# Nothing that the service would take is this large: it is refused on its own, and takes nobody
# along.
_ALONE_BYTES = 8 * 1024
# So many who wait don't wait any longer for one call under way: while it is answered, the next can
# be read.
_BESIDE = 32
# Whoever waits longer than this, or than this part of their time, for calls under way goes out
# beside them.
_PATIENCE_SECONDS, _PATIENCE_PART = 0.05, 0.25


class Waiter:
    """Somebody who waits in the line, and until when."""

    __slots__ = ("deadline", "future", "request", "size")

    def __init__(
        self, request: pb.ValidateSessionRequest, size: int, deadline: float, future: Any
    ) -> None:
        self.request = request
        self.size = size
        self.deadline = deadline
        self.future = future  # asyncio's or that of threads: they are settled alike


def _patience(seconds: float) -> float:
    return min(_PATIENCE_SECONDS, seconds * _PATIENCE_PART)


def _take(queue: list[Waiter]) -> list[Waiter]:
    """The next batch, in the order of arrival. Whoever has gone stays behind."""
    taken: list[Waiter] = []
    held = passed = 0
    for waiter in queue:
        if not waiter.future.done():
            if len(taken) == _BATCH_ITEMS or held + waiter.size > _BATCH_BYTES:
                break
            taken.append(waiter)
            held += waiter.size
        passed += 1
    del queue[:passed]
    return taken


def _message(waiters: Sequence[Waiter]) -> pb.BatchValidateSessionsRequest:
    return pb.BatchValidateSessionsRequest(requests=[waiter.request for waiter in waiters])


def _seconds_for(waiters: Sequence[Waiter], now: float) -> float:
    """As long as the most patient of them has; the others leave earlier."""
    return max(max(waiter.deadline for waiter in waiters) - now, 0.0)


def _settle(waiters: Sequence[Waiter], answer: pb.BatchValidateSessionsResponse) -> None:
    """Gives each their own."""
    if len(answer.results) != len(waiters):
        _fail(
            waiters,
            SessionAuthorityError(
                "the answer is not one for each request", grpc.StatusCode.INTERNAL
            ),
        )
        return
    for waiter, result in zip(waiters, answer.results, strict=True):
        if waiter.future.done():
            continue
        with suppress(InvalidStateError):  # gone this very moment
            if result.HasField("response"):
                waiter.future.set_result(result.response)
            else:
                waiter.future.set_exception(error_of_item(result.error))


def _fail(waiters: Sequence[Waiter], error: BaseException) -> None:
    """Tells each, with an exception of their own: whoever catches one may add to it."""
    for waiter in waiters:
        if not waiter.future.done():
            with suppress(InvalidStateError):
                waiter.future.set_exception(copy_of(error))


class TaskLine:
    """Validates for the tasks of one event loop."""

    def __init__(self, calls: TaskCalls, *, batching: bool) -> None:
        self._calls = calls
        self._batching = batching
        self._queue: list[Waiter] = []
        self._under_way = 0
        self._lined_up = False  # for a place
        self._due: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(
        self, request: pb.ValidateSessionRequest, seconds: float
    ) -> pb.ValidateSessionResponse:
        """The service's answer, within so many seconds."""
        if not self._batching:
            return await self._call_one(request, seconds)
        if not self._under_way and not self._queue:
            self._under_way += 1
            try:
                return await self._call_one(request, seconds)
            finally:
                self._came_back()
        size = request.ByteSize()
        if size > _ALONE_BYTES:
            return await self._call_one(request, seconds)
        return await self._wait(request, size, seconds)

    async def _wait(
        self, request: pb.ValidateSessionRequest, size: int, seconds: float
    ) -> pb.ValidateSessionResponse:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[pb.ValidateSessionResponse] = loop.create_future()
        waiter = Waiter(request, size, loop.time() + seconds, future)
        self._queue.append(waiter)
        if self._due is None and not self._lined_up:
            self._due = loop.call_later(_patience(seconds), self._send)
        if self._due is not None and len(self._queue) == _BESIDE and self._under_way < 2:
            self._due.cancel()
            self._due = loop.call_soon(self._send)
        expiry = loop.call_later(seconds, self._expire, waiter)
        try:
            return await future
        finally:
            expiry.cancel()

    async def _call_one(
        self, request: pb.ValidateSessionRequest, seconds: float
    ) -> pb.ValidateSessionResponse:
        answer: pb.ValidateSessionResponse = await self._calls.make(
            "ValidateSession", request, seconds
        )
        return answer

    def _expire(self, waiter: Waiter) -> None:
        if not waiter.future.done():
            placeless = self._lined_up and waiter in self._queue
            waiter.future.set_exception(
                self._calls.places.none_in_time() if placeless else too_late()
            )

    def _came_back(self) -> None:
        """Lets the next batch go once those who just got an answer have had their turn: they often
        ask again.
        """
        self._under_way -= 1
        if self._queue and not self._under_way:
            if self._due is not None:
                self._due.cancel()
            self._due = asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._due = None
        while self._queue and not self._lined_up:
            self._lined_up = True
            if not self._calls.places.enter(self._turn):
                return
            if not self._turn(None):
                self._calls.places.leave()

    def _turn(self, closed: Unavailable | None) -> bool:
        """There is a place for a batch: it has whoever waits by now."""
        self._lined_up = False
        if closed is not None:
            self._tell_all(closed)
            return False
        waiters = _take(self._queue)
        if not waiters:
            return False
        self._under_way += 1
        loop = asyncio.get_running_loop()
        # It is for all of them, so it is no part of what one of them is in.
        task = loop.create_task(self._send_batch(waiters), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._queue and self._due is None:
            self._due = loop.call_soon(self._send)
        return True

    async def _send_batch(self, waiters: Sequence[Waiter]) -> None:
        seconds = _seconds_for(waiters, asyncio.get_running_loop().time())
        try:
            if len(waiters) == 1:
                answer = await self._calls.make_there(
                    "ValidateSession", waiters[0].request, seconds
                )
                _settle(waiters, _alone(answer))
            else:
                _settle(
                    waiters,
                    await self._calls.make_there(
                        "BatchValidateSessions", _message(waiters), seconds
                    ),
                )
        except asyncio.CancelledError:  # the loop ends
            _fail(waiters, client_closed())
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is theirs
            _fail(waiters, error)
        finally:
            self._came_back()

    async def close(self) -> None:
        """Once no calls are made any more, whoever waits is told so."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._tell_all(client_closed())
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _tell_all(self, error: Unavailable) -> None:
        _fail(self._queue, error)
        self._queue.clear()


def _alone(answer: pb.ValidateSessionResponse) -> pb.BatchValidateSessionsResponse:
    return pb.BatchValidateSessionsResponse(
        results=[pb.BatchValidateSessionsResult(response=answer)]
    )


class ThreadLine:
    """Validates for threads. A caller who finds the line idle makes their own call; a batch is sent
    by whoever comes back.
    """

    def __init__(self, calls: ThreadCalls, *, batching: bool) -> None:
        self._calls = calls
        self._batching = batching
        self._lock = threading.Lock()
        self._queue: list[Waiter] = []
        self._under_way = 0
        self._lined_up = False  # for a place

    def ask(self, request: pb.ValidateSessionRequest, seconds: float) -> pb.ValidateSessionResponse:
        """The service's answer, within so many seconds."""
        size = request.ByteSize()
        if not self._batching or size > _ALONE_BYTES:
            return self._call(request, seconds)
        waiter = None
        with self._lock:
            if self._under_way or self._queue:
                waiter = Waiter(request, size, time.monotonic() + seconds, Future())
                self._queue.append(waiter)
            else:
                self._under_way += 1
        if waiter is not None:
            return self._wait(waiter, seconds)
        try:
            return self._call(request, seconds)
        finally:
            self._came_back()

    def _wait(self, waiter: Waiter, seconds: float) -> pb.ValidateSessionResponse:
        try:
            return waiter.future.result(_patience(seconds))  # type: ignore[no-any-return]
        except NoResultYet:
            if waiter.future.done():  # what came is an exception of that kind
                raise
        with self._lock:
            waits = waiter in self._queue
        if waits:
            self._send()
        try:
            return waiter.future.result(waiter.deadline - time.monotonic())  # type: ignore[no-any-return]
        except NoResultYet:
            with self._lock:
                placeless = self._lined_up and waiter in self._queue
            waiter.future.cancel()
            raise (self._calls.places.none_in_time() if placeless else too_late()) from None
        except BaseException:
            waiter.future.cancel()
            raise

    def _call(
        self, request: pb.ValidateSessionRequest, seconds: float
    ) -> pb.ValidateSessionResponse:
        return self._calls.make("ValidateSession", request, seconds)  # type: ignore[no-any-return]

    def _came_back(self) -> None:
        with self._lock:
            self._under_way -= 1
            waits = bool(self._queue) and not self._under_way
        if waits:
            self._send()

    def _send(self) -> None:
        with self._lock:
            if self._lined_up or not self._queue:
                return
            self._lined_up = True
        if self._calls.places.enter(self._turn) and not self._turn(None):
            self._calls.places.leave()

    def _turn(self, closed: Unavailable | None) -> bool:
        """There is a place for a batch: it has whoever waits by now."""
        with self._lock:
            self._lined_up = False
            waiters = [] if closed else _take(self._queue)
            self._under_way += bool(waiters)
        if closed is not None:
            self._tell_all(closed)
        if not waiters:
            return False
        seconds = _seconds_for(waiters, time.monotonic())
        done = partial(self._landed, waiters)
        self._calls.start_there("BatchValidateSessions", _message(waiters), seconds, done)
        return True

    def _landed(self, waiters: Sequence[Waiter], answer: Any, error: BaseException | None) -> None:
        if error is None:
            _settle(waiters, answer)
        else:
            _fail(waiters, error)
        self._came_back()

    def close(self) -> None:
        """Once no calls are made any more, whoever waits is told so."""
        self._tell_all(client_closed())

    def _tell_all(self, error: Unavailable) -> None:
        with self._lock:
            waiters = list(self._queue)
            self._queue.clear()
        _fail(waiters, error)
