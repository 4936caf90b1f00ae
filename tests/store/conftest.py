"""The store on each backend, and on the bundled Valkey alone where one backend is enough."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from datetime import timedelta

import pytest

from session_authority.store import KeyNames, Limits, SessionStore, connect
from tests.store.samples import Room, warm_room
from tests.support.backends import PATIENT, Backend, ValkeyServer, valkey_server
from tests.support.proxy import Proxy

# For tests that wait until a reply is late. No other test may depend on the speed of a machine.
IMPATIENT = Limits(connect_timeout=timedelta(seconds=10), reply_timeout=timedelta(seconds=1))

RoomBehind = Callable[..., Awaitable[Room]]


@pytest.fixture
async def room(backend: Backend, prefix: str) -> AsyncIterator[Room]:
    """A store on each backend in turn."""
    async with aclosing(backend.admin()) as admin:
        store = SessionStore(backend.connect(), KeyNames(prefix))
        yield Room(store, admin, KeyNames(prefix))
        await store.close()


@pytest.fixture
async def valkey_room(valkey_backend: Backend, prefix: str) -> AsyncIterator[Room]:
    """A store on the bundled Valkey."""
    async with aclosing(valkey_backend.admin()) as admin:
        store = SessionStore(valkey_backend.connect(), KeyNames(prefix))
        yield Room(store, admin, KeyNames(prefix))
        await store.close()


@pytest.fixture
async def room_behind(valkey_backend: Backend) -> AsyncIterator[RoomBehind]:
    """Makes stores that reach the bundled Valkey through a proxy or a wire."""
    rooms: list[Room] = []
    async with aclosing(valkey_backend.admin()) as admin:

        async def make(between: Proxy, prefix: str, limits: Limits = PATIENT) -> Room:
            keys = KeyNames(prefix)
            rooms.append(Room(SessionStore(connect(between.url, limits), keys), admin, keys))
            return rooms[-1]

        yield make
        for room in rooms:
            await room.store.close()


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A Valkey that a test may kill. The test that kills it starts it again."""
    with valkey_server(tmp_path_factory.mktemp("victim")) as server:
        yield server


@pytest.fixture
async def proxy(valkey_backend: Backend) -> AsyncIterator[Proxy]:
    async with Proxy(valkey_backend.url) as wire:
        yield wire


@pytest.fixture
async def warm(proxy: Proxy, prefix: str, room_behind: RoomBehind) -> Room:
    """A store behind the proxy that has been used already."""
    room = await warm_room(await room_behind(proxy, prefix))
    proxy.commands.clear()
    return room


@pytest.fixture
async def impatient(proxy: Proxy, prefix: str, room_behind: RoomBehind) -> Room:
    """The same store, which waits one second for a reply."""
    room = await warm_room(await room_behind(proxy, prefix, IMPATIENT))
    proxy.commands.clear()
    return room
