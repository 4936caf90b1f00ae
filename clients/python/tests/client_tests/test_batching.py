"""Adaptive batching on a real connection: which calls are sent when, and how a failure stays with
its own caller.
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
    """Makes a caller wait until no call is under way: a batch is never sent earlier."""
    monkeypatch.setattr(batching, "MAX_WAIT_SECONDS", 3600)
    monkeypatch.setattr(batching, "MAX_WAIT_SHARE", 1)


@pytest.fixture(autouse=True)
async def enough_threads() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(64))


@pytest.fixture
async def client(connect: Connect, scripted: tuple[Service, str]) -> AsyncIterator[Any]:
    """A client of each kind in turn: for asyncio, and for threads."""
    async with connect(scripted[1], timeout=LONG) as made:
        yield made


@pytest.fixture
async def tasks_client(scripted: tuple[Service, str]) -> AsyncIterator[AsyncSessionAuthority]:
    """A client for asyncio. Only its callers can be cancelled, and they need no thread each."""
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
    """Starts a validation that stays under way until the service is opened."""
    service.open.clear()
    task = ask(client, "first")
    await until(lambda: len(service.calls) == 1)
    return task


async def wait_in_queue(client: Any, count: int) -> None:
    """Waits until this many callers are queued, or until a second call is under way."""
    queue = inner(client)._batch_queue
    await until(lambda: len(queue._queue) == count or queue._under_way > 1)


async def test_validations_one_after_the_other_are_single_calls(
    scripted: tuple[Service, str], client: Any
) -> None:
    for _ in range(3):
        assert (await ask(client, "ada")).active
    assert scripted[0].methods() == [(SINGLE, 1)] * 3


@pytest.mark.usefixtures("nobody_loses_patience")
async def test_validations_during_a_call_share_a_batch_and_each_caller_gets_its_own_answer(
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


async def test_a_batch_is_no_larger_than_the_service_accepts(
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


async def test_a_request_that_is_too_large_for_a_batch_is_sent_alone(
    scripted: tuple[Service, str], tasks_client: AsyncSessionAuthority
) -> None:
    service, _ = scripted
    await hold_one(service, tasks_client)
    tasks = [ask(tasks_client, user) for user in ("ada", "x" * 9000, "bob")]
    await until(lambda: len(service.calls) == 3)
    assert sorted(service.methods()) == [(BATCH, 2), (SINGLE, 1), (SINGLE, 1)]
    service.open.set()
    assert all(await asyncio.gather(*tasks))


async def test_a_bad_request_fails_its_own_caller_only(
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


async def test_a_failed_batch_gives_each_caller_its_own_exception(
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


async def test_a_caller_that_is_cancelled_in_the_queue_is_not_in_the_batch(
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


async def test_a_caller_that_is_cancelled_during_its_batch_does_not_fail_the_others(
    scripted: tuple[Service, str], tasks_client: AsyncSessionAuthority
) -> None:
    service, _ = scripted
    await hold_one(service, tasks_client)
    gone, stays = ask(tasks_client, "gone", LONG), ask(tasks_client, "stays", LONG)
    # the first call is slow, so the two do not wait for its end
    await until(lambda: len(service.calls) == 2)
    gone.cancel()
    service.open.set()
    assert await stays
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_a_short_timeout_ends_one_caller_and_the_batch_has_the_longest_timeout(
    scripted: tuple[Service, str], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A caller waits at most half of its timeout for the call that is under way.
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


async def test_a_slow_call_does_not_hold_up_other_callers(
    scripted: tuple[Service, str], client: Any
) -> None:
    service, _ = scripted
    await hold_one(service, client)
    tasks = []
    for number in range(3):
        tasks.append(ask(client, f"user {number}"))
        await until(lambda: len(service.calls) == number + 2)  # noqa: B023
    service.open.set()
    assert all(await asyncio.gather(*tasks))


async def test_a_cancelled_call_lets_the_next_caller_go_ahead(
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
async def test_client_info_and_observe_only_are_sent_in_a_batch(
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


async def test_without_batching_each_validation_is_a_single_call(
    scripted: tuple[Service, str],
) -> None:
    service, address = scripted
    async with AsyncSessionAuthority(address, timeout=LONG, batching=False) as client:
        assert all(await asyncio.gather(*(ask(client, f"user {number}") for number in range(20))))
    assert service.methods() == [(SINGLE, 1)] * 20


async def test_a_token_that_can_not_be_read_fails_the_callers_of_that_batch(
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


async def test_closing_a_client_fails_all_waiting_callers(
    scripted: tuple[Service, str], client: Any
) -> None:
    service, _ = scripted
    first = await hold_one(service, client)
    under_way = [ask(client, f"under way {number}") for number in range(2)]
    await until(lambda: len(service.calls) >= 2)
    waits = ask(client, "waits")
    await asyncio.sleep(0)
    async with asyncio.timeout(15):  # shorter than the timeout of the calls
        await client.close()
    outcomes = await asyncio.wait_for(
        asyncio.gather(first, *under_way, waits, return_exceptions=True), 20
    )
    assert [(type(outcome), str(outcome)) for outcome in outcomes] == [
        (Unavailable, "the client is closed")
    ] * 4


def test_many_threads_each_get_their_own_answers(scripted: tuple[Service, str]) -> None:
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
    """A future whose result arrives just as the timeout of a waiting thread ends."""

    def result(self, timeout: float | None = None) -> Any:
        if timeout is None or self.done():
            return super().result(timeout)
        super().result(PATIENCE.total_seconds())
        raise TimeoutError


async def test_an_answer_that_arrives_as_the_timeout_of_its_thread_ends_is_returned(
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


def test_the_largest_batch_is_smaller_than_the_message_limit_of_the_service() -> None:
    largest = batching.MAX_BATCH_BYTES + batching.MAX_ITEM_BYTES + 8 * batching.MAX_BATCH_ITEMS
    assert largest < 4 * 1024 * 1024
