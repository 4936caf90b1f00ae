"""One client used by many: threads, tasks that are cancelled, and the end of it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

import session_authority_client as sa
from client_tests.stage import PATIENCE, Connect, Fake, Hang, happens
from session_authority.v1 import session_authority_pb2 as pb


def echo(request: Any, context: grpc.ServicerContext) -> Message:
    """Tells each caller of their own session, be it in a batch."""
    if isinstance(request, pb.BatchValidateSessionsRequest):
        return pb.BatchValidateSessionsResponse(
            results=[pb.BatchValidateSessionsResult(response=_told(one)) for one in request.requests]
        )
    return _told(request)


def _told(request: pb.ValidateSessionRequest) -> pb.ValidateSessionResponse:
    answer = pb.ValidateSessionResponse(active=True, status=pb.SESSION_STATUS_ACTIVE, device_id=request.device_id)
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
    assert sum(asked) == 16 * 25, "each was asked for once"


async def test_many_tasks_each_get_their_own_answers(fake: Fake):
    fake.always = echo
    names = [str(number) for number in range(200)]
    async with sa.AsyncSessionAuthority(fake.address, timeout=PATIENCE) as authority:
        found = await asyncio.gather(*(authority.validate_session(name, name) for name in names))
    assert [item.session and item.session.user_id for item in found] == names


async def test_a_task_that_is_cancelled_takes_its_call_along(fake: Fake):
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
    assert len(fake.calls) == 2, "it was tried again"


def forever(context: grpc.ServicerContext, over: threading.Event) -> Any:
    context.add_callback(over.set)
    yield pb.WatchEventsResponse(cursor="c1")
    over.wait(2 * PATIENCE.total_seconds())


async def test_a_watch_that_nobody_reads_any_more_is_over(connect: Connect, fake: Fake):
    over = threading.Event()
    fake.acts.append(lambda request, context: forever(context, over))
    async with connect(fake.address, timeout=PATIENCE) as authority:
        watch = aiter(authority.watch_events())
        assert (await anext(watch)).cursor == "c1"
        assert not over.is_set()
        await watch.aclose()
        await happens(over)


async def test_closing_hangs_up(connect: Connect, fake: Fake):
    hang = Hang()
    fake.acts.append(hang)
    async with connect(fake.address, timeout=PATIENCE) as authority:
        call = asyncio.ensure_future(authority.validate_session("t", "d"))
        await happens(hang.began)
    with pytest.raises((sa.Unavailable, asyncio.CancelledError)):
        await call
    await happens(hang.over)
    with pytest.raises(Exception, match=r"(?i)closed"):
        await authority.get_signing_keys()
    await authority.close()
    assert len(fake.calls) == 1
