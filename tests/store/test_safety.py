"""The checks find what makes a real Redis unsafe, and name it in plain words, without secrets and
in time.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from session_authority.store import BadRedisUrl, KeyNames, Limits, connect
from session_authority.store.acl import acl_rules
from session_authority.store.driver.replies import info_fields
from session_authority.store.key_names import PARTITIONS
from session_authority.store.safety import FaultName, StoreFault, faults_of, plaintext_fault
from tests.support.backends import (
    Backend,
    ValkeyServer,
    cluster_url,
    missing,
    sentinel_group,
    valkey_cluster_servers,
    valkey_server,
)
from tests.support.ports import free_port
from tests.support.replicas import is_in_step
from tests.support.waiting import wait_for

CANARY = "c4n4ry"
SAFE = {"appendonly": "yes", "maxmemory-policy": "noeviction"}
SECOND = timedelta(seconds=1)
PATIENT = Limits(connect_timeout=5 * SECOND, reply_timeout=5 * SECOND)
IMPATIENT = Limits(connect_timeout=SECOND, reply_timeout=2 * SECOND)


def now() -> datetime:
    return datetime.now(UTC)


async def found(
    url: str,
    *,
    limits: Limits = PATIENT,
    patience: timedelta = 20 * SECOND,
    clock: Callable[[], datetime] = now,
    replicas: int = 0,
) -> list[StoreFault]:
    """All faults that are found. Checks that no secret is shown, and that the search ends."""
    client = connect(url, limits)
    try:
        async with asyncio.timeout(60):
            faults = await faults_of(
                client,
                KeyNames("t"),
                clock,
                time_limit=patience,
                max_skew=5 * SECOND,
                replicas=replicas,
            )
    finally:
        await client.aclose()
    for fault in faults:
        assert CANARY not in fault.text
        assert "t:" not in fault.text
        assert "redis://" not in fault.text
    return faults


async def names(url: str, **options: Any) -> list[str]:
    return [fault.name.value for fault in await found(url, **options)]


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A Valkey without a fault. A test that changes its settings restores them."""
    with valkey_server(tmp_path_factory.mktemp("safe"), **SAFE) as server:
        yield server


@pytest.fixture
def admin(safe: ValkeyServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(safe.admin_url) as client:
        yield client


async def test_nothing_is_wrong_with_a_safe_store(safe: ValkeyServer) -> None:
    assert await found(safe.url) == []


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_store_that_evicts_is_unsafe(
    safe: ValkeyServer, admin: redis.Redis, policy: str
) -> None:
    admin.config_set("maxmemory-policy", policy)
    try:
        [fault] = await found(safe.url)
    finally:
        admin.config_set("maxmemory-policy", "noeviction")
    assert fault.name is FaultName.EVICTING
    assert "maxmemory-policy noeviction" in fault.text


@pytest.mark.parametrize("name", ["redis", "valkey"])
async def test_a_store_without_persistence_is_unsafe(
    backends: Callable[[str], Backend], name: str
) -> None:
    [fault] = await found(backends(name).url)
    assert fault.name is FaultName.VOLATILE
    assert "revoked sessions are back" in fault.text
    assert "appendonly yes" in fault.text


async def test_fewer_replicas_than_changes_wait_for_are_unsafe(safe: ValkeyServer) -> None:
    [fault] = await found(safe.url, replicas=1)
    assert fault.name is FaultName.FEW_REPLICAS
    assert "has 0 replicas, but changes are to be on 1" in fault.text


async def test_a_primary_that_goes_on_without_its_replicas_is_unsafe(tmp_path: Path) -> None:
    with (
        valkey_server(tmp_path / "primary", **SAFE) as server,
        valkey_server(tmp_path / "replica") as other,
        redis.Redis(port=server.port) as leads,
        redis.Redis(port=other.port) as follows,
    ):
        leads.config_set("repl-diskless-sync-delay", 0)
        follows.replicaof("127.0.0.1", server.port)
        wait_for(lambda: is_in_step(follows), "the replica to follow")
        [fault] = await found(server.url, replicas=1)
        assert "min-replicas-to-write" in fault.text
        leads.config_set("min-replicas-to-write", 1)
        assert await found(server.url, replicas=1) == []


async def test_every_fault_is_named_at_once(safe: ValkeyServer, admin: redis.Redis) -> None:
    admin.config_set("maxmemory-policy", "allkeys-lru")
    admin.config_set("appendonly", "no")
    admin.execute_command("REPLICAOF", "127.0.0.1", free_port())
    try:
        everything = await names(safe.url, clock=lambda: now() + timedelta(hours=1))
    finally:
        admin.execute_command("REPLICAOF", "NO", "ONE")
        admin.config_set("appendonly", "yes")
        admin.config_set("maxmemory-policy", "noeviction")
    assert everything == ["unreachable", "evicting", "volatile", "clock_skew"]


@pytest.mark.parametrize(("skew", "is_fault"), [(-7, True), (-4, False), (4, False), (7, True)])
async def test_clocks_that_differ_are_named(safe: ValkeyServer, skew: int, is_fault: bool) -> None:
    faults = await found(safe.url, clock=lambda: now() + skew * SECOND)
    assert [fault.name for fault in faults] == ([FaultName.CLOCK_SKEW] if is_fault else [])


async def test_a_slow_answer_is_no_skew(safe: ValkeyServer) -> None:
    start = now()
    moments = iter((start - 30 * SECOND, start + 30 * SECOND))
    assert await found(safe.url, clock=lambda: next(moments)) == []


@pytest.mark.parametrize(
    ("info", "is_fault"),
    [
        ({"redis_version": "6.2.0"}, False),
        ({"redis_version": "8.0.1"}, False),
        ({"redis_version": "10.0.0"}, False),
        ({"redis_version": "6.0.20"}, True),
        ({"redis_version": "5.0"}, True),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.5"}, False),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, False),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.9"}, True),
        ({}, True),
    ],
)
async def test_a_version_that_is_too_old_is_named(
    safe: ValkeyServer, monkeypatch: pytest.MonkeyPatch, info: dict[str, str], is_fault: bool
) -> None:
    def another(reply: Any) -> dict[str, str]:
        kept = {
            name: value
            for name, value in info_fields(reply).items()
            if not name.endswith("_version")
        }
        return {**kept, **info}

    monkeypatch.setattr("session_authority.store.safety.info_fields", another)
    assert await names(safe.url) == (["too_old"] if is_fault else [])


async def test_a_store_that_hides_its_settings_is_named(
    safe: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A property that can't be read counts as unsafe."""
    monkeypatch.setattr("session_authority.store.safety.info_fields", lambda _: {})
    assert await names(safe.url) == ["too_old", "evicting", "volatile"]


# --- unreachable ----------------------------------------------------------------------------------


async def told(url: str, **options: Any) -> str:
    """The error for a store that can't be used."""
    [fault] = await found(url, **options)
    if any(words in fault.text for words in ("refuses the user", "wants a user")):
        assert fault.name is FaultName.REFUSING
    elif "is full" in fault.text:
        assert fault.name is FaultName.NO_ROOM
    else:
        assert fault.name is FaultName.UNREACHABLE
    return fault.text


async def test_a_wrong_password_is_named(safe: ValkeyServer) -> None:
    wrong = safe.admin_url.replace("//", f"//session-authority:{CANARY}@")
    assert await told(wrong) == "Redis refuses the user or the password"


async def test_a_missing_password_is_named(safe: ValkeyServer, admin: redis.Redis) -> None:
    admin.config_set("requirepass", CANARY)
    try:
        assert await told(safe.admin_url) == "Redis wants a user and a password"
    finally:
        admin.config_set("requirepass", "")


@pytest.mark.parametrize("command", ["info", "time", "del", "set"])
async def test_a_missing_permission_is_named(
    safe: ValkeyServer, admin: redis.Redis, command: str
) -> None:
    admin.execute_command("ACL", "SETUSER", "less", *acl_rules("t"), f"-{command}", f">{CANARY}")
    try:
        text = await told(safe.admin_url.replace("//", f"//less:{CANARY}@"))
    finally:
        admin.execute_command("ACL", "DELUSER", "less")
    assert (
        text == "Redis refuses the user what the service needs: see `session-authority redis-acl`"
    )


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("maxmemory", "is full: it refuses what sign-ins write"),
        ("min-replicas-to-write", "takes no writes: too few of its replicas are in step"),
    ],
)
async def test_a_server_that_refuses_writes_is_named(
    safe: ValkeyServer, admin: redis.Redis, setting: str, words: str
) -> None:
    admin.config_set(setting, 1)
    try:
        assert await told(safe.url) == f"Redis {words}"
    finally:
        admin.config_set(setting, 0)


async def test_a_replica_is_named(safe: ValkeyServer, admin: redis.Redis) -> None:
    admin.execute_command("REPLICAOF", "127.0.0.1", free_port())
    try:
        assert await told(safe.url) == "Redis takes no writes: it is a replica"
    finally:
        admin.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize(
    "scheme",
    ["redis", "redis+sentinel", "redis+cluster", "rediss", "rediss+sentinel", "rediss+cluster"],
)
async def test_a_store_that_does_not_exist_is_named(scheme: str) -> None:
    text = await told(
        f"{scheme}://me:{CANARY}@127.0.0.1:{free_port()}/{'main' if 'sentinel' in scheme else ''}"
    )
    assert text in {
        "Redis does not answer",
        "the cluster does not answer",
        (
            "Redis is not to be found: no Sentinel answers that knows a primary of this name, or"
            " none lets the user in"
        ),
    }


async def test_a_store_that_was_killed_is_named(tmp_path: Path) -> None:
    with valkey_server(tmp_path, **SAFE) as server:
        assert await found(server.url) == []
        await asyncio.to_thread(server.kill)
        assert await told(server.url) == "Redis does not answer"
        await asyncio.to_thread(server.start)
        assert await found(server.url) == []


async def test_a_store_that_hangs_is_given_up_in_time(safe: ValkeyServer) -> None:
    os.kill(safe.process_id, signal.SIGSTOP)
    try:
        endless = Limits(connect_timeout=timedelta(hours=1), reply_timeout=timedelta(hours=1))
        reason = await told(safe.url, patience=SECOND / 2, limits=endless)
        assert reason == "Redis does not answer"
    finally:
        os.kill(safe.process_id, signal.SIGCONT)


async def test_a_server_that_is_no_redis_is_named() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(f"HTTP/1.1 400 {CANARY}\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await told(f"redis://127.0.0.1:{port}") == "Redis does not answer"


@pytest.mark.parametrize(
    "answer", [b":1\r\n", b"+OK\r\n", b"$-1\r\n", b"*-1\r\n", b"*1\r\n*1\r\n:1\r\n"]
)
@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
async def test_a_server_with_malformed_replies_is_named(answer: bytes, scheme: str) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await found(f"{scheme}://127.0.0.1:{port}", limits=IMPATIENT)


# --- several servers ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ValkeyServer]]:
    """A cluster without a fault. A test that changes its settings restores them."""
    with valkey_cluster_servers(tmp_path_factory.mktemp("cluster")) as made:
        for server in made:
            with redis.Redis.from_url(server.admin_url) as admin:
                admin.config_set("appendonly", "yes")
                wait_for(
                    lambda: admin.info("persistence")["aof_rewrite_in_progress"] == 0, "the file"
                )
        yield made


@pytest.fixture
async def whole(servers: list[ValkeyServer]) -> list[ValkeyServer]:
    deadline = asyncio.get_running_loop().time() + 20
    while await found(cluster_url(servers)):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
    return servers


async def test_each_node_of_a_cluster_is_checked_and_the_bad_one_is_named(
    whole: list[ValkeyServer],
) -> None:
    bad = whole[1]
    with redis.Redis.from_url(bad.admin_url) as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
        try:
            [fault] = await found(cluster_url(whole))
        finally:
            admin.config_set("maxmemory-policy", "noeviction")
    assert fault.name is FaultName.EVICTING
    assert fault.text.startswith(f"the node 127.0.0.1:{bad.port} ")


async def test_every_node_of_a_cluster_must_accept_writes(whole: list[ValkeyServer]) -> None:
    for server in whole:
        with redis.Redis.from_url(server.admin_url) as admin:
            admin.execute_command("ACL", "SETUSER", "session-authority", "-del")
            try:
                text = await told(cluster_url(whole))
            finally:
                admin.execute_command("ACL", "SETUSER", "session-authority", "+del")
        assert text.startswith(
            f"the node 127.0.0.1:{server.port} refuses the user what the service needs"
        )


async def test_a_node_that_hangs_hides_no_fault_of_the_others(whole: list[ValkeyServer]) -> None:
    os.kill(whole[2].process_id, signal.SIGSTOP)
    try:
        with redis.Redis.from_url(whole[0].admin_url) as admin:
            admin.config_set("maxmemory-policy", "allkeys-lru")
            try:
                faults = {
                    fault.name: fault.text
                    for fault in await found(cluster_url(whole), limits=IMPATIENT)
                }
            finally:
                admin.config_set("maxmemory-policy", "noeviction")
    finally:
        os.kill(whole[2].process_id, signal.SIGCONT)
    assert faults.keys() == {FaultName.EVICTING, FaultName.UNREACHABLE}
    assert faults[FaultName.EVICTING].startswith(f"the node 127.0.0.1:{whole[0].port} ")
    assert faults[FaultName.UNREACHABLE] == f"the node 127.0.0.1:{whole[2].port} does not answer"


async def test_a_wrong_password_for_a_cluster_is_named(whole: list[ValkeyServer]) -> None:
    wrong = cluster_url(whole).replace("session-authority:", f"session-authority:{CANARY}")
    assert await told(wrong) == "the cluster refuses the user or the password"


async def test_slots_without_a_node_are_named(whole: list[ValkeyServer]) -> None:
    with redis.Redis.from_url(whole[0].admin_url) as admin:
        admin.execute_command("CLUSTER", "DELSLOTS", 0, 1)
        try:
            text = await told(cluster_url(whole[:1]))
        finally:
            admin.execute_command("CLUSTER", "ADDSLOTS", 0, 1)
    assert text.startswith("the cluster serves only 16382 of 16384 slots")


def test_the_probe_s_key_is_in_its_partition_and_belongs_to_no_user() -> None:
    keys = KeyNames("t")
    for number in range(PARTITIONS):
        assert keys.probe_in(number).partition("}")[0] == keys.stream(number).partition("}")[0]
    assert not any(
        keys.probe_in(number).startswith(keys.stream(number)) for number in range(PARTITIONS)
    )


async def test_a_sentinel_group_is_checked(tmp_path: Path) -> None:
    context = sentinel_group(tmp_path)
    group = await asyncio.to_thread(context.__enter__)
    try:
        assert await names(group.url) == ["volatile"]
        text = await told(group.url.replace("/main?", "/other?"))
        assert text.startswith("Redis is not to be found: no Sentinel")
        with redis.Redis(port=group.sentinel) as sentinel:
            sentinel.execute_command("ACL", "SETUSER", "session-authority", "-sentinel|masters")
        assert (await told(group.url)).startswith("Redis refuses the user what the service needs")
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


# --- plaintext ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "far"),
    [
        ("redis://localhost", None),
        ("redis://127.0.0.1:7000/1", None),
        ("redis://127.1.2.3", None),
        ("redis://[::1]", None),
        ("redis://[::ffff:127.0.0.1]", None),
        ("unix:///run/valkey.sock", None),
        ("rediss://store.example", None),
        ("rediss+sentinel://h1,h2/main", None),
        ("RedisS+Cluster://h1,h2", None),
        ("redis+sentinel://localhost,127.0.0.1/main", None),
        ("redis+cluster://[::1],localhost", None),
        ("redis://store.example", "store.example"),
        ("redis://10.0.0.1", "10.0.0.1"),
        ("REDIS://10.0.0.1", "10.0.0.1"),
        ("redis://[2001:db8::1]", "2001:db8::1"),
        ("redis://0.0.0.0", "0.0.0.0"),
        ("redis://127.0.0.1.example", "127.0.0.1.example"),
        ("redis+sentinel://127.0.0.1,watcher/main", "watcher"),
        ("redis+cluster://localhost,h2", "h2"),
    ],
)
def test_a_url_without_tls_is_named(url: str, far: str | None) -> None:
    scheme, _, rest = url.partition("://")
    fault = plaintext_fault(f"{scheme}://me:{CANARY}@{rest}")
    if far is None:
        assert fault is None
    else:
        assert fault is not None
        assert fault.name is FaultName.PLAINTEXT
        assert fault.text.startswith(f"the URL leads to {far} without TLS")
        assert CANARY not in fault.text


def test_a_malformed_url_is_named() -> None:
    with pytest.raises(BadRedisUrl):
        plaintext_fault("store.example")


@pytest.fixture
def misleading(tmp_path: Path) -> Iterator[str]:
    """A Sentinel on this machine that names a primary on another machine."""
    binary = shutil.which("redis-server")
    if binary is None:
        missing("redis-server")
    port, config = free_port(), tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor main 192.0.2.1 6379 1\n"
    )
    command = [str(binary), str(config), "--sentinel"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: _answers(port), "the Sentinel to answer")
        yield f"redis+sentinel://127.0.0.1:{port}/main"
    finally:
        process.kill()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        with redis.Redis(port=port) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


async def test_a_local_sentinel_with_a_primary_elsewhere_is_named(misleading: str) -> None:
    """The URL names only this machine, but passwords go elsewhere."""
    assert plaintext_fault(misleading) is None
    faults = {fault.name: fault.text for fault in await found(misleading, limits=IMPATIENT)}
    assert faults[FaultName.PLAINTEXT].startswith("Sentinel leads to 192.0.2.1 without TLS")


async def test_a_local_cluster_with_nodes_elsewhere_is_named(tmp_path: Path) -> None:
    config = {
        "cluster-enabled": "yes",
        "cluster-port": str(free_port()),
        "cluster-announce-ip": "192.0.2.1",
    }
    with (
        valkey_server(tmp_path, **config) as server,
        redis.Redis.from_url(server.admin_url) as admin,
    ):
        admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        faults = {
            fault.name: fault.text
            for fault in await found(cluster_url([server, server]), limits=IMPATIENT)
        }
    assert faults[FaultName.PLAINTEXT].startswith("the cluster leads to 192.0.2.1 without TLS")


def test_every_fault_has_its_name() -> None:
    assert {name.value for name in FaultName} == {
        "refusing", "unreachable", "evicting", "volatile", "too_old", "clock_skew", "plaintext",
        "few_replicas", "no_room",
    }  # fmt: skip
