"""Finds the faults that make Redis servers unsafe for sessions. The checks ask the running servers,
and need only the Redis permissions of the service.

The text of a fault may contain addresses, version numbers and other numbers of a server. It
contains no other text from a server or from redis-py, because such text could contain a password or
a key.
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
    """The kinds of faults that a Redis server or its URL can have."""

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
    """A fault of a Redis server or of its URL, with a text for an operator. The text contains no
    password and no key.
    """

    name: FaultName
    text: str


@dataclass(frozen=True, slots=True)
class _Server:
    who: str
    ask: Callable[..., Awaitable[Any]]
    # The name of a key that never contains data and that this server would store. None if the
    # server stores none of the keys of `KeyNames.probes`.
    probe: str | None


def plaintext_fault(url: str) -> StoreFault | None:
    """Returns a fault if the URL connects to another machine without TLS, even if that machine runs
    only a Sentinel. Returns None if the URL has no such fault. Raises BadRedisUrl if the URL can't
    be used.
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
    """Returns the faults of all primaries. Does not check the URL, see `plaintext_fault`. Raises
    nothing, because a server that can't be checked is itself a fault.

    Args:
        client: The client of the Redis servers to check.
        keys: The names of keys.
        now: Returns the time by this machine's clock.
        time_limit: The longest time that the whole check takes.
        max_skew: The largest allowed difference between the clocks of Redis and of this machine.
        replicas: The number of replicas that must confirm a change. 0 if the service does not wait
            for replicas.
    """
    shield, deadline = Shield(), monotonic() + time_limit.total_seconds()

    async def within_time(work: Coroutine[Any, Any, list[T]]) -> list[T]:
        async with asyncio.timeout_at(deadline):
            return await shield.run(work)  # `work` runs to its end, even after the deadline

    faults: list[StoreFault] = []
    try:
        servers = await within_time(_servers(client, keys))
    except Exception as error:  # noqa: BLE001 - any error is a fault
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
            # A server whose answers can't be understood counts as unreachable, too.
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
    # The server read its clock after `before` and before the next call of `now`. So the clocks
    # differ by at least `skew`.
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
        # With XX, SET writes only a key that exists. The probe key does not exist, so nothing is
        # written. But a server that refuses the writes of sign-ins also refuses SET and DEL for the
        # probe key. Examples are a replica, and a server whose memory or disk is full.
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
    """Returns a fault if a primary has fewer replicas than `replicas`, or if the primary would
    continue to accept writes after it lost its replicas. Returns None if the primary has no such
    fault.
    """
    there = int(info.get("connected_slaves", 0))
    if there < replicas:
        text = f"{who} has {there} replicas, but changes are to be on {replicas}: none will be"
    # The server reports `min_slaves_good_slaves` only if min-replicas-to-write is set.
    elif replicas and "min_slaves_good_slaves" not in info:
        text = (
            f"{who} goes on taking writes when it has lost its replicas, and these writes are lost"
            " once another one is promoted; set min-replicas-to-write 1"
        )
    else:
        return None
    return StoreFault(FaultName.FEW_REPLICAS, text)


def _unreachable(who: str, error: Exception) -> StoreFault:
    """Returns the fault for an error of a server. The fault is REFUSING if the server refuses the
    Redis user. A refusal lasts until an operator acts. The fault is UNREACHABLE for all errors that
    are not a refusal of the user. An unreachable server may recover without an operator.
    """
    words = in_plain_words(error)
    name = FaultName.REFUSING if words in REFUSALS else FaultName.UNREACHABLE
    return StoreFault(name, f"{who} {words}")


def _led_to_in_plain(client: RedisClient) -> StoreFault | None:
    """Returns a fault if the client connects without TLS to a primary on another machine, and
    Sentinels or the nodes of a cluster named this primary. Returns None if there is no such
    primary.
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
