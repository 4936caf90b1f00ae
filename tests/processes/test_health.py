"""Health reports the truth about the store and the clocks, also to watchers."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis
from grpc_health.v1 import health_pb2

from session_authority.processes import health
from session_authority.processes.health import PROBE_TIMEOUT
from session_authority.processes.health_service import LIVENESS
from session_authority.processes.preflight import store_refusals
from session_authority.processes.server import PROBE_INTERVAL
from session_authority.runtime.clock import now
from session_authority.runtime.settings import Unsafe
from session_authority.tokens import retire
from session_authority.v1 import session_authority_pb2 as pb
from tests.processes.harness import (
    NOT_SERVING,
    PATIENCE,
    SERVICES,
    SERVING,
    House,
    Serve,
    add_signing_key,
    becomes,
)
from tests.support.backends import Backend, ValkeyServer, valkey_server
from tests.support.waiting import eventually

ALLOWED: Any = {"allow_unsafe": frozenset({Unsafe.VOLATILE_STORE})}


async def test_a_store_that_dies_is_noticed_and_so_is_its_return(
    serve: Serve, tmp_path: Path, logged: list[dict[str, Any]]
):
    with valkey_server(tmp_path / "valkey") as valkey:
        client = await serve(valkey.url)
        assert await client.statuses() == {SERVING}
        watches = [
            client.health.Watch(
                health_pb2.HealthCheckRequest(service=service), timeout=4 * PATIENCE
            )
            for service in SERVICES
        ]
        for watch in watches:
            assert (await watch.read()).status == SERVING

        await asyncio.to_thread(valkey.kill)
        await client.becomes(NOT_SERVING)
        for watch in watches:
            assert (await asyncio.wait_for(watch.read(), PATIENCE)).status == NOT_SERVING
        assert await client.liveness() == SERVING, "a restart of the process would not help"

        await asyncio.to_thread(valkey.start)
        await client.becomes(SERVING)
        for watch in watches:
            assert (await asyncio.wait_for(watch.read(), PATIENCE)).status == SERVING
            watch.cancel()
    told = [
        (entry["event"], entry.get("reason"))
        for entry in logged
        if entry["event"].endswith("serving")
    ]
    assert told == [
        ("serving", None),
        ("not_serving", "the store does not answer, or refuses"),
        ("serving", None),
    ]


@pytest.mark.parametrize(
    ("setting", "value", "validated"),
    [
        # Full: nobody can sign in, but the answers about sessions are true.
        ("maxmemory", "1", "SESSION_STATUS_ACTIVE"),
        # Without its replicas: they may have another primary by now.
        ("min-replicas-to-write", "1", "UNAVAILABLE"),
        # A replica.
        ("replicaof", "127.0.0.1 1", "UNAVAILABLE"),
    ],
)
async def test_a_store_that_refuses_sign_ins_is_unhealthy(
    serve: Serve, tmp_path: Path, setting: str, value: str, validated: str
):
    with valkey_server(tmp_path / "valkey") as valkey, redis.Redis(port=valkey.port) as admin:
        client = await serve(valkey.url)
        issued = await client.stub.IssueDevice(
            pb.IssueDeviceRequest(user_id="ada"), timeout=PATIENCE
        )

        await client.stub.IssueDevice(pb.IssueDeviceRequest(user_id="cleo"), timeout=PATIENCE)

        async def outcome(client: House = client) -> str:
            request = pb.ValidateSessionRequest(
                access_token=issued.access_token, device_id=issued.device.device_id
            )
            try:
                answer = await client.stub.ValidateSession(request, timeout=PATIENCE)
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return pb.SessionStatus.Name(answer.status)

        assert await outcome() == "SESSION_STATUS_ACTIVE"
        _set(admin, setting, value)
        await client.becomes(NOT_SERVING)
        assert {await outcome() for _ in range(20)} == {validated}
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.stub.IssueDevice(pb.IssueDeviceRequest(user_id="bob"), timeout=PATIENCE)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        # A server that starts now reports the same health, and gives the same answers.
        newcomer = await serve(valkey.url, verify=store_refusals, **ALLOWED)
        assert await newcomer.statuses() == {NOT_SERVING}
        assert {await outcome(newcomer) for _ in range(5)} == {validated}
        if validated != "UNAVAILABLE":
            request = pb.RevokeAllRequest(user_id="cleo")
            assert (await newcomer.stub.RevokeAll(request, timeout=PATIENCE)).revoked_devices == 1
        _set(admin, setting, "no one" if setting == "replicaof" else "0")
        await newcomer.becomes(SERVING)
        await client.becomes(SERVING)
        assert await outcome() == "SESSION_STATUS_ACTIVE"


def _set(admin: redis.Redis, setting: str, value: str) -> None:
    if setting == "replicaof":
        admin.execute_command("REPLICAOF", *value.split())
    else:
        admin.config_set(setting, value)


def test_health_follows_the_store_within_two_seconds():
    """A change may happen just after a probe, and the next probe may get no answer."""
    assert timedelta(seconds=2) > PROBE_INTERVAL + PROBE_TIMEOUT


async def test_a_service_that_starts_without_a_store_reports_it_and_recovers(
    serve: Serve, tmp_path: Path
):
    valkey = ValkeyServer(tmp_path / "valkey")
    client = await serve(valkey.url)
    assert await client.statuses() == {NOT_SERVING}
    await asyncio.to_thread(valkey.start)
    try:
        await client.becomes(SERVING)
        answer = await client.stub.IssueDevice(
            pb.IssueDeviceRequest(user_id="ada"), timeout=PATIENCE
        )
        assert answer.new_device
    finally:
        valkey.kill()


@pytest.mark.parametrize("skew", [6, -6])
async def test_clocks_that_differ_are_unhealthy(
    serve: Serve,
    valkey_backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
    logged: list[dict[str, Any]],
    skew: int,
):
    client = await serve(valkey_backend.url)
    assert await client.statuses() == {SERVING}
    right = now
    monkeypatch.setattr(health, "now", lambda: right() + timedelta(seconds=skew))
    await client.becomes(NOT_SERVING)
    [entry] = [entry for entry in logged if entry["event"] == "not_serving"]
    assert entry["reason"].startswith(
        ("the store's clock differs by 6.", "the store's clock differs by 5.9")
    )
    monkeypatch.setattr(health, "now", lambda: right() + timedelta(seconds=skew / 2))
    await client.becomes(SERVING)


async def test_the_watch_of_health_survives_an_unexpected_error(
    serve: Serve, valkey_backend: Backend, logged: list[dict[str, Any]]
):
    client = await serve(valkey_backend.url)
    store: Any = client.server._probe._store
    source: Any = client.server._reloading._keys
    sound = store.server_times

    async def absurd() -> Any:
        raise RuntimeError("hunter2")

    store.server_times = absurd
    await client.becomes(NOT_SERVING)
    store.server_times = sound
    await client.becomes(SERVING)
    assert "hunter2" not in str(logged)

    refresh = source.refresh

    def denied() -> bool:
        raise RuntimeError("hunter2")

    source.refresh = denied

    await eventually(
        lambda: any(entry["event"] == "watch_failed" for entry in logged), "the failure to be told"
    )
    source.refresh = refresh
    store.server_times = absurd
    await client.becomes(NOT_SERVING)
    assert "hunter2" not in str(logged)


async def test_the_health_of_an_unknown_service_is_not_found(serve: Serve, valkey_backend: Backend):
    client = await serve(valkey_backend.url)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.health.Check(
            health_pb2.HealthCheckRequest(service="nothing"), timeout=PATIENCE
        )
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_services_where_it_is_on(serve: Serve, valkey_backend: Backend):
    shown = await (await serve(valkey_backend.url, reflection=True)).services()
    assert sorted(shown) == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "session_authority.v1.SessionAuthorityService",
    ]


async def test_reflection_lists_nothing_where_it_is_off(serve: Serve, valkey_backend: Backend):
    method: Any = (await serve(valkey_backend.url)).channel.unary_unary(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(b"", timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_keys_that_change_on_disk_are_picked_up(
    serve: Serve, valkey_backend: Backend, keys: Path, logged: list[dict[str, Any]]
):
    client = await serve(valkey_backend.url)

    async def kid_in_use() -> str:
        issued = await client.stub.IssueDevice(
            pb.IssueDeviceRequest(user_id="ada"), timeout=PATIENCE
        )
        return key_of(issued.access_token)

    async def status(issued: Any) -> int:
        request = pb.ValidateSessionRequest(
            access_token=issued.access_token, device_id=issued.device.device_id
        )
        answer: pb.ValidateSessionResponse = await client.stub.ValidateSession(
            request, timeout=PATIENCE
        )
        return answer.status

    before = await client.stub.IssueDevice(pb.IssueDeviceRequest(user_id="bob"), timeout=PATIENCE)
    old = key_of(before.access_token)
    new = add_signing_key(keys)
    await becomes(kid_in_use, new)
    assert await status(before) == pb.SESSION_STATUS_ACTIVE, "a demoted key verifies"
    assert [entry["event"] for entry in logged].count("keys_changed") >= 1

    source: Any = client.server._reloading._keys
    refresh, looks = source.refresh, 0

    def counted_refresh() -> bool:
        nonlocal looks
        looks += 1
        changed: bool = refresh()
        return changed

    source.refresh = counted_refresh
    broken = keys / "broken.json"
    broken.write_text("hunter2")
    await eventually(lambda: looks >= 3, "three looks at the keys")
    assert await kid_in_use() == new, "the keys stay as they were"
    assert await status(before) == pb.SESSION_STATUS_ACTIVE
    # Read again and again, and logged once.
    [told] = [entry for entry in logged if entry["event"] == "keys_not_changed"]
    assert str(broken) in told["reason"]
    assert "hunter2" not in str(logged)

    broken.unlink()
    newest = add_signing_key(keys)
    await becomes(kid_in_use, newest)

    retire(keys, old, now(), timedelta(days=8), force=True)

    async def status_before() -> int:
        return await status(before)

    await becomes(status_before, pb.SESSION_STATUS_TOKEN_INVALID)


def key_of(token: str) -> str:
    header = token.partition(".")[0]
    kid: str = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]
    return kid


async def test_health_can_be_listed(serve: Serve, valkey_backend: Backend):
    house = await serve(valkey_backend.url)
    messages: Any = health_pb2  # Its types don't know this method.
    listed = await house.health.List(messages.HealthListRequest(), timeout=PATIENCE)
    assert {service: answer.status for service, answer in listed.statuses.items()} == dict.fromkeys(
        (*SERVICES, LIVENESS), SERVING
    )


async def test_the_first_user_agent_is_parsed_before_a_caller_waits_for_it(
    serve: Serve, valkey_backend: Backend, monkeypatch: pytest.MonkeyPatch
):
    """The parser builds its tables at its first use, which takes longer than callers wait."""
    loaded = []
    load = "session_authority.processes.server.load_rules"
    monkeypatch.setattr(load, lambda: loaded.append("rules"))
    await serve(valkey_backend.url)
    assert loaded == ["rules"]


def test_a_test_runs_with_the_acceptor_in_its_name(request: pytest.FixtureRequest):
    """tests/conftest.py runs each test of a server with each acceptor, and names the exceptions."""
    named = request.node.callspec.params["acceptor"]
    assert os.environ["SESSION_AUTHORITY_ACCEPTOR"] == named.value
