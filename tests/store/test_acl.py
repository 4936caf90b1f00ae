"""The Redis user of the service: each of its permissions is needed, they are enough, and they allow
nothing else.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis
from redis.exceptions import NoPermissionError, ResponseError
from structlog.testing import capture_logs

from session_authority.domain.errors import StoreUnavailable
from session_authority.runtime.logs import LogThrottle
from session_authority.store import (
    Deliveries,
    EventLog,
    KeyNames,
    RedisClient,
    Replicas,
    SessionStore,
    connect,
)
from session_authority.store.acl import acl_rules
from session_authority.store.deliveries import Attempts
from session_authority.store.driver import subscription
from session_authority.store.driver.cluster import Cluster
from session_authority.store.driver.errors import code_of
from session_authority.store.event_log import Page
from session_authority.store.key_names import partition
from session_authority.store.log_position import START
from session_authority.store.records import Commit
from tests.store.samples import DAY, NOW, device, event, issued, key, session
from tests.support.backends import (
    PATIENT,
    Backend,
    SentinelGroup,
    sentinel_group,
    valkey_cluster_servers,
)
from tests.support.waiting import eventually

USER, HERE = "ada", partition("ada")
COMMANDS = [rule.removeprefix("+") for rule in acl_rules("sa") if rule.startswith("+")]
# Commands that only the driver of a cluster sends.
OF_A_CLUSTER = ["asking", "cluster|slots", "command"]
MAILER, RELAY = "mailer", "relay-1"


# --- all commands of the service and of its relay -------------------------------------------------


async def sign_in(store: SessionStore) -> None:
    once = store.once_for_request(USER, UUID(int=7), issued())
    await store.commit(
        Commit(
            USER,
            NOW,
            if_session_count=0,
            if_sessions={key(1): None},
            once=once,
            set_sessions={key(n): session(n) for n in (1, 2, 3)},
            set_devices={key(n): device(n) for n in (1, 2, 3)},
            events=(event(USER), event(USER)),
        )
    )


async def look(store: SessionStore) -> None:
    assert await store.session(USER, key(1)) is not None
    assert (await store.user(USER, UUID(int=7))).issued == issued()
    assert key(1) in (await store.user_at(USER, key(1))).sessions


async def lose_a_device(store: SessionStore) -> None:
    await store.commit(Commit(USER, NOW, set_sessions={key(1): None}, set_devices={key(1): None}))


async def be_replayed(store: SessionStore) -> None:
    await store.commit(Commit(USER, NOW, clear_sessions=True, events=(event(USER),)))


async def sign_out(store: SessionStore) -> None:
    await store.revoke_device(USER, key(1), forget=False, event=event(USER))
    await store.revoke_all(USER, except_key=key(2), forget=True, event=event(USER))
    await store.revoke_all(USER, except_key=None, forget=True, event=event(USER))


async def tell(log: EventLog) -> None:
    place = await log.end(NOW)
    assert place.entries[HERE] != START
    [page] = (await log.read({HERE: START}, limit=1, now=NOW)).values()
    if isinstance(page, StoreUnavailable):
        raise page
    assert all(await log.primaries())


async def forget(store: SessionStore, log: EventLog) -> None:
    later = NOW + 10_000 * log.memory
    place = await log.end(later)
    store.event_memory = -DAY  # All entries are older.
    await store.trim_events()
    store.event_memory = log.memory
    [page] = (await log.read({HERE: place.entries[HERE]}, limit=1, now=later)).values()
    if isinstance(page, StoreUnavailable):
        raise page
    assert isinstance(page, Page), page


async def deliver(deliveries: Deliveries, store: SessionStore) -> None:
    assert await deliveries.enlist(MAILER, RELAY) == 1
    assert await deliveries.lease(HERE, MAILER, RELAY)
    assert await deliveries.lease(HERE, MAILER, RELAY)
    await deliveries.start_group(HERE, MAILER, START)
    await store.commit(Commit(USER, NOW, events=(event(USER), event(USER))))
    first, second, *_ = await deliveries.take(HERE, MAILER, RELAY, 2)
    await deliveries.note_failure(HERE, MAILER, first.entry, Attempts(1, NOW))
    assert len(await deliveries.unsettled(HERE, MAILER, RELAY)) == 2
    await deliveries.put_aside(HERE, MAILER, first, 2, "status 500", NOW)
    await deliveries.settle(HERE, MAILER, [second.entry])
    assert (await deliveries.state(MAILER)).dead == 1
    [letter] = [letter async for letter in deliveries.dead_letters(MAILER)]
    assert await deliveries.drop(MAILER, letter)
    await deliveries.release(HERE, MAILER, RELAY)
    await deliveries.leave(MAILER, RELAY)


async def wake(log: EventLog, store: SessionStore, admin: redis.Redis | None) -> None:
    """A listener is woken by news, also after a silence so long that the listener checked its
    connection.
    """
    heard: list[int | None] = []

    async def hears(what: int | None) -> bool:
        return what in heard or (admin is not None and bool(refused(admin)))

    async with log.listening(heard.append):
        await eventually(lambda: hears(None), "it to listen")
        if admin is not None:
            asked = pings(admin)
            await eventually(lambda: pinged(admin, asked), "it to ask")
        await store.commit(Commit(USER, NOW, events=(event(USER),)))
        await eventually(lambda: hears(HERE), "it to hear")
    # A busy listener may have connected again at the end: then None follows.
    assert heard[:1] == [None]
    assert HERE in heard
    # A listener whose ping was refused may have connected again, and was then woken, too.
    assert admin is None or ("command", "ping") not in refused(admin)


def pings(admin: redis.Redis) -> int:
    """How many pings were sent, allowed or not."""
    stats = admin.info("commandstats").get("cmdstat_ping", {"calls": 0, "rejected_calls": 0})
    return int(stats["calls"] + stats["rejected_calls"])


async def pinged(admin: redis.Redis, before: int) -> bool:
    return pings(admin) > before or bool(refused(admin))


async def everything(
    client: RedisClient, keys: KeyNames, admin: redis.Redis | None
) -> Exception | None:
    """Runs all operations until one fails. Returns the failure. `admin` is the administrator of the
    only server.
    """
    store, log, deliveries = (
        SessionStore(client, keys, replicas=Replicas(1, timedelta(milliseconds=1))),
        EventLog(client, keys),
        Deliveries(client, keys),
    )
    steps: list[Callable[[], Awaitable[object]]] = [
        store.server_times,
        store.prove_writable,
        lambda: sign_in(store),
        lambda: look(store),
        lambda: tell(log),
        lambda: lose_a_device(store),
        lambda: be_replayed(store),
        lambda: sign_out(store),
        lambda: deliver(deliveries, store),
        lambda: wake(log, store, admin),
        lambda: forget(store, log),
    ]
    try:
        for step in steps:
            await step()
    except (StoreUnavailable, AssertionError) as failure:
        return failure
    finally:
        await deliveries.close()
        await store.close()
    return None


@pytest.fixture(autouse=True)
def soon_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "_QUIET_SECONDS", 0.2)
    monkeypatch.setattr(subscription, "_RETRY_SECONDS", 0.01)


# --- users ----------------------------------------------------------------------------------------


@contextmanager
def user(admin: redis.Redis, name: str, rules: Sequence[str]) -> Iterator[None]:
    """A user that accepts any password, on a server that has none of the user's scripts."""
    admin.execute_command("ACL", "SETUSER", name, *rules, "nopass")
    admin.execute_command("ACL", "LOG", "RESET")
    admin.execute_command("SCRIPT", "FLUSH")
    try:
        yield
    finally:
        admin.execute_command("ACL", "DELUSER", name)


def refused(admin: redis.Redis) -> set[tuple[str, str]]:
    """What the server refused: the kind (command, key or channel), and its name."""
    return {
        (entry[b"reason"].decode(), entry[b"object"].decode())
        for entry in admin.execute_command("ACL", "LOG")
    }


@pytest.fixture(params=["redis", "valkey"])
def one(request: pytest.FixtureRequest, backends: Callable[[str], Backend]) -> Backend:
    return backends(request.param)


@pytest.fixture
def admin(one: Backend) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(one.admin_url) as client:
        yield client


# --- enough ---------------------------------------------------------------------------------------


async def test_no_command_that_is_needed_is_refused(
    one: Backend, admin: redis.Redis, prefix: str
) -> None:
    with user(admin, prefix, acl_rules(prefix)):
        # A database other than the first, so that the client must select it.
        assert (
            await everything(connect(f"{one.url_as(prefix)}/1", PATIENT), KeyNames(prefix), admin)
            is None
        )
        assert refused(admin) == set()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[redis.Redis]]:
    """The nodes of a cluster, for their administrator."""
    with valkey_cluster_servers(tmp_path_factory.mktemp("cluster")) as servers:
        yield [redis.Redis.from_url(server.admin_url) for server in servers]


def cluster_as(name: str, nodes: Sequence[redis.Redis]) -> str:
    ports = [node.connection_pool.connection_kwargs["port"] for node in nodes]
    return f"redis+cluster://{name}:any@" + ",".join(f"127.0.0.1:{port}" for port in ports)


async def on_a_cluster(
    nodes: Sequence[redis.Redis], prefix: str, rules: Sequence[str]
) -> Exception | None:
    """Runs all operations, and some on a slot that moves to another node. Returns the failure."""
    for node in nodes:
        node.execute_command("ACL", "SETUSER", prefix, *rules, "nopass")
        node.execute_command("ACL", "LOG", "RESET")
        node.execute_command("SCRIPT", "FLUSH")
    failure = await everything(connect(cluster_as(prefix, nodes), PATIENT), KeyNames(prefix), None)
    deliveries = Deliveries(connect(cluster_as(prefix, nodes), PATIENT), KeyNames(prefix))
    try:
        with a_slot_on_its_way(nodes, KeyNames(prefix).lease(HERE, "moving")):
            assert failure or await deliveries.lease(HERE, "moving", RELAY)
    except StoreUnavailable as refusal:
        return refusal
    finally:
        await deliveries.close()
    return failure


@contextmanager
def a_slot_on_its_way(nodes: Sequence[redis.Redis], name: str) -> Iterator[None]:
    """A slot that is moving: a key that does not exist yet must be made at the slot's new node."""
    slot = Cluster.keyslot(Cluster([("h", 1)]), name)
    here = slot * len(nodes) // 16384
    source, target = nodes[here], nodes[here - 1]
    ids = [node.execute_command("CLUSTER", "MYID") for node in (source, target)]
    target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    try:
        yield
    finally:
        with target.client() as alone:
            alone.execute_command("ASKING")
            alone.execute_command("DEL", name)
        for node in (source, target):
            node.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")


async def test_no_command_that_is_needed_is_refused_by_a_cluster(
    nodes: list[redis.Redis], prefix: str
) -> None:
    assert await on_a_cluster(nodes, prefix, acl_rules(prefix)) is None
    assert set().union(*map(refused, nodes)) == set()


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[SentinelGroup]:
    context = sentinel_group(tmp_path)
    yield await asyncio.to_thread(context.__enter__)
    await asyncio.to_thread(context.__exit__, None, None, None)


async def test_sentinels_need_the_permission_to_name_their_primaries_and_nothing_else(
    group: SentinelGroup, prefix: str
) -> None:
    with redis.Redis(port=group.primary()) as primary, redis.Redis(port=group.sentinel) as sentinel:
        assert await everything(connect(group.url, PATIENT), KeyNames(prefix), primary) is None
        assert refused(primary) == refused(sentinel) == set()
        sentinel.execute_command("ACL", "SETUSER", "session-authority", "-sentinel|masters")
        assert await everything(connect(group.url, PATIENT), KeyNames(prefix), None) is not None
        assert refused(sentinel) == {("command", "sentinel|masters")}


async def test_sentinels_that_may_not_publish_changes_are_polled(
    group: SentinelGroup, prefix: str
) -> None:
    """For Sentinels whose user has fewer permissions: the log says which one is missing, and a
    change of the primary is noticed.
    """
    with redis.Redis(port=group.sentinel) as sentinel, capture_logs() as lines:
        sentinel.execute_command("ACL", "SETUSER", "session-authority", "-subscribe")
        store = SessionStore(connect(group.url, PATIENT), KeyNames(prefix))
        try:
            assert await store.server_times()
            sentinel.execute_command("SENTINEL", "FAILOVER", "main")
            await eventually(lambda: "primary_changed" in names(lines), "it to be noticed")
        finally:
            await store.close()
        assert refused(sentinel) == {("command", "subscribe")}
    assert names(lines) >= {"sentinel_not_heard", "primary_changed"}


def names(lines: Sequence[Mapping[str, Any]]) -> set[str]:
    """The names of the log events."""
    return {line["event"] for line in lines}


# --- no more --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if command not in OF_A_CLUSTER]
)
async def test_each_permission_is_needed(
    one: Backend, admin: redis.Redis, prefix: str, command: str
) -> None:
    rules = [rule for rule in acl_rules(prefix) if rule != f"+{command}"]
    with user(admin, prefix, rules):
        client = connect(f"{one.url_as(prefix)}/1", PATIENT)
        failure = await everything(client, KeyNames(prefix), admin)
        # Without `wait`, nothing fails, but no replica counts as having a change.
        assert (failure is None) is (command == "wait"), failure
        assert refused(admin) == {("command", command)}


@pytest.mark.parametrize("command", OF_A_CLUSTER)
async def test_each_permission_is_needed_on_a_cluster(
    nodes: list[redis.Redis], prefix: str, command: str
) -> None:
    assert (
        await on_a_cluster(
            nodes, prefix, [rule for rule in acl_rules(prefix) if rule != f"+{command}"]
        )
        is not None
    )
    assert set().union(*map(refused, nodes)) == {("command", command)}


FORBIDDEN = """
    FLUSHALL; FLUSHDB; KEYS *; SCAN 0; RANDOMKEY; DBSIZE; SWAPDB 0 1; CONFIG GET maxmemory;
    CONFIG SET maxmemory 1; ACL LIST; ACL SETUSER default off; ACL WHOAMI; CLIENT LIST;
    CLIENT KILL TYPE normal; CLIENT PAUSE 1; SHUTDOWN NOSAVE; SAVE; BGREWRITEAOF;
    REPLICAOF NO ONE; SLOWLOG GET; MONITOR; SCRIPT FLUSH; SCRIPT LOAD x; FUNCTION LIST;
    MODULE LIST; CLUSTER NODES; CLUSTER RESET; PSYNC ? -1; LATENCY LATEST; MEMORY STATS;
    PUBSUB CHANNELS; DUMP {own}; RENAME {own} {own}2; TYPE {own}; OBJECT ENCODING {own};
    COPY {own} {own}2; SORT {own}; UNLINK {own}; EXPIRE {own} 1; XGROUP DESTROY {own} g;
    XINFO CONSUMERS {own} g; BLPOP {own} 1; SUNION {own}; GET {other}; SET {other} 1; DEL {other};
    DEL {own} {other}; HGET {other} f; XADD {other} * a b; GET {longer}; GET wake;
    EVAL "return 1" 1 {other}; PUBLISH {other} 1; PUBLISH {own} 1; SUBSCRIBE {other};
    SUBSCRIBE {prefix}:wake2; PSUBSCRIBE *; PSUBSCRIBE {prefix}:wake
"""


@pytest.mark.parametrize("command", [one.strip() for one in FORBIDDEN.split(";")])
def test_no_other_command_is_allowed(
    one: Backend, admin: redis.Redis, prefix: str, command: str
) -> None:
    names = {
        "prefix": prefix,
        "own": f"{prefix}:probe",
        "longer": f"{prefix}0:probe",
        "other": "another:probe",
    }
    words = shlex.split(command.format(**names))
    with (
        user(admin, prefix, acl_rules(prefix)),
        redis.Redis.from_url(one.url_as(prefix)) as service,
        pytest.raises(NoPermissionError),
    ):
        service.execute_command(*words)


def test_a_script_may_do_no_more_than_the_service(
    one: Backend, admin: redis.Redis, prefix: str
) -> None:
    with (
        user(admin, prefix, acl_rules(prefix)),
        redis.Redis.from_url(one.url_as(prefix)) as service,
    ):
        for call in (
            "'GET', 'another:probe'",
            "'FLUSHALL'",
            "'KEYS', '*'",
            "'PUBLISH', 'other', ''",
        ):
            with pytest.raises(ResponseError, match=r"ACL failure|The user executing the script"):
                service.execute_command("EVAL", f"return redis.call({call})", 0)


# --- a missing permission is named ----------------------------------------------------------------


@pytest.mark.parametrize("command", ["hget", "hset", "xadd", "evalsha", "del", "xgroup|create"])
async def test_a_missing_permission_is_unavailable_and_named_in_the_log(
    one: Backend, admin: redis.Redis, prefix: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_authority.store.driver.errors._throttle", LogThrottle())
    with user(admin, prefix, [*acl_rules(prefix), f"-{command}"]), capture_logs() as lines:
        failure = await everything(connect(one.url_as(prefix), PATIENT), KeyNames(prefix), admin)
    assert isinstance(failure, StoreUnavailable)
    assert {(line["event"], line["log_level"], line["code"]) for line in lines} == {
        ("store_refused", "error", "NOPERM")
    }
    assert prefix not in str(lines)


def test_a_missing_permission_in_a_script_of_an_older_redis_is_named() -> None:
    words = "The user executing the script can't run this command or subcommand"
    assert (
        code_of(ResponseError(f"Error running script (call to f_1): @user_script:1: {words}"))
        == "NOPERM"
    )
    assert code_of(ResponseError("WRONGTYPE Operation against a key")) == "WRONGTYPE"
