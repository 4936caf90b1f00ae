"""Calls unary methods, for grpc.aio and for standing tasks.

The request is read as bytes, so that the size limit of the method is checked before anything is
decoded. The call is kept inside its deadline. No unexpected exception leaves this module, because
grpc.aio would send the text of the exception to the caller. Only grpc.aio.AbortError and
asyncio.CancelledError leave this module.

A call occupies places while it is carried out. It occupies none while the service waits for its
peer: before the request has arrived, and while the peer has not read the answer or the refusal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from session_authority.domain.deadlines import seconds_to_work
from session_authority.domain.errors import (
    DeadlineTooShort,
    MalformedMessage,
    MessageTooLarge,
    Overloaded,
)
from session_authority.domain.fair_share import FairShare
from session_authority.domain.refusals import refusal_of
from session_authority.rpc.authorization import Authorizer, caller_name, no_one_is_calling
from session_authority.rpc.long_calls import Deadlines, unless_given_up
from session_authority.rpc.peers import Peer, Peers
from session_authority.rpc.replies import Reply
from session_authority.rpc.request_ids import named, on_lines
from session_authority.rpc.status import code_number, code_of, failure_of
from session_authority.runtime.metrics import Metrics

MAX_MESSAGE_BYTES = 64 * 1024
MAX_BATCH_BYTES = 4 * 1024 * 1024
# Enough for 1,000 user IDs of 255 characters, even if each character needs several bytes.
MAX_WATCH_BYTES = 1024 * 1024
# Enough for 500 names of sessions, even if each character of their user IDs needs several bytes.
MAX_NAMES_BYTES = 1024 * 1024
_MAX_BYTES = {
    "BatchValidateSessions": MAX_BATCH_BYTES,
    "CheckSessions": MAX_NAMES_BYTES,
    "WatchEvents": MAX_WATCH_BYTES,
}
_BATCH_METHODS = frozenset({"BatchValidateSessions", "CheckSessions"})
# A batch occupies one place for each 4 KiB. A few items together have this size.
_BATCH_BYTES_PER_CALL = 4 * 1024
# These methods are answered even if too many calls are under way. Otherwise a probe would mistake a
# busy server for a dead server.
_UNLIMITED = frozenset({"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List"})
# The longest time of a call. A call without a deadline gets this time limit.
_MAX_CALL_SECONDS = 10.0
# The time limit from the admission of a call until its whole request has arrived. In this time, a
# client sends 64 KiB at 0.5 Mbit/s, or the largest batch at 34 Mbit/s.
MAX_BODY_SECONDS = 1.0
_OK, _CANCELLED = code_number(grpc.StatusCode.OK), code_number(grpc.StatusCode.CANCELLED)
# The name under which calls of unknown callers are counted.
_STRANGERS = ""
# The limit of requests of one caller that are arriving. Such requests do not prevent calls of other
# callers, but they occupy memory.
_MAX_ARRIVING_PER_CALLER = 1000

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any  # grpc.RpcMethodHandler has no usable type annotations


class Load:
    """Counts the unary calls that are carried out, the places that they occupy, and the requests
    that are arriving.
    """

    def __init__(self, limit: int) -> None:
        self.share = FairShare(limit)
        self.deadlines = Deadlines()
        self.arriving: dict[str, int] = {}
        self.calls = 0
        self.none = asyncio.Event()
        self.none.set()

    def expect(self, caller: str, *, limited: bool) -> None:
        """Counts a request that is arriving. Raises Overloaded if the request is `limited` and too
        many requests of its caller are arriving.
        """
        count = self.arriving.get(caller, 0)
        if count >= _MAX_ARRIVING_PER_CALLER and limited:
            raise Overloaded(of_caller=True)
        self.arriving[caller] = count + 1

    def expect_no_more(self, caller: str) -> None:
        """Notes that a request has arrived completely, or that the service stopped waiting
        for it.
        """
        left = self.arriving[caller] - 1
        if left:
            self.arriving[caller] = left
        else:
            del self.arriving[caller]

    def begin(self, caller: str, weight: int) -> None:
        """Counts a call whose handler begins, and the places that it occupies."""
        self.share.take(caller, weight)
        self.calls += 1
        if self.calls == 1:
            self.none.clear()

    def end(self, caller: str, weight: int) -> None:
        """Frees the places of a call that has ended."""
        self.share.give_back(caller, weight)
        self.calls -= 1
        if not self.calls:
            self.none.set()


class UnaryMethod:
    """Calls one unary method."""

    def __init__(
        self,
        path: str,
        handler: Handler,
        metrics: Metrics,
        authorizer: Authorizer,
        load: Load,
        peers: Peers,
    ) -> None:
        self._path = path
        self._name = path.rpartition("/")[2]
        self._authorizer = authorizer
        self._load = load
        self._peers = peers
        self._limited = path not in _UNLIMITED
        self._is_batch = self._name in _BATCH_METHODS
        self._behavior = handler.unary_unary
        self._decode = handler.request_deserializer
        self._encode = unless_serialized(handler.response_serializer)
        self._limit = limit_of(path)
        self._calls = metrics.calls.of(path, "unary")
        self._refused = metrics.refused

    async def run(self, _: object, context: Context) -> bytes:
        """Answers one call for grpc.aio, which sends the answer when this method returns. Raises
        grpc.aio.AbortError if the call fails.
        """
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: self.sent(context))
        answer = await self.answer(context)
        if isinstance(answer, bytes):
            return answer
        if isinstance(answer, Reply):
            return answer.message  # gRPC already has the trailing metadata
        await context.abort_with_status(answer)
        raise AssertionError("aborting raises")

    def sent(self, context: Context) -> None:
        """Notes that the answer of a call is sent, or that the caller no longer waits for the
        answer.
        """
        self._peers.sent(context)

    async def answer(self, context: Context) -> bytes | Reply | grpc.Status:
        """Returns the serialized answer of a call, or the status with which the call fails. This
        method sends nothing. Raises grpc.aio.AbortError if the handler itself aborted the call.
        """
        started = time.perf_counter()
        self._calls.started += 1
        peer = self._peers.enter(context)
        code = _CANCELLED  # This code remains if the task is cancelled.
        try:
            answer = await self._answer(peer, context)
            code = _OK
            return answer
        except grpc.aio.AbortError:  # The handler has aborted the call itself.
            code = code_of(context)
            raise
        except Exception as error:  # noqa: BLE001
            # This is the last line of defence, because the text of the error must not reach the
            # caller.
            with on_lines(context):
                failure = failure_of(error, self._name)
            code = code_number(failure.code)
            self._refused(refusal_of(error))
            return named(failure.status(), context)
        finally:
            self._calls.end(caller_name(), code, time.perf_counter() - started)
            self._peers.leave(peer, context)

    async def _answer(self, peer: Peer, context: Context) -> bytes:
        """Admits a call, reads its request, and carries it out. This is one long coroutine, because
        the event loop passes through each nested coroutine again after every wait.
        """
        seconds = _time_for(context)
        caller = self._authorizer.admit(self._path, context)
        if caller is not None:
            peer.caller = caller.name
        name = _STRANGERS if caller is None else caller.name
        sole = self._authorizer.has_one_caller
        load = self._load
        if self._limited and not load.share.fits(name, 1, sole=sole):
            # The call is refused before its request is read.
            raise Overloaded(of_caller=not load.share.is_full(1))
        body_seconds = min(seconds, MAX_BODY_SECONDS)
        deadline = load.deadlines.within(body_seconds, seconds)
        try:
            with deadline:
                load.expect(name, limited=self._limited)
                try:
                    message = await context.read()
                    if message is grpc.aio.EOF:
                        await unless_given_up()
                    body = checked(message, self._limit)
                finally:
                    load.expect_no_more(name)
                deadline.extend()
                weight = self._weight(body, sole=sole)
                if weight and not load.share.fits(name, weight, sole=sole):
                    raise Overloaded(of_caller=not load.share.is_full(weight))
                load.begin(name, weight)
                try:
                    return self._encode(await self._behavior(decoded(self._decode, body), context))
                finally:
                    load.end(name, weight)
        except TimeoutError:
            if deadline.is_extended:
                raise
            raise too_slow() from None

    def _weight(self, body: bytes, *, sole: bool) -> int:
        """Returns the number of places that a call occupies while it is carried out: 0 for a health
        check.
        """
        if not self._is_batch:
            return int(self._limited)
        # The weight is at most the number of places that a caller can hold while no other caller
        # holds any. Otherwise a very large batch could never be carried out.
        return max(1, min(len(body) // _BATCH_BYTES_PER_CALL, self._load.share.most(sole=sole)))


def limit_of(path: str) -> int:
    """Returns the largest size of a request of a method, in bytes."""
    return _MAX_BYTES.get(path.rpartition("/")[2], MAX_MESSAGE_BYTES)


def _time_for(context: Context) -> float:
    """Returns the seconds that a call may take. Raises DeadlineTooShort."""
    left: float | None = context.time_remaining()
    if left is None:
        return _MAX_CALL_SECONDS
    seconds = min(seconds_to_work(left), _MAX_CALL_SECONDS)
    if seconds <= 0:
        no_one_is_calling()  # The task may have answered a call of another caller before.
        raise DeadlineTooShort
    return seconds


def too_slow() -> DeadlineTooShort:
    """Returns the error of a call whose request did not arrive in time."""
    return DeadlineTooShort("the request took too long to arrive")


def checked(message: Any, limit: int) -> bytes:
    """Returns the first message of a request, after checking its size.

    Raises MessageTooLarge. Raises MalformedMessage if there is no message. This also happens if
    gRPC itself refused to read the message and answered the call: there is no other sign of such a
    refusal.
    """
    if message is grpc.aio.EOF:
        raise MalformedMessage
    assert isinstance(message, bytes)
    if len(message) > limit:
        raise MessageTooLarge(len(message), limit)
    return message


def decoded(decode: Callable[[bytes], Any], body: bytes) -> Any:
    """Decodes the message of a request. Raises MalformedMessage."""
    try:
        return decode(body)
    except DecodeError:
        raise MalformedMessage from None


def unless_serialized(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Returns a serializer that passes serialized messages on unchanged. For example, a message
    that is sent to many watchers, an answer from a cache, and the answer to a validation are
    already serialized.
    """
    return lambda message: message if isinstance(message, bytes) else serialize(message)
