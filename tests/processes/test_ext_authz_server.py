"""The server that Envoy calls: over TCP and a unix socket, with either acceptor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from session_authority.gateway.configuration import GrpcTable
from session_authority.gateway.decision import Gateway
from session_authority.gateway.ext_authz.check import METHOD, SERVICE, Checks
from session_authority.processes.ext_authz_server import ExtAuthzServer
from session_authority.processes.listening import CannotListen
from session_authority.runtime.addresses import Listen
from session_authority.runtime.settings import Acceptor
from session_authority_client.testing import FakeAuthority
from tests.gateway.envoy import Reply, check_request
from tests.gateway.harness import FLOW, ROUTES, browser_cookies
from tests.support.ports import free_port

# These tests choose the acceptor themselves.
pytestmark = pytest.mark.one_acceptor

PATIENCE_SECONDS = 20.0


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeAuthority]:
    with FakeAuthority() as fake:
        yield fake


@pytest.fixture
async def checks(fake: FakeAuthority) -> AsyncIterator[Checks]:
    async with fake.async_client() as client:
        yield Checks(Gateway(client, FLOW, routes=ROUTES))


async def ask(address: str, message: bytes) -> Reply:
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(f"/{SERVICE}/{METHOD}")
        answer: bytes = await call(message, timeout=PATIENCE_SECONDS, wait_for_ready=True)
        return Reply(answer)


@pytest.mark.parametrize("accepting", Acceptor)
async def test_envoy_is_answered_at_both_addresses(
    accepting: Acceptor, tmp_path: Path, fake: FakeAuthority, checks: Checks
):
    path = tmp_path / "gateway.sock"
    table = GrpcTable.model_construct(listen=Listen("127.0.0.1", free_port()), unix_socket=path)
    server = ExtAuthzServer(checks)
    listening = await server.start(table, accepting)
    try:
        assert listening == [str(table.listen), str(path)]
        assert path.stat().st_mode & 0o777 == 0o660
        asked = check_request([("cookie", browser_cookies(fake))])
        for address in (str(table.listen), f"unix:{path}"):
            heard = await ask(address, asked)
            assert (heard.allowed, heard.upstream["X-Session-User"]) == (True, "ada")
            assert (await ask(address, b"\xff")).status == 400
        with fake.unavailable(), pytest.raises(grpc.aio.AioRpcError) as failed:
            await ask(str(table.listen), asked)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        await server.stop(0)
    assert not path.exists()


@pytest.mark.parametrize("accepting", Acceptor)
async def test_a_fault_of_the_gateway_denies_without_its_text(accepting: Acceptor, checks: Checks):
    async def fail(message: bytes, seconds_left: float | None) -> bytes | None:
        raise RuntimeError("a secret")

    checks.reply = fail  # type: ignore[method-assign]
    server = ExtAuthzServer(checks)
    [address] = await server.start(
        GrpcTable.model_construct(listen=Listen("127.0.0.1", free_port())), accepting
    )
    try:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await ask(address, check_request())
    finally:
        await server.stop(0)
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    assert failed.value.details() == "internal error"


async def test_an_address_in_use_is_refused(tmp_path: Path, checks: Checks):
    first, second = ExtAuthzServer(checks), ExtAuthzServer(checks)
    path = tmp_path / "gateway.sock"
    table = GrpcTable.model_construct(unix_socket=path)
    await first.start(table)
    try:
        with pytest.raises(CannotListen):
            await second.start(table)
        await second.stop(0)
        assert path.exists()
    finally:
        await first.stop(0)
