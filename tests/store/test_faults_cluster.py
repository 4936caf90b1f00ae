"""A cluster that loses a master, moves slots, or closes connections: only the users of the affected
slots notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio.cluster import ClusterNode

from session_authority.domain.errors import StoreUnavailable
from session_authority.store import KeyNames, Limits, SessionStore, connect
from session_authority.store.backlogs import Backlogs
from session_authority.store.deliveries import Deliveries
from session_authority.store.driver.cluster import Cluster
from session_authority.store.driver.cluster_lines import MAX_FOLLOWED
from session_authority.store.driver.read_paths import read_path_of
from session_authority.store.key_names import PARTITIONS, TAGS
from session_authority.store.log_position import START
from session_authority.store.records import Commit, Committed
from tests.store.samples import (
    NOW,
    Room,
    event,
    every_operation,
    key,
    let_through,
    removal_of,
    session,
    unavailable,
    user_of_each_partition,
)
from tests.support.backends import (
    PATIENT,
    ValkeyServer,
    cluster_url,
    valkey_cluster_servers,
    valkey_server,
)
from tests.support.ports import free_port
from tests.support.proxy import Proxy, lose_one_reply
from tests.support.waiting import eventually, wait_for

pytestmark = pytest.mark.slow

# For tests that wait until a reply is late. No other test may depend on the speed of a machine.
IMPATIENT = Limits(connect_timeout=timedelta(seconds=10), reply_timeout=timedelta(seconds=2))
USERS = user_of_each_partition()
SLOTS = [Cluster.keyslot(Cluster([("h", 1)]), tag) for tag in TAGS]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ValkeyServer]]:
    """Three masters that a test may kill, if the test starts them again."""
    with valkey_cluster_servers(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
async def room(servers: list[ValkeyServer], prefix: str) -> AsyncIterator[Room]:
    """A store, once no node considers another node failed. Nodes may do so for four seconds after a
    master is back, and a node that misses two masters serves nobody.
    """
    await asyncio.to_thread(wait_for, lambda: not _suspected(servers), "the nodes to agree")
    client, keys = connect(cluster_url(servers), PATIENT), KeyNames(prefix)
    yield Room(SessionStore(client, keys), client, keys)
    await client.aclose()


def users_of(server: int) -> list[str]:
    """The users whose slots this server has."""
    return [user for user, slot in zip(USERS, SLOTS, strict=True) if slot * 3 // 16384 == server]


async def read(store: SessionStore, users: Sequence[str]) -> list[Any]:
    """Reads the sessions of all these users at once. Returns them, or the errors."""
    async with asyncio.timeout(20):
        return await asyncio.gather(
            *(store.session(user, key(1)) for user in users), return_exceptions=True
        )


def sound(results: Sequence[object]) -> bool:
    return not any(isinstance(result, BaseException) for result in results)


async def sign_in(store: SessionStore, users: Sequence[str]) -> list[Any]:
    """Signs all these users in at once. Returns the results."""
    commits = (
        Commit(user, NOW, set_sessions={key(1): session(1)}, events=(event(user),))
        for user in users
    )
    async with asyncio.timeout(20):
        return await asyncio.gather(*map(store.commit, commits), return_exceptions=True)


async def all_is_well(store: SessionStore) -> bool:
    return sound(await read(store, USERS)) and sound(await sign_in(store, USERS))


async def test_a_first_burst_goes_to_the_right_nodes_at_once(
    room: Room, servers: list[ValkeyServer]
) -> None:
    """Before its first look at the cluster, the driver by itself sends waiting commands to any
    node, and is redirected.
    """
    before = [_redirections(server) for server in servers]
    assert sound(await sign_in(room.store, USERS))
    assert sound(await read(room.store, USERS))
    assert [_redirections(server) for server in servers] == before


async def test_a_count_of_undelivered_events_goes_to_the_right_nodes(
    room: Room, servers: list[ValkeyServer]
) -> None:
    await sign_in(room.store, USERS)
    client = connect(cluster_url(servers), PATIENT)
    deliveries = Deliveries(client, room.keys)
    for number in range(PARTITIONS):
        assert await deliveries.lease(number, "mailer", "one")
        await deliveries.start_group(number, "mailer", START)
        await deliveries.take(number, "mailer", "one", 1)
    before = [_redirections(server) for server in servers]
    backlog = (await Backlogs(deliveries).look(["mailer"]))["mailer"]
    assert backlog.events == len(USERS)
    assert [_redirections(server) for server in servers] == before
    await client.aclose()


def _redirections(server: ValkeyServer) -> int:
    with redis.Redis(port=server.port) as admin:
        errors: dict[str, Any] = admin.info("errorstats")
    return int(errors.get("errorstat_MOVED", {"count": 0})["count"])


@pytest.mark.parametrize("lost", [0, 1, 2])
async def test_a_lost_master_affects_only_its_own_users(
    room: Room, servers: list[ValkeyServer], lost: int
) -> None:
    gone, others = users_of(lost), [user for user in USERS if user not in users_of(lost)]
    assert len(gone) in (21, 22)
    await eventually(lambda: all_is_well(room.store), "the cluster to be whole")
    await asyncio.to_thread(servers[lost].kill)
    newcomer = SessionStore(connect(cluster_url(servers), PATIENT), room.keys)
    try:
        for store in (room.store, newcomer, room.store, newcomer):
            # All at once, so that reads of the lost users are in the same batches as the others.
            results = dict(zip(USERS, await read(store, USERS), strict=True))
            assert {type(results[user]) for user in gone} == {StoreUnavailable}
            assert {type(results[user]).__name__ for user in others} == {"Stored"}
            committed = dict(zip(USERS, await sign_in(store, USERS), strict=True))
            assert {type(committed[user]) for user in gone} == {StoreUnavailable}
            assert {type(committed[user]) for user in others} == {Committed}
            assert len(await store.server_times()) == 2
        await unavailable(*every_operation(room.store, gone[0], probe=False))
        with redis.Redis(port=servers[lost - 1].port) as survivor:
            # After a while, the other nodes agree that the master has failed. The result stays the
            # same. Waiting takes long, so only one of the three cases waits.
            if lost == 0:
                await asyncio.to_thread(
                    wait_for, lambda: _knows_of_a_failure(survivor), "the others to notice"
                )
                assert sound(await read(room.store, others))
                assert sound(await sign_in(room.store, others))
                await unavailable(*every_operation(room.store, gone[0], probe=False))
    finally:
        await asyncio.to_thread(servers[lost].start)
    try:
        for store in (room.store, newcomer):
            await eventually(lambda store=store: all_is_well(store), "the master to be back")  # type: ignore[misc]
            assert len(await store.server_times()) == 3
    finally:
        await newcomer.close()


def _knows_of_a_failure(node: redis.Redis) -> bool:
    return any("fail" in flags for flags in _flags(node))


def _suspected(servers: Sequence[ValkeyServer]) -> bool:
    """Returns whether any of these nodes considers another node failed, or may do so soon."""
    for server in servers:
        with redis.Redis(port=server.port) as node:
            if any({"fail", "fail?"} & flags for flags in _flags(node)):
                return True
    return False


def _flags(node: redis.Redis) -> list[set[str]]:
    nodes: dict[str, Any] = node.execute_command("CLUSTER NODES")
    return [set(one["flags"].split(",")) for one in nodes.values()]


async def test_the_store_recovers_after_all_masters_were_lost(
    room: Room, servers: list[ValkeyServer]
) -> None:
    await eventually(lambda: all_is_well(room.store), "the cluster to be whole")
    for server in servers:
        await asyncio.to_thread(server.kill)
    for _ in range(2):
        await unavailable(
            *every_operation(room.store, USERS[0]), *every_operation(room.store, USERS[-1])
        )
    for server in servers:
        await asyncio.to_thread(server.start)
    await eventually(lambda: all_is_well(room.store), "the masters to be back")


async def test_a_moved_slot_is_followed(room: Room, servers: list[ValkeyServer]) -> None:
    """The user's records move from one master to another while readers and writers go on."""
    await eventually(lambda: all_is_well(room.store), "the cluster to be whole")
    user, slot = USERS[3], SLOTS[3]
    others = [other for other in USERS if other != user]
    with redis.Redis(port=servers[0].port) as source, redis.Redis(port=servers[1].port) as target:
        for here, there in (((source, target)), (target, source)):
            ids = [node.execute_command("CLUSTER", "MYID").decode() for node in (here, there)]
            there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
            here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
            while names := here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
                port = there.connection_pool.connection_kwargs["port"]
                here.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *names)
            # During the move: a right answer, or none.
            [found] = await read(room.store, [user])
            assert isinstance(found, StoreUnavailable) or found.record == session(1)
            for node in (there, here):
                node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
            # After the move: right at the first try, alone or among others.
            [found] = await read(room.store, [user])
            assert found.record == session(1)
            assert (await sign_in(room.store, [user])) == [Committed()]
            assert sound(await read(room.store, [user, *others, user]))
            assert await room.store.revoke_all(
                user, except_key=None, forget=False, event=event(user)
            ) == removal_of(session(1))
            assert (await sign_in(room.store, [user])) == [Committed()]


async def test_reads_of_a_moved_slot_are_followed_at_once(
    room: Room, servers: list[ValkeyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client follows at most MAX_FOLLOWED of these reads at once, because each of them needs a
    connection of its own.
    """
    await eventually(lambda: all_is_well(room.store), "the cluster to be whole")
    client, under_way, most = room.admin, 0, 0
    assert isinstance(client, Cluster)
    known = client.nodes_manager.slots_cache
    follow = client.execute_command

    async def counted(*command: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await follow(*command)
        finally:
            under_way -= 1

    path = read_path_of(client, room.keys.probe)
    user, slot = USERS[3], SLOTS[3]
    questions = [path.question("HGET", room.keys.sessions(user), key(1))] * 50
    monkeypatch.setattr(client, "execute_command", counted)
    known[slot] = known[next(other for other in SLOTS if known[other] != known[slot])]
    replies = await path.ask_many(questions)
    assert len({bytes(reply) for reply in replies}) == 1
    assert most == MAX_FOLLOWED


async def test_nothing_is_kept_of_nodes_that_have_left(room: Room) -> None:
    """Where nodes get new addresses, the number of old addresses grows without end."""
    client = room.admin
    assert isinstance(client, Cluster)
    await client.initialize()
    path = read_path_of(client, room.keys.probe)
    user, slot = USERS[3], SLOTS[3]
    question = path.question("HGET", room.keys.sessions(user), key(1))
    primaries = {nodes[0].name for nodes in client.nodes_manager.slots_cache.values()}
    for port in range(1, 20):
        client.nodes_manager.slots_cache[slot] = [ClusterNode("127.0.0.1", port)]
        # A refresh may have found the owner again.
        with suppress(redis.exceptions.ConnectionError):
            await path.ask(question)

    async def found_again() -> bool:
        client._initialize = True
        with suppress(redis.exceptions.ConnectionError):
            await path.ask(question)
            return True
        return False

    await eventually(found_again, "a look at the cluster")
    assert set(path._lines) <= primaries  # type: ignore[attr-defined]
    await room.store.session(user, key(1))


# --- through wires --------------------------------------------------------------------------------


@pytest.fixture
async def wires(servers: list[ValkeyServer]) -> AsyncIterator[list[Proxy]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Proxy(server.url)) for server in servers]


@asynccontextmanager
async def room_behind(
    servers: list[ValkeyServer], wires: list[Proxy], prefix: str, limits: Limits
) -> AsyncIterator[Room]:
    """A store that reaches each master through a wire of its own, with connections that were used
    already.
    """
    ports = {
        server.port: int(wire.url.rpartition(":")[2])
        for server, wire in zip(servers, wires, strict=True)
    }
    client = connect(cluster_url(wires), limits)
    assert isinstance(client, Cluster)
    client.nodes_manager.address_remap = lambda address: (address[0], ports[address[1]])
    keys = KeyNames(prefix)
    store = SessionStore(client, keys)
    await eventually(lambda: all_is_well(store), "the cluster to be whole")
    for user in USERS:
        await store.revoke_all(user, except_key=None, forget=True, event=event(user))
    assert sound(await sign_in(store, USERS))
    for user in USERS:
        await client.execute_command("DEL", keys.events(user))
    for wire in wires:
        wire.commands.clear()
    yield Room(store, client, keys)
    await store.close()


@pytest.fixture
async def wired(
    servers: list[ValkeyServer], wires: list[Proxy], prefix: str
) -> AsyncIterator[Room]:
    """A store behind the wires."""
    async with room_behind(servers, wires, prefix, PATIENT) as room:
        yield room


@pytest.fixture
async def impatient(
    servers: list[ValkeyServer], wires: list[Proxy], prefix: str
) -> AsyncIterator[Room]:
    """The same store, which waits two seconds for a reply."""
    async with room_behind(servers, wires, prefix, IMPATIENT) as room:
        yield room


MUTATIONS: dict[str, Callable[[SessionStore, str], Awaitable[object]]] = {
    "commit": lambda store, user: store.commit(
        Commit(user, NOW, events=(event(user, reason="x"),))
    ),
    "revoke_device": lambda store, user: store.revoke_device(
        user, key(1), forget=False, event=event(user, reason="x")
    ),
    "revoke_all": lambda store, user: store.revoke_all(
        user, except_key=None, forget=True, event=event(user, reason="x")
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
@pytest.mark.parametrize("loss", ["cut", "silence"])
async def test_a_mutation_whose_reply_is_lost_is_sent_once(
    impatient: Room,
    wires: list[Proxy],
    mutation: Callable[[SessionStore, str], Awaitable[object]],
    loss: str,
) -> None:
    for user in (USERS[0], USERS[30], USERS[63]):
        lose_one_reply(wires, loss)
        await unavailable(mutation(impatient.store, user))
        assert sum(wire.commands["EVALSHA"] for wire in wires) == 1
        assert sum(wire.commands["EVAL"] for wire in wires) == 0
        assert [e.reason for e in await impatient.events(user)] == ["x"]
        assert sound(await read(impatient.store, USERS))
        assert sum(wire.commands["EVALSHA"] for wire in wires) == 1


async def test_a_silent_master_delays_only_its_own_users(
    impatient: Room, wires: list[Proxy]
) -> None:
    never = asyncio.Event()

    async def silence(_: bytes) -> None:
        await never.wait()

    wires[1].on_reply = silence
    gone = users_of(1)
    for _ in range(2):
        results = dict(zip(USERS, await read(impatient.store, USERS), strict=True))
        assert {user for user in USERS if isinstance(results[user], StoreUnavailable)} == set(gone)
        committed = dict(zip(USERS, await sign_in(impatient.store, USERS), strict=True))
        assert {user for user in USERS if isinstance(committed[user], StoreUnavailable)} == set(
            gone
        )
    never.set()
    await eventually(lambda: all_is_well(impatient.store), "the master to talk again")


async def test_a_slot_that_no_node_serves_disturbs_no_other_slot(
    wired: Room, wires: list[Proxy], servers: list[ValkeyServer]
) -> None:
    held = asyncio.Event()

    async def hold(_: bytes) -> None:
        await held.wait()

    lost, other = users_of(0)[0], users_of(1)[0]
    slot = SLOTS[USERS.index(lost)]
    for server in servers:
        with redis.Redis(port=server.port) as node:
            node.execute_command("CLUSTER", "DELSLOTS", slot)
    wires[1].commands.clear()
    wires[1].on_reply = hold
    commit = asyncio.ensure_future(MUTATIONS["commit"](wired.store, other))
    await eventually(_sent(wires[1]), "the commit to be sent")
    await unavailable(MUTATIONS["commit"](wired.store, lost))
    wires[1].on_reply = let_through
    held.set()
    assert isinstance(await commit, Committed)
    with redis.Redis(port=servers[0].port) as node:
        node.execute_command("CLUSTER", "ADDSLOTS", slot)
    await eventually(lambda: all_is_well(wired.store), "the slot to be served again")


def _sent(wire: Proxy) -> Callable[[], Awaitable[bool]]:
    async def sent() -> bool:
        return wire.commands["EVALSHA"] > 0

    return sent


async def test_reads_of_many_users_fail_only_for_the_users_of_a_silent_master(
    impatient: Room, wires: list[Proxy]
) -> None:
    never = asyncio.Event()

    async def silence(_: bytes) -> None:
        await never.wait()

    store, gone = impatient.store, users_of(1)
    questions = [store.question(user, key(1)) for user in USERS]
    before = dict(zip(USERS, await store.ask_many(questions), strict=True))
    assert None not in before.values()
    wires[1].on_reply = silence
    found = dict(zip(USERS, await store.ask_many(questions), strict=True))
    assert {type(found[user]) for user in gone} == {StoreUnavailable}
    assert all(found[user] == before[user] for user in USERS if user not in gone)
    never.set()


async def test_a_late_reply_to_a_write_closes_the_read_lines_to_its_master(
    impatient: Room, wires: list[Proxy]
) -> None:
    """The master may have been replaced when it continues. The other masters are not affected."""
    never = asyncio.Event()

    async def silence(_: bytes) -> None:
        await never.wait()

    await read(impatient.store, USERS)
    before = _lines_of(impatient.store, wires)
    wires[1].on_reply = silence
    await unavailable(MUTATIONS["commit"](impatient.store, users_of(1)[0]))
    wires[1].on_reply = let_through
    assert sound(await read(impatient.store, USERS))
    after = _lines_of(impatient.store, wires)
    assert [bool(old & new) for old, new in zip(before, after, strict=True)] == [True, False, True]
    never.set()


def _lines_of(store: SessionStore, wires: Sequence[Proxy]) -> list[set[Any]]:
    """The free read lines to each master."""
    made: Any = store._reads
    return [set(made._lines[wire.url.rpartition("@")[2]]._idle) for wire in wires]


async def test_idle_connections_that_were_cut_do_no_harm(wired: Room, wires: list[Proxy]) -> None:
    for _ in range(3):
        assert await all_is_well(wired.store)
        for wire in wires:
            await wire.cut()
        assert await all_is_well(wired.store)


async def test_an_unrequested_reply_never_answers_a_read(wired: Room, wires: list[Proxy]) -> None:
    for wire in wires:
        wire.say(b"$5\r\nwrong\r\n")
        for _ in range(10):
            await asyncio.sleep(0)
    results = await read(wired.store, USERS)
    assert {result.record for result in results} == {session(1)}


async def test_losing_a_node_closes_no_connection_to_another(
    wired: Room, wires: list[Proxy]
) -> None:
    """Replies that are on their way from the other nodes arrive, however often the cluster's map is
    refreshed in between.
    """
    held = asyncio.Event()

    async def hold(_: bytes) -> None:
        await held.wait()

    async def cut(_: bytes) -> None:
        raise ConnectionError

    near, far = users_of(0)[0], users_of(2)[0]
    wires[0].on_reply = hold
    slow = asyncio.ensure_future(
        wired.store.commit(Commit(near, NOW, events=(event(near, reason="slow"),)))
    )
    for _ in range(20):
        await asyncio.sleep(0)
    wires[2].on_reply = cut
    for _ in range(10):
        await unavailable(wired.store.session(far, key(1)))
    held.set()
    assert await slow == Committed()


# --- a replica takes over: the last test, because it changes the cluster for good -----------------


async def test_readers_find_the_replica_that_took_over(
    room: Room, servers: list[ValkeyServer], tmp_path: Path
) -> None:
    """The test makes only reads on read lines. No other command refreshes the client's map of the
    cluster for them.
    """
    await eventually(lambda: all_is_well(room.store), "the cluster to be whole")
    config = {
        "cluster-enabled": "yes",
        "cluster-port": str(free_port()),
        "cluster-node-timeout": "2000",
    }
    with (
        valkey_server(tmp_path, **config) as fourth,
        redis.Redis(port=fourth.port) as replica,
        redis.Redis(port=servers[0].port) as primary,
    ):
        primary.execute_command("CLUSTER", "MEET", "127.0.0.1", fourth.port, config["cluster-port"])
        name = primary.execute_command("CLUSTER", "MYID").decode()
        await asyncio.to_thread(
            wait_for, lambda: name in _names(replica), "the replica to know its primary"
        )
        replica.execute_command("CLUSTER", "REPLICATE", name)
        await asyncio.to_thread(
            wait_for,
            lambda: replica.info("replication")["master_link_status"] == "up",
            "replication",
        )
        await asyncio.to_thread(servers[0].kill)
        try:
            replica.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")

            async def found() -> bool:
                results = await read(room.store, users_of(0))
                return sound(results) and {result.record for result in results} == {session(1)}

            await eventually(found, "the readers to find the replica")
            assert await all_is_well(room.store)
            assert len(await room.store.server_times()) == 3
        finally:
            await asyncio.to_thread(servers[0].start)


def _names(node: redis.Redis) -> set[str]:
    nodes: dict[str, Any] = node.execute_command("CLUSTER NODES")
    return {one["node_id"] for one in nodes.values()}
