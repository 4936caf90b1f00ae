"""The interceptors in real servers of asyncio and of threads, with the fake of the service."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import pytest

from session_authority_client.flow import Flow
from session_authority_client.grpc_server import (
    AsyncSessionInterceptor,
    SessionInterceptor,
    _current,
    current_async_visit,
    current_visit,
)
from session_authority_client.testing import FakeAuthority

PATIENCE = timedelta(seconds=20)
SECONDS = PATIENCE.total_seconds()
RECENT = timedelta(minutes=5)
SERVICE = "example.Greeter"
PUBLIC = f"/{SERVICE}/Public"
_Stream = AsyncIterator[bytes]


def bytes_handler(kind: str, behavior: Callable[..., Any]) -> Any:
    return getattr(grpc, f"{kind}_rpc_method_handler")(behavior)


class Greeter:
    """Handlers for a server of threads."""

    def greet(self, request: bytes, context: Any) -> bytes:
        return b"hello " + current_visit().require().user_id.encode()

    def greet_many(self, request: bytes, context: Any) -> Iterator[bytes]:
        for _ in range(3):
            yield b"hello " + current_visit().require().user_id.encode()

    def count(self, requests: Iterator[bytes], context: Any) -> bytes:
        return str(sum(1 for _ in requests)).encode()

    def echo(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield from requests

    def public(self, request: bytes, context: Any) -> bytes:
        session = current_visit().session
        return session.user_id.encode() if session else b"nobody"

    def sign_in(self, request: bytes, context: Any) -> bytes:
        issued = current_visit().sign_in(request.decode())
        return f"{issued.access_token} {issued.device.device_id}".encode()

    def late(self, request: bytes, context: Any) -> bytes:
        return current_visit().require().user_id.encode()

    def late_many(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield b"one"
        yield current_visit().require().user_id.encode()

    def recent(self, request: bytes, context: Any) -> bytes:
        return current_visit().require(max_age=RECENT).user_id.encode()

    def fault(self, request: bytes, context: Any) -> bytes:
        raise ZeroDivisionError

    def handlers(self) -> Any:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Greet": bytes_handler("unary_unary", self.greet),
                "GreetMany": bytes_handler("unary_stream", self.greet_many),
                "Count": bytes_handler("stream_unary", self.count),
                "Echo": bytes_handler("stream_stream", self.echo),
                "Public": bytes_handler("unary_unary", self.public),
                "SignIn": bytes_handler("unary_unary", self.sign_in),
                "Late": bytes_handler("unary_unary", self.late),
                "LateMany": bytes_handler("unary_stream", self.late_many),
                "Recent": bytes_handler("unary_unary", self.recent),
                "Fault": bytes_handler("unary_unary", self.fault),
            },
        )


class AsyncGreeter(Greeter):
    """Handlers for a server of asyncio."""

    async def greet(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        return b"hello " + current_async_visit().require().user_id.encode()

    async def greet_many(self, request: bytes, context: Any) -> _Stream:  # type: ignore[override]
        for _ in range(3):
            yield b"hello " + current_async_visit().require().user_id.encode()

    async def count(self, requests: _Stream, context: Any) -> bytes:  # type: ignore[override]
        return str(len([request async for request in requests])).encode()

    async def echo(self, requests: _Stream, context: Any) -> None:  # type: ignore[override]
        async for request in requests:
            # a handler may write its responses instead of yielding them
            await context.write(request)

    async def public(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        session = current_async_visit().session
        return session.user_id.encode() if session else b"nobody"

    async def late(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        return current_async_visit().require().user_id.encode()

    async def late_many(self, request: bytes, context: Any) -> _Stream:  # type: ignore[override]
        yield b"one"
        yield current_async_visit().require().user_id.encode()

    async def recent(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        return current_async_visit().require(max_age=RECENT).user_id.encode()

    async def fault(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        raise ZeroDivisionError

    async def sign_in(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        issued = await current_async_visit().sign_in(request.decode())
        return f"{issued.access_token} {issued.device.device_id}".encode()


class PlainGreeter(AsyncGreeter):
    """Handlers that are plain functions, for a server of asyncio."""

    def greet(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()  # the handler may block without blocking other calls
        return b"hello " + current_async_visit().require().user_id.encode()

    def greet_many(self, request: bytes, context: Any) -> Iterator[bytes]:  # type: ignore[override]
        for _ in range(3):
            yield b"hello " + current_async_visit().require().user_id.encode()

    def count(self, requests: Iterator[bytes], context: Any) -> bytes:  # type: ignore[override]
        return str(sum(1 for _ in requests)).encode()

    # This is a plain function that returns a generator.
    def echo(  # type: ignore[override]
        self, requests: Iterator[bytes], context: Any
    ) -> Iterator[bytes]:
        return (request for request in requests)

    def public(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        session = current_async_visit().session
        return session.user_id.encode() if session else b"nobody"

    def late(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        return current_async_visit().require().user_id.encode()

    def late_many(self, request: bytes, context: Any) -> Iterator[bytes]:  # type: ignore[override]
        yield b"one"
        yield current_async_visit().require().user_id.encode()

    def recent(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        return current_async_visit().require(max_age=RECENT).user_id.encode()

    def fault(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        raise ZeroDivisionError


@dataclass
class HandlerCallDetails:
    """The details of a call that gRPC passes to an interceptor."""

    method: str


@dataclass
class Running:
    """A running server, and a way to call it."""

    channel: Any

    def call(self, method: str, request: bytes = b"", *metadata: tuple[str, str]) -> bytes:
        answer: bytes = self.channel.unary_unary(f"/{SERVICE}/{method}")(request, SECONDS, metadata)
        return answer

    def stream(self, method: str, *metadata: tuple[str, str]) -> list[bytes]:
        return list(self.channel.unary_stream(f"/{SERVICE}/{method}")(b"", SECONDS, metadata))

    def refusal(self, method: str, *metadata: tuple[str, str]) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as refused:
            self.call(method, b"", *metadata)
        return refused.value.code().name, refused.value.details() or ""

    def sign_in(self, user_id: str = "ada") -> list[tuple[str, str]]:
        """Signs a user in. Returns the metadata that the client sends from then on."""
        token, device = self.call("SignIn", user_id.encode()).decode().split()
        return [("authorization", f"Bearer {token}"), ("x-device-id", device)]


OPEN = (PUBLIC, *(f"/{SERVICE}/{method}" for method in ("SignIn", "Late", "LateMany", "Fault")))
NO_SHARING = [("grpc.so_reuseport", 0)]


@contextmanager
def threads(authority: FakeAuthority, flow: Flow | None = None) -> Iterator[Running]:
    interceptor = SessionInterceptor(
        lambda: authority.client(timeout=PATIENCE), public=OPEN, flow=flow
    )
    server = grpc.server(ThreadPoolExecutor(8), interceptors=[interceptor], options=NO_SHARING)
    server.add_generic_rpc_handlers((Greeter().handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Running(channel)
    finally:
        server.stop(None).wait()
        interceptor.close()


@contextmanager
def plain_functions(authority: FakeAuthority) -> Iterator[Running]:
    """Runs a server of asyncio whose one thread serves one plain function after the other."""
    with (
        ThreadPoolExecutor(1) as pool,
        tasks(authority, greeter=PlainGreeter(), pool=pool) as running,
    ):
        yield running
        assert [*pool.map(lambda _: _current.get(None), range(3))] == [
            None
        ] * 3  # no visit stays behind in the thread


@contextmanager
def tasks(
    authority: FakeAuthority,
    flow: Flow | None = None,
    greeter: AsyncGreeter | None = None,
    pool: ThreadPoolExecutor | None = None,
) -> Iterator[Running]:
    """Runs a server of asyncio in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[Any, Any, int]:
        interceptor = AsyncSessionInterceptor(
            lambda: authority.async_client(timeout=PATIENCE), public=OPEN, flow=flow
        )
        server = grpc.aio.server(pool, interceptors=[interceptor], options=NO_SHARING)
        server.add_generic_rpc_handlers(((greeter or AsyncGreeter()).handlers(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, interceptor, port

    async def stop() -> None:
        await server.stop(None)
        await interceptor.close()

    try:
        server, interceptor, port = asyncio.run_coroutine_threadsafe(start(), loop).result(SECONDS)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Running(channel)
        finally:
            asyncio.run_coroutine_threadsafe(stop(), loop).result(SECONDS)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(params=[threads, tasks, plain_functions])
def running(request: pytest.FixtureRequest, authority: FakeAuthority) -> Iterator[Running]:
    with request.param(authority) as running:
        yield running


def test_a_caller_who_is_signed_in_is_served(running: Running):
    metadata = running.sign_in()
    assert running.call("Greet", b"", *metadata) == b"hello ada"
    assert running.stream("GreetMany", *metadata) == [b"hello ada"] * 3
    count = running.channel.stream_unary(f"/{SERVICE}/Count")
    assert count(iter([b"a", b"b"]), SECONDS, metadata) == b"2"
    echo = running.channel.stream_stream(f"/{SERVICE}/Echo")
    assert list(echo(iter([b"a", b"b"]), SECONDS, metadata)) == [b"a", b"b"]


def test_a_caller_who_is_not_signed_in_is_refused(authority: FakeAuthority, running: Running):
    (_, token), device = running.sign_in()
    required = ("UNAUTHENTICATED", "sign_in_required")
    assert running.refusal("Greet") == required
    assert running.refusal("Greet", ("authorization", token)) == required
    assert running.refusal("Greet", ("authorization", "Basic x"), device) == required
    with pytest.raises(grpc.RpcError) as refused:
        running.stream("GreetMany")
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.RpcError) as refused:
        running.channel.stream_unary(f"/{SERVICE}/Count")(iter([b"a"]), SECONDS)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.RpcError) as refused:
        list(running.channel.stream_stream(f"/{SERVICE}/Echo")(iter([b"a"]), SECONDS))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_cookies_do_not_sign_a_caller_in(running: Running):
    (_, token), (_, device) = running.sign_in()
    cookie = f"__Host-session={token.removeprefix('Bearer ')}; __Host-device={device}"
    assert running.refusal("Greet", ("cookie", cookie)) == ("UNAUTHENTICATED", "sign_in_required")


def test_a_public_method_sees_the_user_if_the_caller_is_signed_in(running: Running):
    assert running.call("Public") == b"nobody"
    assert running.call("Public", b"", *running.sign_in("eve")) == b"eve"
    assert running.call("Public") == b"nobody"


def test_a_caller_with_an_expired_token_is_answered_token_expired(
    authority: FakeAuthority, running: Running
):
    metadata = running.sign_in()
    authority.expire_tokens()
    assert running.refusal("Greet", *metadata) == ("UNAUTHENTICATED", "token_expired")


def test_a_caller_whose_sign_in_is_too_old_must_sign_in_again(
    authority: FakeAuthority, running: Running
):
    metadata = running.sign_in()
    assert running.call("Recent", b"", *metadata) == b"ada"
    authority.pass_time(2 * RECENT)
    step_up = ("UNAUTHENTICATED", "insufficient_user_authentication")
    assert running.refusal("Recent", *metadata) == step_up
    assert running.call("Greet", b"", *metadata) == b"hello ada"
    (_, token), device = metadata
    again = running.call("SignIn", b"ada", ("authorization", token), device).decode().split()
    assert again[1] == device[1]
    metadata = [("authorization", f"Bearer {again[0]}"), device]
    assert running.call("Recent", b"", *metadata) == b"ada"


def test_an_interceptor_fails_closed_and_recovers(authority: FakeAuthority, running: Running):
    metadata = running.sign_in()
    with authority.unavailable():
        assert running.refusal("Greet", *metadata) == ("UNAVAILABLE", "unavailable")
        assert running.refusal("Public", *metadata) == ("UNAVAILABLE", "unavailable")
        assert running.call("Public") == b"nobody"  # without a token, the service is not called
    assert running.call("Greet", b"", *metadata) == b"hello ada"


@pytest.mark.parametrize("serve", [threads, tasks])
def test_the_service_stores_the_address_and_the_user_agent_of_a_caller(
    authority: FakeAuthority, serve: Any
):
    with serve(authority) as running:
        running.sign_in()
    with authority.client(timeout=PATIENCE) as client:
        (device,) = client.devices("ada")
    assert device.last_client.ip_address == "127.0.0.1"
    assert device.last_client.user_agent.startswith("grpc-python/")


def test_a_method_without_a_handler_is_unimplemented(running: Running):
    assert running.refusal("Nothing")[0] == "UNIMPLEMENTED"


def test_a_refusal_by_a_handler_is_answered(running: Running):
    assert running.refusal("Late") == ("UNAUTHENTICATED", "sign_in_required")
    with pytest.raises(grpc.RpcError) as refused:
        running.stream("LateMany")
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_fault_of_a_handler_is_not_answered_as_a_refusal(running: Running):
    assert running.refusal("Fault")[0] == "UNKNOWN"


def test_a_flow_without_bearer_tokens_is_refused(authority: FakeAuthority):
    for make in (
        lambda flow: SessionInterceptor(authority.client, flow=flow),
        lambda flow: AsyncSessionInterceptor(authority.async_client, flow=flow),
    ):
        with pytest.raises(ValueError, match="bearer tokens must be looked at"):
            make(Flow(bearer=False))


async def test_a_plain_function_on_the_event_loop_raises_instead_of_a_deadlock(
    authority: FakeAuthority,
):
    async def found(_: Any) -> Any:
        return bytes_handler("unary_unary", PlainGreeter().greet)

    async with authority.async_client() as client:
        handler = await AsyncSessionInterceptor(client).intercept_service(
            found, HandlerCallDetails("/a/b")
        )
        with pytest.raises(RuntimeError, match="must not be called on the event loop"):
            handler.unary_unary(b"", None)


def test_many_calls_of_plain_functions_each_find_their_own_visit(authority: FakeAuthority):
    with (
        ThreadPoolExecutor(4) as pool,
        tasks(authority, greeter=PlainGreeter(), pool=pool) as running,
    ):
        callers = {f"user{number}": running.sign_in(f"user{number}") for number in range(8)}

        def ask(user: str) -> bool:
            hello = b"hello " + user.encode()
            one, many = (
                running.call("Greet", b"", *callers[user]),
                running.stream("GreetMany", *callers[user]),
            )
            return [one, *many] == [hello] * 4

        with ThreadPoolExecutor(8) as clients:
            assert all(clients.map(ask, [*callers] * 10))


def test_a_handler_without_the_interceptor_gets_a_clear_error():
    for current in (current_visit, current_async_visit):
        with pytest.raises(RuntimeError, match="not in front of this handler"):
            current()
