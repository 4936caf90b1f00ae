"""The store on each backend, and on the bundled Valkey alone where one is enough."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from session_authority.store import Keys, Limits, Store, connect
from tests.store.samples import Room
from tests.support.backends import Backend
from tests.support.proxy import Proxy

RoomBehind = Callable[..., Awaitable[Room]]


@pytest.fixture
async def room(backend: Backend, prefix: str) -> AsyncIterator[Room]:
    """A store on each backend in turn."""
    client, keys = backend.connect(), Keys(prefix)
    store = Store(client, keys)
    yield Room(store, client, keys)
    await store.close()


@pytest.fixture
async def valkey_room(valkey_backend: Backend, prefix: str) -> AsyncIterator[Room]:
    """A store on the bundled Valkey."""
    client, keys = valkey_backend.connect(), Keys(prefix)
    store = Store(client, keys)
    yield Room(store, client, keys)
    await store.close()


@pytest.fixture
async def room_behind() -> AsyncIterator[RoomBehind]:
    """Makes stores that talk through something in between."""
    rooms: list[Room] = []

    async def make(between: Proxy, prefix: str, limits: Limits | None = None) -> Room:
        keys = Keys(prefix)
        client = connect(between.url, limits or Limits())
        rooms.append(Room(Store(client, keys), client, keys))
        return rooms[-1]

    yield make
    for room in rooms:
        await room.store.close()
