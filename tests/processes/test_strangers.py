"""Strangers, and callers that misbehave, against a real `serve` with mutual TLS: they cost no other
caller an answer.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from session_authority.v1 import session_authority_pb2 as pb
from tests.processes.strangers import (
    HEALTH_WATCH,
    PATIENCE,
    SERVICE,
    besieged,
    sign_in,
    status,
    strangers,
)
from tests.support.backends import ValkeyServer, valkey_server
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A store that `serve` accepts."""
    with valkey_server(tmp_path_factory.mktemp("store"), appendonly="yes") as server:
        yield server


def code_of(call: Any) -> str:
    """The code that a call ends with."""
    try:
        call.result(timeout=PATIENCE)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def begun(stream: Any) -> str:
    """OK if a stream begins, and otherwise the code that it ends with."""
    try:
        next(stream)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_unread_refusals_occupy_no_places(tmp_path: Path, store: ValkeyServer):
    with (
        besieged(tmp_path, store) as service,
        service.caller() as caller,
        strangers(service.bearer, 5, service.tls()) as crowd,
    ):
        signed_in = sign_in(caller)
        answers: Counter[str] = Counter()
        for _ in range(30):
            for stranger in crowd:
                stranger.call(f"{SERVICE}ValidateSession", 50)
            answers.update(status(caller, signed_in) for _ in range(10))
        assert answers == {"ACTIVE": 300}


@pytest.mark.parametrize("method", ["ValidateSession", "BatchValidateSessions"])
def test_calls_whose_requests_never_arrive_occupy_no_places(
    tmp_path: Path, store: ValkeyServer, method: str
):
    """Such calls occupy neither the places of other callers nor the places of their own caller."""
    with (
        besieged(tmp_path, store, MAX_IN_FLIGHT="8") as service,
        service.caller() as caller,
        service.caller("gateway") as gateway,
        strangers(service.main, 2, service.tls("gateway")) as crowd,
    ):
        signed_in = sign_in(caller)
        answers: Counter[str] = Counter()
        for _ in range(10):
            for wild in crowd:
                wild.call(f"{SERVICE}{method}", 20, body=None)
            answers.update(status(stub, signed_in) for stub in (caller, gateway) * 5)
        assert answers == {"ACTIVE": 100}


def test_a_caller_with_slow_calls_leaves_places_to_others(tmp_path: Path):
    """The store hangs, so that calls stay. Another caller's calls are carried out, not refused."""
    with (
        valkey_server(tmp_path / "store", appendonly="yes") as store,
        besieged(tmp_path, store, MAX_IN_FLIGHT="32", REDIS_TIMEOUT="9s") as service,
        service.caller() as caller,
        service.caller("gateway") as gateway,
    ):
        signed_in = sign_in(caller)
        validate = pb.ValidateSessionRequest(
            access_token=signed_in.access_token, device_id=signed_in.device.device_id
        )
        for stub in (caller, gateway):
            assert status(stub, signed_in) == "ACTIVE"
        os.kill(store.process_id, signal.SIGSTOP)
        try:
            wild = [gateway.ValidateSession.future(validate, timeout=8) for _ in range(64)]
            wait_for(lambda: sum(call.done() for call in wild) >= 64 - 32, "the rest to be refused")
            others = [caller.ValidateSession.future(validate, timeout=8) for _ in range(3)]
            assert not any(call.done() for call in others), "they wait for the store"
        finally:
            os.kill(store.process_id, signal.SIGCONT)
        assert {code_of(call) for call in others} == {"OK"}
        codes = Counter(code_of(call) for call in wild)
        assert codes["RESOURCE_EXHAUSTED"] >= 64 - 32
        assert codes["OK"] >= 32 * 3 // 4, "one caller may still use nearly all"


def test_batches_that_fill_the_limit_leave_places_to_others(tmp_path: Path):
    with (
        valkey_server(tmp_path / "store", appendonly="yes") as store,
        besieged(tmp_path, store, MAX_IN_FLIGHT="32", REDIS_TIMEOUT="9s") as service,
        service.caller() as caller,
        service.caller("gateway") as gateway,
    ):
        signed_in = sign_in(caller)
        validate = pb.ValidateSessionRequest(
            access_token=signed_in.access_token, device_id=signed_in.device.device_id
        )
        heavy = pb.BatchValidateSessionsRequest(requests=[validate] * 400)
        assert len(heavy.SerializeToString()) > 32 * 4096
        assert status(gateway, signed_in) == "ACTIVE"
        os.kill(store.process_id, signal.SIGSTOP)
        try:
            wild = [gateway.BatchValidateSessions.future(heavy, timeout=8) for _ in range(2)]
            wait_for(lambda: any(call.done() for call in wild), "the second batch to be refused")
            others = [caller.ValidateSession.future(validate, timeout=8) for _ in range(3)]
            assert not any(call.done() for call in others), "they wait for the store"
        finally:
            os.kill(store.process_id, signal.SIGCONT)
        assert {code_of(call) for call in others} == {"OK"}
        assert sorted(code_of(call) for call in wild) == ["OK", "RESOURCE_EXHAUSTED"]


def test_one_caller_leaves_watches_to_others(tmp_path: Path, store: ValkeyServer):
    with (
        besieged(tmp_path, store, MAX_WATCHERS="20") as service,
        service.caller("gateway") as gateway,
        service.caller() as caller,
    ):
        request = pb.WatchEventsRequest()
        wild = [gateway.WatchEvents(request, timeout=PATIENCE) for _ in range(30)]
        codes = Counter(begun(watch) for watch in wild)
        assert codes.keys() == {"OK", "RESOURCE_EXHAUSTED"}
        assert 16 <= codes["OK"] < 20, "one caller may still have nearly all"
        other = caller.WatchEvents(request, timeout=PATIENCE)
        assert begun(other) == "OK"
        for watch in (other, *wild):
            watch.cancel()


@pytest.mark.one_acceptor
@pytest.mark.parametrize("port", ["bearer", "health"])
def test_strangers_cannot_take_all_watches_of_health(
    tmp_path: Path, store: ValkeyServer, port: str
):
    with besieged(tmp_path, store, MAX_WATCHERS="12") as service:
        address = getattr(service, port)
        context = service.tls() if port == "bearer" else None
        with strangers(address, 6, context) as crowd:
            for stranger in crowd:
                stranger.call(HEALTH_WATCH, 30)
            for _ in range(3):
                with service.health_watcher(port) as watch:
                    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.one_acceptor
def test_an_unread_watch_does_not_delay_health(tmp_path: Path):
    """Health changes, and the service stops, without waiting for the watch."""
    with (
        valkey_server(tmp_path / "store", appendonly="yes") as store,
        besieged(tmp_path, store, DRAIN_TIMEOUT="30s") as service,
        strangers(service.health, 1, window=0) as [stranger],
        service.health_watcher("health") as watch,
    ):
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        stranger.call(HEALTH_WATCH, 2)
        stranger.wait_until_answered()
        store.kill()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        service.command.process.send_signal(signal.SIGTERM)
        assert service.command.wait() == 0
