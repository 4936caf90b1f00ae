"""A Redis user that lacks a permission: each mutation is done completely, or fails and does
nothing, and the probe names what is missing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from session_authority.domain.errors import StoreUnavailable
from session_authority.store import Deliveries, KeyNames, SessionStore, connect
from session_authority.store.acl import acl_rules
from session_authority.store.deliveries import TakenEvent
from session_authority.store.key_names import partition
from session_authority.store.log_position import START
from session_authority.store.records import Commit
from tests.store.samples import (
    NOW,
    REQUEST,
    device,
    event,
    issued,
    key,
    session,
    stored_session,
)
from tests.support.backends import PATIENT, Backend

USER, HERE = "ada", partition("ada")
MAILER, RELAY = "mailer", "relay-1"
# All commands that scripts call for a mutation, and the commands that run scripts.
NEEDED = """
    del eval evalsha exists get hdel hget hlen hrandfield hset hvals pexpire pttl publish set xadd
    xlen xtrim
""".split()


def signed_in(store: SessionStore, *, evicts: bool) -> Awaitable[object]:
    """A sign-in on device 5, with everything that may come with a sign-in."""
    gone = (key(1), key(2)) if evicts else ()
    return store.commit(
        Commit(
            USER,
            NOW,
            if_session_count=3,
            if_sessions={key(5): None},
            once=store.once_for_request(USER, REQUEST, issued()),
            set_sessions={key(5): session(5)} | dict.fromkeys(gone),
            set_devices={key(5): device(5)} | dict.fromkeys(gone[:1]),
            events=(event(USER, 5), event(USER, 1)),
        )
    )


MUTATIONS: dict[str, Callable[[SessionStore], Awaitable[object]]] = {
    "sign-in": lambda store: signed_in(store, evicts=False),
    "sign-in that evicts": lambda store: signed_in(store, evicts=True),
    "renewal": lambda store: store.commit(
        Commit(
            USER,
            NOW,
            if_sessions={key(1): stored_session(1)},
            set_sessions={key(1): session(1, generation=2)},
        )
    ),
    "alarm": lambda store: store.commit(
        Commit(USER, NOW, clear_sessions=True, events=(event(USER),))
    ),
    "revoke device": lambda store: store.revoke_device(
        USER, key(1), forget=True, event=event(USER)
    ),
    "revoke all": lambda store: store.revoke_all(
        USER, except_key=None, forget=True, event=event(USER)
    ),
    "revoke all but one": lambda store: store.revoke_all(
        USER, except_key=key(2), forget=True, event=event(USER)
    ),
}


@pytest.fixture(params=["redis", "valkey"])
def one(request: pytest.FixtureRequest, backends: Callable[[str], Backend]) -> Backend:
    return backends(request.param)


@pytest.fixture
def admin(one: Backend) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(one.admin_url) as client:
        yield client


@contextmanager
def user_without(admin: redis.Redis, prefix: str, *commands: str) -> Iterator[str]:
    """A Redis user of the service that lacks these commands. Returns its name."""
    name = f"{prefix}-lacking"
    rules = [*acl_rules(prefix), f"&{prefix}:*", *(f"-{command}" for command in commands)]
    admin.execute_command("ACL", "SETUSER", name, *rules, "nopass")
    try:
        yield name
    finally:
        admin.execute_command("ACL", "DELUSER", name)


def contents(admin: redis.Redis, keys: KeyNames) -> dict[str, Any]:
    """What is stored of the user, without claims, the IDs of events and exact times to live."""
    events: Any = admin.xrange(keys.events(USER))
    return {
        "sessions": admin.hgetall(keys.sessions(USER)),
        "devices": admin.hgetall(keys.devices(USER)),
        "request": admin.get(keys.request(USER, REQUEST)),
        "events": [fields for _, fields in events],
        "lives": [
            admin.ttl(name) > 0
            for name in (keys.sessions(USER), keys.devices(USER))
            if admin.exists(name)
        ],
    }


async def begin(store: SessionStore) -> None:
    numbers = (1, 2, 3)
    await store.commit(
        Commit(
            USER,
            NOW,
            set_sessions={key(n): session(n) for n in numbers},
            set_devices={key(n): device(n) for n in numbers},
        )
    )


@pytest.mark.parametrize("command", [c for c in NEEDED if c != "eval"])
@pytest.mark.parametrize("mutation", MUTATIONS)
async def test_a_mutation_is_done_completely_or_fails_and_does_nothing(
    one: Backend, admin: redis.Redis, prefix: str, mutation: str, command: str
) -> None:
    able, unable = KeyNames(f"{prefix}:able"), KeyNames(f"{prefix}:unable")
    with user_without(admin, prefix) as name:
        store = SessionStore(connect(one.url_as(name), PATIENT), able)
        await begin(store)
        await MUTATIONS[mutation](store)
        await store.close()
    with user_without(admin, prefix) as name:
        store = SessionStore(connect(one.url_as(name), PATIENT), unable)
        await begin(store)
        before = contents(admin, unable)
        admin.execute_command("ACL", "SETUSER", name, f"-{command}")
        try:
            await MUTATIONS[mutation](store)
        except StoreUnavailable:
            assert contents(admin, unable) == before
            assert command != "publish", "without publish, only a wake-up is lost"
        else:
            assert contents(admin, unable) == contents(admin, able) != before
        finally:
            await store.close()


@pytest.mark.parametrize("command", ["xadd", "hdel"])
async def test_a_dead_letter_is_stored_or_its_event_stays(
    one: Backend, admin: redis.Redis, prefix: str, command: str
) -> None:
    keys = KeyNames(prefix)
    with user_without(admin, prefix) as name:
        deliveries = Deliveries(connect(one.url_as(name), PATIENT), keys)
        store = SessionStore(connect(one.url_as(name), PATIENT), keys)
        assert await deliveries.lease(HERE, MAILER, RELAY)
        await deliveries.start_group(HERE, MAILER, START)
        await store.commit(Commit(USER, NOW, events=(event(USER),)))
        [taken] = await deliveries.take(HERE, MAILER, RELAY, 2)
        assert isinstance(taken, TakenEvent)
        admin.execute_command("ACL", "SETUSER", name, f"-{command}")
        with pytest.raises(StoreUnavailable):
            await deliveries.put_aside(HERE, MAILER, taken, 2, "status 500", NOW)
        admin.execute_command("ACL", "SETUSER", name, f"+{command}")
        assert [t.entry for t in await deliveries.unsettled(HERE, MAILER, RELAY)] == [taken.entry]
        await store.close()
        await deliveries.close()


# ----- the probe


@pytest.fixture
async def probing(
    one: Backend, admin: redis.Redis, prefix: str
) -> AsyncIterator[tuple[SessionStore, str]]:
    """A store, and the name of its Redis user."""
    with user_without(admin, prefix) as name:
        store = SessionStore(connect(one.url_as(name), PATIENT), KeyNames(prefix))
        yield store, name
        await store.close()


@pytest.mark.parametrize("command", NEEDED)
async def test_the_probe_names_a_missing_permission(
    admin: redis.Redis, probing: tuple[SessionStore, str], command: str
) -> None:
    store, name = probing
    assert await store.missing_permissions() == []
    admin.execute_command("ACL", "SETUSER", name, f"-{command}")
    assert await store.missing_permissions() == [command.upper()]
    admin.execute_command("ACL", "SETUSER", name, f"+{command}")
    assert await store.missing_permissions() == []


async def test_the_probe_names_all_missing_permissions_on_a_server_without_scripts(
    admin: redis.Redis, probing: tuple[SessionStore, str]
) -> None:
    store, name = probing
    admin.execute_command("ACL", "SETUSER", name, "-xadd", "-publish")
    assert await store.missing_permissions() == ["PUBLISH", "XADD"]
    admin.execute_command("SCRIPT", "FLUSH")
    admin.execute_command("ACL", "SETUSER", name, "-eval")
    assert await store.missing_permissions() == ["EVAL"]


async def test_the_probe_changes_nothing(
    admin: redis.Redis, probing: tuple[SessionStore, str], prefix: str
) -> None:
    store, _ = probing
    unsaved = admin.info("persistence")["rdb_changes_since_last_save"]
    assert await store.missing_permissions() == []
    assert admin.keys(f"{prefix}*") == []
    assert admin.info("persistence")["rdb_changes_since_last_save"] == unsaved


async def test_the_probe_asks_every_primary_of_a_cluster(
    backends: Callable[[str], Backend], prefix: str
) -> None:
    cluster = backends("cluster")
    ports = [address.rpartition(":")[2] for address in cluster.admin_url.split(",")]
    nodes = [redis.Redis(port=int(port)) for port in ports]
    for node in nodes:
        node.execute_command("ACL", "SETUSER", prefix, *acl_rules(prefix), "nopass")
    store = SessionStore(connect(cluster.url_as(prefix), PATIENT), KeyNames(prefix))
    try:
        assert await store.missing_permissions() == []
        for node, command in zip(nodes, ("xadd", "hset", "publish"), strict=True):
            node.execute_command("ACL", "SETUSER", prefix, f"-{command}")
        assert await store.missing_permissions() == ["HSET", "PUBLISH", "XADD"]
    finally:
        await store.close()
        for node in nodes:
            node.execute_command("ACL", "DELUSER", prefix)
            node.close()
