"""The near cache of a client, on a real connection: what the client requests, what the cache
answers, and what turns the cache off and on.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

import session_authority_client
from client_tests.harness import Connect, OnThreads, behind, inner, until
from client_tests.service_harness import DEVICE, Service
from session_authority.rpc.status import Failure
from session_authority.v1 import errors_pb2
from session_authority_client import (
    AsyncSessionAuthority,
    NearCache,
    SessionAuthority,
    SessionAuthorityError,
    Unavailable,
    Validation,
)
from session_authority_client.wire import session_authority_pb2 as pb
from tests.support.proxy import Proxy

LONG = timedelta(seconds=30)
TOO_SHORT = Failure(
    grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_DEADLINE_TOO_SHORT, "too little time"
)
ATTEMPTS = 3


@pytest.fixture(autouse=True)
async def enough_threads() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(32))


@asynccontextmanager
async def live(connect: Connect, scripted: tuple[Service, str]) -> AsyncIterator[Any]:
    """Yields a client whose cache is live and empty."""
    cache = NearCache()
    async with connect(scripted[1], timeout=LONG, cache=cache) as made:
        await made.validate_session("token of starter", DEVICE)
        await until(lambda: cache.live)
        scripted[0].calls.clear()
        yield made


@pytest.fixture
async def client(connect: Connect, scripted: tuple[Service, str]) -> AsyncIterator[Any]:
    """A client of each kind in turn."""
    async with live(connect, scripted) as made:
        yield made


@pytest.fixture
async def tasks_client(scripted: tuple[Service, str]) -> AsyncIterator[Any]:
    """A client for asyncio. Only its callers can be cancelled."""
    async with live(AsyncSessionAuthority, scripted) as made:
        yield made


async def ask(client: Any, user: str = "ada", within: timedelta | None = None) -> Validation:
    found: Validation = await client.validate_session(f"token of {user}", DEVICE, timeout=within)
    return found


async def until_joined(client: Any, callers: int = 1) -> None:
    """Waits until this many callers have joined the one request that is under way."""
    if isinstance(client, OnThreads):
        (flight,) = inner(client)._coalescer._flights._open.values()
        await until(lambda: len(flight._future._condition._waiters) == callers)
    else:
        await asyncio.sleep(0)


async def test_a_repeated_validation_is_answered_by_the_cache(
    scripted: tuple[Service, str], client: Any
) -> None:
    first = await ask(client)
    assert await ask(client) is first
    assert len(scripted[0].calls) == 1


async def test_an_answer_for_one_device_id_is_not_used_for_another(
    scripted: tuple[Service, str], client: Any
) -> None:
    await ask(client)
    await client.validate_session("token of ada", DEVICE.upper())
    assert len(scripted[0].calls) == 2


async def test_a_session_that_was_revoked_elsewhere_is_denied(
    scripted: tuple[Service, str], client: Any
) -> None:
    service, _ = scripted
    assert await ask(client)
    assert await ask(client, "bob")
    service.revoke("ada")
    cache = inner(client)._cache
    await until(lambda: cache.stats().entries == 1)
    assert not await ask(client)
    count = len(service.calls)
    assert not await ask(client)  # the cache keeps no denials
    assert len(service.calls) == count + 1
    assert await ask(client, "bob")
    assert len(service.calls) == count + 1


async def test_an_answer_that_recommends_a_renewal_is_not_cached(
    scripted: tuple[Service, str], client: Any
) -> None:
    scripted[0].renew = True
    for _ in range(3):
        assert (await ask(client)).renew_recommended
    assert len(scripted[0].calls) == 3


async def test_observe_only_validations_neither_read_nor_fill_the_cache(
    scripted: tuple[Service, str], client: Any
) -> None:
    await ask(client)
    for _ in range(2):
        await client.validate_session("token of ada", DEVICE, observe_only=True)
    assert [request.observe_only for request in scripted[0].requests[-2:]] == [True, True]
    await client.validate_session("token of bob", DEVICE, observe_only=True)
    await ask(client, "bob")
    assert len(scripted[0].calls) == 5


async def test_passive_validations_neither_read_nor_fill_the_cache(
    scripted: tuple[Service, str], client: Any
) -> None:
    await client.validate_session("token of ada", DEVICE, passive=True)
    await ask(client)
    assert [request.passive for request in scripted[0].requests[-2:]] == [True, False]
    await client.validate_session("token of ada", DEVICE, passive=True)
    assert len(scripted[0].calls) == 3, "a passive validation asks the service"
    await ask(client)
    assert len(scripted[0].calls) == 3, "the cache keeps the answer to a use"


async def test_equal_validations_at_the_same_time_share_one_answer(
    scripted: tuple[Service, str], client: Any
) -> None:
    service, _ = scripted
    service.open.clear()
    tasks = [asyncio.create_task(ask(client)) for _ in range(20)]
    await until(lambda: len(service.calls) == 1)
    await until_joined(client, 19)
    with pytest.raises(Unavailable):
        await ask(client, "bob", within=timedelta(seconds=0.3))
    service.open.set()
    answers = await asyncio.gather(*tasks)
    assert len({id(answer) for answer in answers}) == 1
    assert [request.access_token for request in service.requests].count("token of ada") == 1


async def test_a_validation_after_an_event_does_not_join_a_request_from_before_the_event(
    scripted: tuple[Service, str], client: Any
) -> None:
    service, _ = scripted
    service.open.clear()
    before = asyncio.create_task(ask(client))
    await until(lambda: len(service.calls) == 1)
    service.revoke("ada")
    cache = inner(client)._cache
    await until(lambda: cache._events == 1)
    after = asyncio.create_task(ask(client))
    await until(lambda: len(service.calls) == 2)
    service.open.set()
    assert await before
    assert not await after
    assert not await ask(client)


async def test_a_cancelled_caller_leaves_the_shared_answer_to_the_others(
    scripted: tuple[Service, str], tasks_client: AsyncSessionAuthority
) -> None:
    service, _ = scripted
    service.open.clear()
    tasks = [asyncio.create_task(ask(tasks_client)) for _ in range(3)]
    await until(lambda: len(service.calls) == 1)
    tasks[0].cancel()
    await asyncio.sleep(0)
    service.open.set()
    assert all(await asyncio.gather(*tasks[1:]))
    assert len(service.calls) == 1
    assert await ask(tasks_client)
    assert len(service.calls) == 1


async def test_a_joined_caller_with_more_time_sends_its_own_request_after_a_timeout(
    scripted: tuple[Service, str], client: Any
) -> None:
    service, _ = scripted
    service.open.clear()
    hasty = asyncio.create_task(ask(client, within=timedelta(seconds=2)))
    await until(lambda: len(service.calls) == 1)
    patient = asyncio.create_task(ask(client))
    await until_joined(client)
    with pytest.raises(Unavailable):
        await hasty
    await until(lambda: len(service.calls) == 2)
    service.open.set()
    assert await patient


async def _joined(service: Service, client: Any) -> tuple[asyncio.Task[Validation], ...]:
    """Starts a caller with little time, whose request is under way, and a caller with more time
    that joins it.
    """
    service.open.clear()
    hasty = asyncio.create_task(ask(client, within=timedelta(seconds=5)))
    await until(lambda: len(service.calls) == 1)
    patient = asyncio.create_task(ask(client))
    await until_joined(client)
    return hasty, patient


async def test_a_joined_caller_sends_its_own_request_if_the_first_had_too_little_time(
    scripted: tuple[Service, str], client: Any
) -> None:
    service, _ = scripted
    hasty, patient = await _joined(service, client)
    service.refusals += [TOO_SHORT] * ATTEMPTS
    service.open.set()
    with pytest.raises(Unavailable) as caught:
        await hasty
    assert caught.value.reason == "DEADLINE_TOO_SHORT"
    assert await patient


async def test_a_failure_that_no_caller_waits_for_is_not_logged(
    scripted: tuple[Service, str],
    tasks_client: AsyncSessionAuthority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service, _ = scripted
    for waiting in await _joined(service, tasks_client):
        waiting.cancel()
    [shared] = tasks_client._coalescer._flights._open.values()
    service.code = grpc.StatusCode.INTERNAL
    service.open.set()
    await asyncio.wait([shared._task])
    del shared, waiting  # the exception of `waiting` refers to `shared`
    gc.collect()
    assert caplog.text == ""


async def test_a_joined_caller_with_less_time_gives_up_earlier(
    scripted: tuple[Service, str], client: Any
) -> None:
    service, _ = scripted
    service.open.clear()
    patient = asyncio.create_task(ask(client))
    await until(lambda: len(service.calls) == 1)
    with pytest.raises(Unavailable):
        await ask(client, within=timedelta(seconds=0.1))
    service.open.set()
    assert await patient
    assert len(service.calls) == 1


async def test_callers_that_share_a_failure_each_get_their_own_exception(
    scripted: tuple[Service, str], client: Any
) -> None:
    service, _ = scripted
    service.open.clear()
    service.code = grpc.StatusCode.INTERNAL
    tasks = [asyncio.create_task(ask(client)) for _ in range(3)]
    await until(lambda: len(service.calls) == 1)
    await until_joined(client, 2)
    service.open.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert len({id(error) for error in errors}) == 3
    assert [str(error) for error in errors] == ["as the test wants"] * 3
    service.code = None
    assert await ask(client)


async def test_after_a_revocation_by_this_client_the_cache_does_not_answer(
    scripted: tuple[Service, str], client: Any
) -> None:
    service, _ = scripted
    await ask(client)
    service.flowing.clear()
    # This service does not know RevokeDevice, so the client can't know whether the session has
    # ended.
    with pytest.raises(SessionAuthorityError):
        await client.revoke_device("ada", DEVICE)
    await ask(client)
    assert len(service.requests) == 3


async def test_after_an_update_by_this_client_the_cache_does_not_answer(
    scripted: tuple[Service, str], client: Any
) -> None:
    """Cached answers have the old claims, and do not say that a renewal brings new claims."""
    service, _ = scripted
    await ask(client)
    service.flowing.clear()
    with pytest.raises(SessionAuthorityError):  # this service does not know UpdateSession
        await client.update_session("ada", {"email": "ada@example.org"})
    await ask(client)
    assert len(service.requests) == 3


def _before(
    then: Callable[[logging.LogRecord], None], first: Callable[[], None]
) -> Callable[[logging.LogRecord], None]:
    def both(record: logging.LogRecord) -> None:
        first()
        then(record)

    return both


async def test_a_cut_watch_empties_the_cache_until_there_is_another_watch(
    scripted: tuple[Service, str],
    client: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service, _ = scripted
    caplog.set_level(logging.INFO, "session_authority_client")
    cache = inner(client)._cache
    await ask(client)
    was_live: list[bool] = []
    monkeypatch.setattr(
        caplog.handler, "emit", _before(caplog.handler.emit, lambda: was_live.append(cache.live))
    )
    service.watch_code = grpc.StatusCode.PERMISSION_DENIED
    service.cut()
    await until(lambda: "CallerNotAllowed" in caplog.text)
    assert not any(was_live)  # the cache is off at once, before the client tries again
    for _ in range(2):
        assert await ask(client)
    assert len(service.calls) == 3
    assert "token" not in caplog.text


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.OK,
    ],
)
async def test_the_client_watches_again_whatever_ended_the_last_watch(
    scripted: tuple[Service, str], client: Any, code: grpc.StatusCode
) -> None:
    service, _ = scripted
    cache = inner(client)._cache
    await ask(client)
    watches = service.watches
    service._over = code is grpc.StatusCode.OK  # then the watch ends without an error
    service.cut()
    await until(lambda: service.watches == watches + 1 and cache.live)
    assert cache.stats().emptied == 1
    assert await ask(client)
    assert len(service.calls) == 2


async def test_the_client_watches_again_after_other_code_cancelled_the_watch(
    scripted: tuple[Service, str], tasks_client: AsyncSessionAuthority
) -> None:
    cache = tasks_client._cache
    assert cache is not None
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.wait(others)
    assert not cache.live
    assert await ask(tasks_client)
    await until(lambda: cache.live)


async def test_a_watch_without_proofs_is_given_up(
    connect: Connect, scripted: tuple[Service, str]
) -> None:
    service, address = scripted
    cache = NearCache(max_silence=timedelta(seconds=0.5))
    async with connect(address, timeout=LONG, cache=cache) as client:
        await ask(client)
        await until(lambda: cache.live)
        watches = service.watches
        service.flowing.clear()
        await until(lambda: service.watches > watches)
        assert not cache.live
        service.flowing.set()
        await until(lambda: cache.live)


async def test_an_exception_in_the_cache_does_not_end_the_watching(
    scripted: tuple[Service, str], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, _ = scripted
    cache = inner(client)._cache
    tell, broken = cache.tell, True

    def failing(message: pb.WatchEventsResponse) -> None:
        if broken:
            raise RuntimeError("a fault of its own")
        tell(message)

    monkeypatch.setattr(cache, "tell", failing)
    service.happen(pb.EVENT_TYPE_DEVICE_SIGNED_IN, "ada")
    await until(lambda: not cache.live)
    broken = False
    await until(lambda: cache.live)


async def test_the_watch_has_a_connection_of_its_own(
    connect: Connect, scripted: tuple[Service, str]
) -> None:
    _, address = scripted
    cache = NearCache()
    async with (
        Proxy(f"grpc://{address}") as wire,
        connect(behind(wire), timeout=LONG, cache=cache) as client,
    ):
        await ask(client)
        await until(lambda: cache.live)
        assert wire.connections == 2


async def test_a_closed_client_watches_no_longer(
    connect: Connect, scripted: tuple[Service, str]
) -> None:
    _, address = scripted
    cache = NearCache()
    async with connect(address, timeout=LONG, cache=cache) as client:
        await ask(client)
        await until(lambda: cache.live)
    assert not cache.live
    watch = inner(client)._cache_watch
    assert not watch._thread.is_alive() if isinstance(client, OnThreads) else watch._task.done()


async def test_two_clients_can_not_share_a_cache(scripted: tuple[Service, str]) -> None:
    _, address = scripted
    cache = NearCache()
    async with AsyncSessionAuthority(address, cache=cache):
        with pytest.raises(ValueError, match="another client"):
            SessionAuthority(address, cache=cache)


def test_a_client_without_validations_does_not_watch(scripted: tuple[Service, str]) -> None:
    service, address = scripted
    with SessionAuthority(address, cache=NearCache()):
        pass
    assert service.watches == 0


_FORGETFUL = """
import asyncio, sys, time
from datetime import timedelta
from session_authority_client import AsyncSessionAuthority, NearCache, SessionAuthority

async def tasks():
    client = AsyncSessionAuthority(sys.argv[2], cache=NearCache(), timeout=timedelta(seconds=30))
    while not await client.validate_session("token of ada", "d") or not client._cache.live:
        await asyncio.sleep(0.01)

def threads():
    client = SessionAuthority(sys.argv[2], cache=NearCache(), timeout=timedelta(seconds=30))
    while not client.validate_session("token of ada", "d") or not client._cache.live:
        time.sleep(0.01)

asyncio.run(tasks()) if sys.argv[1] == "tasks" else threads()
print("over")
"""


@pytest.mark.parametrize("kind", ["tasks", "threads"])
def test_a_program_that_forgets_to_close_its_client_still_ends(
    scripted: tuple[Service, str], kind: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORGETFUL, kind, scripted[1]],
        env={**os.environ, "PYTHONPATH": str(Path(session_authority_client.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr
    assert "Traceback" not in done.stderr
