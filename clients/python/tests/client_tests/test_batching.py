"""Adaptive batching, on a real connection: what is sent when, and that the trouble of each caller
stays its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import grpc
import pytest

from client_tests.harness import PATIENCE, Connect, OnThreads, inner, until
from client_tests.service_harness import DEVICE, Service
from session_authority_client import (
    AsyncSessionAuthority,
    ClientInfo,
    InvalidRequest,
    SessionAuthority,
    SessionAuthorityError,
    Unavailable,
    Validation,
)
from session_authority_client._shared import batching
from session_authority_client._sync import batching as sync_batching

LONG = timedelta(seconds=30)
SINGLE, BATCH = "ValidateSession", "BatchValidateSessions"


@pytest.fixture
def nobody_loses_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is sent when no call is under way, or never."""
    monkeypatch.setattr(batching, "MAX_WAIT_SECONDS", 3600)
    monkeypatch.setattr(batching, "MAX_WAIT_SHARE", 1)


@pytest.fixture(autouse=True)
async def enough_threads() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(64))


@pytest.fixture
async def client(connect: Connect, scripted: tuple[Service, str]) -> AsyncIterator[Any]:
    """A client, of each kind in turn."""
    async with connect(scripted[1], timeout=LONG) as made:
        yield made


@pytest.fixture
async def tasks_client(scripted: tuple[Service, str]) -> AsyncIterator[AsyncSessionAuthority]:
    """A client for asyncio: only its callers can be cancelled, and are in no thread each."""
    async with AsyncSessionAuthority(scripted[1], timeout=LONG) as made:
        yield made


def ask(
    client: Any,
    user: str,
    timeout: timedelta | None = None,
    info: ClientInfo | None = None,
) -> asyncio.Task[Validation]:
    return asyncio.create_task(
        client.validate_session(f"token of {user}", DEVICE, timeout=timeout, client=info)
    )


async def hold_one(service: Service, client: Any) -> asyncio.Task[Validation]:
    """A validation that is under way and stays so, until the service is opened."""
    service.open.clear()
    task = ask(client, "first")
    await until(lambda: len(service.calls) == 1)
    return task


async def wait_in_queue(client: Any, count: int) -> None:
    """Waits until so many callers are queued, or are on their way in a second batch."""
    queue = inner(client)._batch_queue
    await until(lambda: len(queue._queue) == count or queue._under_way > 1)


async def test_one_after_the_other_are_calls_of_their_own(
    scripted: tuple[Service, str], client: Any
) -> None:
    for _ in range(3):
        assert (await ask(client, "ada")).active
    assert scripted[0].methods() == [(SINGLE, 1)] * 3


@pytest.mark.usefixtures("nobody_loses_patience")
async def test_what_comes_while_one_is_under_way_goes_together_and_each_gets_their_own(
    scripted: tuple[Service, str], client: Any
) -> None:
    service, _ = scripted
    service.revoke("user 3")
    first = await hold_one(service, client)
    tasks = [ask(client, f"user {number}") for number in range(20)]
    await wait_in_queue(client, 20)
    service.open.set()
    answers = [await task for task in tasks]
    assert (await first).session.user_id == "first"  # type: ignore[union-attr]
    assert [answer.session and answer.session.user_id for answer in answers] == [
        None if number == 3 else f"user {number}" for number in range(20)
    ]
    assert service.methods() == [(SINGLE, 1), (BATCH, 20)]


async def test_a_batch_has_no_more_than_the_service_takes(
    scripted: tuple[Service, str], tasks_client: AsyncSessionAuthority
) -> None:
    service, _ = scripted
    await hold_one(service, tasks_client)
    many = [ask(tasks_client, f"user {number}") for number in range(502)]
    large = [ask(tasks_client, "x" * 7000) for _ in range(500)]
    await asyncio.sleep(0)
    service.open.set()
    assert all(await asyncio.gather(*many, *large))
    assert max(count for _, count in service.methods()) == 500
    assert len(service.requests) == 1003


async def test_what_is_too_large_for_any_token_goes_alone(
    scripted: tuple[Service, str], tasks_client: AsyncSessionAuthority
) -> None:
    service, _ = scripted
    await hold_one(service, tasks_client)
    tasks = [ask(tasks_client, user) for user in ("ada", "x" * 9000, "bob")]
    await until(lambda: len(service.calls) == 3)
    assert sorted(service.methods()) == [(BATCH, 2), (SINGLE, 1), (SINGLE, 1)]
    service.open.set()
    assert all(await asyncio.gather(*tasks))


async def test_a_bad_request_fails_its_caller_only(
    scripted: tuple[Service, str], client: Any
) -> None:
    service, _ = scripted
    await hold_one(service, client)
    bad = asyncio.create_task(client.validate_session("broken", DEVICE))
    good = ask(client, "ada")
    await wait_in_queue(client, 2)
    service.open.set()
    assert (await good).active
    with pytest.raises(InvalidRequest, match="broken"):
        await bad


async def test_a_batch_that_fails_fails_each_with_an_exception_of_their_own(
    scripted: tuple[Service, str], client: Any
) -> None:
    service, _ = scripted
    await hold_one(service, client)
    tasks = [ask(client, f"user {number}") for number in range(3)]
    await wait_in_queue(client, 3)
    service.code = grpc.StatusCode.INTERNAL
    service.open.set()
    errors = [await asyncio.wait_for(_error(task), 20) for task in tasks]
    assert len({id(error) for error in errors}) == 3
    assert [(type(error), str(error)) for error in errors] == [
        (SessionAuthorityError, "as the test wants")
    ] * 3
    service.code = None
    assert await ask(client, "ada")


async def _error(task: asyncio.Task[Validation]) -> BaseException:
    with pytest.raises(SessionAuthorityError) as caught:
        await task
    return caught.value


async def test_who_is_cancelled_while_waiting_is_not_asked_for(
    scripted: tuple[Service, str], tasks_client: AsyncSessionAuthority
) -> None:
    service, _ = scripted
    await hold_one(service, tasks_client)
    gone, stays, also = (
        ask(tasks_client, "gone"),
        ask(tasks_client, "stays"),
        ask(tasks_client, "also"),
    )
    await asyncio.sleep(0)
    gone.cancel()
    service.open.set()
    assert await stays
    assert await also
    assert [request.access_token for request in service.requests[1:]] == [
        "token of stays",
        "token of also",
    ]


async def test_who_is_cancelled_while_the_batch_is_under_way_takes_nobody_along(
    scripted: tuple[Service, str], tasks_client: AsyncSessionAuthority
) -> None:
    service, _ = scripted
    await hold_one(service, tasks_client)
    gone, stays = ask(tasks_client, "gone", LONG), ask(tasks_client, "stays", LONG)
    await until(lambda: len(service.calls) == 2)  # the first is slow, so they don't wait for it
    gone.cancel()
    service.open.set()
    assert await stays
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_who_has_less_time_leaves_earlier_and_the_batch_has_that_of_the_most_patient(
    scripted: tuple[Service, str], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The batch is sent after half of the time of the first in the queue.
    monkeypatch.setattr(batching, "MAX_WAIT_SECONDS", 3600)
    monkeypatch.setattr(batching, "MAX_WAIT_SHARE", 0.5)
    service, _ = scripted
    first = await hold_one(service, client)
    hasty = ask(client, "hasty", timedelta(seconds=1.5))
    await wait_in_queue(client, 1)
    patient = ask(client, "patient")
    with pytest.raises(Unavailable) as caught:
        await hasty
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: len(service.calls) == 2)
    assert service.methods()[1] == (BATCH, 2)
    assert service.calls[1][2] > 20
    service.open.set()
    assert await patient
    assert await first


async def test_a_slow_call_holds_nobody_up(scripted: tuple[Service, str], client: Any) -> None:
    service, _ = scripted
    await hold_one(service, client)
    tasks = []
    for number in range(3):
        tasks.append(ask(client, f"user {number}"))
        await until(lambda: len(service.calls) == number + 2)  # noqa: B023
    service.open.set()
    assert all(await asyncio.gather(*tasks))


async def test_a_caller_that_is_cancelled_hands_the_line_on(
    scripted: tuple[Service, str], tasks_client: AsyncSessionAuthority
) -> None:
    service, _ = scripted
    first = await hold_one(service, tasks_client)
    second = ask(tasks_client, "second")
    first.cancel()
    await until(lambda: len(service.calls) == 2)
    service.open.set()
    assert await second


@pytest.mark.usefixtures("nobody_loses_patience")
async def test_what_is_known_of_the_client_and_observe_only_go_along(
    scripted: tuple[Service, str], client: Any
) -> None:
    service, _ = scripted
    await hold_one(service, client)
    tasks = [
        ask(client, "ada", info=ClientInfo(ip_address="203.0.113.7")),
        asyncio.create_task(client.validate_session("token of bob", DEVICE, observe_only=True)),
    ]
    await wait_in_queue(client, 2)
    service.open.set()
    await asyncio.gather(*tasks)
    assert service.methods()[1] == (BATCH, 2)
    assert {(r.client.ip_address, r.observe_only) for r in service.requests[1:]} == {
        ("203.0.113.7", False),
        ("", True),
    }


async def test_without_batching_all_are_calls_of_their_own(scripted: tuple[Service, str]) -> None:
    service, address = scripted
    async with AsyncSessionAuthority(address, timeout=LONG, batching=False) as client:
        assert all(await asyncio.gather(*(ask(client, f"user {number}") for number in range(20))))
    assert service.methods() == [(SINGLE, 1)] * 20


async def test_a_token_that_cannot_be_had_fails_whoever_it_was_for(
    scripted: tuple[Service, str],
) -> None:
    service, address = scripted
    broken = False

    def token() -> str:
        if broken:
            raise OSError("no such file")
        return "secret"

    async with AsyncSessionAuthority(address, timeout=LONG, token=token) as client:
        first = await hold_one(service, client)
        tasks = [ask(client, "ada"), ask(client, "bob")]
        await asyncio.sleep(0)
        broken = True
        service.open.set()
        assert await first
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(error) for error in errors] == ["token: can't be had (OSError)"] * 2
        assert errors[0] is not errors[1]
        broken = False
        assert await ask(client, "carl")
    assert service.metadata[-1]["authorization"] == "Bearer secret"


async def test_closing_tells_whoever_waits(scripted: tuple[Service, str], client: Any) -> None:
    service, _ = scripted
    first = await hold_one(service, client)
    under_way = [ask(client, f"under way {number}") for number in range(2)]
    await until(lambda: len(service.calls) >= 2)
    waits = ask(client, "waits")
    await asyncio.sleep(0)
    async with asyncio.timeout(15):  # calls have longer
        await client.close()
    outcomes = await asyncio.wait_for(
        asyncio.gather(first, *under_way, waits, return_exceptions=True), 20
    )
    assert [(type(outcome), str(outcome)) for outcome in outcomes] == [
        (Unavailable, "the client is closed")
    ] * 4


def test_many_threads_and_no_answer_goes_astray(scripted: tuple[Service, str]) -> None:
    client = SessionAuthority(scripted[1], timeout=LONG)
    wrong: list[str] = []

    def often(number: int) -> None:
        for turn in range(30):
            user = f"user {number}-{turn}"
            session = client.validate_session(f"token of {user}", DEVICE).session
            if session is None or session.user_id != user:
                wrong.append(user)

    workers = [threading.Thread(target=often, args=(number,)) for number in range(32)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    client.close()
    assert not wrong
    assert len(scripted[0].requests) == 32 * 30
    assert len(scripted[0].calls) < 32 * 30


class _JustInTime(Future[Any]):
    """Its result comes right after the patience of a thread that waits for it is over."""

    def result(self, timeout: float | None = None) -> Any:
        if timeout is None or self.done():
            return super().result(timeout)
        super().result(PATIENCE.total_seconds())
        raise TimeoutError


async def test_an_answer_that_comes_as_a_thread_loses_patience_is_the_answer(
    scripted: tuple[Service, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_batching, "Future", _JustInTime)
    service, address = scripted
    async with OnThreads(address, timeout=LONG) as client:
        first = await hold_one(service, client)
        second = ask(client, "second")
        await wait_in_queue(client, 1)
        service.open.set()
        assert (await second).session.user_id == "second"  # type: ignore[union-attr]
        assert (await first).active


def test_the_service_takes_such_batches() -> None:
    largest = batching.MAX_BATCH_BYTES + batching.MAX_ITEM_BYTES + 8 * batching.MAX_BATCH_ITEMS
    assert largest < 4 * 1024 * 1024
