"""A fresh client reaches a service that is far away, or that stalls again and again, wherever a
plain channel of gRPC reaches it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

import session_authority_client as sa
from client_tests.harness import PATIENCE, Connect, Fake, behind
from session_authority_client._shared.transport import path_of
from session_authority_client.wire import session_authority_pb2 as pb
from tests.support.ca import CA
from tests.support.proxy import Proxy

SECURE = {"plaintext": False, "TLS": True}


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CA:
    return CA(tmp_path_factory.mktemp("ca"))


@pytest.fixture(params=SECURE)
def tls(request: pytest.FixtureRequest, ca: CA) -> sa.Tls | None:
    return sa.Tls(ca.pem) if SECURE[request.param] else None


@pytest.fixture
def service(tls: sa.Tls | None, ca: CA) -> Iterator[Fake]:
    pair = ca.sign(addresses=["127.0.0.1"])
    shown = [(pair.key.read_bytes(), pair.certificate.read_bytes())]
    with Fake(grpc.ssl_server_credentials(shown) if tls else None) as server:
        yield server


@asynccontextmanager
async def far(service: Fake, delay_seconds: float) -> AsyncIterator[str]:
    """Yields the address of a service behind a proxy that delays bytes by `delay_seconds`
    each way.
    """

    async def hold(_: bytes) -> None:
        await asyncio.sleep(delay_seconds)

    async with Proxy(f"redis://{service.address}") as wire:
        wire.on_request = wire.on_reply = hold
        yield behind(wire)


@asynccontextmanager
async def stalling(service: Fake) -> AsyncIterator[str]:
    """Yields the address of a service that stalls for 300 of each 400 ms."""

    async def hold(_: bytes) -> None:
        into = asyncio.get_running_loop().time() % 0.4
        if into < 0.3:
            await asyncio.sleep(0.3 - into)

    async with Proxy(f"redis://{service.address}") as wire:
        wire.on_request = wire.on_reply = hold
        yield behind(wire)


async def plain_call(address: str, tls: sa.Tls | None) -> None:
    """Makes a call over a channel without any options. It is the yardstick for the client."""
    channel: Any = (
        grpc.aio.secure_channel(address, tls.credentials())
        if tls
        else grpc.aio.insecure_channel(address)
    )
    async with channel:
        call = channel.unary_unary(
            path_of("GetSigningKeys"),
            request_serializer=pb.GetSigningKeysRequest.SerializeToString,
            response_deserializer=pb.GetSigningKeysResponse.FromString,
        )
        await call(pb.GetSigningKeysRequest(), timeout=PATIENCE.total_seconds())


@pytest.mark.parametrize("delay_ms", [0, 40, 100, 200, 400])
async def test_the_first_call_reaches_a_service_that_is_far_away(
    connect: Connect, service: Fake, tls: sa.Tls | None, delay_ms: int
):
    async with far(service, delay_ms / 1000) as address:
        await plain_call(address, tls)
        async with connect(address, tls=tls, timeout=PATIENCE) as client:
            await client.get_signing_keys()
    assert len(service.calls) == 2


async def test_the_first_call_reaches_a_service_that_stalls_most_of_the_time(
    connect: Connect, service: Fake, tls: sa.Tls | None
):
    async with stalling(service) as address:

        async def first_call() -> None:
            await plain_call(address, tls)
            async with connect(address, tls=tls, timeout=PATIENCE) as client:
                await client.get_signing_keys()

        # The clients begin at different moments of the stall.
        clients = [asyncio.create_task(first_call())]
        for _ in range(7):
            await asyncio.sleep(0.05)
            clients.append(asyncio.create_task(first_call()))
        await asyncio.gather(*clients)
