"""Stages whose store has replicas, and their faults: primaries are killed, hang, step down, and
give their slots away.

Replication is asynchronous: writes that a primary acknowledged with durability LOCAL may be lost
with this primary. REPLICATED writes must not be lost.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import redis

from session_authority.store import connect
from session_authority.store.driver.cluster import Cluster
from session_authority.store.key_names import TAGS
from tests.faults.stage import Stage, serving
from tests.faults.troubles import Trouble, named
from tests.support.backends import (
    PATIENT,
    SentinelGroup,
    ValkeyServer,
    cluster_url,
    sentinel_group,
    valkey_cluster_servers,
)
from tests.support.waiting import wait_for

_SLOTS = [Cluster.keyslot(Cluster([("h", 1)]), tag) for tag in TAGS]
_PATIENCE = 60.0  # Seconds until another primary is promoted.


@asynccontextmanager
async def sentinel(
    folder: Path, servers: int = 2, *, source: str = "", **settings: str
) -> AsyncIterator[Stage]:
    """A primary with two replicas and three Sentinels, which connect to each other from `source`.
    `settings` are the servers' settings.
    """
    async with AsyncExitStack() as stack:
        # A shorter time would let a busy machine's primaries change without a fault to explain it.
        context = sentinel_group(folder, replicas=2, sentinels=3, down_after_ms=3000, source=source)
        group = await asyncio.to_thread(context.__enter__)
        stack.push_async_callback(asyncio.to_thread, context.__exit__, None, None, None)
        urls = [group.url] * servers
        admin_url = group.admin_url
        yield await serving(
            stack, folder, urls, lambda: connect(admin_url, PATIENT), group, **settings
        )


def acknowledged(folder: Path) -> AbstractAsyncContextManager[Stage]:
    """The stage of `sentinel`. Changes wait for a short time until both replicas have them."""
    return sentinel(folder, REPLICAS_ACK="2")


@asynccontextmanager
async def cluster(
    folder: Path, servers: int = 2, *, sources: Sequence[str] = ()
) -> AsyncIterator[Stage]:
    """Three primaries with a replica each, which connect to each other from `sources`."""
    async with AsyncExitStack() as stack:
        context = valkey_cluster_servers(
            folder, replicas=True, sources=sources, **{"repl-diskless-sync-delay": "0"}
        )
        nodes = await asyncio.to_thread(context.__enter__)
        stack.push_async_callback(asyncio.to_thread, context.__exit__, None, None, None)
        urls = [cluster_url(nodes)] * servers
        admin_url = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        admin = f"redis+cluster://{admin_url}"
        yield await serving(stack, folder, urls, lambda: connect(admin, PATIENT), nodes)


# ----- under Sentinel


async def primary_killed(stage: Stage, random: Random) -> None:
    """The primary is killed. It returns empty once every Sentinel knows the next primary, whose
    replica it becomes.
    """
    group: SentinelGroup = stage.store
    old = await _killed_primary(group)
    what = "the Sentinels to agree"
    await until(lambda: group.agreed_primary() not in (None, old), what)
    await asyncio.to_thread(group.start_again, old)
    await whole(group)


async def primary_restarted(stage: Stage, random: Random) -> None:
    """The primary is killed, and returns empty as soon as one Sentinel knows another primary: the
    other Sentinels may still name the old one.
    """
    group: SentinelGroup = stage.store
    old = await _killed_primary(group)
    await moved(group, old)
    await asyncio.to_thread(group.start_again, old)
    await whole(group)


async def _killed_primary(group: SentinelGroup) -> int:
    """Kills the primary. Returns its port."""
    old = await asyncio.to_thread(group.primary)
    group.servers[old].kill()
    await asyncio.to_thread(group.servers[old].wait, 10)
    return old


async def primary_hung(stage: Stage, random: Random) -> None:
    """The primary hangs until another one is promoted, and for some time after. When it continues,
    it acts as a primary until the Sentinels demote it after some 10 s: only then is the group
    complete.
    """
    group: SentinelGroup = stage.store
    old = await asyncio.to_thread(group.primary)
    group.servers[old].send_signal(signal.SIGSTOP)
    try:
        await moved(group, old)
        await asyncio.sleep(random.uniform(0, 3))
    finally:
        group.servers[old].send_signal(signal.SIGCONT)
    await whole(group)


async def primary_steps_down(stage: Stage, random: Random) -> None:
    """An operator lets a replica take over."""
    group: SentinelGroup = stage.store
    old = await asyncio.to_thread(group.primary)
    with redis.Redis(port=group.sentinel) as asked:
        await asyncio.to_thread(asked.execute_command, "SENTINEL", "FAILOVER", "main")
    await moved(group, old)
    await whole(group)


async def moved(group: SentinelGroup, old: int) -> None:
    """Waits until the Sentinels have promoted another primary."""
    await until(lambda: group.primary() != old, "the Sentinels to promote another")


async def whole(group: SentinelGroup) -> None:
    """Returns whether every server except the primary replicates it."""

    def is_whole() -> bool:
        primary = group.primary()
        return all(_follows(port, primary) for port in group.servers if port != primary)

    await until(is_whole, "the replicas to follow")


def _follows(port: int, primary: int) -> bool:
    try:
        with redis.Redis(port=port) as replica:
            said = replica.info("replication")
    except redis.RedisError:
        return False
    return (said.get("master_port"), said.get("master_link_status")) == (primary, "up")


# ----- in a cluster


async def node_killed(stage: Stage, random: Random) -> None:
    """A primary is killed. Its replica takes over, and it returns as the replica."""
    nodes: Sequence[ValkeyServer] = stage.store
    node = random.choice(await asyncio.to_thread(primary_nodes, nodes))
    await asyncio.to_thread(node.kill)
    others = [other for other in nodes if other is not node]
    await until(lambda: len(primary_nodes(others)) == 3, "the replica to take over")
    await asyncio.to_thread(node.start)
    await until(lambda: all_well(nodes), "the cluster to be whole")


async def node_hung(stage: Stage, random: Random) -> None:
    """A primary hangs until its replica has taken over, and for some time after."""
    nodes: Sequence[ValkeyServer] = stage.store
    node = random.choice(await asyncio.to_thread(primary_nodes, nodes))
    others = [other for other in nodes if other is not node]
    os.kill(node.process_id, signal.SIGSTOP)
    try:
        await until(lambda: len(primary_nodes(others)) == 3, "the replica to take over")
        await asyncio.sleep(random.uniform(0, 2))
    finally:
        os.kill(node.process_id, signal.SIGCONT)
    await until(lambda: all_well(nodes), "the cluster to be whole")


async def node_steps_down(stage: Stage, random: Random) -> None:
    """An operator lets a replica take over. The replica first waits until it has all writes."""
    nodes: Sequence[ValkeyServer] = stage.store
    primaries = await asyncio.to_thread(primary_nodes, nodes)
    replica = random.choice([node for node in nodes if node not in primaries])
    with redis.Redis(port=replica.port) as asked:
        await asyncio.to_thread(asked.execute_command, "CLUSTER", "FAILOVER")
    await until(lambda: replica in primary_nodes(nodes), "the replica to take over")
    await until(lambda: all_well(nodes), "the cluster to be whole")


async def slots_move(stage: Stage, random: Random) -> None:
    """Some partitions move from one primary to another, key by key."""
    nodes: Sequence[ValkeyServer] = stage.store
    for slot in random.sample(_SLOTS, 4):
        await asyncio.to_thread(_move, nodes, slot, random)


def _move(nodes: Sequence[ValkeyServer], slot: int, random: Random) -> None:
    primaries = primary_nodes(nodes)
    [source] = [node for node in primaries if slot in _slots_of(node)]
    target = random.choice([node for node in primaries if node is not source])
    with redis.Redis(port=source.port) as here, redis.Redis(port=target.port) as there:
        ids = [node.execute_command("CLUSTER", "MYID").decode() for node in (here, there)]
        there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        while names := here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
            here.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *names)
        for node in (there, here):
            node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])


def primary_nodes(nodes: Sequence[ValkeyServer]) -> list[ValkeyServer]:
    """The nodes that report themselves as primaries with slots."""
    return [node for node in nodes if _slots_of(node)]


def _slots_of(node: ValkeyServer) -> set[int]:
    """The slots of a primary. A replica, or a node that is unreachable, has none."""
    try:
        with redis.Redis(port=node.port) as asked:
            lines = asked.execute_command("CLUSTER", "NODES").decode().splitlines()
    except redis.RedisError:
        return set()
    [own] = [line.split() for line in lines if "myself" in line]
    ranges = [text.partition("-") for text in own[8:] if not text.startswith("[")]
    return {slot for first, _, last in ranges for slot in range(int(first), int(last or first) + 1)}


def all_well(nodes: Sequence[ValkeyServer]) -> bool:
    """Returns whether there are three primaries with slots, and every other node follows one."""
    primaries = primary_nodes(nodes)
    replicas = [node for node in nodes if node not in primaries]
    return len(primaries) == 3 and all(map(_is_linked, replicas))


def _is_linked(replica: ValkeyServer) -> bool:
    try:
        with redis.Redis(port=replica.port) as asked:
            return bool(asked.info("replication").get("master_link_status") == "up")
    except redis.RedisError:
        return False


async def until(condition: Callable[[], object], what: str) -> None:
    """Waits for a condition whose check blocks: a thread checks it."""
    await asyncio.to_thread(wait_for, condition, what, _PATIENCE)


SENTINEL = named(
    *(
        Trouble(make, ends_watches=True, loses_writes=True)
        for make in (primary_killed, primary_hung, primary_restarted, primary_steps_down)
    )
)
CLUSTER = named(
    Trouble(node_killed, ends_watches=True, loses_writes=True),
    Trouble(node_hung, ends_watches=True, loses_writes=True),
    Trouble(node_steps_down, ends_watches=True),
    Trouble(slots_move, ends_watches=True),
)
