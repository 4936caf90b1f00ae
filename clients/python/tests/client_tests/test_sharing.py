"""One client that threads or tasks share, cancelled tasks, and the closing of the client."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

import session_authority_client as sa
from client_tests.harness import PATIENCE, Connect, Fake, Hang, happens
from client_tests.test_retries import CALLS
from session_authority.v1 import session_authority_pb2 as pb


def echo(request: Any, context: grpc.ServicerContext) -> Message:
    """Answers each validation with its own token as the user's ID, also in a batch."""
    if isinstance(request, pb.BatchValidateSessionsRequest):
        return pb.BatchValidateSessionsResponse(
            results=[
                pb.BatchValidateSessionsResult(response=_told(one)) for one in request.requests
            ]
        )
    return _told(request)


def _told(request: pb.ValidateSessionRequest) -> pb.ValidateSessionResponse:
    answer = pb.ValidateSessionResponse(
        active=True, status=pb.SESSION_STATUS_ACTIVE, device_id=request.device_id
    )
    answer.session.user_id = request.access_token
    return answer


def test_many_threads_each_get_their_own_answers(fake: Fake):
    fake.always = echo
    start = threading.Barrier(16)

    def work(number: int) -> bool:
        start.wait()
        names = [f"{number}-{turn}" for turn in range(25)]
        found = [authority.validate_session(name, f"on {name}") for name in names]
        return [item.session and item.session.user_id for item in found] == names and [
            item.device_id for item in found
        ] == [f"on {name}" for name in names]

    with (
        sa.SessionAuthority(fake.address, timeout=PATIENCE) as authority,
        ThreadPoolExecutor(16) as threads,
    ):
        assert all(threads.map(work, range(16)))
    asked = [len(getattr(request, "requests", ())) or 1 for request in fake.requests()]
    assert sum(asked) == 16 * 25, "each validation was sent once"


async def test_many_tasks_each_get_their_own_answers(fake: Fake):
    fake.always = echo
    names = [str(number) for number in range(200)]
    async with sa.AsyncSessionAuthority(fake.address, timeout=PATIENCE) as authority:
        found = await asyncio.gather(*(authority.validate_session(name, name) for name in names))
    assert [item.session and item.session.user_id for item in found] == names


async def test_a_cancelled_task_cancels_its_call(fake: Fake):
    hang = Hang()
    fake.acts.append(hang)
    async with sa.AsyncSessionAuthority(fake.address, timeout=PATIENCE) as authority:
        task = asyncio.create_task(authority.validate_session("t", "d"))
        await happens(hang.began)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await happens(hang.over)
        await authority.get_signing_keys()
    assert len(fake.calls) == 2, "the cancelled call was sent once"


def test_a_client_may_be_made_before_its_loop_runs_and_belongs_to_one_loop(fake: Fake):
    authority = sa.AsyncSessionAuthority(fake.address, timeout=PATIENCE)
    asyncio.run(authority.get_signing_keys())
    for call in CALLS.values():
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(call(authority))
    assert len(fake.calls) == 1


def test_a_client_that_made_no_call_can_be_closed(fake: Fake):
    authority = sa.AsyncSessionAuthority(fake.address)
    asyncio.run(authority.close())
    with pytest.raises(sa.Unavailable, match="the client is closed"):
        asyncio.run(authority.get_signing_keys())


def forever(context: grpc.ServicerContext, over: threading.Event) -> Any:
    context.add_callback(over.set)
    yield pb.WatchEventsResponse(cursor="c1")
    over.wait(2 * PATIENCE.total_seconds())


async def test_a_watch_that_its_caller_closes_ends_at_the_service(connect: Connect, fake: Fake):
    over = threading.Event()
    fake.acts.append(lambda request, context: forever(context, over))
    async with connect(fake.address, timeout=PATIENCE) as authority:
        watch = aiter(authority.watch_events())
        assert (await anext(watch)).cursor == "c1"
        assert not over.is_set()
        await watch.aclose()
        await happens(over)


async def test_closing_a_client_cancels_its_calls(connect: Connect, fake: Fake):
    hang = Hang()
    fake.acts.append(hang)
    async with connect(fake.address, timeout=PATIENCE) as authority:
        call = asyncio.ensure_future(authority.validate_session("t", "d"))
        await happens(hang.began)
    with pytest.raises(sa.Unavailable, match="the client is closed"):
        await call
    await happens(hang.over)
    await authority.close()
    assert len(fake.calls) == 1


@pytest.mark.parametrize("cached", [False, True])
async def test_after_closing_every_call_says_that_the_client_is_closed(
    connect: Connect, fake: Fake, cached: bool
):
    async with connect(
        fake.address, timeout=PATIENCE, cache=sa.NearCache() if cached else None
    ) as authority:
        await authority.get_signing_keys()
    for method, call in {
        **CALLS,
        "WatchEvents": lambda authority: anext(aiter(authority.watch_events())),
    }.items():
        with pytest.raises(sa.Unavailable, match="the client is closed") as caught:
            await call(authority)
        assert caught.value.code is grpc.StatusCode.CANCELLED, method


async def test_closing_a_client_ends_its_watch(connect: Connect, fake: Fake):
    over = threading.Event()
    fake.acts.append(lambda request, context: forever(context, over))
    async with connect(fake.address, timeout=PATIENCE) as authority:
        watch = aiter(authority.watch_events())
        assert (await anext(watch)).cursor == "c1"
        following = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
    with pytest.raises(sa.Unavailable, match="the client is closed"):
        await following
    await happens(over)


async def test_a_cancelled_task_stays_cancelled_when_the_client_is_closed(fake: Fake):
    fake.always = lambda request, context: Hang()(request, context)
    authority = sa.AsyncSessionAuthority(fake.address, timeout=PATIENCE, max_in_flight=1)
    tasks = [asyncio.create_task(authority.get_signing_keys()) for _ in range(4)]
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while not fake.calls:  # noqa: ASYNC110 - a condition has no event
            await asyncio.sleep(0.01)
    tasks[0].cancel()
    tasks[2].cancel()
    await authority.close()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, sa.Unavailable] * 2
