"""Manages the streams under way: which caller may begin another stream, which stream must make
room, and how streams end.

A stream occupies a place from the moment when its request has arrived. A stream with a large
request occupies several places. Each caller has a fair share of the places of each method. Unknown
callers may watch health. Each of their connections may have a few streams. When all places of the
method are occupied, a stream of the address with the most streams ends, and a new stream gets its
place. The new stream is refused instead if its own address has as many streams. At the same
address, the connections are compared in the same way.
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

# A client that watches health needs one stream for each service name.
MAX_PUBLIC_STREAMS_PER_CONNECTION = 4

Context = grpc.aio.ServicerContext[Any, Any]
First = Callable[[Context], Awaitable[tuple[Any, int]]]


class Stream:
    """One stream under way. The handler gets this object instead of gRPC's context, and writes its
    answers to it.
    """

    def __init__(self, path: str, context: Context, peer: Peer) -> None:
        self.path = path
        self.context = context
        self.peer = peer
        self.timeout = asyncio.timeout(None)
        self.refusal: AuthorityError | None = None
        self._opening: asyncio.Task[None] | None = None

    async def write(self, message: Any) -> None:
        """Sends one answer. If the write is cancelled, a later `abort` still reaches the caller.

        On its own, gRPC sends the initial metadata with the first answer. If that write is
        cancelled, gRPC sends the metadata again with the status, and gRPC's core refuses both. Then
        the caller would wait for ever. So this method sends the metadata first, and this step can't
        be cancelled.
        """
        if self._opening is None:
            self._opening = asyncio.ensure_future(self.context.send_initial_metadata(()))
            # Sending fails if the caller has gone. Then perhaps no task awaits the result, so the
            # error is retrieved here.
            self._opening.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._opening)
        await self.context.write(message)

    async def abort(self, status: grpc.Status) -> None:
        """Ends the call with a status. The caller gets the status after all answers that were
        written. Raises grpc.aio.AbortError.
        """
        if self._opening is not None:
            await asyncio.wait([self._opening])
        await self.context.abort_with_status(named(status, self.context))

    def end(self, refusal: AuthorityError) -> None:
        """Ends the stream: its handler is cancelled, and its caller gets `refusal`. A second call
        does nothing.
        """
        if self.refusal is None:
            self.refusal = refusal
            self.timeout.reschedule(asyncio.get_running_loop().time())


class Streams:
    """The streams under way. The streams of each method share `limit` places."""

    def __init__(self, authorizer: Authorizer, limit: int) -> None:
        self._authorizer = authorizer
        self._max = limit
        # The streams of each path, the oldest first. The inner dicts serve as sets that keep their
        # order.
        self._streams: dict[str, dict[Stream, None]] = {}
        self._shares: dict[str, FairShare] = {}
        self._ended: AuthorityError | None = None

    @contextmanager
    def admitted(self, stream: Stream, weight: int) -> Iterator[None]:
        """Counts a stream while the context lasts. The stream of a known caller occupies `weight`
        places, but at most as many as one caller can hold. The stream of an unknown caller counts
        as one. Raises Overloaded, Stopping, NotReady, CallerUnknown and CallerNotAllowed.
        """
        if self._ended is not None:
            raise self._ended
        # The caller is authorized again, because the access policy may have changed while the
        # request was arriving.
        caller = self._authorizer.admit(stream.path, stream.context)
        others = self._streams.setdefault(stream.path, {})
        share = self._shares.setdefault(stream.path, FairShare(self._max))
        sole = self._authorizer.has_one_caller
        # The weight is at most the number of places that a caller can hold while no other caller
        # holds any. Otherwise a stream with a very large request could never be admitted.
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
        """Ends a stream of an unknown caller if there is no place for the newcomer. Raises
        Overloaded if the newcomer is refused instead.
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
        del self._streams[gone.path][gone]  # The place of the ended stream is free at once.

    def all(self) -> list[Stream]:
        """Returns all streams that are under way."""
        return [stream for streams in self._streams.values() for stream in streams]

    def end_all(self) -> None:
        """Ends all streams, and admits no more streams."""
        self._ended = Stopping()
        for stream in self.all():
            stream.end(Stopping())

    def recheck(self) -> None:
        """Ends the streams that would be refused now: by the access policy, or because this process
        must not answer any caller.
        """
        for stream in self.all():
            try:
                copy_context().run(self._authorizer.admit, stream.path, stream.context)
            except AuthorityError as error:
                stream.end(error)


class StreamMethod:
    """Calls one method that answers with a stream. If the method has one request, `first` reads the
    request, and returns how many places the stream occupies. The handler may be a generator, or may
    write the answers itself.
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
            # In gRPC, a write fails when the caller has gone. If the caller is still there, it gets
            # this status.
            gone = Refused(grpc.StatusCode.CANCELLED, "an answer could not be written")
            failure = failure_of(gone, self._name)
        except Exception as error:  # noqa: BLE001
            # This is the last line of defence, because the text of the error must not reach the
            # caller.
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
