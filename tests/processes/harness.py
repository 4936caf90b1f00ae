"""A server made from its settings, run in this process, and a client that reads its health."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from session_authority.processes.health_service import LIVENESS
from session_authority.processes.options import Mode
from session_authority.processes.serve import running
from session_authority.processes.server import Server
from session_authority.runtime.addresses import Listen
from session_authority.runtime.clock import now
from session_authority.runtime.settings import Settings
from session_authority.tokens import Algorithm, add_key, generate, promote
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc
from tests.support.waiting import eventually

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = ("", "session_authority.v1.SessionAuthorityService")
PATIENCE = 30.0  # Seconds; for conditions that a test awaits.


class House:
    """A running server and a channel to it."""

    def __init__(self, server: Server, channel: grpc.aio.Channel, address: str) -> None:
        self.server = server
        self.address = address
        self.channel = channel
        self.health: Any = health_pb2_grpc.HealthStub(channel)
        self.stub: Any = pb_grpc.SessionAuthorityServiceStub(channel)

    async def liveness(self) -> int:
        """The health of the process."""
        request = health_pb2.HealthCheckRequest(service=LIVENESS)
        status: int = (await self.health.Check(request, timeout=PATIENCE)).status
        return status

    async def statuses(self) -> set[int]:
        """The health of its services: one status, if all services have the same."""
        requests = [health_pb2.HealthCheckRequest(service=service) for service in SERVICES]
        return {(await self.health.Check(request, timeout=PATIENCE)).status for request in requests}

    async def becomes(self, status: int) -> None:
        """Waits until the server has this status."""
        await becomes(self.statuses, {status})

    def watch(self, service: str = "") -> Any:
        """A stream of statuses."""
        return self.health.Watch(
            health_pb2.HealthCheckRequest(service=service), timeout=4 * PATIENCE
        )

    async def services(self) -> list[str]:
        """The services that reflection shows."""
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(self.channel)  # type: ignore[arg-type]
        asked = [reflection_pb2.ServerReflectionRequest(list_services="*")]
        async for answer in stub.ServerReflectionInfo(iter(asked), timeout=PATIENCE):
            return [service.name for service in answer.list_services_response.service]
        return []


Verify = Callable[[Settings], Awaitable[Sequence[str]]]
Serve = Callable[..., Awaitable[House]]


@asynccontextmanager
async def house(
    url: str,
    keys: Path,
    prefix: str,
    reflection: bool,
    verify: Verify | None = None,
    **more: Any,
) -> AsyncIterator[House]:
    """Runs a server, as the command does but without signals. `verify` decides whether the store is
    safe.
    """
    settings = Settings(
        redis_url=url, keys=keys, listen=Listen("127.0.0.1", 0), redis_prefix=prefix, **more
    )
    async with (
        running(settings, Mode(reflection=reflection, verify=verify)) as (server, ports),
        grpc.aio.insecure_channel(str(ports.main)) as channel,
    ):
        yield House(server, channel, str(ports.main))


def add_signing_key(folder: Path) -> str:
    """Makes a key that signs from now on. Returns its ID."""
    key = generate(Algorithm.EDDSA, now())
    add_key(folder, key)
    promote(folder, key.kid, now())
    return key.kid


async def becomes(ask: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Repeats the call until the answer is `wanted`."""

    async def is_wanted() -> bool:
        return await ask() == wanted

    await eventually(is_wanted, f"the answer {wanted}", PATIENCE)
