"""A store that hangs: callers learn of it by the store's time-out, not by their deadlines."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import grpc
import pytest

from session_authority.store import SessionStore
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc
from tests.processes.harness import PATIENCE, SERVING, Serve
from tests.support.backends import ValkeyServer, valkey_server
from tests.support.waiting import eventually

CALLERS, CHANNELS = 200, 4  # A connection carries 100 calls at once.
REPLY_TIMEOUT = timedelta(seconds=2)
# Less than two time-outs, and enough for a busy machine to refuse all calls in.
DEADLINE = timedelta(seconds=3.9)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    with valkey_server(tmp_path / "valkey") as server:
        yield server


@contextmanager
def hung(server: ValkeyServer) -> Iterator[None]:
    """Stops a server's process inside the block."""
    os.kill(server.process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process_id, signal.SIGCONT)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How the reads of sessions ended."""
    outcomes: Counter[str] = Counter()

    def counted(read: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(read)
        async def run(*arguments: Any) -> Any:
            try:
                found = await read(*arguments)
            except BaseException as error:
                outcomes[type(error).__name__] += 1
                raise
            outcomes["found"] += 1
            return found

        return run

    for name in ("session", "ask"):
        monkeypatch.setattr(SessionStore, name, counted(getattr(SessionStore, name)))
    return outcomes


async def test_all_concurrent_callers_learn_that_the_store_hangs(
    serve: Serve,
    valkey: ValkeyServer,
    reads: Counter[str],
) -> None:
    house = await serve(valkey.url, redis_timeout=REPLY_TIMEOUT)
    await house.becomes(SERVING)
    async with AsyncExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        clients: list[Any] = [
            pb_grpc.SessionAuthorityServiceStub(
                await stack.enter_async_context(grpc.aio.insecure_channel(house.address, options))
            )
            for _ in range(CHANNELS)
        ]
        await all_learn_of_it(clients, valkey, reads)


async def all_learn_of_it(clients: list[Any], valkey: ValkeyServer, reads: Counter[str]) -> None:
    signed_in = await clients[0].IssueDevice(pb.IssueDeviceRequest(user_id="ada"), timeout=PATIENCE)
    request = pb.ValidateSessionRequest(
        access_token=signed_in.access_token, device_id=signed_in.device.device_id
    )

    async def validations() -> Counter[str]:
        calls = (
            clients[number % CHANNELS].ValidateSession(request, timeout=DEADLINE.total_seconds())
            for number in range(CALLERS)
        )
        results = await asyncio.gather(*calls, return_exceptions=True)
        return Counter(
            result.code().name if isinstance(result, grpc.aio.AioRpcError) else "OK"
            for result in results
        )

    assert await validations() == {"OK": CALLERS}
    reads.clear()
    with hung(valkey):
        assert await validations() == {"UNAVAILABLE": CALLERS}
        assert set(reads) == {"StoreUnavailable"}, "no read was given up because of its deadline"

    async def all_is_well() -> bool:
        return await validations() == {"OK": CALLERS}

    await eventually(all_is_well, "the store to be back")
