"""Which servers the log reads: over one connection at a time, and only from a primary."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import redis

from session_authority.store import EventLog, KeyNames, Limits, connect
from session_authority.store.key_names import PARTITIONS
from session_authority.store.log_position import START
from tests.store.samples import NOW, unavailable
from tests.support.backends import PATIENT, Backend, redis_server
from tests.support.proxy import Proxy


async def test_one_connection_is_enough_for_many_readers(valkey_backend: Backend, prefix: str):
    async with Proxy(valkey_backend.url) as wire:
        client = connect(wire.url, Limits(reply_timeout=timedelta(seconds=10)))
        log = EventLog(client, KeyNames(prefix))
        reads = [log.read({number: START}, limit=1, now=NOW) for number in range(PARTITIONS)]
        async with asyncio.timeout(20):
            await asyncio.gather(*reads, log.end(NOW), log.primaries())
        assert wire.connections == 1
        assert wire.commands["XRANGE"] == PARTITIONS
        await client.aclose()


async def test_a_replica_is_never_believed(tmp_path: Path, prefix: str):
    """A primary that stepped down still answers on connections that were open, and its answers are
    outdated.
    """
    with redis_server(tmp_path) as server:
        client = connect(server.url, PATIENT)
        log = EventLog(client, KeyNames(prefix))
        [before] = set(await log.primaries())
        with redis.Redis.from_url(server.admin_url) as admin:
            admin.execute_command("REPLICAOF", "127.0.0.1", "1")
            await unavailable(log.primaries(), log.primaries())
            admin.execute_command("REPLICAOF", "NO", "ONE")
        assert set(await log.primaries()) != {before}
        await client.aclose()
