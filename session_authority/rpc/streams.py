"""Manages the running streams: decides which caller may start a stream, and which stream ends to
free a slot for another stream.

The streams of each method share a limited number of slots. A stream occupies a slot from the moment
when its request has arrived. A stream with a large request occupies several slots. Each caller has
a fair share of the slots of a method.

Unknown callers may start only streams that watch health, and only a few streams on each connection.
When all slots for streams that watch health are occupied, a new stream can take the slot of an
older stream. The function `displaced` chooses the older stream that ends. If `displaced` chooses no
stream, the new stream is refused.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import copy_context
from typing import Any

import grpc

from session_authority.domain.displacement import displaced
from session_authority.domain.errors import AuthorityError, Overloaded, Stopping
from session_authority.domain.fair_share import FairShare
from session_authority.domain.refusals import refusal_of
from session_authority.rpc.authorization import Authorizer, caller_name
from session_authority.rpc.peers import Peer, Peers
from session_authority.rpc.request_ids import named, on_lines
from session_authority.rpc.status import Refused, code_number, code_of, failure_of
from session_authority.runtime.metrics import Metrics

# The limit of streams on one connection of an unknown caller. A client that watches health needs
# one stream for each service name.
MAX_PUBLIC_STREAMS_PER_CONNECTION = 4

Context = grpc.aio.ServicerContext[Any, Any]
First = Callable[[Context], Awaitable[tuple[Any, int]]]


class Stream:
    """A running stream. The handler of the method gets this object instead of gRPC's context, and
    sends its answers with `write`.
    """

    def __init__(self, path: str, context: Context, peer: Peer) -> None:
        self.path = path
        self.context = context
        self.peer = peer
        self.timeout = asyncio.timeout(None)
        self.refusal: AuthorityError | None = None
        self._opening: asyncio.Task[None] | None = None

    async def write(self, message: Any) -> None:
        """Sends one answer. If this method is cancelled, a later `abort` still reaches the caller.

        The first call of this method sends gRPC's initial metadata alone, in a step that can't be
        cancelled. Without the separate step, gRPC would send the metadata together with the first
        answer. If the sending of the first answer were cancelled, gRPC would send the metadata
        again, together with the status. gRPC's core would refuse the second metadata and also the
        status, and the caller would wait for ever.
        """
        if self._opening is None:
            self._opening = asyncio.ensure_future(self.context.send_initial_metadata(()))
            # Sending the metadata fails if the caller has gone. The callback retrieves the error,
            # because perhaps no task awaits the result, and asyncio would report an error that no
            # code retrieves.
            self._opening.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._opening)
        await self.context.write(message)

    async def abort(self, status: grpc.Status) -> None:
        """Ends the call with a status. The caller gets the status after all answers that were
        written. Raises grpc.aio.AbortError, as each call of gRPC's own `abort` does.
        """
        if self._opening is not None:
            await asyncio.wait([self._opening])
        await self.context.abort_with_status(named(status, self.context))

    def end(self, refusal: AuthorityError) -> None:
        """Ends the stream: the handler is cancelled, and the caller gets the status for `refusal`.
        A second call does nothing.
        """
        if self.refusal is None:
            self.refusal = refusal
            self.timeout.reschedule(asyncio.get_running_loop().time())


class Streams:
    """Holds the running streams. The streams of each method share `limit` slots."""

    def __init__(self, authorizer: Authorizer, limit: int) -> None:
        self._authorizer = authorizer
        self._max = limit
        # The running streams of each method, by the path of the method, the oldest first. Each
        # inner dict serves as an ordered set, so all its values are None.
        self._streams: dict[str, dict[Stream, None]] = {}
        self._shares: dict[str, FairShare] = {}
        self._ended: AuthorityError | None = None

    @contextmanager
    def admitted(self, stream: Stream, weight: int) -> Iterator[None]:
        """Counts a stream inside the `with` block. The stream of a known caller occupies `weight`
        slots, but at most as many slots as one caller can hold. The stream of an unknown caller
        occupies one slot.

        Raises Overloaded if too few slots are free for the stream, and Stopping after `end_all` was
        called. Raises NotReady, CallerUnknown or CallerNotAllowed if the caller is not admitted.
        """
        if self._ended is not None:
            raise self._ended
        # The caller is authorized again, because the access policy may have changed while the
        # request was arriving.
        caller = self._authorizer.admit(stream.path, stream.context)
        others = self._streams.setdefault(stream.path, {})
        share = self._shares.setdefault(stream.path, FairShare(self._max))
        sole = self._authorizer.has_one_caller
        # The weight is limited to the number of slots that a caller can hold while no other caller
        # holds any slot. Without the limit on the weight, a stream with a very large request could
        # never be admitted.
        weight = min(weight, share.most(sole=sole))
        if caller is None:
            self._make_room(list(others), stream.peer)
        elif not share.fits(caller.name, weight, sole=sole):
            raise Overloaded(of_caller=not share.is_full(weight))
        else:
            share.take(caller.name, weight)
        others[stream] = None
        try:
            yield
        finally:
            others.pop(stream, None)
            if caller is not None:
                share.give_back(caller.name, weight)

    def _make_room(self, others: list[Stream], newcomer: Peer) -> None:
        """Ends a stream of an unknown caller if no slot is free for a new stream. `newcomer` is the
        peer that starts the new stream. Raises Overloaded if the new stream is refused instead, or
        if `newcomer` already has too many streams.
        """
        mine = sum(stream.peer is newcomer for stream in others)
        if mine >= MAX_PUBLIC_STREAMS_PER_CONNECTION:
            raise Overloaded(of_caller=True)
        if len(others) < self._max:
            return
        chosen = displaced([stream.peer.name for stream in others], newcomer.name)
        if chosen is None:
            raise Overloaded
        gone = others[chosen]
        gone.end(Overloaded())
        del self._streams[gone.path][gone]  # This frees the slot of the ended stream at once.

    def all(self) -> list[Stream]:
        """Returns all streams that are running."""
        return [stream for streams in self._streams.values() for stream in streams]

    def end_all(self) -> None:
        """Ends all running streams. From now on, new streams are refused with Stopping."""
        self._ended = Stopping()
        for stream in self.all():
            stream.end(Stopping())

    def recheck(self) -> None:
        """Ends each running stream whose caller would be refused now. A caller can be refused
        because the access policy no longer allows the call, or because this process must not answer
        any caller.
        """
        for stream in self.all():
            try:
                copy_context().run(self._authorizer.admit, stream.path, stream.context)
            except AuthorityError as error:
                stream.end(error)


class StreamMethod:
    """Answers the calls of one method that sends a stream of answers. If the method takes one
    request, `first` reads the request, and returns how many slots the stream occupies. `behavior`
    is the handler of the method. The handler may be an asynchronous generator of answers, or may
    send its answers with `Stream.write`.
    """

    def __init__(
        self,
        path: str,
        behavior: Callable[..., Any],
        metrics: Metrics,
        authorizer: Authorizer,
        streams: Streams,
        peers: Peers,
        first: First | None = None,
    ) -> None:
        self._path = path
        self._name = path.rpartition("/")[2]
        self._behavior = behavior
        self._authorizer = authorizer
        self._streams = streams
        self._peers = peers
        self._first = first
        self._calls = metrics.calls.of(path, "bidi_stream" if first is None else "server_stream")
        self._refused = metrics.refused

    async def run(self, request: Any, context: Context) -> None:
        """Answers one call of the method."""
        began_at = time.perf_counter()
        self._calls.started += 1
        peer = self._peers.enter(context)
        stream = Stream(self._path, context, peer)
        code = code_number(grpc.StatusCode.CANCELLED)
        try:
            await self._serve(request, stream)
            code = code_number(grpc.StatusCode.OK)
            return
        except grpc.aio.AbortError:
            code = code_of(context)
            raise
        except grpc.aio.InternalError:
            # A write fails if the caller has gone. If the caller is still connected, the caller
            # gets the status CANCELLED.
            gone = Refused(grpc.StatusCode.CANCELLED, "an answer could not be written")
            failure = failure_of(gone, self._name)
        except Exception as error:  # noqa: BLE001
            # An unexpected exception must not leave this method, because grpc.aio would send the
            # text of the exception to the caller.
            ended = stream.refusal if isinstance(error, TimeoutError) else None
            with on_lines(context):
                failure = failure_of(ended or error, self._name)
            code = code_number(failure.code)
            self._refused(refusal_of(ended or error))
        finally:
            self._calls.end(caller_name(), code, time.perf_counter() - began_at)
            self._peers.leave_with_task(peer)
        await stream.abort(failure.status())

    async def _serve(self, request: Any, stream: Stream) -> None:
        caller = self._authorizer.admit(self._path, stream.context)
        if caller is not None:
            stream.peer.caller = caller.name
        weight = 1
        if self._first is not None:
            request, weight = await self._first(stream.context)
        with self._streams.admitted(stream, weight):
            async with stream.timeout:
                await self._answer(request, stream)

    async def _answer(self, request: Any, stream: Stream) -> None:
        answers = self._behavior(request, stream)
        if not inspect.isasyncgen(answers):
            await answers
            return
        async with aclosing(answers):
            async for message in answers:
                await stream.write(message)
