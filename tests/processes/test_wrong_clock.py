"""A real `serve` with mutual TLS whose clock is set while it runs, and whose files disappear."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from session_authority.console.connection import Target, channel_to, health
from session_authority.runtime.addresses import Listen
from session_authority.runtime.settings import Acceptor
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc
from tests.processes.harness import add_signing_key
from tests.support.backends import service_at, valkey_server
from tests.support.ca import CA
from tests.support.commands import PATIENCE, environment
from tests.support.fork_server import ROOT
from tests.support.ports import free_port
from tests.support.waiting import wait_for

# The command, with a clock that is as far off as a file says. A second file, if there is one,
# replaces the first as soon as a call was admitted.
PROGRAM = """\
import os, pathlib, sys
from datetime import timedelta
import session_authority.runtime.clock as clock
right, offset = clock.now, pathlib.Path(sys.argv.pop(1))
clock.now = lambda: right() + timedelta(seconds=float(offset.read_text()))
from session_authority.processes.readiness import Readiness
let_in, step = Readiness.refuse_if_unfit, offset.with_name("step")
def refuse_if_unfit(readiness):
    let_in(readiness)
    if step.exists():
        step.replace(offset)
Readiness.refuse_if_unfit = refuse_if_unfit
from session_authority.cli import main
main()
"""
POLICY = """\
[callers.ops]
roles = ["issuer", "validator", "manager", "watcher", "operator"]
certificates = ["spiffe://test/ops"]
"""
METHODS: dict[str, Any] = {
    "IssueDevice": pb.IssueDeviceRequest(user_id="bob"),
    "RenewSession": pb.RenewSessionRequest(),
    "UpdateSession": pb.UpdateSessionRequest(user_id="ada"),
    "ValidateSession": pb.ValidateSessionRequest(),
    "BatchValidateSessions": pb.BatchValidateSessionsRequest(),
    "CheckSessions": pb.CheckSessionsRequest(),
    "ListDevices": pb.ListDevicesRequest(user_id="ada"),
    "UpdateDevice": pb.UpdateDeviceRequest(user_id="ada"),
    "RevokeDevice": pb.RevokeDeviceRequest(user_id="ada"),
    "RevokeAll": pb.RevokeAllRequest(user_id="bob"),
    "GetSigningKeys": pb.GetSigningKeysRequest(),
    "WatchEvents": pb.WatchEventsRequest(),
}


class Served:
    """A server, its caller, and the acts of an operator."""

    def __init__(self, folder: Path, channel: grpc.Channel, health: Listen) -> None:
        self.folder = folder
        self.stub: Any = pb_grpc.SessionAuthorityServiceStub(channel)
        self._health = Target(health)

    def set_clock(self, seconds: float) -> None:
        """Sets the server's clock this far ahead of the store's."""
        new = self.folder / "new"
        new.write_text(str(seconds))
        new.replace(self.folder / "offset")

    def set_clock_in_next_call(self, seconds: float) -> None:
        """Sets the clock this far ahead as soon as the next call was admitted."""
        new = self.folder / "new"
        new.write_text(str(seconds))
        new.replace(self.folder / "step")

    def health(self) -> str:
        """The health that the server reports."""
        return health(self._health, PATIENCE)

    def becomes(self, status: str) -> None:
        """Waits until the server reports this status."""
        wait_for(lambda: self.health() == status, status, PATIENCE)

    def status(self, issued: pb.IssueDeviceResponse) -> int:
        """The status of a sign-in's token."""
        request = pb.ValidateSessionRequest(
            access_token=issued.access_token, device_id=issued.device.device_id
        )
        answer: pb.ValidateSessionResponse = self.stub.ValidateSession(request, timeout=PATIENCE)
        return answer.status

    def outcome(self, method: str) -> str:
        """The outcome of a call: its reason, or `OK`."""
        try:
            answer = getattr(self.stub, method)(METHODS[method], timeout=PATIENCE)
            if method == "WatchEvents":
                next(answer)
                answer.cancel()
        except grpc.RpcError as error:
            return reason_of(error)
        return "OK"

    def outcomes(self) -> set[str]:
        """The outcomes of all methods."""
        return {self.outcome(method) for method in METHODS}


def reason_of(error: Any) -> str:
    """The reason of an error. An error NOT_READY must be complete."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    if info.reason == "NOT_READY":
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert status.details[1].Unpack(retry)
        assert retry.retry_delay.ToMilliseconds() > 0
    reason: str = info.reason
    return reason


@contextmanager
def serve(folder: Path, acceptor: Acceptor) -> Iterator[Served]:
    """Runs `serve` with mutual TLS and all its files."""
    ca = CA(folder)
    server = ca.sign(hosts=["localhost"], addresses=["127.0.0.1"])
    caller = ca.sign(uris=["spiffe://test/ops"])
    add_signing_key(folder / "keys")
    (folder / "access.toml").write_text(POLICY)
    (folder / "offset").write_text("0")
    port, health = free_port(), free_port()
    with valkey_server(folder / "valkey") as valkey:
        settings = {
            "REDIS_URL": service_at(valkey.port),
            "KEYS": str(folder / "keys"),
            "ACCESS_POLICY": str(folder / "access.toml"),
            "TLS_CERTIFICATE": str(server.certificate),
            "TLS_KEY": str(server.key),
            "TLS_CLIENT_CA": str(ca.file),
            "ACCEPTOR": acceptor.value,
            "LISTEN": f"127.0.0.1:{port}",
            "HEALTH_LISTEN": f"127.0.0.1:{health}",
            "ALLOW_UNSAFE": "volatile-store,evicting-store,exposed-secrets",
        }
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(folder / "offset"), "serve"],
                cwd=ROOT,
                env=environment(folder, **settings),
                stdout=log,
                stderr=log,
            )
        target = Target(
            Listen("127.0.0.1", port),
            tls=True,
            ca=ca.pem,
            certificate=caller.certificate.read_bytes(),
            key=caller.key.read_bytes(),
        )
        try:
            with channel_to(target) as channel:
                served = Served(folder, channel, Listen("127.0.0.1", health))
                wait_for(
                    lambda: process.poll() is not None or "listening" in log_of(folder),
                    "the server to listen",
                    PATIENCE,
                )
                assert process.poll() is None, log_of(folder)
                served.becomes("SERVING")
                yield served
        finally:
            process.terminate()
            process.wait(PATIENCE)


def log_of(folder: Path) -> str:
    return (folder / "log").read_text()


@pytest.fixture(scope="module", params=list(Acceptor), ids=lambda acceptor: acceptor.value)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("serve"), request.param) as running:
        yield running


def test_every_method_is_tried():
    service = pb.DESCRIPTOR.services_by_name["SessionAuthorityService"]
    assert set(METHODS) == {method.name for method in service.methods}


@pytest.mark.parametrize("step", [6, -6, 3600, -3600])
def test_a_server_with_a_wrong_clock_answers_nothing(served: Served, step: int):
    issued = served.stub.IssueDevice(pb.IssueDeviceRequest(user_id="ada"), timeout=PATIENCE)
    assert served.status(issued) == pb.SESSION_STATUS_ACTIVE
    watch = served.stub.WatchEvents(pb.WatchEventsRequest())
    next(watch)

    served.set_clock(step)
    assert served.outcomes() == {"NOT_READY"}, "at once, before any probe"
    with pytest.raises(grpc.RpcError) as ended:
        list(watch)
    assert reason_of(ended.value) == "NOT_READY"
    served.becomes("NOT_SERVING")
    assert served.outcomes() == {"NOT_READY"}

    served.set_clock(0)
    served.becomes("SERVING")
    assert "NOT_READY" not in served.outcomes()
    assert served.status(issued) == pb.SESSION_STATUS_ACTIVE


@pytest.mark.parametrize("step", [100_000, -100_000])
def test_a_call_under_way_is_judged_by_the_right_time(served: Served, step: int):
    issued = served.stub.IssueDevice(pb.IssueDeviceRequest(user_id="ada"), timeout=PATIENCE)
    served.set_clock_in_next_call(step)
    assert served.status(issued) == pb.SESSION_STATUS_ACTIVE
    assert served.outcome("ListDevices") == "NOT_READY"
    served.set_clock(0)
    served.becomes("SERVING")
    served.set_clock_in_next_call(step)
    issued = served.stub.IssueDevice(pb.IssueDeviceRequest(user_id="ada"), timeout=PATIENCE)
    served.set_clock(0)
    served.becomes("SERVING")
    assert served.status(issued) == pb.SESSION_STATUS_ACTIVE


def _move_away(path: Path) -> None:
    path.rename(path.with_name("away"))


def _move_back(path: Path) -> None:
    path.with_name("away").rename(path)


def _empty(path: Path) -> None:
    _move_away(path)
    path.mkdir(0o700)


def _fill(path: Path) -> None:
    path.rmdir()
    _move_back(path)


@pytest.mark.parametrize(
    ("name", "lose", "restore"),
    [
        ("keys", _move_away, _move_back),
        ("keys", _empty, _fill),
        ("access.toml", _move_away, _move_back),
    ],
)
def test_a_server_that_cannot_read_its_keys_or_its_policy_answers_nothing(
    served: Served, name: str, lose: Any, restore: Any
):
    lose(served.folder / name)
    try:
        wait_for(lambda: served.outcomes() == {"NOT_READY"}, "all calls to be refused", PATIENCE)
        served.becomes("NOT_SERVING")
    finally:
        restore(served.folder / name)
    served.becomes("SERVING")
    assert "NOT_READY" not in served.outcomes()


@pytest.mark.parametrize("name", ["keys/half.json", "access.toml"])
def test_a_broken_but_readable_file_changes_nothing(served: Served, name: str):
    path = served.folder / name
    before = path.read_bytes() if path.exists() else None
    logged = f"{'keys' if before is None else 'access'}_not_changed"
    seen = log_of(served.folder).count(logged)
    path.write_text("[callers")
    path.chmod(0o600)
    try:
        wait_for(lambda: log_of(served.folder).count(logged) > seen, logged, PATIENCE)
        assert "NOT_READY" not in served.outcomes()
        assert served.health() == "SERVING"
    finally:
        path.unlink() if before is None else path.write_bytes(before)
