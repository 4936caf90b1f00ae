"""How watches go on and end, and what they cost processes that have no watcher."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest

from session_authority.domain.events import Event, EventType
from session_authority.events import recent
from session_authority.events.messages import timestamp
from session_authority.processes import server as server_module
from session_authority.store import connect
from session_authority.store.records import Commit
from session_authority.v1 import session_authority_pb2 as pb
from tests.rpc.harness import DAY, HOUR, PATIENCE, SECOND, START, Stage, StageWith, refusal_of
from tests.rpc.watch.harness import (
    EXPIRED,
    LEFT_OPEN,
    WATCH,
    Watch,
    nothing_left,
    reading_tasks,
    watchers,
)
from tests.support.backends import PATIENT, Backend
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

# --- where to go on -------------------------------------------------------------------------------


async def test_a_cursor_can_be_used_at_another_server(
    stage_with: StageWith, stage: Stage, backends: Any, request: Any
):
    watch = await Watch(stage).started()
    await stage.sign_in("ada")
    [first] = await watch.next()
    watch.call.cancel()
    await stage.sign_in("bob")
    other = await stage_with(backends(request.node.callspec.params["stage"]))
    resumed = Watch(other, cursor=watch.cursor)
    await stage.sign_in("cyd")
    assert {event.user_id for event in await resumed.next(2)} == {"bob", "cyd"}
    everything = Watch(other, start_time=START - DAY)
    events = await everything.next(3)
    assert {event.user_id for event in events} == {"ada", "bob", "cyd"}
    assert first.event_id in {event.event_id for event in events}, (
        "an event has the same ID in each watch"
    )


async def test_a_cursor_that_is_too_old_is_refused(stage: Stage):
    watch = await Watch(stage).started()
    stage.clock.advance(7 * DAY - HOUR + SECOND)
    assert await Watch(stage, cursor=watch.cursor).refused() == EXPIRED
    assert stage.counted("WatchEvents") == {"OUT_OF_RANGE": 1}
    await Watch(stage).started()


async def test_each_heartbeat_has_a_cursor(stage: Stage):
    stage.feed._poll_interval = stage.feed._heartbeat_interval = timedelta(milliseconds=10)
    watch = await Watch(stage, user_ids=["nobody"]).started()
    before = watch.cursor
    for _ in range(3):
        stage.clock.advance(HOUR)
        while watch.cursor == before:
            assert not (await watch.read()).events
        before = watch.cursor


# --- clients that don't read ----------------------------------------------------------------------


def deaf_channel(stage: Stage) -> Any:
    """A connection of its own that buffers little of what is not read."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
    return grpc.aio.insecure_channel(str(stage.address), options)


async def read_all(call: Any) -> None:
    """Reads until there is nothing more. Raises the error of a watch that was ended."""
    while await asyncio.wait_for(call.read(), PATIENCE) is not grpc.aio.EOF:
        pass


async def happen(stage: Stage, user_id: str, number: int) -> None:
    """Causes an event of a thousand bytes."""
    event = Event(
        EventType.DEVICE_REVOKED, START, user_id, "tests", reason=f"{number:05} {'x' * 1000}"
    )
    await stage.store.commit(Commit(user_id, START, events=(event,)))


async def test_a_client_that_never_reads_is_disconnected_and_disturbs_nobody(
    valkey_stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recent, "MAX_RECENT_EVENTS", 200)
    stage = valkey_stage
    async with deaf_channel(stage) as channel:
        deaf: Any = channel.unary_stream(WATCH)(b"", timeout=LEFT_OPEN)
        await eventually(lambda: watchers(stage) == 1, "the client to watch")
        good = await Watch(stage).started()
        number = 0
        async with asyncio.timeout(2 * PATIENCE):
            while watchers(stage) == 2 or stage.counted("WatchEvents") == {}:
                await asyncio.gather(*(happen(stage, "ada", number + i) for i in range(50)))
                number += 50
                await good.next(50)
                assert stage.feed._reader.recent.held_events <= 200
                assert number < 20_000, "the client is disconnected in the end"
        assert stage.counted("WatchEvents") == {"OUT_OF_RANGE": 1}
        assert sorted(event.reason[:5] for event in good.events) == [
            f"{i:05}" for i in range(number)
        ]
        # When the client reads at last, it learns that it missed something.
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_all(deaf)
        assert refusal_of(caught.value) == EXPIRED


async def test_a_client_that_never_reads_its_history_is_sent_at_most_a_page(valkey_stage: Stage):
    stage = valkey_stage
    await asyncio.gather(*(happen(stage, "ada", number) for number in range(2000)))
    written: list[int] = []
    write = stage.feed._messages.event
    stage.feed._messages.event = lambda recorded: written.append(1) or write(recorded)  # type: ignore[method-assign,func-returns-value]
    async with deaf_channel(stage) as channel:
        deaf: Any = channel.unary_stream(WATCH)(
            pb.WatchEventsRequest(start_time=timestamp(START - DAY)).SerializeToString(),
            timeout=LEFT_OPEN,
        )
        await eventually(lambda: len(written) >= 256, "the first page of the client")
        good = await Watch(stage).started()
        for number in range(20):
            await happen(stage, "bob", number)
            assert [event.user_id for event in await good.next()] == ["bob"]
        assert len(written) < 1500, "events that the client does not take are not encoded"
        deaf.cancel()
        await eventually(lambda: watchers(stage) == 1, "the watch to be gone")


@pytest.mark.parametrize("since", [{}, {"start_time": timestamp(START - DAY)}], ids=["now", "past"])
async def test_a_watch_that_is_ended_in_its_first_message_learns_of_it(
    valkey_stage: Stage, since: dict[str, Any]
):
    """A client that does not learn of the end would wait for ever for a server that has forgotten
    the watch.
    """
    stage = valkey_stage
    await stage.sign_in("ada")
    write = stage.feed._messages.cursor

    def interrupted(cursor: str) -> bytes:
        # The watch is ended while the message is written, before gRPC can have reported that it was
        # written.
        asyncio.get_running_loop().call_soon(stage.feed._reader.start_over, "a test")
        return write(cursor)

    stage.feed._messages.cursor = interrupted  # type: ignore[method-assign]
    watches = [Watch(stage, **since) for _ in range(5)]
    for refusal in await asyncio.gather(*(watch.refused() for watch in watches)):
        assert refusal == EXPIRED
    assert watchers(stage) == 0


# --- ends -----------------------------------------------------------------------------------------


async def test_a_cancelled_watch_leaves_nothing_behind(valkey_stage: Stage):
    stage = valkey_stage
    channel = f"{stage.prefix}:wake"

    async def listening() -> int:
        async with stage.backend.admin() as admin:
            [_, number] = await admin.execute_command("PUBSUB", "NUMSUB", channel)
        return int(number)

    with nothing_left(stage):
        for round_ in range(3):
            watches = [await Watch(stage).started() for _ in range(5)]
            while await listening() != 1:  # noqa: ASYNC110 - bounded by the test's own patience
                await asyncio.sleep(0.005)
            for watch in watches[1:]:
                watch.call.cancel()
            await eventually(lambda: watchers(stage) == 1, "the others to be gone")
            await stage.sign_in("ada")
            await watches[0].next()
            watches[0].call.cancel()
            await eventually(lambda: watchers(stage) == 0, "the last to be gone")
            await eventually(
                lambda: stage.feed._reading is None and not reading_tasks(), "the reader to end"
            )
            while await listening() != 0:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            await eventually(
                lambda n=round_: stage.counted("WatchEvents") == {"CANCELLED": 5 * (n + 1)},  # type: ignore[misc]
                "each to be counted",
            )


async def test_watches_cancelled_at_any_moment_leave_nothing_behind(valkey_stage: Stage):
    stage = valkey_stage
    cursor = (await Watch(stage).started()).cursor
    await stage.sign_in("ada")
    for number in range(80):
        request = pb.WatchEventsRequest(cursor=cursor if number % 2 else "")
        call = stage.watch(request, within=LEFT_OPEN)
        for _ in range(number % 7):
            await asyncio.sleep(0)
        if number % 3:
            await asyncio.sleep(0.0005 * (number % 10))
        call.cancel()
    await eventually(lambda: watchers(stage) == 1, "all but the first to be gone")
    await stage.sign_in("bob")
    assert {event.user_id for event in await Watch(stage, cursor=cursor).next(2)} == {"ada", "bob"}


async def test_a_server_that_stops_ends_its_watches_in_order(valkey_stage: Stage):
    """The watches would never end by themselves, and the server would give other calls much more
    time.
    """
    stage = valkey_stage
    with nothing_left(stage):
        watches = [await Watch(stage).started() for _ in range(20)]
        await stage.sign_in("ada")
        for watch in watches:
            await watch.next()
        ends = [asyncio.ensure_future(watch.refused()) for watch in watches]
        await asyncio.wait_for(stage.server.stop(timedelta(seconds=10 * PATIENCE)), PATIENCE)
        for end in ends:
            refusal = await asyncio.wait_for(end, PATIENCE)
            assert refusal.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert watchers(stage) == 0, "the store may be closed now"


async def test_a_watch_with_a_deadline_ends_by_it(stage: Stage):
    call = stage.watch(pb.WatchEventsRequest(), within=0.5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_all(call)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: watchers(stage) == 0, "the watch to be gone")


# --- what it costs others -------------------------------------------------------------------------


async def test_without_a_watcher_a_validation_costs_no_more_commands(
    stage_with: StageWith, valkey_backend: Backend, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server_module, "PROBE_INTERVAL", HOUR)  # A probe sends commands too.
    async with Proxy(valkey_backend.url) as wire:
        stage = await stage_with(Backend("wired", wire.url, lambda: connect(wire.url, PATIENT)))
        signed_in = await stage.sign_in("ada")
        assert (await stage.validate(signed_in)).active  # The marks of use are written.
        wire.commands.clear()
        for _ in range(25):
            assert (await stage.validate(signed_in)).active
        wire.commands.pop("TIME", None)  # The probe's commands.
        assert wire.commands == {"HGET": 25}
        assert stage.feed._reading is None
        assert not reading_tasks()
        # The same holds after the watcher has gone.
        watch = await Watch(stage).started()
        watch.call.cancel()
        await eventually(
            lambda: stage.feed._reading is None and not reading_tasks(), "the reader to end"
        )
        wire.commands.clear()
        for _ in range(25):
            assert (await stage.validate(signed_in)).active
        wire.commands.pop("TIME", None)
        assert wire.commands == {"HGET": 25}
        await stage.server.stop(timedelta(0))
        await stage.store.close()
