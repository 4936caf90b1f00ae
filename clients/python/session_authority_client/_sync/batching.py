"""Adaptive batching for threads. A validation is sent at once if none is under way. Validations
that come meanwhile go together after it.

No caller waits for a batch to fill. A caller that finds the queue idle makes its own call. A batch
is sent by the caller whose call has ended, and no thread waits for that batch.

This module and `_async/batching.py` are both written by hand: threads need a lock, and have no
event loop whose timers send batches and end waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoResultYet
from functools import partial
from typing import Any

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
from session_authority_client._sync.calls import Calls
from session_authority_client.errors import Unavailable
from session_authority_client.wire import session_authority_pb2 as pb


class BatchQueue:
    """Sends the validations of threads, alone or in batches."""

    def __init__(self, calls: Calls, *, batching: bool) -> None:
        self._calls = calls
        self._batching = batching
        self._lock = threading.Lock()
        self._queue: list[Waiter] = []
        self._under_way = 0
        self._waits_for_slot = False

    def validate(
        self, request: pb.ValidateSessionRequest, seconds: float
    ) -> pb.ValidateSessionResponse:
        """Returns the service's response within `seconds`."""
        size = request.ByteSize()
        if not self._batching or size > MAX_ITEM_BYTES:
            return self._call(request, seconds)
        waiter = None
        tracer = self._calls.tracer
        asker = None if tracer is None else tracer.asking()
        with self._lock:
            if self._under_way or self._queue:
                waiter = Waiter(request, size, time.monotonic() + seconds, Future(), asker)
                self._queue.append(waiter)
            else:
                self._under_way += 1
        if waiter is not None:
            return self._wait(waiter, seconds)
        try:
            return self._call(request, seconds)
        finally:
            self._ended()

    def _call(
        self, request: pb.ValidateSessionRequest, seconds: float
    ) -> pb.ValidateSessionResponse:
        if self._calls.recorder is not None:
            self._calls.recorder.batch(1)
        response: pb.ValidateSessionResponse = self._calls.make("ValidateSession", request, seconds)
        return response

    def _wait(self, waiter: Waiter, seconds: float) -> pb.ValidateSessionResponse:
        future: Future[pb.ValidateSessionResponse] = waiter.future
        try:
            return future.result(max_wait_seconds(seconds))
        except NoResultYet:
            if future.done():  # at this very moment, or with an exception of that kind
                return future.result()
        with self._lock:
            waits = waiter in self._queue
        if waits:
            self._send()
        try:
            return future.result(waiter.deadline - time.monotonic())
        except NoResultYet:
            with self._lock:
                without_slot = self._waits_for_slot and waiter in self._queue
            future.cancel()
            raise (self._calls.limiter.timed_out() if without_slot else too_late()) from None
        except BaseException:
            future.cancel()
            raise

    def _ended(self) -> None:
        with self._lock:
            self._under_way -= 1
            waits = bool(self._queue) and not self._under_way
        if waits:
            self._send()

    def _send(self) -> None:
        with self._lock:
            if self._waits_for_slot or not self._queue:
                return
            self._waits_for_slot = True
        limiter = self._calls.limiter
        if limiter.acquire_or_queue(self._granted) and not self._granted(None):
            limiter.release()

    def _granted(self, closed: Unavailable | None) -> bool:
        """There is a slot for a batch. All callers that wait by now go into the batch."""
        with self._lock:
            self._waits_for_slot = False
            waiters = [] if closed else take_batch(self._queue)
            self._under_way += bool(waiters)
        if closed is not None:
            self._fail_queue(closed)
        if not waiters:
            return False
        seconds = seconds_for(waiters, time.monotonic())
        done = partial(self._settle, waiters)
        if self._calls.recorder is not None:
            self._calls.recorder.batch(len(waiters))
        message, askers = message_of(waiters), askers_of(waiters)
        self._calls.start_in_slot("BatchValidateSessions", message, seconds, done, askers)
        return True

    def _settle(
        self, waiters: Sequence[Waiter], response: Any, error: BaseException | None
    ) -> None:
        if error is None:
            settle(waiters, response)
        else:
            fail(waiters, error)
        self._ended()

    def close(self) -> None:
        """Fails all callers that wait. It is called when the client makes no more calls."""
        self._fail_queue(client_closed())

    def _fail_queue(self, error: Unavailable) -> None:
        with self._lock:
            waiters = list(self._queue)
            self._queue.clear()
        fail(waiters, error)
