"""Starts everything that is measured: stores, the service with its settings, and the floors.

Each server runs in a process of its own. Its files are below one folder, and it has ended when the
stage is closed.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import redis

from benchmarks import questions
from benchmarks.accounting import family
from benchmarks.floors.empty_rpc import STANDING_ACCEPTOR
from benchmarks.load.answers import WrongAnswer
from benchmarks.load.loops import closed_loop, connected
from benchmarks.population import Population, make_keys
from session_authority.runtime.settings import Settings
from tests.support.backends import cluster_url, valkey_cluster_servers, valkey_server
from tests.support.ca import CA
from tests.support.ports import free_port

ROOT = Path(__file__).parents[1]
# Floors that are web applications use the packages of `requirements/bench.txt` if they are
# installed: uvicorn is faster with uvloop and httptools.
FLOOR_PYTHON = ROOT / ".tools" / "bench" / "bin" / "python"
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_UNSAFE = "open-access,plaintext-store,volatile-store"
_STORE = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
# The stores with few and with many sessions, and the store whose memory is measured, write no file.
_VOLATILE = frozenset({"few", "many", "memory"})
_POLICY = """\
[callers.gateway]
roles = ["issuer", "validator", "manager"]
certificates = ["spiffe://benchmark/gateway"]
"""


class Kind(Enum):
    """The kinds of servers that are measured."""

    SERVICE = "the service"
    EMPTY_VALIDATION = "the service with a ValidateSession that judges nothing"
    EMPTY_RPC = "an empty RPC on grpc.aio"
    EMPTY_STANDING_RPC = "an empty RPC with standing tasks"
    WEB = "FastAPI on uvicorn"
    STORE = "the store alone"


# Each kind of server gets this question again and again until it answers.
_GREETINGS = {
    Kind.SERVICE: questions.signing_keys(),
    Kind.EMPTY_VALIDATION: questions.signing_keys(),
    Kind.EMPTY_RPC: questions.empty_rpcs(),
    Kind.EMPTY_STANDING_RPC: questions.empty_rpcs(),
    Kind.WEB: questions.empty_requests(),
    Kind.STORE: None,
}


class Transport(Enum):
    """How callers connect to a server."""

    PLAINTEXT = "plaintext"
    TLS = "TLS"
    MUTUAL_TLS = "mutual TLS with a policy"


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """A server to be measured. `settings` are settings of the service, without their prefix."""

    kind: Kind = Kind.SERVICE
    settings: tuple[tuple[str, str], ...] = ()
    transport: Transport = Transport.PLAINTEXT
    store: str = "standalone"

    def lacking(self) -> list[str]:
        """Lists what the server needs but this version of the service does not have."""
        known = Settings.model_fields
        lacking = [f"setting {name}" for name, _ in self.settings if name.lower() not in known]
        if self.kind is Kind.EMPTY_STANDING_RPC and find_spec(STANDING_ACCEPTOR) is None:
            lacking.append("standing acceptor")
        return lacking


@dataclass(slots=True)
class Store:
    """A running store, an administrator's client for it, and the users to be signed in there."""

    url: str
    port: int
    process_ids: list[int]
    client: redis.Redis | redis.RedisCluster
    population: Population


@dataclass(slots=True)
class Running:
    """A running server."""

    spec: ServerSpec
    port: int
    store: Store
    process: subprocess.Popen[bytes] | None = None
    tls: ssl.SSLContext | None = None
    process_ids: list[int] = field(default_factory=list)

    def until_answered(self) -> None:
        """Waits for the first answer, and for all workers. Raises WrongAnswer if that fails."""
        deadline = time.monotonic() + _START_SECONDS
        greeting = _GREETINGS[self.spec.kind]
        while greeting is not None:
            try:
                with connected(self.port, greeting, 1, self.tls) as connections:
                    closed_loop(connections, greeting, 1, _START_SECONDS, calls=1)
                break
            except (OSError, WrongAnswer) as error:
                if self.process is not None and self.process.poll() is not None:
                    raise WrongAnswer(f"{self.spec.kind.value} ended as it started") from None
                if time.monotonic() > deadline:
                    raise WrongAnswer(f"{self.spec.kind.value} never answered: {error}") from None
                time.sleep(0.02)
        if self.process is not None:
            workers = int(dict(self.spec.settings).get("WORKERS", "1"))
            while workers > 1 and _listeners(self.port) < workers:
                if time.monotonic() > deadline:
                    raise WrongAnswer("a worker never listened")
                time.sleep(0.02)
            self.process_ids = family(self.process.pid)

    def stop(self) -> None:
        """Stops the process, and kills it if it does not end in time."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(_STOP_SECONDS)


def _listeners(port: int) -> int:
    """Counts the sockets that listen on a port. Each worker has its own socket on this port."""
    tables = (Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6"))
    rows = [row for table in tables for row in table.splitlines()[1:]]
    return sum(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A" for row in rows)


class Stage:
    """Stores that are started once, and servers that are started and stopped. It must be closed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._stores: dict[str, Store] = {}
        self.keys = folder / "keys"
        self.public_key = make_keys(self.keys)

    def close(self) -> None:
        """Stops the stores."""
        self._stack.close()

    def store(self, name: str = "standalone") -> Store:
        """Returns the store of this name, and starts it if needed. `cluster` is a cluster of
        three.
        """
        if name not in self._stores:
            self._stores[name] = self._start_store(name)
        return self._stores[name]

    def _start_store(self, name: str) -> Store:
        folder = self._folder / name
        client: redis.Redis | redis.RedisCluster
        if name == "cluster":
            servers = self._stack.enter_context(valkey_cluster_servers(folder))
            client = redis.RedisCluster(host="127.0.0.1", port=servers[0].port)
            url = cluster_url(servers)
        else:
            config = {**_STORE, "appendonly": "no"} if name in _VOLATILE else _STORE
            servers = [self._stack.enter_context(valkey_server(folder, **config))]
            client = redis.Redis(port=servers[0].port)
            url = servers[0].url
        ids = [server.process_id for server in servers]
        self._stack.callback(client.close)
        return Store(url, servers[0].port, ids, client, Population(client, self.keys))

    @cached_property
    def _ca(self) -> CA:
        return CA(self._folder / "ca")

    def start(self, spec: ServerSpec) -> Running:
        """Starts a server, and does not wait until it answers."""
        store = self.store(spec.store)
        running = Running(spec, free_port(), store)
        if spec.kind is Kind.STORE:
            running.port, running.process_ids = store.port, store.process_ids
            return running
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("SESSION_AUTHORITY_")
        }
        environment["PYTHONPATH"] = str(ROOT)
        command = self._command(running, environment)
        running.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=self._log()
        )
        return running

    def _log(self) -> int:
        """Opens the file for the servers' errors, in which the cause of a failed run can be
        found.
        """
        handle = os.open(self._folder / "servers.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._stack.callback(os.close, handle)
        return handle

    def log_tail(self, lines: int = 15) -> str:
        """Returns the last lines that the servers wrote to the log."""
        path = self._folder / "servers.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _command(self, running: Running, environment: dict[str, str]) -> list[str]:
        kind, port = running.spec.kind, running.port
        if kind is Kind.EMPTY_RPC:
            return [sys.executable, "-m", "benchmarks.floors.empty_rpc", str(port)]
        if kind is Kind.EMPTY_STANDING_RPC:
            return [sys.executable, "-m", "benchmarks.floors.empty_rpc", str(port), "standing"]
        if kind is Kind.WEB:
            environment["FLOOR_KEY"] = self.public_key
            environment["FLOOR_REDIS_URL"] = f"redis://127.0.0.1:{running.store.port}"
            python = FLOOR_PYTHON if FLOOR_PYTHON.exists() else sys.executable
            module = ["-m", "uvicorn", "benchmarks.floors.own_check:app", "--port", str(port)]
            options = ["--no-access-log", "--log-level=error", "--timeout-keep-alive=3600"]
            return [str(python), *module, *options]
        environment |= {
            f"SESSION_AUTHORITY_{name}": value for name, value in self._settings(running).items()
        }
        if kind is Kind.EMPTY_VALIDATION:
            return [sys.executable, "-m", "benchmarks.floors.empty_validation"]
        return [str(Path(sys.executable).with_name("session-authority")), "serve"]

    def _settings(self, running: Running) -> Mapping[str, str]:
        settings = {
            "LISTEN": f"127.0.0.1:{running.port}",
            "REDIS_URL": running.store.url,
            "KEYS": str(self.keys),
            "ALLOW_UNSAFE": _UNSAFE,
            "LOG_LEVEL": "warning",
            # A busy machine makes a figure worse, but must not end the run.
            "REDIS_TIMEOUT": "10s",
        }
        if running.spec.transport is not Transport.PLAINTEXT:
            settings |= self._certificates(running)
        return settings | dict(running.spec.settings)

    def _certificates(self, running: Running) -> Mapping[str, str]:
        """Returns the settings of a server with TLS, and prepares the TLS context of its
        callers.
        """
        own = self._ca.sign(hosts=["localhost"])
        own.key.chmod(0o600)
        running.tls = ssl.create_default_context(cafile=self._ca.file)
        running.tls.set_alpn_protocols(["h2"])
        settings = {"TLS_CERTIFICATE": str(own.certificate), "TLS_KEY": str(own.key)}
        if running.spec.transport is Transport.MUTUAL_TLS:
            caller = self._ca.sign(uris=["spiffe://benchmark/gateway"])
            running.tls.load_cert_chain(caller.certificate, caller.key)
            policy = self._folder / "policy.toml"
            policy.write_text(_POLICY)
            settings |= {"TLS_CLIENT_CA": str(self._ca.file), "ACCESS_POLICY": str(policy)}
        return settings
