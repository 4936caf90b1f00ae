"""Makes every call of a client for threads: with its deadline, its slot, and one way to fail.

`_async/calls.py` says why calls wait for a slot. This module is written by hand because waiting
differs: a task can be cancelled while it waits, and gRPC loses calls of tasks only; a thread can
wait for a result and make a call that no thread waits for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoResultYet
from contextlib import suppress
from functools import partial
from threading import Timer
from typing import Any

import grpc
from google.protobuf.message import Message

from session_authority_client._shared.calls import (
    PAUSES_SECONDS,
    grant,
    unary_of,
    was_dropped,
    watch_of,
)
from session_authority_client._shared.failures import client_closed, failure_of
from session_authority_client._shared.limiter import Limiter
from session_authority_client._shared.recording import Recorder, recorded, recorded_until_done
from session_authority_client._shared.tracing import CallSpan, Tracer
from session_authority_client._shared.transport import Transport
from session_authority_client.wire import session_authority_pb2 as pb

# A function that is called when a call has ended, with the response or with the exception.
Done = Callable[[Any, BaseException | None], None]


class Calls:
    """Makes the calls of threads."""

    def __init__(
        self,
        open_channel: Callable[[], grpc.Channel],
        transport: Transport,
        max_in_flight: int,
        recorder: Recorder | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.tracer = tracer
        self.limiter = Limiter(max_in_flight)
        self.recorder = recorder
        self._channel = open_channel()
        self._transport = transport
        self._unary = unary_of(self._channel)
        self._watch = watch_of(self._channel)

    def make(self, method: str, request: Message, seconds: float) -> Any:
        """Makes a call. Returns the response within `seconds`."""
        with recorded(self.recorder, method):
            return self._make(method, request, seconds)

    def _make(self, method: str, request: Message, seconds: float) -> Any:
        if not self.limiter.try_acquire():
            seconds = self._wait(seconds)
        deadline = time.monotonic() + seconds
        try:
            for pause in PAUSES_SECONDS:
                try:
                    return self._attempt(method, request, deadline - time.monotonic())
                except grpc.RpcError as error:
                    is_late = time.monotonic() + pause >= deadline
                    if not was_dropped(error) or is_late or self.limiter.closed:
                        raise
                time.sleep(pause)
                self._note_retry(method)
            return self._attempt(method, request, deadline - time.monotonic())
        except (grpc.RpcError, ValueError) as error:
            raise failure_of(error, closed=self.limiter.closed) from None
        finally:
            self.limiter.release()

    def _attempt(self, method: str, request: Message, seconds: float) -> Any:
        metadata = self._transport.metadata()
        if self.tracer is None:
            return self._unary[method](request, timeout=seconds, metadata=metadata)
        span = self.tracer.begin(method)
        metadata = (*metadata, *span.headers)
        try:
            answer = self._unary[method](request, timeout=seconds, metadata=metadata)
        except BaseException as error:
            span.end(error)
            raise
        span.end()
        return answer

    def start_in_slot(
        self,
        method: str,
        request: Message,
        seconds: float,
        done: Done,
        askers: Sequence[Any] = (),
    ) -> None:
        """Starts a call that no thread waits for, in a slot that was acquired before.

        `askers` are the spans of the callers whose validations are in the call. The call's own span
        belongs to the first of these spans, and has links to the others. The slot is released
        before `done` is called.
        """
        done = recorded_until_done(self.recorder, method, done)
        deadline = time.monotonic() + seconds
        self._start(method, request, deadline, done, askers, PAUSES_SECONDS)

    def _note_retry(self, method: str) -> None:
        if self.recorder is not None:
            self.recorder.retry(method)

    def _start(
        self,
        method: str,
        request: Message,
        deadline: float,
        done: Done,
        askers: Sequence[Any],
        pauses: tuple[float, ...],
    ) -> None:
        span: CallSpan | None = None
        try:
            start: Any = self._unary[method]
            metadata = self._transport.metadata()
            if self.tracer is not None:
                span = self.tracer.begin(method, askers)
                metadata = (*metadata, *span.headers)
            call = start.future(request, timeout=deadline - time.monotonic(), metadata=metadata)
        except BaseException as error:
            if span is not None:
                span.end(error)
            self.limiter.release()
            done(None, failure_of(error, closed=self.limiter.closed))
            if not isinstance(error, Exception):
                raise
            return
        again = partial(self._start_again, method, request, deadline, done, askers)
        call.add_done_callback(partial(self._end, done, again, span, pauses))

    def _start_again(
        self,
        method: str,
        request: Message,
        deadline: float,
        done: Done,
        askers: Sequence[Any],
        pauses: tuple[float, ...],
    ) -> None:
        self._note_retry(method)
        self._start(method, request, deadline, done, askers, pauses)

    def _end(
        self,
        done: Done,
        again: Callable[[tuple[float, ...]], None],
        span: CallSpan | None,
        pauses: tuple[float, ...],
        call: Any,
    ) -> None:
        response: Any = None
        failure: BaseException | None = None
        try:
            response = call.result()
            if span is not None:
                span.end()
        except Exception as error:  # noqa: BLE001 - the caller gets it, whatever it is
            if span is not None:
                span.end(error)
            if pauses and was_dropped(error) and not self.limiter.closed:
                pause, *left = pauses
                timer = Timer(pause, again, (tuple(left),))
                timer.daemon = True
                with suppress(RuntimeError):  # there may be no room for another thread
                    timer.start()
                    return
            failure = failure_of(error, closed=self.limiter.closed)
        self.limiter.release()
        done(response, failure)

    def watch(
        self, request: pb.WatchEventsRequest
    ) -> Generator[pb.WatchEventsResponse, None, None]:
        """Yields the messages of a watch. A watch needs no slot."""
        if self.limiter.closed:
            raise client_closed()
        stream: Any = None
        try:
            stream = self._watch(request, metadata=self._transport.metadata())
            yield from stream
        except (grpc.RpcError, ValueError) as error:
            raise failure_of(error, closed=self.limiter.closed) from None
        finally:
            if stream is not None:
                stream.cancel()

    def close(self) -> None:
        """Ends all calls that are under way or wait, and refuses new ones."""
        self.limiter.close()
        self._channel.close()

    def _wait(self, seconds: float) -> float:
        """Waits for a slot. Returns how many seconds are left then."""
        deadline = time.monotonic() + seconds
        slot: Future[None] = Future()
        granted = partial(grant, slot)
        if not self.limiter.acquire_or_queue(granted):
            try:
                slot.result(seconds)
            except BaseException as error:
                self.limiter.withdraw(granted)
                # Interrupted or late in the moment in which the slot was granted.
                if not slot.cancel() and slot.exception() is None:
                    self.limiter.release()
                if isinstance(error, NoResultYet):
                    raise self.limiter.timed_out() from None
                raise
        return deadline - time.monotonic()
