"""A call that has ended is counted nowhere, however and whenever it ends: not as a call under way,
not in its caller's share, and not as a request that is still arriving.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from session_authority.domain.errors import StoreUnavailable
from session_authority.processes.options import ListenOptions
from session_authority.rpc import Capacity
from session_authority.rpc.interceptors import Guard
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import PATIENCE, SERVICE, Stage, StageWith, refusal_of
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

CALLS, AT_ONCE, CUTS = 600, 24, 4
# A limit so low that many calls are refused: at once, or when their request has arrived.
CAPACITY = Capacity(calls=20)
TOO_LARGE, NONSENSE, NOTHING_SENT = b"x" * (1 << 17), b"\xff\xff", None
ITEM = pb.ValidateSessionRequest(access_token="x" * 4_000)
REQUESTS: dict[str, tuple[bytes | None, ...]] = {
    "ListDevices": (
        pb.ListDevicesRequest(user_id="ada").SerializeToString(),
        *(TOO_LARGE, NONSENSE, NOTHING_SENT),
    ),
    "ValidateSession": (ITEM.SerializeToString(), NONSENSE, NOTHING_SENT),
    "RevokeAll": (pb.RevokeAllRequest(user_id="ada").SerializeToString(), NOTHING_SENT),
    "BatchValidateSessions": tuple(
        pb.BatchValidateSessionsRequest(requests=[ITEM] * items).SerializeToString()
        for items in (1, 4, 16)
    ),
    "NoSuchMethod": (b"",),
}
FAULTS: tuple[type[Exception], ...] = (RuntimeError, TimeoutError, StoreUnavailable)
ENDS = {"OK", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "INVALID_ARGUMENT", "given up"}


def make_rough(stage: Stage, chance: Random) -> set[type[Exception]]:
    """Makes use cases wait for some turns of the loop or for some time, and then succeed or fail.
    Returns the set of the failures so far, which grows as the test runs.
    """
    raised: set[type[Exception]] = set()

    def rough(sound: Any) -> Any:
        async def behave(*given: Any, **more: Any) -> Any:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(chance.choice((0, 0, 0.001, 0.03)))
            if chance.random() < 0.3:
                fault = chance.choice(FAULTS)
                raised.add(fault)
                raise fault
            return await sound(*given, **more)

        return behave

    for name in ("list_devices", "validate_session", "revoke_all"):
        setattr(stage.authority, name, rough(getattr(stage.authority, name)))
    return raised


class Callers:
    """Callers that call over one connection, which breaks now and then."""

    def __init__(self, wire: Proxy, chance: Random) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100)]
        address = wire.url.removeprefix("redis://")
        self.channel: Any = grpc.aio.insecure_channel(address, options)
        self.outcomes: Counter[str] = Counter()
        self._chance = chance
        self._left = CALLS

    async def call(self) -> None:
        """Makes one call after the other."""
        while self._left > 0:
            self._left -= 1
            self.outcomes[await self._one()] += 1

    async def have_made(self, calls: int) -> None:
        """Waits until this many calls were started."""
        await eventually(lambda: CALLS - self._left >= calls, "more calls to be made")

    async def _one(self) -> str:
        chance = self._chance
        method = chance.choice(sorted(REQUESTS))
        body = chance.choice(REQUESTS[method])
        within = chance.choice((PATIENCE, PATIENCE, chance.uniform(0.0005, 0.1)))
        call = self._begin(f"/{SERVICE.full_name}/{method}", body, within)
        if chance.random() < 0.3:
            for _ in range(chance.randrange(20)):
                await asyncio.sleep(0)
            call.cancel()
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return str(refusal_of(error).code.name)
        except asyncio.CancelledError:
            return "given up"
        return "OK"

    def _begin(self, path: str, body: bytes | None, within: float) -> Any:
        if body is not NOTHING_SENT:
            return self.channel.unary_unary(path)(body, timeout=within, wait_for_ready=True)
        # Half of the clients that send nothing end their stream.
        ends = nothing() if self._chance.random() < 0.5 else None
        return self.channel.stream_unary(path)(ends, timeout=within, wait_for_ready=True)


async def nothing() -> AsyncIterator[bytes]:
    """An empty stream of requests."""
    requests: tuple[bytes, ...] = ()
    for request in requests:
        yield request


def counted(guard: Guard) -> dict[str, Any]:
    """All numbers that are counted while calls are under way."""
    load, peers = guard._load, guard.peers
    return {
        "calls": load.calls,
        "places": load.share.held,
        "places of callers": load.share._held_by,
        "requests on their way": load.arriving,
        "deadlines": load.deadlines.long._young | load.deadlines.long._old,
        "answers to be taken": peers._unsent,
        "calls of peers": [peer.name for peer in peers._peers.values() if peer.calls],
    }


@pytest.mark.parametrize("seed", range(2))
async def test_no_call_stays_counted(stage_with: StageWith, seed: int) -> None:
    chance = Random(seed)
    stage: Stage = await stage_with(doors=ListenOptions(capacity=CAPACITY))
    raised = make_rough(stage, chance)
    async with Proxy(f"redis://{stage.address}") as wire:
        callers = Callers(wire, chance)

        async def cut() -> None:
            for number in range(1, CUTS + 1):
                await callers.have_made(CALLS * number // (CUTS + 1))
                await wire.cut()

        await asyncio.gather(cut(), *(callers.call() for _ in range(AT_ONCE)))
        await callers.channel.close()
    print(dict(callers.outcomes))
    assert callers.outcomes.keys() >= ENDS
    assert raised == set(FAULTS)
    # The server still answers. Cancelled calls of the broken connections may arrive late.
    await stage.call("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest())
    guard = stage.server._guards[0]
    nothing = {name: type(value)() for name, value in counted(guard).items()}
    await eventually(lambda: counted(guard) == nothing, "all calls to be counted out")
