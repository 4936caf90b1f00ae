"""A Sentinel group that changes its primary: the store follows by itself."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis

from session_authority.domain.errors import StoreUnavailable
from session_authority.store import KeyNames, SessionStore, connect
from session_authority.store.driver.sentinels import PrimaryReplaced
from session_authority.store.records import Commit, Committed
from tests.store.samples import NOW, event, every_operation, key, removal_of, session, unavailable
from tests.support.backends import PATIENT, SentinelGroup, sentinel_group
from tests.support.waiting import eventually


async def test_the_store_follows_the_primary(tmp_path: Path, prefix: str) -> None:
    group_context = sentinel_group(tmp_path)
    group = await asyncio.to_thread(group_context.__enter__)
    keys = KeyNames(prefix)
    store = SessionStore(connect(group.url, PATIENT), keys)

    async def commits(number: int) -> bool:
        try:
            result = await store.commit(
                Commit("ada", NOW, set_sessions={key(number): session(number)})
            )
        except StoreUnavailable:
            return False
        return isinstance(result, Committed)

    async def moved_from(port: int) -> bool:
        return await asyncio.to_thread(group.primary) != port

    try:
        assert await commits(1)
        assert (await store.user("ada")).session_records() == {key(1): session(1)}
        await store.prove_writable()

        # The primary steps down and is alive: nothing may be read from it any more.
        first = group.primary()
        with redis.Redis(port=first) as old, redis.Redis(port=group.sentinel) as sentinel:
            await eventually(lambda: _replicated(old), "the replica to have it all")
            sentinel.execute_command("SENTINEL", "FAILOVER", "main")
            await eventually(lambda: moved_from(first), "the replica to take over")
            second = group.primary()
            # The old primary is demoted here at once. Sentinel would do this some seconds later,
            # and all writes until then would be lost.
            old.execute_command("REPLICAOF", "127.0.0.1", second)
            old.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await eventually(lambda: commits(2), "the store to follow")
            answered = old.info("commandstats").get("cmdstat_hget")
            with redis.Redis(port=second) as new:
                assert new.hlen(keys.sessions("ada")) == 2
                for number in range(3, 30):
                    assert await commits(number)
                    assert await store.session("ada", key(number)) is not None
                await eventually(lambda: _replicated(new), "the old primary to replicate")
            assert old.info("commandstats").get("cmdstat_hget") == answered

        # The primary is killed.
        group.servers[second].kill()
        group.servers[second].wait(10)
        await unavailable(*every_operation(store, "ada"))
        await eventually(lambda: moved_from(second), "the replica to take over")
        await eventually(lambda: commits(30), "the store to follow")
        assert set((await store.user("ada")).sessions) >= {key(2), key(29), key(30)}
        assert (
            len(await store.revoke_all("ada", except_key=None, forget=True, event=event("ada")))
            == 30
        )
        await store.prove_writable()
    finally:
        await store.close()
        await asyncio.to_thread(group_context.__exit__, None, None, None)


async def _replicated(primary: redis.Redis) -> bool:
    return int(primary.execute_command("WAIT", 1, 1000)) >= 1


# ----- a primary that hangs, and comes back


@pytest.fixture
async def trio(tmp_path: Path) -> AsyncIterator[SentinelGroup]:
    """A primary with two replicas and three Sentinels."""
    context = sentinel_group(tmp_path, replicas=2, sentinels=3)
    yield await asyncio.to_thread(context.__enter__)
    await asyncio.to_thread(context.__exit__, None, None, None)


async def test_a_hung_primary_that_comes_back_is_not_read(trio: SentinelGroup, prefix: str) -> None:
    """This process saw no late reply: only the Sentinels report the change."""
    keys = KeyNames(prefix)
    store = SessionStore(connect(trio.url, PATIENT), keys)
    other = SessionStore(connect(trio.url, PATIENT), keys)
    try:
        await store.commit(Commit("ada", NOW, set_sessions={key(1): session(1)}))
        await asyncio.gather(*(store.session("ada", key(1)) for _ in range(2000)))
        first = trio.primary()
        with redis.Redis(port=first) as old:
            await eventually(lambda: _replicated(old), "the replicas to have it all")
        with hung(trio, first):
            await eventually(
                lambda: asyncio.to_thread(trio.moved_from, first), "another server to be promoted"
            )
        revoked = await other.revoke_all("ada", except_key=None, forget=False, event=event("ada"))
        assert revoked == removal_of(session(1))
        found = [await store.session("ada", key(1)) for _ in range(20)]
        assert found == [None] * 20
        with redis.Redis(port=first) as old:
            assert old.info("replication")["role"] == "master", (
                "no Sentinel has demoted the old primary yet"
            )
    finally:
        await store.close()
        await other.close()


async def test_a_read_about_to_leave_for_a_replaced_primary_is_not_sent_there(
    trio: SentinelGroup,
) -> None:
    """The connection is closed after the read was made ready, and before the read is sent."""
    client = connect(trio.url, PATIENT)
    assert isinstance(client, Redis)
    pool = client.connection_pool
    try:
        await client.ping()
        connection = await pool.get_connection()
        sent = asyncio.create_task(connection.send_packed_command([b"PING"], check_health=False))
        await asyncio.sleep(0)
        await connection.disconnect(nowait=True)
        with pytest.raises(PrimaryReplaced):
            await sent
        await pool.release(connection)
    finally:
        await client.aclose()


@contextmanager
def hung(group: SentinelGroup, port: int) -> Iterator[None]:
    """Stops a server's process inside the block."""
    process = group.servers[port].pid
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)
