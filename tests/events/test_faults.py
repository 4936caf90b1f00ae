"""Stores that fail: watches go on if no event can have been missed, and end if an event may have
been.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from session_authority.domain.errors import CursorExpired, StoreUnavailable
from session_authority.domain.events import NOBODY, EventFilter
from session_authority.events.reader import SILENCE
from session_authority.store import KeyNames, Limits, SessionStore, connect
from session_authority.store.key_names import PARTITIONS, partition
from session_authority.store.records import Commit
from tests.events.conftest import SceneOn
from tests.events.harness import ALL, QUICK, USERS, Message, Scene, Watcher, place_of
from tests.store.samples import NOW, event
from tests.support.backends import (
    PATIENT,
    Backend,
    ValkeyServer,
    cluster_url,
    sentinel_group,
    valkey_cluster_servers,
    valkey_server,
)
from tests.support.waiting import eventually

MINUTE = timedelta(minutes=1)
# A node that is started again has everything that it wrote.
KEPT: Any = {"appendonly": "yes", "appendfsync": "always"}
IMPATIENT = Limits(connect_timeout=timedelta(seconds=2), reply_timeout=timedelta(milliseconds=500))


async def watchers_of(scene: Scene) -> list[Watcher]:
    """Four watchers: one that was there from the start, one that resumed, one that has seen no
    event yet, and one that is stuck.
    """
    first = await scene.watch().started()
    happened = await scene.happen(*USERS)
    await first.told(*happened)
    resumed = scene.watch(first.messages[0].cursor)
    await resumed.told(*happened)
    idle = await scene.watch().started()
    stuck = scene.watch(first.messages[0].cursor).hold()
    await stuck.has(lambda: stuck.waiting, "the first message")
    return [first, resumed, idle, stuck]


async def all_expire(scene: Scene, watchers: list[Watcher]) -> None:
    """Checks that all watches end, and that a watch that starts afterwards is served."""
    for watcher in watchers:
        assert isinstance(await watcher.ended(), CursorExpired)
    assert scene.expired() == len(watchers)
    assert scene.watching() == 0
    await eventually(lambda: is_served(scene), "the store to be found")
    later = await scene.watch().started()
    await eventually(lambda: writes(scene.store, "zoe", "0"), "an event to be written")
    await later.has(lambda: ("zoe", "0") in later.events, "the event to be sent")
    await scene.watch(later.cursor).started()


async def is_served(scene: Scene) -> bool:
    watcher = scene.watch()
    await eventually(
        lambda: bool(watcher.messages) or not watcher.is_watching, "the watch to begin or to end"
    )
    served = watcher.is_watching
    await watcher.stop()
    return served


async def test_a_flushed_store_ends_all_watches(scene: Scene, store: Backend):
    watchers = await watchers_of(scene)
    cursor = watchers[0].cursor
    async with store.admin() as admin:
        await admin.flushall()
    await all_expire(scene, watchers)
    assert isinstance(await scene.watch(cursor).ended(), CursorExpired)


async def test_a_vanished_stream_ends_all_watches(scene: Scene):
    """The records on the same server may be lost, too."""
    watchers = await watchers_of(scene)
    await scene.run("DEL", scene.keys.events("ada"))
    await all_expire(scene, watchers)


async def test_a_restart_ends_all_watches(tmp_path: Path, scene_on: SceneOn):
    """All events seem to be there, but the last writes may be lost."""
    with valkey_server(tmp_path) as server:
        scene = scene_on(connect(server.url, IMPATIENT))
        watchers = await watchers_of(scene)
        server.kill()
        await eventually(lambda: scene.log.failed >= 3, "reads that fail")
        assert all(watcher.is_watching for watcher in watchers), "nothing is known to be lost yet"
        server.start()
        await all_expire(scene, watchers)


async def test_a_restart_of_one_node_ends_no_watch(tmp_path: Path, scene_on: SceneOn):
    """The node's log goes on at the position that was read. But the last writes of the node may be
    lost, and with them a record that a cache has read. So nothing is proven about the node's users
    until every cache has emptied itself.
    """
    with valkey_cluster_servers(tmp_path, **KEPT) as servers:
        scene = scene_on(connect(cluster_url(servers), IMPATIENT), heartbeat=timedelta())
        watchers = await watchers_of(scene)
        first, far = watchers[0], await scene.watch(only=users_beside(servers[2])).started()
        servers[2].kill()
        await eventually(lambda: reads_fail(scene, 2), "reads that fail in part")
        proven = len(proofs(first)), len(proofs(far))
        servers[2].start()
        many = [f"user-{number}" for number in range(30)]
        for user in many:
            await eventually(lambda u=user: writes(scene.store, u, "back"), "the node to be back")  # type: ignore[misc]
        await far.has(lambda: len(proofs(far)) > proven[1] + 3, "proofs for others")
        assert len(proofs(first)) == proven[0], "nothing is proven yet"
        scene.uptime += SILENCE
        await first.has(lambda: len(proofs(first)) > proven[0], "a proof again")
        watchers[3].free()
        expected = {(user, "back") for user in many}
        for watcher in watchers:
            await watcher.has(lambda w=watcher: expected <= set(w.events), "the events")  # type: ignore[misc]
        assert scene.expired() == 0


async def test_a_lost_log_ends_the_watches_that_depend_on_it(tmp_path: Path, scene_on: SceneOn):
    """A node returns without data: it is not known which of its events were sent."""
    with valkey_cluster_servers(tmp_path) as servers:
        scene = scene_on(connect(cluster_url(servers), IMPATIENT), heartbeat=timedelta())
        watchers = await watchers_of(scene)
        far = await scene.watch(only=users_beside(servers[2])).started()
        with redis.Redis(port=servers[2].port) as node:
            node.flushall()
        for watcher in watchers:
            assert isinstance(await watcher.ended(), CursorExpired)
        assert scene.expired() == len(watchers)
        proven = len(proofs(far))
        await far.has(lambda: len(proofs(far)) > proven, "proofs")
        later = await scene.watch().started()
        happened = await scene.happen(*USERS)
        await later.told(*happened)


async def test_a_failover_of_one_node_ends_the_watches_that_depend_on_it(
    tmp_path: Path, scene_on: SceneOn
):
    with valkey_cluster_servers(tmp_path, replicas=True) as servers:
        scene = scene_on(connect(cluster_url(servers), IMPATIENT), heartbeat=timedelta())
        all_users = await scene.watch().started()
        await all_users.told(*await scene.happen(*USERS))
        far = await scene.watch(only=users_beside(servers[2])).started()
        servers[2].kill()
        assert isinstance(await all_users.ended(), CursorExpired)
        assert scene.expired() == 1
        proven = len(proofs(far))
        await far.has(lambda: len(proofs(far)) > proven, "proofs")
        await eventually(lambda: is_served(scene), "the replica to serve")
        later = await scene.watch().started()
        await eventually(lambda: writes(scene.store, "ada", "after"), "an event to be written")
        await later.has(lambda: ("ada", "after") in later.events, "the event to be sent")


async def test_a_process_starts_watches_while_a_node_is_unreachable(
    tmp_path: Path, scene_on: SceneOn
):
    """The events of the unreachable node are sent once it can be read."""
    with valkey_cluster_servers(tmp_path, **KEPT) as servers:
        scene = scene_on(connect(cluster_url(servers), IMPATIENT), heartbeat=timedelta())
        scene.clock.advance(datetime.now(UTC) - scene.clock())
        before = await scene.watch().started()
        past = await scene.happen(*USERS)
        await before.told(*past)
        cursor = before.cursor
        await before.stop()
        far = users_beside(servers[2])
        servers[2].kill()
        watchers = [
            await scene.watch(since, only).started()
            for since in (None, cursor, scene.clock() - MINUTE)
            for only in (ALL, far)
        ]
        assert [bool(proofs(watcher)) for watcher in watchers[:2]] == [False, True]
        others = [user for user in USERS if await writes(scene.store, user, "away")]
        assert 0 < len(others) < len(USERS)
        expected = {(user, "away") for user in others}
        await watchers[0].has(lambda: expected <= set(watchers[0].events), "the events")
        assert not proofs(watchers[0])
        servers[2].start()
        for user in USERS:
            await eventually(lambda u=user: writes(scene.store, u, "back"), "the node to be back")  # type: ignore[misc]
        expected = {(user, "back") for user in USERS}
        for watcher in watchers[::2]:
            await watcher.has(lambda w=watcher: expected <= set(w.events), "all")  # type: ignore[misc]
            assert len(set(watcher.events)) == len(watcher.events), "an event came twice"
        assert scene.expired() == 0


def users_beside(server: ValkeyServer) -> EventFilter:
    """A user whose partition is on another server than this one. Events without a user are not on
    this server either.
    """
    with redis.Redis(port=server.port) as node:
        slots = [
            range(int(first), int(last) + 1)
            for first, last, [_, port, *_], *_ in node.execute_command("CLUSTER", "SLOTS")
            if int(port) == server.port
        ]
    keys = KeyNames("t")
    near = {
        n for n in range(PARTITIONS) if any(key_slot(keys.stream(n).encode()) in s for s in slots)
    }
    assert partition(NOBODY) not in near
    users = (f"far-{number}" for number in range(1000))
    return EventFilter(user_ids=frozenset([next(u for u in users if partition(u) not in near)]))


def proofs(watcher: Watcher) -> list[Message]:
    return [message for message in watcher.messages if message.read_time is not None]


async def test_a_failover_ends_all_watches(tmp_path: Path, scene_on: SceneOn):
    group_context = sentinel_group(tmp_path)
    group = await asyncio.to_thread(group_context.__enter__)
    try:
        scene = scene_on(connect(group.url, IMPATIENT))
        watchers = await watchers_of(scene)
        first = group.primary()
        with redis.Redis(port=first) as old:
            await eventually(lambda: replicated(old), "the replica to have it all")
        group.servers[first].kill()
        group.servers[first].wait(10)
        await all_expire(scene, watchers)
        assert group.primary() != first
        for watcher in watchers:
            await watcher.stop()
        await scene.store.close()
    finally:
        await asyncio.to_thread(group_context.__exit__, None, None, None)


async def test_a_hung_primary_that_returns_proves_nothing(tmp_path: Path, scene_on: SceneOn):
    """The primary was replaced while it hung, and does not know that."""
    group_context = sentinel_group(tmp_path, replicas=2, sentinels=3)
    group = await asyncio.to_thread(group_context.__enter__)
    try:
        scene = scene_on(connect(group.url, PATIENT), heartbeat=timedelta())
        watchers = [await scene.watch().started() for _ in range(3)]
        happened = await scene.happen(*USERS)
        for watcher in watchers:
            await watcher.told(*happened)
        first = group.primary()
        with redis.Redis(port=first) as old:
            await eventually(lambda: replicated(old), "the replicas to have it all")
        os.kill(group.servers[first].pid, signal.SIGSTOP)
        try:
            await eventually(
                lambda: asyncio.to_thread(group.moved_from, first), "another server to be promoted"
            )
            other = SessionStore(connect(group.url, PATIENT), scene.keys)
            await other.commit(Commit("ada", NOW, events=(event("ada", reason="late"),)))
            scene.clock.advance(timedelta(hours=1))
        finally:
            os.kill(group.servers[first].pid, signal.SIGCONT)
        await all_expire(scene, watchers)
        for watcher in watchers:
            proven = [m.read_time for m in watcher.messages if m.read_time is not None]
            assert proven
            assert max(proven) < scene.clock(), "it was not told of the last event"
        await other.close()
        await scene.store.close()
    finally:
        await asyncio.to_thread(group_context.__exit__, None, None, None)


async def replicated(primary: redis.Redis) -> bool:
    return int(primary.execute_command("WAIT", 1, 1000)) >= 1


async def test_a_store_that_hangs_ends_no_watch(tmp_path: Path, scene_on: SceneOn):
    """While the store hangs, nothing proves that all events were sent. No event is lost."""
    with valkey_server(tmp_path) as server:
        scene = scene_on(connect(server.url, IMPATIENT), heartbeat=timedelta())
        with redis.Redis(port=server.port) as own:
            process = own.info("server")["process_id"]
        watchers = [await scene.watch().started() for _ in range(3)]
        happened = await scene.happen(*USERS)
        for watcher in watchers:
            await watcher.told(*happened)
            await watcher.has(lambda w=watcher: w.heartbeats >= 2, "heartbeats")  # type: ignore[misc]
        patient = SessionStore(
            connect(server.url, Limits(reply_timeout=timedelta(seconds=30))), scene.keys
        )
        os.kill(process, signal.SIGSTOP)
        try:
            later = asyncio.ensure_future(
                patient.commit(Commit("ada", NOW, events=(event("ada", reason="2"),)))
            )
            await eventually(lambda: scene.log.failed >= 1, "a read that fails")
            before = [len(watcher.messages) for watcher in watchers]
            await eventually(lambda: scene.log.failed >= 3, "more reads that fail")
            assert [len(watcher.messages) for watcher in watchers] == before, "no heartbeat"
            assert all(watcher.is_watching for watcher in watchers)
        finally:
            os.kill(process, signal.SIGCONT)
        await later
        happened.append(("ada", "2"))
        for number, watcher in enumerate(watchers):
            await watcher.told(*happened)
            beats = watcher.heartbeats
            await watcher.has(lambda w=watcher, n=beats: w.heartbeats > n, "heartbeats again")  # type: ignore[misc]
            assert len(watcher.messages) > before[number] + 1
        assert scene.expired() == 0
        await patient.close()
        for watcher in watchers:
            await watcher.stop()
        await scene.store.close()


async def test_a_heartbeat_proves_that_every_partition_was_read(scene_with: SceneOn):
    """There is no heartbeat while one partition can't be read, although the events of others are
    sent.
    """
    scene = scene_with(heartbeat=timedelta())
    watcher = await scene.watch().started()
    await watcher.has(lambda: watcher.heartbeats >= 3, "heartbeats")
    await scene.run("SET", scene.keys.events("ada"), "no stream")
    await eventually(lambda: reads_fail(scene, 2), "reads that fail in part")
    beats, as_of = watcher.heartbeats, scene.clock()
    scene.clock.advance(timedelta(hours=1))
    await eventually(lambda: reads_fail(scene, 2), "reads that fail in part")
    happened = await scene.happen("bob", "cleo")
    await watcher.told(*happened)
    assert place_of(watcher.cursor).as_of == as_of, "what happened since then may be missing"
    await eventually(lambda: reads_fail(scene, 3), "reads that fail in part")
    assert watcher.heartbeats == beats
    assert watcher.is_watching
    await scene.run("DEL", scene.keys.events("ada"))
    await watcher.has(lambda: watcher.heartbeats > beats, "heartbeats again")
    await watcher.told(*happened, *await scene.happen("ada"))


async def reads_fail(scene: Scene, times: int) -> bool:
    """Waits until this many more reads of all partitions have begun. Returns True."""
    asked = scene.log.asked["primaries"]
    await eventually(lambda: scene.log.asked["primaries"] >= asked + times, "reads")
    return True


async def test_a_lost_connection_loses_no_event(
    valkey_backend: Backend, scene_on: SceneOn, hang_up: Callable[[], None]
):
    """All connections are cut again and again, while events flow."""
    scene = scene_on(valkey_backend.connect(), heartbeat=QUICK)
    watchers = [await scene.watch().started() for _ in range(3)]
    happened: list[tuple[str, str]] = []
    writer = SessionStore(valkey_backend.connect(), scene.keys)
    for number in range(60):
        user = USERS[number % len(USERS)]
        reason = str(number // len(USERS))
        if number % 10 == 5:
            hang_up()
        await eventually(lambda u=user, r=reason: writes(writer, u, r), "an event to be written")  # type: ignore[misc]
        happened.append((user, reason))
    for watcher in watchers:
        await watcher.told(*happened)
    assert scene.expired() == 0
    await writer.close()


async def writes(store: SessionStore, user: str, reason: str) -> bool:
    try:
        await store.commit(Commit(user, NOW, events=(event(user, reason=reason),)))
    except StoreUnavailable:
        return False
    return True
