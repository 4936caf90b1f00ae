"""Finds the faults that make a Redis unsafe for sessions. This module asks the running servers, and
needs only the service's permissions.

The texts of faults contain addresses, version numbers and other numbers of a server, but no other
text from a server or from the driver. Such text could contain a password or a key.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from session_authority.runtime.addresses import is_loopback
from session_authority.store.driver.cluster import Cluster
from session_authority.store.driver.connection import (
    RedisClient,
    hosts_led_to_in_plain,
    hosts_of,
)
from session_authority.store.driver.errors import (
    REFUSALS,
    ResponseError,
    in_plain_words,
    lacks_room,
)
from session_authority.store.driver.replies import info_fields, time_of
from session_authority.store.driver.shielding import Shield
from session_authority.store.key_names import SLOTS, KeyNames

T = TypeVar("T")
_OLDEST_VALKEY, _OLDEST_REDIS = (7, 2), (6, 2)


class FaultName(StrEnum):
    """The kinds of faults."""

    UNREACHABLE = "unreachable"
    NO_ROOM = "no_room"
    REFUSING = "refusing"
    EVICTING = "evicting"
    VOLATILE = "volatile"
    TOO_OLD = "too_old"
    CLOCK_SKEW = "clock_skew"
    PLAINTEXT = "plaintext"
    FEW_REPLICAS = "few_replicas"


@dataclass(frozen=True, slots=True)
class StoreFault:
    """A fault, with a text for an operator. The text contains no password and no key. From a
    server, it contains only addresses and numbers.
    """

    name: FaultName
    text: str


@dataclass(frozen=True, slots=True)
class _Server:
    who: str
    ask: Callable[..., Awaitable[Any]]
    # A key without data that would be on this server. None if the server serves none of the probe
    # keys.
    probe: str | None


def plaintext_fault(url: str) -> StoreFault | None:
    """Returns the fault of a URL that leads over a network without TLS, even if it leads only to
    Sentinels. Returns None if the URL has no such fault. Raises BadRedisUrl.
    """
    tls, hosts = hosts_of(url)
    return None if tls else _seen_by_others(hosts, "the URL")


async def faults_of(
    client: RedisClient,
    keys: KeyNames,
    now: Callable[[], datetime],
    *,
    time_limit: timedelta,
    max_skew: timedelta,
    replicas: int = 0,
) -> list[StoreFault]:
    """Returns the faults of the primaries. The URL itself is checked by `plaintext_fault`. Raises
    nothing.

    Args:
        client: The client of the Redis to examine.
        keys: The names of keys.
        now: This machine's clock.
        time_limit: The longest time that the examination takes.
        max_skew: How far the clocks of Redis and of this machine may differ.
        replicas: The number of replicas for which changes wait.
    """
    shield, deadline = Shield(), monotonic() + time_limit.total_seconds()

    async def within_time(work: Coroutine[Any, Any, list[T]]) -> list[T]:
        async with asyncio.timeout_at(deadline):
            return await shield.run(work)  # the exchange runs to its end, even after the deadline

    faults: list[StoreFault] = []
    try:
        servers = await within_time(_servers(client, keys))
    except Exception as error:  # noqa: BLE001 - see below
        return [_unreachable("the cluster", error)]
    if isinstance(client, Cluster) and (served := len(client.nodes_manager.slots_cache)) < SLOTS:
        text = (
            f"the cluster serves only {served} of {SLOTS} slots: the users of all others have no"
            " store"
        )
        faults.append(StoreFault(FaultName.UNREACHABLE, text))

    async def faults_at(server: _Server) -> list[StoreFault]:
        try:
            return await within_time(_examine(server, now, max_skew, replicas))
        except Exception as error:  # noqa: BLE001
            # A server whose answers make no sense counts as unreachable, too.
            return [_unreachable(server.who, error)]

    for found in await asyncio.gather(*map(faults_at, servers)):
        faults += found
    plain = _led_to_in_plain(client)
    return faults if plain is None else [*faults, plain]


async def _servers(client: RedisClient, keys: KeyNames) -> list[_Server]:
    if not isinstance(client, Cluster):
        return [_Server("Redis", client.execute_command, keys.probe)]
    await client.initialize()
    probes = client.one_for_each_primary(keys.probes())
    return [
        _Server(
            f"the node {node.name}",
            partial(client.execute_command, target_nodes=[node]),
            probes.get(node.name),
        )
        for node in client.get_primaries()
    ]


async def _examine(
    server: _Server, now: Callable[[], datetime], max_skew: timedelta, replicas: int
) -> list[StoreFault]:
    info = info_fields(await server.ask("INFO"))
    before = now()
    server_time = time_of(await server.ask("TIME"))
    # The server read its clock at some moment between `before` and now. So the clocks differ by at
    # least this much.
    skew = max(before - server_time, server_time - now())
    found = [
        await _takes_no_writes(server),
        _too_old(server.who, info),
        _evicting(server.who, info),
        _volatile(server.who, info),
        _few_replicas(server.who, info, replicas),
    ]
    if skew > max_skew:
        text = (
            f"{server.who}'s clock differs by {skew.total_seconds():.1f} s from this machine's;"
            " keep both in time"
        )
        found.append(StoreFault(FaultName.CLOCK_SKEW, text))
    return [fault for fault in found if fault is not None]


async def _takes_no_writes(server: _Server) -> StoreFault | None:
    try:
        # Changing a key that does not exist writes nothing. But a server that refuses sign-ins
        # refuses this change, too: a replica, a full server, or a server whose disk is full.
        if server.probe is not None:
            await server.ask("SET", server.probe, "", "XX")
            await server.ask("DEL", server.probe)
    except ResponseError as error:
        if lacks_room(error):
            return StoreFault(FaultName.NO_ROOM, f"{server.who} {in_plain_words(error)}")
        return _unreachable(server.who, error)
    return None


def _too_old(who: str, info: Mapping[str, str]) -> StoreFault | None:
    make, oldest = (
        ("Valkey", _OLDEST_VALKEY) if "valkey_version" in info else ("Redis", _OLDEST_REDIS)
    )
    version = re.match(r"(\d+)\.(\d+)", info.get(f"{make.lower()}_version", ""))
    if version is not None and (int(version[1]), int(version[2])) >= oldest:
        return None
    what = (
        "may be too old: it does not tell its version"
        if version is None
        else f"is too old: {make} {version[0]}"
    )
    return StoreFault(
        FaultName.TOO_OLD, f"{who} {what}; Redis from 6.2 or Valkey from 7.2 is needed"
    )


def _evicting(who: str, info: Mapping[str, str]) -> StoreFault | None:
    if info.get("maxmemory_policy") == "noeviction":
        return None
    text = (
        f"{who} drops what it holds when it is full, so that users are signed out and events lost"
        " unnoticed; set "
    )
    return StoreFault(FaultName.EVICTING, text + "maxmemory-policy noeviction")


def _volatile(who: str, info: Mapping[str, str]) -> StoreFault | None:
    if info.get("aof_enabled") == "1":
        return None
    text = (
        f"{who} does not append to a file: when it is started again sign-ins are forgotten, and"
        " what is worse, "
    )
    return StoreFault(
        FaultName.VOLATILE,
        text + "revoked sessions are back from an older snapshot; set appendonly yes",
    )


def _few_replicas(who: str, info: Mapping[str, str], replicas: int) -> StoreFault | None:
    """Returns the fault of a primary that has too few replicas, or that continues to write without
    them. Returns None if there is no such fault.
    """
    there = int(info.get("connected_slaves", 0))
    if there < replicas:
        text = f"{who} has {there} replicas, but changes are to be on {replicas}: none will be"
    # The server reports this field only if min-replicas-to-write is set.
    elif replicas and "min_slaves_good_slaves" not in info:
        text = (
            f"{who} goes on taking writes when it has lost its replicas, and these writes are lost"
            " once another one is promoted; set min-replicas-to-write 1"
        )
    else:
        return None
    return StoreFault(FaultName.FEW_REPLICAS, text)


def _unreachable(who: str, error: Exception) -> StoreFault:
    """Returns the fault of a server that does not answer or that refuses this user. A server that
    does not answer may recover without an operator. A refusal lasts until an operator acts.
    """
    words = in_plain_words(error)
    name = FaultName.REFUSING if words in REFUSALS else FaultName.UNREACHABLE
    return StoreFault(name, f"{who} {words}")


def _led_to_in_plain(client: RedisClient) -> StoreFault | None:
    """Returns the fault if Sentinels or the nodes of a cluster led the client over a network
    without TLS. Returns None if they did not.
    """
    hosts = hosts_led_to_in_plain(client)
    return _seen_by_others(hosts, "the cluster" if isinstance(client, Cluster) else "Sentinel")


def _seen_by_others(hosts: list[str], who: str) -> StoreFault | None:
    far = next((host for host in hosts if not is_loopback(host)), None)
    if far is None:
        return None
    text = (
        f"{who} leads to {far} without TLS: anyone on the way reads passwords and changes"
        " sessions; use rediss://"
    )
    return StoreFault(FaultName.PLAINTEXT, text)
