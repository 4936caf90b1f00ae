"""WebSockets and event streams end with the session, on real servers and in several frameworks.
Connections that are to stay open go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import httpx
import pytest

from client_tests.ends_harness import (
    APPS,
    HELLO,
    SERVERS,
    STREAM_APPS,
    Notes,
    Socket,
    behind,
    socket_at,
)
from client_tests.harness import until
from session_authority_client import AsyncSessionAuthority, NearCache
from session_authority_client.flow import Flow, Refused
from session_authority_client.testing import FakeAuthority

PATIENCE = timedelta(seconds=20)
SECONDS = PATIENCE.total_seconds()
each_app = pytest.mark.parametrize("app", APPS)
each_stream_app = pytest.mark.parametrize("app", STREAM_APPS)
each_server = pytest.mark.parametrize("server", SERVERS)


class Site:
    """An app on a server, with a signed-in user."""

    def __init__(self, authority: FakeAuthority, address: str, notes: Notes) -> None:
        self.authority, self.address, self.notes = authority, address, notes
        self.headers = authority.sign_in("ada")

    async def sign_out(self) -> None:
        """Signs the user out, as another device could."""
        await asyncio.to_thread(self.authority.sign_out, "ada")


@asynccontextmanager
async def site(
    authority: FakeAuthority, server: str, app: str, flow: Flow | None = None
) -> AsyncIterator[Site]:
    notes, cache = Notes(), NearCache()
    async with (
        AsyncSessionAuthority(authority.address, timeout=PATIENCE, cache=cache) as client,
        SERVERS[server](behind(STREAM_APPS[app](notes), client, flow)) as address,
    ):
        await client.validate_session("none", "")  # starts the watch
        await until(lambda: cache.live)
        yield Site(authority, address, notes)


@asynccontextmanager
async def talking(
    authority: FakeAuthority, server: str, app: str, path: str = "/chat", flow: Flow | None = None
) -> AsyncIterator[tuple[Site, Socket]]:
    """Yields a site, and a WebSocket of its signed-in user."""
    async with (
        site(authority, server, app, flow) as here,
        socket_at(here.address, path, here.headers) as socket,
    ):
        yield here, socket


async def events_of(response: httpx.Response) -> bytes:
    async with asyncio.timeout(SECONDS):
        return b"".join([part async for part in response.aiter_raw()])


@each_server
@each_app
async def test_a_websocket_is_closed_with_4401(authority: FakeAuthority, server: str, app: str):
    async with talking(authority, server, app) as (here, socket):
        assert await socket.echo("hello") == "hello"
        await here.sign_out()
        async with asyncio.timeout(SECONDS):
            assert await socket.closed() == (4401, "session_ended")
        await until(lambda: len(here.notes.left) == 1)
        expected = {"quart": "cancelled"}.get(app, (4401, "session_ended"))
        (left,) = here.notes.left
        assert left == expected or (app == "litestar" and left[0] == 4401)


@each_server
@each_stream_app
async def test_an_event_stream_ends_and_its_generator_is_closed(
    authority: FakeAuthority, server: str, app: str
):
    async with site(authority, server, app) as here, httpx.AsyncClient(timeout=SECONDS) as client:
        url = f"http://{here.address}/events"
        async with client.stream("GET", url, headers=here.headers) as response:
            assert response.status_code == 200
            await until(lambda: here.notes.opened == 1)
            await here.sign_out()
            assert await events_of(response) == HELLO
        await until(lambda: here.notes.left == ["closed"])
        assert (await client.get(url, headers=here.headers)).status_code == 401


@each_server
async def test_the_websocket_of_an_app_that_never_reads_is_closed(
    authority: FakeAuthority, server: str
):
    async with talking(authority, server, "plain", "/push") as (here, socket):
        await until(lambda: here.notes.opened == 1)
        await here.sign_out()
        async with asyncio.timeout(SECONDS):
            assert await socket.closed() == (4401, "session_ended")


@each_server
@each_stream_app
async def test_a_stream_that_never_stops_sending_ends(
    authority: FakeAuthority, server: str, app: str
):
    async with site(authority, server, app) as here, httpx.AsyncClient(timeout=SECONDS) as client:
        url = f"http://{here.address}/busy"
        async with client.stream("GET", url, headers=here.headers) as response:
            parts = response.aiter_raw()
            assert HELLO in await anext(parts)
            ending = asyncio.create_task(here.sign_out())
            async with asyncio.timeout(SECONDS):
                async for _ in parts:
                    pass
            await ending
        await until(lambda: here.notes.left == ["closed"])


@each_app
@pytest.mark.parametrize("path", ["/kept", "/public"])
async def test_a_connection_that_needs_no_session_or_is_kept_open_goes_on(
    authority: FakeAuthority, app: str, path: str
):
    async with (
        talking(authority, "uvicorn", app, path) as (here, socket),
        socket_at(here.address, "/chat", here.headers) as other,
    ):
        assert await other.echo("hello") == "hello"
        await here.sign_out()
        async with asyncio.timeout(SECONDS):
            await other.closed()
        await until(lambda: here.notes.told == (2 if path == "/kept" else 1))
        assert await socket.echo("still here") == "still here"


async def test_an_app_can_keep_all_connections_open(authority: FakeAuthority):
    async with talking(authority, "uvicorn", "starlette", flow=Flow(end_connections=False)) as (
        here,
        socket,
    ):
        assert await socket.echo("hello") == "hello"
        await here.sign_out()
        await until(lambda: here.notes.told == 1)
        assert await socket.echo("still here") == "still here"


async def test_a_renewal_or_the_end_of_another_users_session_ends_no_connection(
    authority: FakeAuthority,
):
    async with talking(authority, "uvicorn", "starlette") as (here, socket):
        assert await socket.echo("hello") == "hello"
        authority.sign_in("bob")
        await asyncio.to_thread(authority.sign_out, "bob")
        authority.expire_tokens()
        assert await socket.echo("hello") == "hello"
        await here.sign_out()
        async with asyncio.timeout(SECONDS):
            assert await socket.closed() == (4401, "session_ended")


# --- without a server: messages between the app and the middleware --------------------------------


async def talk(authority: FakeAuthority, app: Any, **more: Any) -> list[Mapping[str, Any]]:
    """Returns the messages that leave an app without a framework. Its user is signed out at the
    first message with contents.
    """
    sent: list[Mapping[str, Any]] = []
    given = authority.sign_in("ada")
    headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, **more}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)
        if message["type"] in ("http.response.body", "websocket.accept") and len(sent) < 3:
            await asyncio.to_thread(authority.sign_out, "ada")
            client.endings.sessions.doubt("ada")

    async with AsyncSessionAuthority(authority.address, timeout=PATIENCE) as client:
        async with asyncio.timeout(SECONDS):
            await behind(app, client)(scope, asyncio.Event().wait, send)
    return sent


START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream; charset=utf-8")],
}
MORE = {"type": "http.response.body", "body": HELLO, "more_body": True}
END = {"type": "http.response.body", "body": b"", "more_body": False}


@pytest.mark.parametrize("version", ["2.3", "2.4"])
async def test_sends_after_the_end_raise_or_are_dropped_as_the_asgi_version_says(
    authority: FakeAuthority, version: str
):
    raised: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["visit"].require()
        await send(START)
        await send(MORE)
        assert await receive() == {"type": "http.disconnect"}
        try:
            await send(MORE)
        except OSError as error:
            raised.append(str(error))
            raise

    sent = await talk(authority, app, asgi={"spec_version": version})
    assert [message["type"] for message in sent] == [
        "http.response.start", "http.response.body", "http.response.body",
    ]  # fmt: skip
    assert sent[-1] == END
    assert raised == (["session_ended"] if version == "2.4" else [])


async def test_an_app_that_is_stuck_is_cancelled(authority: FakeAuthority):
    left: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["visit"].require()
        await send(START)
        await send(MORE)
        try:
            await asyncio.Event().wait()
        finally:
            left.append("cancelled")

    assert (await talk(authority, app))[-1] == END
    assert left == ["cancelled"]


@pytest.mark.parametrize("turns", [1, 1000])
async def test_an_app_that_only_sends_lets_other_tasks_run(authority: FakeAuthority, turns: int):
    """The app awaits nothing but its sends. If a send did not yield to the event loop, the app
    could not be cancelled.
    """
    others: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["visit"].require()
        await send(START)
        await send(MORE)
        assert await receive() == {"type": "http.disconnect"}
        for turn in range(turns):
            asyncio.get_running_loop().call_soon(others.append, turn)
            await send(MORE)
            assert others[-1:] == [turn]

    scope = {"asgi": {"spec_version": "2.3"}}
    assert (await talk(authority, app, **scope))[-1] == END
    assert others == list(range(turns))


async def test_an_app_that_goes_on_after_its_refusal_lets_other_tasks_run(authority: FakeAuthority):
    others: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with suppress(Refused):
            scope["state"]["visit"].require()
        await send({**START, "status": 500})
        for turn in range(3):
            asyncio.get_running_loop().call_soon(others.append, turn)
            await send(MORE)
            assert others[-1:] == [turn]

    sent: list[Any] = []

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    async with AsyncSessionAuthority(authority.address, timeout=PATIENCE) as client:
        await behind(app, client)(scope, asyncio.Event().wait, send)
    assert [message.get("status") for message in sent] == [401, None]
    assert others == [0, 1, 2]


async def test_an_error_of_the_app_after_the_end_is_raised(authority: FakeAuthority):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["visit"].require()
        await send(START)
        await send(MORE)
        await receive()
        raise LookupError("a fault")

    with pytest.raises(LookupError):
        await talk(authority, app)


async def test_an_app_that_reads_its_session_late_is_ended_as_well(authority: FakeAuthority):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(MORE)
        scope["state"]["visit"].require()
        assert await receive() == {"type": "http.disconnect"}

    assert (await talk(authority, app))[-1] == END


async def test_a_response_that_is_no_event_stream_is_not_cut(authority: FakeAuthority):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        visit = scope["state"]["visit"]
        visit.require()
        await send({**START, "headers": [(b"content-type", b"text/csv")]})
        await send(MORE)
        assert await visit.ended(PATIENCE)
        await send({**MORE, "more_body": False})

    sent = await talk(authority, app)
    assert [message.get("body") for message in sent] == [None, HELLO, HELLO]
