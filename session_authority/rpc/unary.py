"""Answers calls of unary methods, for grpc.aio and for standing tasks.

The request is read as bytes, so that the size limit of the method is checked before the request is
decoded. A call is stopped when its deadline passes. Of all exceptions, only grpc.aio.AbortError and
asyncio.CancelledError leave this module. All other exceptions become statuses here, because
grpc.aio would send the text of an exception to the caller.

A call occupies slots only while its handler runs. A call occupies no slot while its request is
arriving, or while the peer has not read the answer. A health check never occupies a slot.
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
# A batch occupies one slot for each 4 KiB of its request. A few items of a batch together have 4
# KiB.
_BATCH_BYTES_PER_CALL = 4 * 1024
# These methods are answered even if all slots are occupied. If health checks were refused, a probe
# would mistake a busy server for a dead server.
_UNLIMITED = frozenset({"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List"})
# The time limit of each call. A call with an earlier deadline has less time.
_MAX_CALL_SECONDS = 10.0
# The time limit from the admission of a call until its whole request has arrived. In one second, a
# client can send 64 KiB at 0.5 Mbit/s, or the largest batch at 34 Mbit/s.
MAX_BODY_SECONDS = 1.0
_OK, _CANCELLED = code_number(grpc.StatusCode.OK), code_number(grpc.StatusCode.CANCELLED)
# The name under which calls of unknown callers are counted.
_STRANGERS = ""
# The limit of requests of one caller that have not arrived completely. Requests that are arriving
# occupy no slots, so they do not prevent calls of other callers. The limit is needed because
# arriving requests occupy memory.
_MAX_ARRIVING_PER_CALLER = 1000

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any  # grpc.RpcMethodHandler has no usable type annotations


class Load:
    """Counts the unary calls whose handlers are running, the slots that these calls occupy, and the
    requests that are still arriving.
    """

    def __init__(self, limit: int) -> None:
        self.share = FairShare(limit)
        self.deadlines = Deadlines()
        self.arriving: dict[str, int] = {}
        self.calls = 0
        self.none = asyncio.Event()
        self.none.set()

    def expect(self, caller: str, *, limited: bool) -> None:
        """Counts a request that begins to arrive. Raises Overloaded if `limited` is True and too
        many requests of this caller are already arriving.
        """
        count = self.arriving.get(caller, 0)
        if count >= _MAX_ARRIVING_PER_CALLER and limited:
            raise Overloaded(of_caller=True)
        self.arriving[caller] = count + 1

    def expect_no_more(self, caller: str) -> None:
        """Notes that a request of this caller has arrived completely, or that the service no longer
        waits for a request of this caller.
        """
        left = self.arriving[caller] - 1
        if left:
            self.arriving[caller] = left
        else:
            del self.arriving[caller]

    def begin(self, caller: str, weight: int) -> None:
        """Counts a call whose handler starts, and gives `weight` slots to the call."""
        self.share.take(caller, weight)
        self.calls += 1
        if self.calls == 1:
            self.none.clear()

    def end(self, caller: str, weight: int) -> None:
        """Counts a call whose handler has ended, and frees the `weight` slots of the call."""
        self.share.give_back(caller, weight)
        self.calls -= 1
        if not self.calls:
            self.none.set()


class UnaryMethod:
    """Answers the calls of one unary method."""

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
            return answer.message  # the context already has the trailing metadata
        await context.abort_with_status(answer)
        raise AssertionError("aborting raises")

    def sent(self, context: Context) -> None:
        """Notes that the answer of a call was sent, or that the caller no longer waits for the
        answer.
        """
        self._peers.sent(context)

    async def answer(self, context: Context) -> bytes | Reply | grpc.Status:
        """Returns the serialized answer of a call, or the status with which the call fails. This
        method itself sends nothing to the caller. Raises grpc.aio.AbortError if the handler itself
        aborted the call.
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
            # An unexpected exception must not leave this method, because grpc.aio would send the
            # text of the exception to the caller.
            with on_lines(context):
                failure = failure_of(error, self._name)
            code = code_number(failure.code)
            self._refused(refusal_of(error))
            return named(failure.status(), context)
        finally:
            self._calls.end(caller_name(), code, time.perf_counter() - started)
            self._peers.leave(peer, context)

    async def _answer(self, peer: Peer, context: Context) -> bytes:
        """Checks the caller of a call, reads the request, and calls the handler. This method is one
        long coroutine, because each nested coroutine would add a cost whenever the task continues
        after a wait.
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
        """Returns the number of slots that a call occupies while its handler runs. A health check
        occupies no slot.
        """
        if not self._is_batch:
            return int(self._limited)
        # The weight is limited to the number of slots that a caller can hold while no other caller
        # holds any slot. Without the limit on the weight, a very large batch could never be
        # answered.
        return max(1, min(len(body) // _BATCH_BYTES_PER_CALL, self._load.share.most(sole=sole)))


def limit_of(path: str) -> int:
    """Returns the size limit for requests of a method, in bytes."""
    return _MAX_BYTES.get(path.rpartition("/")[2], MAX_MESSAGE_BYTES)


def _time_for(context: Context) -> float:
    """Returns how many seconds the call may take. Raises DeadlineTooShort if the deadline of the
    call is too near.
    """
    left: float | None = context.time_remaining()
    if left is None:
        return _MAX_CALL_SECONDS
    seconds = min(seconds_to_work(left), _MAX_CALL_SECONDS)
    if seconds <= 0:
        no_one_is_calling()  # Forgets the caller of the task's previous call.
        raise DeadlineTooShort
    return seconds


def too_slow() -> DeadlineTooShort:
    """Returns the error of a call whose request did not arrive in time."""
    return DeadlineTooShort("the request took too long to arrive")


def checked(message: Any, limit: int) -> bytes:
    """Checks the first message of a request, and returns this message.

    Raises MessageTooLarge if the message has more than `limit` bytes. Raises MalformedMessage if
    there is no message. If gRPC itself refuses to read a message and answers the call, this
    function also sees no message, and also raises MalformedMessage.
    """
    if message is grpc.aio.EOF:
        raise MalformedMessage
    assert isinstance(message, bytes)
    if len(message) > limit:
        raise MessageTooLarge(len(message), limit)
    return message


def decoded(decode: Callable[[bytes], Any], body: bytes) -> Any:
    """Decodes the message of a request. Raises MalformedMessage if the bytes are not a message of
    the expected type.
    """
    try:
        return decode(body)
    except DecodeError:
        raise MalformedMessage from None


def unless_serialized(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Returns a serializer that returns bytes unchanged, and serializes all other messages with
    `serialize`. Some handlers return bytes, for example for an answer from a cache, or for a
    message that is sent to many watchers.
    """
    return lambda message: message if isinstance(message, bytes) else serialize(message)
