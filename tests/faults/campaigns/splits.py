"""Primaries that are split from their replicas and from all servers that could replace them, while
the service still reaches them. See `network`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from random import Random

from tests.faults.campaigns import network
from tests.faults.campaigns.played import LONG_FAULTS, playing
from tests.faults.replicated import (
    all_well,
    cluster,
    moved,
    primary_nodes,
    sentinel,
    until,
    whole,
)
from tests.faults.stage import Stage
from tests.faults.troubles import Trouble
from tests.support.backends import SentinelGroup, ValkeyServer

_REST = "127.0.0.2"  # The address from which replicas and Sentinels connect.
_NODES = "127.0.1.0/24"
_SOURCES = [f"127.0.1.{number}" for number in range(1, 7)]
_LONGEST_SECONDS = 3.0  # The longest time that a split goes on after another primary was promoted.


async def primary_split(stage: Stage, random: Random) -> None:
    """The primary is split from its replicas and from the Sentinels until another primary is
    promoted, and for some time after.
    """
    group: SentinelGroup = stage.store
    old = await asyncio.to_thread(group.primary)
    with network.split(*network.to_port(_REST, old)):
        await moved(group, old)
        await asyncio.sleep(random.uniform(0, _LONGEST_SECONDS))
    await whole(group)


async def node_split(stage: Stage, random: Random) -> None:
    """A primary is split from all other nodes until its replica has taken over, and for some time
    after.
    """
    nodes: Sequence[ValkeyServer] = stage.store
    node = random.choice(await asyncio.to_thread(primary_nodes, nodes))
    own = _SOURCES[nodes.index(node)]
    flows = [
        *network.to_port(_NODES, node.port),
        *network.to_port(_NODES, node.bus_port),
        *(f"{way} {own}" for way in ("from", "to")),
    ]
    others = [other for other in nodes if other is not node]
    with network.split(*flows):
        await until(lambda: len(primary_nodes(others)) == 3, "the replica to take over")
        await asyncio.sleep(random.uniform(0, _LONGEST_SECONDS))
    await until(lambda: all_well(nodes), "the cluster to be whole")


split_sentinel = playing(
    partial(sentinel, source=_REST),
    Trouble(primary_split, ends_watches=True, loses_writes=True),
    each_round=5,
    script=LONG_FAULTS,
    stages=2,
)
# On one stage at a time: the nodes of a second stage would have the same addresses.
split_cluster = playing(
    partial(cluster, sources=_SOURCES),
    Trouble(node_split, ends_watches=True, loses_writes=True),
    each_round=5,
    script=LONG_FAULTS,
)
