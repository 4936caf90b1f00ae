"""What replicas confirm about writes: on a primary with a replica, alone or in a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import (
    ExitStack,
    aclosing,
    asynccontextmanager,
)
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from session_authority.domain.durability import Durability, confirmations
from session_authority.store import KeyNames, Replicas, SessionStore
from session_authority.store.records import Changed, Commit, Committed
from tests.store.samples import NOW, event, key, session, stored_session, user_of_each_partition
from tests.support.backends import (
    Backend,
    cluster_url,
    connected,
    redis_server,
    valkey,
    valkey_cluster_servers,
    valkey_server,
)
from tests.support.ports import free_port
from tests.support.replicas import Pair, is_in_step, replicated
from tests.support.waiting import wait_for

LOCAL, REPLICATED = Durability.LOCAL, Durability.REPLICATED
# How long a write waits for its replica: BRIEF while the replica is held back, and at most LONG
# while it follows.
BRIEF, LONG = timedelta(milliseconds=50), timedelta(seconds=8)


@pytest.fixture(params=[valkey, redis_server], ids=["valkey", "redis"], scope="module")
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    with replicated(request.param, tmp_path_factory.mktemp("pair")) as pair:
        yield pair


@dataclass(frozen=True)
class Desk:
    """Makes one change in a store, and returns how safe the change is."""

    store: SessionStore

    async def signs_in(self, user_id: str = "ada", *, durable: bool = True) -> Durability | None:
        commit = Commit(user_id, NOW, set_sessions={key(1): session(1)}, durable=durable)
        with confirmations(required=False, offered=True) as confirmed:
            assert isinstance(await self.store.commit(commit), Committed)
        return confirmed.durability

    async def revokes(self, user_id: str = "ada") -> tuple[int, Durability | None]:
        with confirmations(required=False, offered=True) as confirmed:
            removed = await self.store.revoke_all(
                user_id, except_key=None, forget=True, event=event(user_id)
            )
        return len(removed), confirmed.durability

    async def changes_too_late(self) -> Durability | None:
        commit = Commit("ada", NOW, if_sessions={key(1): stored_session(2)})
        with confirmations(required=False, offered=True) as confirmed:
            assert await self.store.commit(commit) == Changed()
        return confirmed.durability


@asynccontextmanager
async def desk_at(
    backend: Backend, prefix: str, patience: timedelta, replicas: int = 1
) -> AsyncIterator[Desk]:
    store = SessionStore(backend.connect(), KeyNames(prefix), replicas=Replicas(replicas, patience))
    try:
        yield Desk(store)
    finally:
        await store.close()


async def test_a_replica_that_follows_confirms(pair: Pair, prefix: str) -> None:
    async with desk_at(pair.primary, prefix, LONG) as desk:
        assert await desk.signs_in() is REPLICATED
        assert await desk.revokes() == (1, REPLICATED)
        assert await desk.revokes() == (0, REPLICATED)


async def test_a_replica_that_is_stopped_confirms_nothing(pair: Pair, prefix: str) -> None:
    """The replica also confirms nothing for a call that repeats another call's change on another
    connection.
    """
    async with desk_at(pair.primary, prefix, BRIEF) as desk:
        for user_id in ("ada", "bob"):
            await desk.signs_in(user_id)
        with pair.replica_stands_still():
            assert await desk.revokes() == (1, LOCAL)
            async with desk_at(pair.primary, prefix, BRIEF) as another:
                assert await another.revokes() == (0, LOCAL)
                assert await another.signs_in("bob") is LOCAL
    async with desk_at(pair.primary, prefix, LONG) as patient:
        assert await patient.revokes() == (0, REPLICATED)


async def test_more_replicas_than_exist_never_confirm(pair: Pair, prefix: str) -> None:
    async with desk_at(pair.primary, prefix, BRIEF, replicas=2) as desk:
        assert await desk.signs_in() is LOCAL


async def test_a_write_that_may_be_lost_waits_for_no_replica(pair: Pair, prefix: str) -> None:
    async with desk_at(pair.primary, prefix, LONG) as desk:
        assert await desk.signs_in(durable=False) is None
        assert await desk.changes_too_late() is None


async def test_without_replicas_writes_are_local(valkey_backend: Backend, prefix: str) -> None:
    async with desk_at(valkey_backend, prefix, BRIEF, replicas=0) as desk:
        assert await desk.signs_in() is LOCAL
        assert await desk.revokes() == (1, LOCAL)
        assert await desk.revokes() == (0, LOCAL)


async def test_a_server_that_may_not_wait_makes_the_change(
    valkey_backend: Backend, prefix: str
) -> None:
    """An older access list lacks `wait`."""
    async with aclosing(valkey_backend.admin()) as admin:
        rules = ("on", "nopass", "~*", "&*", "+@all", "-wait")
        await admin.execute_command("ACL", "SETUSER", prefix, *rules)
        barred = connected(valkey_backend.url_as(prefix))
        async with desk_at(barred, prefix, BRIEF) as desk:
            assert await desk.signs_in() is LOCAL
            assert await desk.revokes() == (1, LOCAL)
        await admin.execute_command("ACL", "DELUSER", prefix)


async def test_in_a_cluster_the_replicas_of_the_slot_count(tmp_path: Path, prefix: str) -> None:
    users = user_of_each_partition()
    config = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    with ExitStack() as stack:
        servers = stack.enter_context(valkey_cluster_servers(tmp_path))
        added = stack.enter_context(valkey_server(tmp_path / "replica", **config))
        first, replica = (
            stack.enter_context(redis.Redis(port=server.port)) for server in (servers[0], added)
        )
        first.config_set("repl-diskless-sync-delay", 0)
        bus = first.config_get("cluster-port")["cluster-port"]
        replica.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port, bus)
        name = first.execute_command("CLUSTER", "MYID").decode()
        wait_for(lambda: _knows(replica, name), "the replica to know its primary")
        replica.execute_command("CLUSTER", "REPLICATE", name)
        wait_for(lambda: is_in_step(replica), "the replica to follow")
        cluster = connected(cluster_url(servers))
        async with desk_at(cluster, prefix, LONG) as patient:
            assert await patient.signs_in(users[0]) is REPLICATED
            assert await patient.revokes(users[0]) == (1, REPLICATED)
        async with desk_at(cluster, prefix, BRIEF) as desk:
            assert await desk.signs_in(users[-1]) is LOCAL


def _knows(node: redis.Redis, name: str) -> bool:
    return name in str(node.execute_command("CLUSTER", "NODES"))
