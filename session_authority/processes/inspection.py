"""Assembles an `Inspection`, which reads and repairs the data of users in Redis. An inspection
needs no running service.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from session_authority.processes.wiring import connect_as_set
from session_authority.runtime.settings import Settings
from session_authority.store import Inspection, SessionStore


@asynccontextmanager
async def inspection_of(settings: Settings) -> AsyncIterator[Inspection]:
    """Opens an `Inspection` of the Redis that the settings name. Closes the connections to Redis at
    the end of the block.
    """
    client, keys = connect_as_set(settings)
    store = SessionStore(
        client,
        keys,
        max_connections=settings.redis_connections,
        event_memory=settings.event_memory,
        addresses=settings.store_addresses,
    )
    inspection = Inspection(client, keys, store)
    try:
        yield inspection
    finally:
        await inspection.close()
