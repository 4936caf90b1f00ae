"""Many connections to a real `serve` with mutual TLS and few file descriptors: strangers take no
connection from a caller, and no descriptor that the service needs for its store and its files.
"""

from __future__ import annotations

import resource
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from session_authority.runtime.addresses import Listen
from session_authority.runtime.clock import now
from session_authority.tokens import load_keyring, revoke
from session_authority.v1 import session_authority_pb2 as pb
from tests.processes.strangers import (
    CHECK,
    POLICY,
    SERVICE,
    Stranger,
    besieged,
    sign_in,
    status,
    strangers,
)
from tests.relay.receiver import SECRET
from tests.support.backends import ValkeyServer, service_at, valkey_server
from tests.support.commands import COMMAND, Command, environment
from tests.support.ports import free_port
from tests.support.waiting import wait_for


class FewDescriptors(Command):
    """The command, started from a shell that limits it to 1,024 file descriptors, or to the given
    `ulimit`.
    """

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        settings: dict[str, str],
        *,
        ulimit: str = "-n 1024",
    ) -> None:
        folder.mkdir(parents=True)
        self._out, self._err = folder / "out.txt", folder / "err.log"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process: Any = subprocess.Popen(
                ["sh", "-c", f'ulimit {ulimit}; exec "$@"', "sh", *COMMAND, *arguments],
                cwd=folder,
                env=environment(folder, **settings),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A store that `serve` accepts."""
    with valkey_server(tmp_path_factory.mktemp("store"), appendonly="yes") as server:
        yield server


@contextmanager
def crowd(address: Listen, context: ssl.SSLContext | None = None) -> Iterator[None]:
    """As many idle strangers as possible, up to 1,100. Each has begun to speak HTTP/2."""
    with ExitStack() as stack:
        with suppress(OSError):  # No server answers any more.
            for _ in range(1100):
                stack.callback(Stranger(address, context).close)
        yield


def is_active(stub: Any, signed_in: pb.IssueDeviceResponse) -> bool:
    """Returns whether a caller gets the answer that a sign-in's token is good."""
    return status(stub, signed_in) == "ACTIVE"


def test_idle_connections_cost_no_caller_anything(tmp_path: Path):
    """They delay no new caller, no reconnection to the store, no revocation of a key and no change
    of the policy. The caller that connected first keeps its connection.
    """
    with (
        valkey_server(tmp_path / "store", appendonly="yes") as store,
        besieged(tmp_path, store, FewDescriptors) as service,
        service.caller() as caller,
        ExitStack() as crowds,
    ):
        signed_in = sign_in(caller)
        crowds.enter_context(crowd(service.bearer, service.tls()))
        crowds.enter_context(crowd(service.health))
        store.kill()
        wait_for(
            lambda: status(caller, signed_in) == "UNAVAILABLE",
            "the loss of the store to be noticed",
        )
        store.start()
        wait_for(lambda: status(caller, signed_in) == "ACTIVE", "the store to be found again")
        for name in ("login", "gateway") * 5:
            with service.caller(name) as another:
                assert status(another, signed_in) == "ACTIVE"
        for port in ("health", "bearer"):
            with service.health_watcher(port) as watch:
                while next(watch).status != health_pb2.HealthCheckResponse.SERVING:
                    pass
        service.policy.write_text(POLICY.partition("[callers.gateway]")[0])
        with service.caller("gateway") as gone:
            wait_for(lambda: status(gone, signed_in) == "UNAUTHENTICATED", "the policy to change")
        revoke(service.keys, load_keyring(service.keys).signing.kid, now(), replace=True)
        wait_for(lambda: status(caller, signed_in) == "TOKEN_INVALID", "the key to be revoked")
        events = service.command.events()
        assert "connections_closed" in events
        assert "started_anyway" in events, "the service logs that the limit is low"


def test_a_caller_can_connect_beside_idle_connections_of_another(
    tmp_path: Path, store: ValkeyServer
):
    with (
        besieged(tmp_path, store, FewDescriptors) as service,
        service.caller() as caller,
        ExitStack() as crowds,
    ):
        signed_in = sign_in(caller)
        crowds.enter_context(crowd(service.main, service.tls("gateway")))
        assert status(caller, signed_in) == "ACTIVE", "the first caller keeps its connection"
        for _ in range(40):
            another = crowds.enter_context(service.caller())
            wait_for(partial(is_active, another, signed_in), "another to find room")


@pytest.mark.one_acceptor
@pytest.mark.parametrize("soft", [256, 1024])
def test_the_limit_of_descriptors_is_raised(tmp_path: Path, store: ValkeyServer, soft: int):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with besieged(tmp_path, store, partial(FewDescriptors, ulimit=f"-S -n {soft}")) as service:
        assert resource.prlimit(service.command.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.one_acceptor
def test_the_relay_raises_the_limit_too(tmp_path: Path, store: ValkeyServer):
    endpoints = tmp_path / "endpoints.toml"
    endpoints.touch(0o600)
    url = f"http://127.0.0.1:{free_port()}/"
    endpoints.write_text(f'[[endpoint]]\nname = "a"\nurl = "{url}"\nsecrets = ["{SECRET}"]\n')
    settings = {"REDIS_URL": service_at(store.port), "RELAY_ENDPOINTS": str(endpoints)}
    relay = FewDescriptors(tmp_path / "relay", ["relay"], settings, ulimit="-S -n 256")
    try:
        relay.wait_for_event("relaying")
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        assert resource.prlimit(relay.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        relay.kill()


def test_unread_answers_are_bounded(tmp_path: Path, store: ValkeyServer):
    """A peer that does not read its answers is disconnected, whether it was admitted or refused."""
    with (
        besieged(tmp_path, store) as service,
        service.caller() as caller,
        strangers(service.health, 1, window=0) as [probing],
        strangers(service.bearer, 1, service.tls(), window=0) as [refused],
        strangers(service.main, 1, service.tls("login"), window=0) as [wild],
    ):
        signed_in = sign_in(caller)
        probing.call(CHECK, 100)
        refused.call(CHECK, 100)
        wild.call(f"{SERVICE}GetSigningKeys", 100)
        for stranger in (probing, refused, wild):
            wait_for(stranger.is_hung_up_on, "the connection to be closed")
        assert status(caller, signed_in) == "ACTIVE"
