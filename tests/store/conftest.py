"""The store on each backend, and on the bundled Valkey alone where one is enough."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import pytest

from session_authority.store import KeyNames, Limits, SessionStore, connect
from tests.store.samples import Room
from tests.support.backends import PATIENT, Backend
from tests.support.proxy import Proxy

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
    """Makes stores that talk to the bundled Valkey through something in between."""
    rooms: list[Room] = []
    async with aclosing(valkey_backend.admin()) as admin:

        async def make(between: Proxy, prefix: str, limits: Limits = PATIENT) -> Room:
            keys = KeyNames(prefix)
            rooms.append(Room(SessionStore(connect(between.url, limits), keys), admin, keys))
            return rooms[-1]

        yield make
        for room in rooms:
            await room.store.close()
