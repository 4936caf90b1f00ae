"""Every call that a client makes goes through here: with its deadline, its place, and one way to
fail.

A connection takes only so many calls at once; what is more would wait inside gRPC. There calls have
been seen lost: core 1.83 to 1.85 now and then never ends one, not even at its deadline, that is
cancelled or runs out of time while it waits like that. So they wait here, for a place, within their
own deadline.

`TaskCalls` is for asyncio and `ThreadCalls` for threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as NoResultYet
from contextlib import suppress
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message

from session_authority_client._shared.limiter import Places
from session_authority_client._shared.transport import METHODS, Transport, path_of
from session_authority_client.errors import (
    SessionAuthorityError,
    Unavailable,
    client_closed,
    error_of,
    too_late,
)
from session_authority_client.wire import session_authority_pb2 as pb

# What gRPC has not ended so long after its deadline it has lost.
_LOST_SECONDS = 2.0

# Told what became of a call: its answer, or why there is none.
Done = Callable[[Any, BaseException | None], None]


def _unary_of(channel: Any) -> dict[str, Callable[..., Any]]:
    return {
        name: channel.unary_unary(
            path_of(name),
            request_serializer=getattr(pb, f"{name}Request").SerializeToString,
            response_deserializer=getattr(pb, f"{name}Response").FromString,
        )
        for name in METHODS
    }


def watch_of(channel: Any) -> Any:
    """The one method that answers again and again."""
    return channel.unary_stream(
        path_of("WatchEvents"),
        request_serializer=pb.WatchEventsRequest.SerializeToString,
        response_deserializer=pb.WatchEventsResponse.FromString,
    )


def _give(place: Any, error: Unavailable | None) -> bool:
    """Tells whoever waits, on a future of asyncio or of threads, that it is their turn, or why it
    won't be; whether they hear it.
    """
    with suppress(asyncio.InvalidStateError, InvalidStateError):
        if error is None:
            place.set_result(None)
        else:
            place.set_exception(error)
        return True
    return False


class TaskCalls:
    """Makes the calls of the tasks of one event loop: the one that runs as it is made, or else as
    the first call is made.
    """

    def __init__(
        self, open_channel: Callable[[], grpc.aio.Channel], transport: Transport, max_in_flight: int
    ) -> None:
        self.places = Places(max_in_flight)
        self._open_channel = open_channel
        self._transport = transport
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channel: grpc.aio.Channel | None = None
        self._unary: dict[str, Callable[..., Any]] = {}
        self._watch: Any = None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._open(loop)

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._channel = self._open_channel()
        self._unary = _unary_of(self._channel)
        self._watch = watch_of(self._channel)
        self._loop = loop

    def _begin(self) -> None:
        """Raises Unavailable after the end, and RuntimeError in another loop."""
        if self.places.closed:
            raise client_closed()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._open(loop)
        elif self._loop is not loop:
            raise RuntimeError("this client belongs to another event loop: make one in each")

    async def make(self, method: str, request: Message, seconds: float) -> Any:
        """The answer, within so many seconds."""
        self._begin()
        if not self.places.take():
            seconds = await self._wait(seconds)
        return await self.make_there(method, request, seconds)

    async def make_there(self, method: str, request: Message, seconds: float) -> Any:
        """The same from a place that was taken before. It is free again afterwards."""
        guard = None
        try:
            if self.places.closed:
                raise client_closed()
            call = self._unary[method](
                request, timeout=seconds, metadata=self._transport.metadata()
            )
            guard = asyncio.get_running_loop().call_later(seconds + _LOST_SECONDS, call.cancel)
            return await call
        except grpc.RpcError as error:
            raise error_of(error) from None
        except asyncio.CancelledError:
            self._check_cancelled()
            raise
        finally:
            if guard is not None:
                guard.cancel()
            self.places.leave()

    async def watch(
        self, request: pb.WatchEventsRequest
    ) -> AsyncGenerator[pb.WatchEventsResponse, None]:
        """What a watch says. It takes no place."""
        self._begin()
        stream = self._watch(request, metadata=self._transport.metadata())
        try:
            async for message in stream:
                yield message
        except grpc.RpcError as error:
            raise error_of(error) from None
        except asyncio.CancelledError:
            self._check_cancelled()
            raise
        finally:
            stream.cancel()

    async def close(self) -> None:
        """Hangs up. Whatever is under way or waits ends, and nothing begins any more."""
        self.places.close()
        if self._channel is not None:
            await self._channel.close()

    async def _wait(self, seconds: float) -> float:
        """Waits for a place; how many seconds are left then."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        place: asyncio.Future[None] = loop.create_future()
        turn = partial(_give, place)
        if not self.places.enter(turn):
            expiry = loop.call_later(seconds, turn, self.places.none_in_time())
            try:
                await place
            except BaseException:
                self.places.withdraw(turn)
                if (
                    not place.cancelled() and place.exception() is None
                ):  # cancelled when it was their turn
                    self.places.leave()
                raise
            finally:
                expiry.cancel()
        return deadline - loop.time()

    def _check_cancelled(self) -> None:
        """What was cancelled is the task itself; else it is gRPC that ended a call, as it was told
        to. Raises Unavailable then.
        """
        task = asyncio.current_task()
        if task is not None and not task.cancelling():
            raise (client_closed() if self.places.closed else too_late()) from None


class ThreadCalls:
    """Makes the calls of threads."""

    def __init__(
        self, open_channel: Callable[[], grpc.Channel], transport: Transport, max_in_flight: int
    ) -> None:
        self.places = Places(max_in_flight)
        self._channel = open_channel()
        self._transport = transport
        self._unary = _unary_of(self._channel)
        self._watch = watch_of(self._channel)

    def make(self, method: str, request: Message, seconds: float) -> Any:
        """The answer, within so many seconds."""
        if not self.places.take():
            seconds = self._wait(seconds)
        try:
            metadata = self._transport.metadata()
            return self._begun(self._unary[method], request, timeout=seconds, metadata=metadata)
        except grpc.RpcError as error:
            raise self._error_of(error) from None
        finally:
            self.places.leave()

    def start_there(self, method: str, request: Message, seconds: float, done: Done) -> None:
        """Makes a call that nobody waits for, from a place that was taken before. It is free again
        when `done` is told.
        """
        try:
            begin: Any = self._unary[method]
            metadata = self._transport.metadata()
            call = self._begun(begin.future, request, timeout=seconds, metadata=metadata)
        except BaseException as error:
            self.places.leave()
            done(None, error)
            if not isinstance(error, Exception):
                raise
            return
        call.add_done_callback(partial(self._landed, done))

    def _landed(self, done: Done, call: Any) -> None:
        answer: Any = None
        error: BaseException | None = None
        try:
            answer = call.result()
        except grpc.FutureCancelledError:
            error = client_closed()
        except grpc.RpcError as caught:
            error = self._error_of(caught)
        except Exception as caught:  # noqa: BLE001 - whatever it is, it is theirs
            error = caught
        self.places.leave()
        done(answer, error)

    def watch(
        self, request: pb.WatchEventsRequest
    ) -> Generator[pb.WatchEventsResponse, None, None]:
        """What a watch says. It takes no place."""
        if self.places.closed:
            raise client_closed()
        stream = self._begun(self._watch, request, metadata=self._transport.metadata())
        try:
            yield from stream
        except grpc.RpcError as error:
            raise self._error_of(error) from None
        finally:
            stream.cancel()

    def close(self) -> None:
        """Hangs up. Whatever is under way or waits ends, and nothing begins any more."""
        self.places.close()
        self._channel.close()

    def _wait(self, seconds: float) -> float:
        """Waits for a place; how many seconds are left then."""
        deadline = time.monotonic() + seconds
        place: Future[None] = Future()
        turn = partial(_give, place)
        if not self.places.enter(turn):
            try:
                place.result(seconds)
            except BaseException as error:
                self.places.withdraw(turn)
                if (
                    not place.cancel() and place.exception() is None
                ):  # interrupted, or late, when it was their turn
                    self.places.leave()
                if isinstance(error, NoResultYet):
                    raise self.places.none_in_time() from None
                raise
        return deadline - time.monotonic()

    def _begun(self, begin: Callable[..., Any], request: Message, **more: Any) -> Any:
        try:
            return begin(request, **more)
        except ValueError:  # how gRPC says that a channel is closed
            if self.places.closed:
                raise client_closed() from None
            raise

    def _error_of(self, error: grpc.RpcError) -> SessionAuthorityError:
        if self.places.closed and error.code() is grpc.StatusCode.CANCELLED:
            return client_closed()
        return error_of(error)
