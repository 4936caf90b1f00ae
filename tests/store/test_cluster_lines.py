"""Reads of a cluster whose slots move and whose nodes leave. Scripted servers are its primaries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import redis.exceptions
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode

from session_authority.store import connect
from session_authority.store.driver.cluster import Cluster
from session_authority.store.driver.cluster_lines import MAX_FOLLOWED, ClusterLines
from session_authority.store.driver.questions import Question
from session_authority.store.driver.read_lines import max_lines
from tests.store.scripted_server import ScriptedServer
from tests.support.backends import PATIENT
from tests.support.waiting import eventually

PATIENCE = 20.0  # Seconds; for conditions that a test awaits.


@dataclass
class Primary:
    """A node of the cluster, and a key that it serves."""

    server: ScriptedServer
    node: ClusterNode
    key: str


class Room:
    """The client of a cluster of two primaries, and its read lines."""

    def __init__(self, client: Cluster, here: Primary, there: Primary) -> None:
        self.client, self.here, self.there = client, here, there
        self.lines = ClusterLines(client)

    def question(self, primary: Primary) -> Question:
        """Makes a read of the primary's key."""
        return self.lines.question("GET", primary.key)

    def moved(self, primary: Primary, to: str = "127.0.0.1:1") -> bytes:
        """A primary's answer that another node serves its key."""
        return b"-MOVED %d %s\r\n" % (self.client.keyslot(primary.key), to.encode())


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(ScriptedServer()) for _ in range(2)]
        client = connect(servers[0].url.replace("redis://", "redis+cluster://"), PATIENT)
        assert isinstance(client, Cluster)
        client._initialize = False
        primaries = []
        for server, key in zip(servers, ("a", "b"), strict=True):
            port = int(server.url.rpartition(":")[2])
            node = ClusterNode("127.0.0.1", port, "primary", **client.connection_kwargs)
            client.nodes_manager.nodes_cache[node.name] = node
            client.nodes_manager.slots_cache[client.keyslot(key)] = [node]
            primaries.append(Primary(server, node, key))
        client.nodes_manager.default_node = primaries[1].node
        yield Room(client, *primaries)
        await client.aclose()


class Follower:
    """Replaces the client's follow-up of a read that moved: it hangs until `go` is set."""

    def __init__(self, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = asyncio.Event()
        self.followed = 0
        monkeypatch.setattr(room.client, "execute_command", self._follow)

    async def _follow(self, *_: Any) -> bytes:
        self.followed += 1
        await self.go.wait()
        return b"followed"


async def test_reads_whose_caller_has_gone_are_not_followed(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(room, monkeypatch)
    batch = asyncio.ensure_future(room.lines.ask_many([room.question(room.here)] * 50))
    (await room.here.server.arrived(1)).answer(a=room.moved(room.here))
    await eventually(lambda: follower.followed == MAX_FOLLOWED, "reads to be followed")
    batch.cancel()
    drained = asyncio.ensure_future(room.lines.drained())
    await asyncio.wait([batch])
    assert not drained.done()
    follower.go.set()
    await asyncio.wait_for(drained, PATIENCE)
    assert follower.followed == MAX_FOLLOWED


async def test_reads_that_follow_to_one_node_delay_no_other_node(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(room, monkeypatch)
    batch = asyncio.ensure_future(room.lines.ask_many([room.question(room.here)] * 50))
    (await room.here.server.arrived(1)).answer(a=room.moved(room.here, "127.0.0.1:1"))
    await eventually(lambda: follower.followed == MAX_FOLLOWED, "reads to be followed")
    single = asyncio.ensure_future(room.lines.ask(room.question(room.there)))
    (await room.there.server.arrived(1)).answer(b=room.moved(room.there, "127.0.0.1:2"))
    await eventually(lambda: follower.followed == MAX_FOLLOWED + 1, "the read to be followed")
    follower.go.set()
    assert await single == b"followed"
    assert await batch == [b"followed"] * 50


async def test_a_read_that_waits_for_its_follow_up_fails_in_time(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(room, monkeypatch)
    batch = asyncio.ensure_future(room.lines.ask_many([room.question(room.here)] * 10))
    arrived = await room.here.server.arrived(1)
    room.client.connection_kwargs["socket_timeout"] = 0.05  # The read lines wait longer.
    arrived.answer(a=room.moved(room.here))
    await eventually(lambda: follower.followed == MAX_FOLLOWED, "reads to be followed")
    single = asyncio.ensure_future(room.lines.ask(room.question(room.here)))
    (await room.here.server.arrived(2)).answer(a=room.moved(room.here))
    with pytest.raises(redis.exceptions.TimeoutError):
        await asyncio.wait_for(single, PATIENCE)
    follower.go.set()
    replies = await batch
    assert replies[:MAX_FOLLOWED] == [b"followed"] * MAX_FOLLOWED
    assert {type(reply) for reply in replies[MAX_FOLLOWED:]} == {redis.exceptions.TimeoutError}


async def leaves(primary: Primary, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a primary leave the map, when the client refreshes its view of the cluster."""
    client = room.client

    async def look(*_: Any, **__: Any) -> None:
        client.nodes_manager.set_nodes(
            client.nodes_manager.nodes_cache,
            {room.there.node.name: room.there.node},
            remove_old=True,
        )
        client._initialize = False

    monkeypatch.setattr(RedisCluster, "initialize", look)
    slots = client.nodes_manager.slots_cache
    slots[client.keyslot(primary.key)] = [room.there.node]
    client._initialize = True
    await client.initialize()
    assert client._look is not None
    await client._look


async def answered(server: ScriptedServer, asked: Sequence[asyncio.Future[Any]]) -> list[Any]:
    """The answers to these reads, once a server has answered everything that arrives during the
    wait.
    """
    count = 0

    def all_are() -> bool:
        nonlocal count
        for received in server.received[count:]:
            received.answer()
            count += 1
        return all(one.done() for one in asked)

    await eventually(all_are, "the answers")
    return await asyncio.gather(*asked, return_exceptions=True)


async def test_reads_under_way_go_to_the_new_owner_when_their_node_leaves(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    monkeypatch.setattr(room.client, "on_node_lost", lost.append)
    asked = []
    for number in range(1, max_lines(room.client.connection_kwargs["max_connections"]) + 2):
        asked.append(asyncio.ensure_future(room.lines.ask(room.question(room.here))))
        await room.here.server.arrived(number)
    waits = asyncio.ensure_future(room.lines.ask_many([room.question(room.here)] * 20))
    await asyncio.sleep(0)
    await leaves(room.here, room, monkeypatch)
    other = asyncio.ensure_future(room.lines.ask(room.question(room.there)))
    answers = await answered(room.there.server, [*asked, waits, other])
    assert answers == [b"answer to a"] * len(asked) + [[b"answer to a"] * 20, b"answer to b"]
    assert lost == []
    await asyncio.wait_for(room.lines.drained(), PATIENCE)


async def test_nothing_is_kept_of_a_node_that_has_left(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the node's name nor its two read lines are kept: one line is free, and the caller of
    the other has gone.
    """
    left = asyncio.ensure_future(room.lines.ask(room.question(room.here)))
    await room.here.server.arrived(1)
    left.cancel()
    whole = asyncio.ensure_future(room.lines.ask(room.question(room.here)))
    (await room.here.server.arrived(2)).answer()
    assert await whole == b"answer to a"
    assert room.here.server.open == 2
    await leaves(room.here, room, monkeypatch)
    assert not room.lines._lines
    await asyncio.wait_for(room.lines.drained(), PATIENCE)
    await eventually(lambda: not room.here.server.open, "the lines to be hung up")
