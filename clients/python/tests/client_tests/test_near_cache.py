"""The near cache of a client, on a real connection: what is asked for, what is answered here, and
what turns it off and on.
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
    """A client whose cache is live, and nothing is in it."""
    cache = NearCache()
    async with connect(scripted[1], timeout=LONG, cache=cache) as made:
        await made.validate_session("token of starter", DEVICE)
        await until(lambda: cache.live)
        scripted[0].calls.clear()
        yield made


@pytest.fixture
async def client(connect: Connect, scripted: tuple[Service, str]) -> AsyncIterator[Any]:
    """One of each kind in turn."""
    async with live(connect, scripted) as made:
        yield made


@pytest.fixture
async def tasks_client(scripted: tuple[Service, str]) -> AsyncIterator[Any]:
    """One for asyncio: only its callers can be cancelled."""
    async with live(AsyncSessionAuthority, scripted) as made:
        yield made


async def ask(client: Any, user: str = "ada", within: timedelta | None = None) -> Validation:
    found: Validation = await client.validate_session(f"token of {user}", DEVICE, timeout=within)
    return found


async def until_joined(client: Any, callers: int = 1) -> None:
    """Waits until so many callers wait for the one request that is under way."""
    if isinstance(client, OnThreads):
        (flight,) = inner(client)._coalescer._flights._open.values()
        await until(lambda: len(flight._future._condition._waiters) == callers)
    else:
        await asyncio.sleep(0)


async def test_what_was_answered_once_is_answered_here(
    scripted: tuple[Service, str], client: Any
) -> None:
    first = await ask(client)
    assert await ask(client) is first
    assert len(scripted[0].calls) == 1


async def test_another_device_is_another_question(
    scripted: tuple[Service, str], client: Any
) -> None:
    await ask(client)
    await client.validate_session("token of ada", DEVICE.upper())
    assert len(scripted[0].calls) == 2


async def test_a_revocation_elsewhere_is_denied_here(
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
    assert not await ask(client)  # a refusal is asked for each time
    assert len(service.calls) == count + 1
    assert await ask(client, "bob")
    assert len(service.calls) == count + 1


async def test_what_should_be_renewed_is_asked_for_each_time(
    scripted: tuple[Service, str], client: Any
) -> None:
    scripted[0].renew = True
    for _ in range(3):
        assert (await ask(client)).renew_recommended
    assert len(scripted[0].calls) == 3


async def test_operators_see_the_truth(scripted: tuple[Service, str], client: Any) -> None:
    await ask(client)
    for _ in range(2):
        await client.validate_session("token of ada", DEVICE, observe_only=True)
    assert [request.observe_only for request in scripted[0].requests[-2:]] == [True, True]
    await client.validate_session("token of bob", DEVICE, observe_only=True)
    await ask(client, "bob")
    assert len(scripted[0].calls) == 5


async def test_the_answer_to_a_passive_question_stands_in_for_no_use(
    scripted: tuple[Service, str], client: Any
) -> None:
    await client.validate_session("token of ada", DEVICE, passive=True)
    await ask(client)
    assert [request.passive for request in scripted[0].requests[-2:]] == [True, False]
    await client.validate_session("token of ada", DEVICE, passive=True)
    assert len(scripted[0].calls) == 3, "the end may have been put off since"
    await ask(client)
    assert len(scripted[0].calls) == 3, "and what is known of a use stays"


async def test_who_asks_the_same_at_the_same_time_shares_an_answer(
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


async def test_who_comes_after_news_does_not_join_what_was_asked_before(
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


async def test_who_is_cancelled_leaves_the_answer_to_the_others(
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


async def test_who_has_more_time_than_the_one_who_asked_asks_again(
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
    """One with little time whose request is under way, and one with more who has joined it."""
    service.open.clear()
    hasty = asyncio.create_task(ask(client, within=timedelta(seconds=5)))
    await until(lambda: len(service.calls) == 1)
    patient = asyncio.create_task(ask(client))
    await until_joined(client)
    return hasty, patient


async def test_who_has_more_time_asks_again_if_the_service_found_it_too_little(
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


async def test_a_failure_that_nobody_waits_for_any_more_is_not_logged(
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
    del shared, waiting  # whose exception leads to it
    gc.collect()
    assert caplog.text == ""


async def test_who_has_less_time_leaves(scripted: tuple[Service, str], client: Any) -> None:
    service, _ = scripted
    service.open.clear()
    patient = asyncio.create_task(ask(client))
    await until(lambda: len(service.calls) == 1)
    with pytest.raises(Unavailable):
        await ask(client, within=timedelta(seconds=0.1))
    service.open.set()
    assert await patient
    assert len(service.calls) == 1


async def test_those_who_share_a_failure_have_an_exception_each(
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


async def test_what_this_client_revokes_is_not_answered_here(
    scripted: tuple[Service, str], client: Any
) -> None:
    service, _ = scripted
    await ask(client)
    service.flowing.clear()
    # This service knows no RevokeDevice: it is unknown whether the session has ended.
    with pytest.raises(SessionAuthorityError):
        await client.revoke_device("ada", DEVICE)
    await ask(client)
    assert len(service.requests) == 3


async def test_nor_is_what_this_client_updates(scripted: tuple[Service, str], client: Any) -> None:
    """Its answers have the claims of before, and none says that a renewal brings others."""
    service, _ = scripted
    await ask(client)
    service.flowing.clear()
    with pytest.raises(SessionAuthorityError):  # as above
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


async def test_a_cut_watch_empties_it_until_there_is_another(
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
    assert not any(was_live)  # off at once, before it tries again
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
async def test_it_watches_again_whatever_ended_the_last_watch(
    scripted: tuple[Service, str], client: Any, code: grpc.StatusCode
) -> None:
    service, _ = scripted
    cache = inner(client)._cache
    await ask(client)
    watches = service.watches
    service._over = code is grpc.StatusCode.OK  # then it just ends
    service.cut()
    await until(lambda: service.watches == watches + 1 and cache.live)
    assert cache.stats().emptied == 1
    assert await ask(client)
    assert len(service.calls) == 2


async def test_it_watches_again_after_a_stranger_cancelled_the_watch(
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


async def test_a_watch_that_proves_nothing_is_given_up(
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


async def test_what_tell_raises_does_not_end_the_watching(
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


async def test_a_closed_client_watches_no_more(
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


async def test_one_cache_is_not_given_to_two_clients(scripted: tuple[Service, str]) -> None:
    _, address = scripted
    cache = NearCache()
    async with AsyncSessionAuthority(address, cache=cache):
        with pytest.raises(ValueError, match="another client"):
            SessionAuthority(address, cache=cache)


def test_a_client_that_was_never_asked_watches_nothing(scripted: tuple[Service, str]) -> None:
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
def test_a_program_that_forgets_to_close_ends_all_the_same(
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
