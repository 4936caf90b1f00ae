"""The harness: both kinds of client with one interface, and a service that a test controls."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.message import Message

from session_authority.rpc.status import Failure
from session_authority.v1 import errors_pb2
from session_authority.v1 import session_authority_pb2 as pb
from session_authority_client import AsyncSessionAuthority, SessionAuthority
from tests.support.proxy import Proxy

SERVICE = pb.DESCRIPTOR.services_by_name["SessionAuthorityService"]
PATIENCE = timedelta(seconds=20)  # how long a call may take on a busy machine

Act = Callable[[Message, grpc.ServicerContext], Any]
Connect = Callable[..., Any]
_END = object()


class OnThreads:
    """The synchronous client with the interface of the asynchronous one. Each call runs on some
    thread and is awaited.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self.client = SessionAuthority(*arguments, **more)

    async def __aenter__(self) -> OnThreads:
        self.client.__enter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.client.__exit__, None, None, None)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        if name in ("devices", "watch_events"):
            return lambda *arguments, **more: _drawn(method(*arguments, **more))

        async def call(*arguments: Any, **more: Any) -> Any:
            return await asyncio.to_thread(method, *arguments, **more)

        return call


def inner(client: Any) -> Any:
    """Returns the client itself, for tests that inspect it."""
    return client.client if isinstance(client, OnThreads) else client


async def _drawn(items: Any) -> AsyncIterator[Any]:
    try:
        while (item := await asyncio.to_thread(next, items, _END)) is not _END:
            yield item
    finally:
        # Another thread may still wait for the next item. Its wait ends with the connection.
        with suppress(ValueError):
            items.close()


KINDS: dict[str, Connect] = {"asyncio": AsyncSessionAuthority, "threads": OnThreads}


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the service saw it. `within` is the time that the call had left."""

    method: str
    request: Any
    metadata: tuple[tuple[str, str | bytes], ...]
    within: float | None


class Fake:
    """A fake server of the service's API. The next of `acts` answers each call, or `always` if
    there is none. `calls` records all calls.

    The server may be stopped and started again, on the same port.
    """

    def __init__(
        self,
        credentials: grpc.ServerCredentials | None = None,
        options: Sequence[tuple[str, int]] = (),
    ) -> None:
        self.calls: list[Call] = []
        self.acts: deque[Act] = deque()
        self.always: Act | None = None
        self._credentials = credentials
        self._options = [*options, ("grpc.so_reuseport", 0)]
        self._port = 0
        self.start()

    @property
    def address(self) -> str:
        """The address of the server."""
        return f"127.0.0.1:{self._port}"

    def requests(self) -> list[Any]:
        """The requests of all calls so far."""
        return [call.request for call in self.calls]

    def start(self) -> None:
        """Starts the server on its port."""
        self._server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=32), options=self._options
        )
        handlers = {method.name: self._handler(method) for method in SERVICE.methods}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),)
        )
        if self._credentials is None:
            self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        else:
            self._port = self._server.add_secure_port(f"127.0.0.1:{self._port}", self._credentials)
        self._server.start()

    def stop(self) -> None:
        """Stops the server and closes all connections."""
        self._server.stop(None).wait()

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _handler(self, method: Any) -> Any:
        takes, gives = getattr(pb, method.input_type.name), getattr(pb, method.output_type.name)

        def unary(request: Message, context: grpc.ServicerContext) -> Any:
            act = self._next(method.name, request, context)
            return gives() if act is None else act(request, context)

        def stream(request: Message, context: grpc.ServicerContext) -> Iterator[Any]:
            act = self._next(method.name, request, context)
            yield from () if act is None else act(request, context)

        coding: Any = (takes.FromString, gives.SerializeToString)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, *coding)
        return grpc.unary_unary_rpc_method_handler(unary, *coding)

    def _next(self, method: str, request: Message, context: Any) -> Act | None:
        metadata = tuple((name, value) for name, value in context.invocation_metadata())
        self.calls.append(Call(method, request, metadata, context.time_remaining()))
        return self.acts.popleft() if self.acts else self.always


def answers(message: Message) -> Act:
    """Answers each call with this message."""
    return lambda request, context: message


def fails(code: grpc.StatusCode, text: str = "no") -> Act:
    """Fails each call with a status that gives no reason."""

    def act(request: Message, context: grpc.ServicerContext) -> None:
        context.abort(code, text)

    return act


def refuses(failure: Failure) -> Act:
    """Refuses each call as the service itself does."""

    def act(request: Message, context: grpc.ServicerContext) -> None:
        context.abort_with_status(failure.status())

    return act


def away(request: Message, context: grpc.ServicerContext) -> None:
    """Fails as the service does while its store is unavailable."""
    reason = errors_pb2.ERROR_REASON_STORE_UNAVAILABLE
    refuses(Failure(grpc.StatusCode.UNAVAILABLE, reason, "away", retry_after=timedelta(seconds=1)))(
        request, context
    )


class Hang:
    """Answers nothing until the call is over, no matter whether the client or the server ended the
    call. `began` and `over` show how far the call is.
    """

    def __init__(self) -> None:
        self.began, self.over = threading.Event(), threading.Event()

    def __call__(self, request: Message, context: grpc.ServicerContext) -> None:
        if not context.add_callback(self.over.set):
            self.over.set()
        self.began.set()
        # a test that waits for `over` gives up earlier
        self.over.wait(2 * PATIENCE.total_seconds())


def behind(wire: Proxy) -> str:
    """Returns the address of a service behind this proxy."""
    return wire.url.removeprefix("redis://")


async def until(condition: Callable[[], bool]) -> None:
    """Waits until the condition is true."""
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while not condition():  # noqa: ASYNC110 - a condition has no event
            await asyncio.sleep(0.005)


async def happens(event: threading.Event) -> None:
    """Waits until the event is set."""
    assert await asyncio.to_thread(event.wait, PATIENCE.total_seconds())
