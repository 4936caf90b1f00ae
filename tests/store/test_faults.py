"""What happens when Redis is unreachable, slow, full or something else: one clear error while it
lasts, and none afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from random import Random
from uuid import UUID

import pytest
import redis
from structlog.testing import capture_logs

from session_authority.domain.errors import StoreUnavailable
from session_authority.runtime.logs import LogThrottle
from session_authority.store import KeyNames, SessionStore, connect
from session_authority.store.records import Changed, Commit, Committed
from tests.store.samples import (
    MUTATIONS,
    NOW,
    Mutation,
    Room,
    device,
    event,
    every_operation,
    issued,
    key,
    let_through,
    removal_of,
    session,
    store_at,
    unavailable,
)
from tests.support.backends import PATIENT, Backend, ValkeyServer, service_rules
from tests.support.ports import free_port
from tests.support.proxy import Proxy, lose_one_reply
from tests.support.waiting import eventually

SECRET = "s3cr3t"


# --- unreachable ----------------------------------------------------------------------------------


async def test_a_killed_redis_is_unavailable_until_it_is_back(
    victim: ValkeyServer, prefix: str
) -> None:
    store = store_at(victim.url, prefix)
    try:
        await asyncio.gather(
            *(
                store.commit(Commit(f"u{n}", NOW, set_sessions={key(n): session(n)}))
                for n in range(20)
            )
        )
        await asyncio.gather(*(store.session(f"u{n}", key(n)) for n in range(20)))
        await asyncio.to_thread(victim.kill)
        for _ in range(2):
            await unavailable(*every_operation(store, "ada"))
        await asyncio.to_thread(victim.start)
        # The store works at the first try, although the kill closed its connections and removed the
        # scripts.
        for n in range(20):
            assert await store.session(f"u{n}", key(n)) is None
            assert (
                await store.commit(Commit(f"u{n}", NOW, set_sessions={key(n): session(n)}))
                == Committed()
            )
        await store.prove_writable()
    finally:
        await store.close()


async def test_a_refused_connection_is_unavailable_until_it_is_accepted(
    warm: Room, proxy: Proxy
) -> None:
    await proxy.close()
    await unavailable(*every_operation(warm.store, "ada"))
    await proxy.open()
    found = await warm.store.session("ada", key(1))
    assert found is not None
    assert found.record == session(1)
    assert isinstance(await MUTATIONS["commit"](warm.store), Committed)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:{port}",
        "redis://no-such-host.invalid:{port}",
        "unix:///no/such/socket",
        "redis+sentinel://127.0.0.1:{port}/main",
        "redis+cluster://127.0.0.1:{port},127.0.0.1:{port}",
        "rediss+cluster://127.0.0.1:{port}",
    ],
)
async def test_a_store_that_never_existed_is_unavailable(url: str) -> None:
    store = store_at(url.format(port=free_port()), "t")
    try:
        await unavailable(*every_operation(store, "ada"))
        await unavailable(*every_operation(store, "ada"))
    finally:
        await store.close()


async def test_a_single_server_is_unavailable_as_a_cluster(valkey_backend: Backend) -> None:
    store = store_at(valkey_backend.url.replace("redis://", "redis+cluster://"), "t")
    try:
        await unavailable(*every_operation(store, "ada"))
    finally:
        await store.close()


async def test_idle_connections_that_were_cut_do_no_harm(warm: Room, proxy: Proxy) -> None:
    await asyncio.gather(
        *(warm.store.session("ada", key(1)) for _ in range(30)),
        *(_commit(warm, n) for n in range(30)),
    )
    await proxy.cut()
    await asyncio.gather(
        *(warm.store.session("ada", key(1)) for _ in range(30)),
        *(_commit(warm, n) for n in range(30)),
    )


async def _commit(room: Room, number: int) -> None:
    await room.store.commit(Commit(f"c{number}", NOW, set_sessions={key(number): session(number)}))


# ----- slow


async def test_a_missing_reply_is_unavailable_and_a_late_reply_answers_nothing(
    impatient: Room, proxy: Proxy
) -> None:
    held = asyncio.Event()

    async def hold(_: bytes) -> None:
        await held.wait()

    for _ in range(3):
        proxy.on_reply = hold
        await unavailable(
            *(impatient.store.session("ada", key(1)) for _ in range(5)), impatient.store.user("ada")
        )
        proxy.on_reply = let_through
        eve = await impatient.store.session("eve", key(7))
        assert eve is not None
        assert eve.record == session(7)
        held.set()  # Only now the late replies leave, on connections that have no reader.
        for user, number in (("eve", 7), ("ada", 1)) * 10:
            found = await impatient.store.session(user, key(number))
            assert found is not None
            assert found.record == session(number)
        held.clear()


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
@pytest.mark.parametrize("loss", ["cut", "silence"])
async def test_a_mutation_whose_reply_is_lost_is_sent_once(
    impatient: Room, proxy: Proxy, mutation: Mutation, loss: str
) -> None:
    lose_one_reply([proxy], loss)
    await unavailable(mutation(impatient.store))
    assert proxy.commands["EVALSHA"] == 1
    assert proxy.commands["EVAL"] == 0
    # It took place once, and the next calls are right at the first try.
    assert [e.reason for e in await impatient.events("ada")] == ["x"]
    eve = await impatient.store.session("eve", key(7))
    assert eve is not None
    assert eve.record == session(7)
    assert proxy.commands["EVALSHA"] == 1


async def test_many_mutations_whose_replies_are_lost_are_sent_once_each(
    warm: Room, proxy: Proxy
) -> None:
    async def lose(_: bytes) -> None:
        if chance.random() < 0.5:
            raise ConnectionError

    chance = Random(3)
    # These commits make the connections. So most replies that are lost later are replies to
    # mutations.
    await asyncio.gather(*(_commit(warm, n) for n in range(100)))
    proxy.commands.clear()
    proxy.on_reply = lose
    told = [Commit("ada", NOW, events=(event("ada", n),)) for n in range(100)]
    results = await asyncio.gather(*map(warm.store.commit, told), return_exceptions=True)
    proxy.on_reply = let_through
    assert {type(result) for result in results} == {Committed, StoreUnavailable}
    devices = [e.device_id for e in await warm.events("ada")]
    assert len(devices) == len(set(devices)) == proxy.commands["EVALSHA"]


# --- callers that give up -------------------------------------------------------------------------


async def test_a_caller_that_gives_up_on_a_mutation_leaves_no_reply_behind(
    warm: Room, proxy: Proxy
) -> None:
    held = asyncio.Event()

    async def hold(_: bytes) -> None:
        await held.wait()

    patient = SessionStore(connect(proxy.url, PATIENT), warm.keys)
    try:
        # These calls make the connections, so that only replies are held later.
        connected = [
            patient.revoke_device("bob", key(7), forget=False, event=event("bob")) for _ in range(3)
        ]
        await asyncio.gather(patient.session("eve", key(7)), *connected)
        proxy.commands.clear()
        proxy.on_reply = hold
        mutations = [asyncio.ensure_future(mutation(patient)) for mutation in MUTATIONS.values()]
        reads = [asyncio.ensure_future(patient.session("ada", key(1))) for _ in range(3)]
        await eventually(_seen(proxy, "EVALSHA", 3), "the mutations to be sent")
        await eventually(_seen(proxy, "HGET", 1), "the reads to be sent")
        connections = proxy.connections
        for task in (*mutations, *reads):
            task.cancel()
        results = await asyncio.gather(*mutations, *reads, return_exceptions=True)
        assert {type(result) for result in results} == {asyncio.CancelledError}
        proxy.on_reply = let_through
        held.set()
        for user, found in (("eve", session(7)), ("bob", None)) * 20:
            stored = await patient.session(user, key(7))
            assert (stored and stored.record) == found
            assert (
                await patient.revoke_device("bob", key(7), forget=False, event=event("bob"))
                == removal_of()
            )
        connected = [
            patient.revoke_device("bob", key(7), forget=False, event=event("bob")) for _ in range(3)
        ]
        await asyncio.gather(*connected)
        # No connection was closed half-way. The first read may have found its read line busy and
        # opened another.
        assert proxy.connections <= connections + 1
    finally:
        await patient.close()
    # Each mutation that was sent took place once, although its caller gave up. The commit stored a
    # session, and one of the two revocations that followed removed the session.
    assert (await warm.store.user("ada")).sessions == {}
    assert proxy.commands["EVALSHA"] == 3 + 3 + 40


async def test_a_mutation_whose_caller_gave_up_before_it_was_sent_is_never_sent(
    proxy: Proxy, warm: Room
) -> None:
    held = asyncio.Event()

    async def hold(_: bytes) -> None:
        await held.wait()

    # One mutation at a time.
    narrow = SessionStore(connect(proxy.url, PATIENT), warm.keys, max_connections=4)
    try:
        await narrow.revoke_device("bob", key(1), forget=False, event=event("bob"))
        proxy.commands.clear()
        proxy.on_reply = hold
        first = asyncio.ensure_future(MUTATIONS["commit"](narrow))
        await eventually(_seen(proxy, "EVALSHA", 1), "the first to be sent")
        second = asyncio.ensure_future(MUTATIONS["revoke_all"](narrow))
        await asyncio.sleep(0)
        second.cancel()
        with suppress(asyncio.CancelledError):
            await second
        held.set()
        proxy.on_reply = let_through
        assert isinstance(await first, Committed)
        assert (await narrow.user("ada")).session_records() == {key(1): session(2)}
        assert (
            await narrow.revoke_device("bob", key(1), forget=False, event=event("bob"))
            == removal_of()
        )
    finally:
        await narrow.close()
    assert proxy.commands["EVALSHA"] == 2


def _seen(proxy: Proxy, command: str, number: int) -> Callable[[], Awaitable[bool]]:
    async def seen() -> bool:
        return proxy.commands[command] >= number

    return seen


async def test_a_store_waits_for_its_mutations_before_it_closes(warm: Room, proxy: Proxy) -> None:
    store = SessionStore(connect(proxy.url, PATIENT), warm.keys)
    task = asyncio.ensure_future(MUTATIONS["commit"](store))
    await eventually(_seen(proxy, "EVALSHA", 1), "the commit to be sent")
    await store.close()
    assert isinstance(await task, Committed)


# --- wrong replies --------------------------------------------------------------------------------


async def test_an_unrequested_reply_never_answers_a_read(warm: Room, proxy: Proxy) -> None:
    for _ in range(5):
        await asyncio.gather(
            *(warm.store.session("eve", key(7)) for _ in range(9)),
            _commit(warm, 1),
            _commit(warm, 2),
        )
        proxy.say(b"$5\r\nwrong\r\n")
        # The unrequested reply may arrive just after the read was sent. Then the replies are too
        # long, and the read fails.
        with suppress(StoreUnavailable):
            assert await warm.store.session("bob", key(1)) is None
        assert await warm.store.session("bob", key(1)) is None
        assert (
            await warm.store.revoke_all("bob", except_key=None, forget=False, event=event("bob"))
            == removal_of()
        )


async def test_lost_scripts_are_sent_again(warm: Room, proxy: Proxy) -> None:
    for mutation in MUTATIONS.values():
        await warm.put("ada", 1)
        await warm.run("SCRIPT", "FLUSH")
        proxy.commands.clear()
        await mutation(warm.store)
        assert (proxy.commands["EVALSHA"], proxy.commands["EVAL"]) == (1, 1)
        await mutation(warm.store)
        assert (proxy.commands["EVALSHA"], proxy.commands["EVAL"]) == (2, 1)
    assert [e.reason for e in await warm.events("ada")] == ["x", "x", "x", "x"]


@pytest.mark.parametrize("make", ["valkey", "redis"])
async def test_a_full_store_refuses_sign_ins_but_never_a_sign_out(
    make: str, backends: Callable[[str], Backend], prefix: str
) -> None:
    backend, keys = backends(make), KeyNames(prefix)
    admin = backend.admin()
    room = Room(SessionStore(backend.connect(), keys), admin, keys)
    try:
        await room.put("ada", 1, 2, 3)
        once = room.store.once_for_request("ada", UUID(int=7), issued())
        before = await room.contents("ada")
        await room.run("CONFIG", "SET", "maxmemory", "1")
        try:
            more = Commit(
                "ada",
                NOW,
                once=once,
                set_sessions={key(4): session(4)},
                set_devices={key(4): device(4)},
                events=(event("ada"),),
            )
            await unavailable(room.store.commit(more), room.store.prove_writable())
            assert await room.store.session("ada", key(1)) is not None, "a full primary is read"
            assert await room.store.commit(replace(more, if_session_count=0)) == Changed()
            assert await room.contents("ada") == before
            assert await room.run("EXISTS", once.key) == 0
            # A full store accepts a sign-in that removes a session.
            swap = Commit(
                "ada",
                NOW,
                set_sessions={key(4): session(4), key(3): None},
                set_devices={key(4): device(4)},
            )
            assert await room.store.commit(swap) == Committed(removal_of(session(3)))
            # The sign-out after a replay is a commit, and must succeed with its event; the same
            # holds for revocations.
            gone = Commit(
                "ada", NOW, set_sessions={key(1): None}, events=(event("ada", reason="replay"),)
            )
            assert await room.store.commit(gone) == Committed(removal_of(session(1)))
            assert await room.store.revoke_device(
                "ada", key(2), forget=False, event=event("ada", reason="one")
            ) == removal_of(session(2))
            assert await room.store.revoke_all(
                "ada", except_key=None, forget=True, event=event("ada", reason="all")
            ) == removal_of(session(4))
            assert [e.reason for e in await room.events("ada")] == ["replay", "one", "all"]
        finally:
            await room.run("CONFIG", "SET", "maxmemory", "0")
        assert await room.store.commit(more) == Committed()
    finally:
        await room.store.close()
        await admin.aclose()


async def test_a_changed_password_is_unavailable_and_never_logged(
    victim: ValkeyServer, prefix: str
) -> None:
    store = store_at(f"redis://changing:{SECRET}@127.0.0.1:{victim.port}", prefix)
    with redis.Redis(port=victim.port) as admin, capture_logs() as lines:
        try:
            admin.execute_command("ACL", "SETUSER", "changing", *service_rules(), ">another")
            await unavailable(*every_operation(store, "ada"))
            admin.execute_command("ACL", "SETUSER", "changing", "resetpass", f">{SECRET}")
            assert await store.session("ada", key(1)) is None
        finally:
            admin.execute_command("ACL", "DELUSER", "changing")
            await store.close()
    assert lines
    assert SECRET not in str(lines)


# --- the log --------------------------------------------------------------------------------------


async def test_an_outage_does_not_flood_the_log(prefix: str) -> None:
    store = store_at(f"redis://127.0.0.1:{free_port()}", prefix)
    with capture_logs() as lines:
        for _ in range(5):
            await unavailable(*(store.session(f"u{n}", key(n)) for n in range(100)))
    await store.close()
    assert len(lines) < 100
    assert not [
        line
        for line in lines
        if line["log_level"] != "warning" or line["event"] != "store_unavailable"
    ]


def test_a_fault_is_logged_at_most_once_a_second() -> None:
    complaints = LogThrottle()
    assert [complaints.count("a", now) for now in (10.0, 10.1, 10.9)] == [0, None, None]
    assert complaints.count("b", 10.9) == 0
    assert [complaints.count("a", now) for now in (11.0, 11.5, 50.0, 51.0)] == [2, None, 1, 0]
