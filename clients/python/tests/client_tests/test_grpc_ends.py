"""Streams of gRPC servers end with the session of their caller. Streams of each kind are tested, in
servers of asyncio and of threads, also with a stuck handler.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest

from session_authority_client import AsyncSessionAuthority, NearCache, SessionAuthority
from session_authority_client.flow import Flow
from session_authority_client.grpc_server import (
    AsyncSessionInterceptor,
    SessionInterceptor,
    current_async_visit,
    current_visit,
)
from session_authority_client.testing import FakeAuthority
from tests.support.waiting import wait_for

PATIENCE = timedelta(seconds=20)
SECONDS = PATIENCE.total_seconds()
SERVICE = "example.Chat"
_Stream = AsyncIterator[bytes]
NO_SHARING = [("grpc.so_reuseport", 0)]


class Chat:
    """Handlers for a server of threads. `release` frees a handler that is stuck."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.begun = self.left = 0

    def visit(self) -> Any:
        return current_visit()

    def listen(self, request: bytes, context: Any) -> Iterator[bytes]:
        self.begun += 1
        try:
            yield b"hello"
            self.release.wait(SECONDS)
            yield b"too late"
        finally:
            self.left += 1

    def flood(self, request: bytes, context: Any) -> Iterator[bytes]:
        self.begun += 1
        try:
            while not self.release.is_set():
                yield b"hello"
        finally:
            self.left += 1

    def upload(self, requests: Iterator[bytes], context: Any) -> bytes:
        self.begun += 1
        try:
            return str(sum(1 for _ in requests)).encode()
        finally:
            self.left += 1

    def talk(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self.begun += 1
        try:
            yield from requests
        finally:
            self.left += 1

    def kept(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self.visit().keep_open()
        yield from self.talk(requests, context)

    def public(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield from self.talk(requests, context)

    def handlers(self) -> Any:
        one, many = grpc.unary_stream_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Listen": one(self.listen),
                "Flood": one(self.flood),
                "Upload": grpc.stream_unary_rpc_method_handler(self.upload),
                "Talk": many(self.talk),
                "Kept": many(self.kept),
                "Public": many(self.public),
            },
        )


class PlainChat(Chat):
    """Handlers that run in threads, for a server of asyncio."""

    def visit(self) -> Any:
        return current_async_visit()


class AsyncChat(Chat):
    """Handlers for a server of asyncio."""

    async def listen(self, request: bytes, context: Any) -> _Stream:  # type: ignore[override]
        self.begun += 1
        try:
            yield b"hello"
            await asyncio.Event().wait()
        finally:
            self.left += 1

    async def flood(self, request: bytes, context: Any) -> _Stream:  # type: ignore[override]
        self.begun += 1
        try:
            while True:
                yield b"hello"
        finally:
            self.left += 1

    async def upload(self, requests: Any, context: Any) -> bytes:  # type: ignore[override]
        self.begun += 1
        try:
            return str(len([request async for request in requests])).encode()
        finally:
            self.left += 1

    async def talk(self, requests: Any, context: Any) -> None:  # type: ignore[override]
        self.begun += 1
        try:
            async for request in requests:
                await context.write(request)
        finally:
            self.left += 1

    async def kept(self, requests: Any, context: Any) -> _Stream:  # type: ignore[override]
        current_async_visit().keep_open()
        async for request in requests:
            yield request

    async def public(self, requests: Any, context: Any) -> _Stream:  # type: ignore[override]
        async for request in requests:
            yield request


class Server:
    """A running server, with its handlers."""

    def __init__(
        self, chat: Chat, channel: Any, authority: FakeAuthority, cache: NearCache
    ) -> None:
        self.chat, self.channel, self.authority = chat, channel, authority
        self.cache = cache
        given = authority.sign_in("ada")
        self._metadata = [(name.lower(), value) for name, value in given.items()]

    def open(self, method: str, requests: Iterator[bytes] | None = None) -> Any:
        """Opens a stream for a caller who is signed in."""
        path, metadata = f"/{SERVICE}/{method}", self._metadata
        if requests is None:
            return self.channel.unary_stream(path)(b"", SECONDS, metadata)
        if method == "Upload":
            return self.channel.stream_unary(path).future(requests, SECONDS, metadata)
        return self.channel.stream_stream(path)(requests, SECONDS, metadata)


PUBLIC = [f"/{SERVICE}/Public"]


@contextmanager
def threads(authority: FakeAuthority, flow: Flow | None = None) -> Iterator[Server]:
    cache = NearCache()
    client = SessionAuthority(authority.address, timeout=PATIENCE, cache=cache)
    interceptor = SessionInterceptor(client, public=PUBLIC, flow=flow)
    server = grpc.server(ThreadPoolExecutor(8), interceptors=[interceptor], options=NO_SHARING)
    chat = Chat()
    server.add_generic_rpc_handlers((chat.handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    client.validate_session("none", "")
    wait_for(lambda: cache.live, "the watch", SECONDS)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Server(chat, channel, authority, cache)
    finally:
        chat.release.set()
        server.stop(None).wait()
        client.close()


@contextmanager
def _on_a_loop(
    authority: FakeAuthority, chat: Chat, pool: ThreadPoolExecutor | None, flow: Flow | None
) -> Iterator[Server]:
    loop, cache = asyncio.new_event_loop(), NearCache()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[Any, Any, int]:
        client = AsyncSessionAuthority(authority.address, timeout=PATIENCE, cache=cache)
        interceptor = AsyncSessionInterceptor(client, public=PUBLIC, flow=flow)
        server = grpc.aio.server(pool, interceptors=[interceptor], options=NO_SHARING)
        server.add_generic_rpc_handlers((chat.handlers(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        await client.validate_session("none", "")
        return server, client, port

    async def stop() -> None:
        await server.stop(None)
        await client.close()

    try:
        server, client, port = asyncio.run_coroutine_threadsafe(start(), loop).result(SECONDS)
        wait_for(lambda: cache.live, "the watch", SECONDS)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Server(chat, channel, authority, cache)
        finally:
            chat.release.set()
            asyncio.run_coroutine_threadsafe(stop(), loop).result(SECONDS)
            if pool:
                # at its end, a thread of gRPC waits for the loop, which must still run
                pool.shutdown()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(SECONDS)
        loop.close()


@contextmanager
def tasks(authority: FakeAuthority, flow: Flow | None = None) -> Iterator[Server]:
    with _on_a_loop(authority, AsyncChat(), None, flow) as server:
        yield server


@contextmanager
def plain_functions(authority: FakeAuthority, flow: Flow | None = None) -> Iterator[Server]:
    with _on_a_loop(authority, PlainChat(), ThreadPoolExecutor(4), flow) as server:
        yield server


each_server = pytest.mark.parametrize("serve", [threads, tasks, plain_functions])


class Requests:
    """The requests of a caller, sent when a test says so."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes | None] = queue.Queue()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._queue.get, None)

    def send(self, request: bytes | None) -> None:
        self._queue.put(request)


def status_of(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as ended:
        list(call)
    return ended.value.code().name, ended.value.details() or ""


ENDED = ("UNAUTHENTICATED", "session_ended")


@each_server
def test_a_stream_of_responses_ends_even_if_its_handler_is_stuck(
    authority: FakeAuthority, serve: Any
):
    with serve(authority) as server:
        call = server.open("Listen")
        assert next(call) == b"hello"
        authority.sign_out("ada")
        assert status_of(call) == ENDED
        server.chat.release.set()
        wait_for(lambda: server.chat.left == 1, "the handler to end", SECONDS)


@each_server
def test_a_stream_with_many_responses_ends(authority: FakeAuthority, serve: Any):
    with serve(authority) as server:
        call = server.open("Flood")
        assert next(call) == b"hello"
        with ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(authority.sign_out, "ada")
            assert status_of(call) == ENDED
        wait_for(lambda: server.chat.left == 1, "the handler to end", SECONDS)


@each_server
def test_a_stream_of_requests_ends(authority: FakeAuthority, serve: Any):
    with serve(authority) as server:
        requests = Requests()
        requests.send(b"one")
        call = server.open("Upload", iter(requests))
        wait_for(lambda: server.chat.begun == 1, "the handler to begin", SECONDS)
        authority.sign_out("ada")
        error = call.exception(SECONDS)
        assert (error.code().name, error.details()) == ENDED
        requests.send(None)
        wait_for(lambda: server.chat.left == 1, "the handler to end", SECONDS)


@each_server
def test_a_stream_both_ways_ends(authority: FakeAuthority, serve: Any):
    with serve(authority) as server:
        requests = Requests()
        requests.send(b"one")
        call = server.open("Talk", iter(requests))
        assert next(call) == b"one"
        authority.sign_out("ada")
        assert status_of(call) == ENDED
        requests.send(None)
        wait_for(lambda: server.chat.left == 1, "the handler to end", SECONDS)


@each_server
@pytest.mark.parametrize("method", ["Kept", "Public"])
def test_a_public_stream_and_a_stream_that_is_kept_open_go_on(
    authority: FakeAuthority, serve: Any, method: str
):
    with serve(authority) as server:
        requests = Requests()
        requests.send(b"one")
        call = server.open(method, iter(requests))
        assert next(call) == b"one"
        other = server.open("Listen")
        assert next(other) == b"hello"
        authority.sign_out("ada")
        assert status_of(other) == ENDED
        requests.send(b"two")
        assert next(call) == b"two"
        requests.send(None)
        assert list(call) == []


@each_server
def test_a_server_can_opt_out_of_ending_streams(authority: FakeAuthority, serve: Any):
    with serve(authority, Flow(end_connections=False)) as server:
        requests = Requests()
        requests.send(b"one")
        call = server.open("Talk", iter(requests))
        assert next(call) == b"one"
        authority.sign_out("ada")
        wait_for(lambda: server.cache.stats().entries == 0, "the event", SECONDS)
        requests.send(b"two")
        assert next(call) == b"two"
        requests.send(None)
        assert list(call) == []
