"""A server that may no longer be the primary: nothing is read from it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from session_authority.store import EventLog, KeyNames, SessionStore
from session_authority.store.driver.questions import Question
from session_authority.store.records import Commit, Committed
from tests.store.samples import (
    MUTATIONS,
    NOW,
    Room,
    every_operation,
    key,
    let_through,
    session,
    store_at,
    unavailable,
)
from tests.support.backends import Backend, ValkeyServer, redis_server
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

# 1000 reads need this many batches.
LINES = 4
CLIENT_ID = Question(("CLIENT", "ID"))


async def test_nothing_is_read_from_a_primary_that_stepped_down(
    victim: ValkeyServer, prefix: str
) -> None:
    """A demoted primary would answer. The server that took over may have the same name."""
    # The user of this URL may ask for the ID of a connection.
    store = store_at(victim.admin_url, prefix)
    try:
        with redis.Redis(port=victim.port) as admin:
            line = await store._reads.ask(CLIENT_ID)
            assert await store._reads.ask(CLIENT_ID) == line
            admin.execute_command("REPLICAOF", "127.0.0.1", free_port())
            try:
                await unavailable(store.prove_writable())
                for _ in range(2):
                    await unavailable(store.session("ada", key(1)), store.user("ada"))
            finally:
                admin.execute_command("REPLICAOF", "NO", "ONE")
            assert await store._reads.ask(CLIENT_ID) != line
    finally:
        await store.close()


async def test_a_late_reply_closes_all_read_lines(impatient: Room, proxy: Proxy) -> None:
    """It does not matter which part of the process waited for the reply: the server may have been
    replaced when it continues.
    """

    async def hold(_: bytes) -> None:
        await asyncio.Event().wait()

    log = EventLog(impatient.store._client, impatient.keys)
    late: list[Callable[[], Awaitable[object]]] = [
        lambda: impatient.store.session("ada", key(1)),
        lambda: MUTATIONS["revoke_device"](impatient.store),
        impatient.store.server_times,
        impatient.store.prove_writable,
        log.primaries,
    ]
    for wait in late:
        await asyncio.gather(*(impatient.store.session("ada", key(1)) for _ in range(1000)))
        proxy.on_reply = hold
        await unavailable(wait())
        proxy.on_reply = let_through
        proxy.connections = 0
        await asyncio.gather(*(impatient.store.session("ada", key(1)) for _ in range(1000)))
        await log.primaries()
        assert proxy.connections == LINES, "all read lines are new"


async def test_a_read_sent_before_the_doubt_is_sent_again(
    victim: ValkeyServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The user of this URL may ask for the ID of a connection.
    store = store_at(victim.admin_url, prefix)
    connected, moved = asyncio.Event(), asyncio.Event()
    pool: Any = store._client.connection_pool  # type: ignore[union-attr]
    connect_first, made = pool.get_connection, []

    async def connect_late() -> object:
        made.append(await connect_first())
        connected.set()
        await moved.wait()
        return made[-1]

    try:
        monkeypatch.setattr(pool, "get_connection", connect_late)
        line = store._reads.ask(CLIENT_ID)
        await connected.wait()
        first = await made[0].send_command("CLIENT", "ID") or await made[0].read_response()
        await store._reads.hang_up()
        moved.set()
        assert await line != first
        assert len(made) == 2
    finally:
        await store.close()


@pytest.mark.parametrize("make", ["valkey", "redis"])
async def test_a_primary_that_lacks_replicas_may_have_been_replaced(
    make: str, backends: Callable[[str], Backend], prefix: str
) -> None:
    """A server that is set to refuse writes without replicas is not read either."""
    backend, keys = backends(make), KeyNames(prefix)
    room = Room(SessionStore(backend.connect(), keys), backend.admin(), keys)
    try:
        await room.put("ada", 1)
        assert await room.store.session("ada", key(1)) is not None
        await room.run("CONFIG", "SET", "min-replicas-to-write", "1")
        try:
            await unavailable(room.store.prove_writable())
            await unavailable(*every_operation(room.store, "ada"))
        finally:
            await room.run("CONFIG", "SET", "min-replicas-to-write", "0")
        assert await room.store.session("ada", key(1)) is not None
    finally:
        await room.store.close()
        await room.admin.aclose()


async def test_a_replica_is_not_accepted_as_a_store(victim: ValkeyServer, prefix: str) -> None:
    store = store_at(victim.url, prefix)
    try:
        await store.commit(Commit("ada", NOW, set_sessions={key(1): session(1)}))
        with redis.Redis(port=victim.port) as admin:
            admin.execute_command("REPLICAOF", "127.0.0.1", free_port())
            try:
                await unavailable(store.prove_writable())
                await unavailable(*(mutation(store) for mutation in MUTATIONS.values()))
                await unavailable(*every_operation(store, "ada"))
            finally:
                admin.execute_command("REPLICAOF", "NO", "ONE")
        await store.prove_writable()
        assert isinstance(await MUTATIONS["commit"](store), Committed)
    finally:
        await store.close()


async def test_a_primary_that_cannot_write_its_files_is_still_read(
    tmp_path: Path, prefix: str
) -> None:
    """Nobody can write to this server, so its answers are right. The service also reads it over new
    connections.
    """
    folder = tmp_path / "redis"
    with redis_server(folder) as server, redis.Redis.from_url(server.admin_url) as admin:
        store = store_at(server.url, prefix)
        try:
            await store.commit(Commit("ada", NOW, set_sessions={key(1): session(1)}))
            shutil.rmtree(folder)
            admin.config_set("save", "3600 1")
            admin.bgsave()
            await eventually(lambda: save_has_failed(admin), "a save that fails")
            await unavailable(store.prove_writable(), *(m(store) for m in MUTATIONS.values()))
            await store._reads.hang_up()
            found = await store.session("ada", key(1))
            assert found is not None
            assert found.record == session(1)
        finally:
            await store.close()


def save_has_failed(admin: redis.Redis) -> bool:
    return bool(admin.info("persistence")["rdb_last_bgsave_status"] == "err")
