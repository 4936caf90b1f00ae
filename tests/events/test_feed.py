"""The messages that watchers get, and their cost."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from datetime import timedelta
from typing import Any

import pytest

from session_authority.domain.errors import CursorExpired, StoreUnavailable
from session_authority.domain.events import NOBODY, EventFilter, EventType
from session_authority.domain.moments import from_ms
from session_authority.events import recent
from session_authority.events.cursors import cursor_of
from session_authority.events.recent import Batch, RecentBatches, WrittenEvent
from session_authority.store import codec, connect
from session_authority.store.event_log import HistoryGone
from session_authority.store.key_names import PARTITIONS, partition
from session_authority.store.log_position import START, LogPosition
from tests.events.conftest import SceneOn
from tests.events.harness import HOUR, NEVER, QUICK, USERS, Scene, by_user, place_of
from tests.store.samples import event
from tests.support.backends import PATIENT, Backend
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

REVOKED = EventType.DEVICE_REVOKED


# --- messages -------------------------------------------------------------------------------------


async def test_the_first_message_comes_at_once(scene_with: SceneOn):
    scene = scene_with(poll=NEVER)
    watcher = await scene.watch().started()
    assert place_of(watcher.cursor) == LogPosition(
        (START,) * PARTITIONS, scene.clock(), scene.log.memory
    )
    other = await scene.watch().started()
    assert scene.watching() == 2
    assert other.messages[0].events == ()


async def test_a_wake_up_brings_events_without_a_poll(scene_with: SceneOn):
    scene = scene_with(poll=NEVER)
    watcher = await scene.watch().started()
    happened: list[tuple[str, str]] = []
    for _ in range(3):
        happened += await scene.happen(*USERS)
        await watcher.told(*happened)
    assert watcher.heartbeats == 0


async def test_a_poll_finds_events_without_a_wake_up(scene: Scene):
    watcher = await scene.watch().started()
    for number in range(1, 4):
        raw = codec.encode_event(event("ada", reason=str(number)))
        await scene.run("XADD", scene.keys.events("ada"), "*", "event", raw)
        await watcher.told(*(("ada", str(n)) for n in range(1, number + 1)))


async def test_events_before_the_start_are_not_sent(scene: Scene):
    await scene.happen(*USERS)
    first = await scene.watch().started()
    assert scene.written.events == 0, "an earlier event was encoded"
    happened = await scene.happen("ada", "bob")
    second = await scene.watch().started()
    happened += await scene.happen("ada")
    await first.told(*happened)
    await second.told(happened[-1])


async def test_watchers_get_the_events_that_their_filter_names(scene: Scene):
    some = scene.watch(only=EventFilter(types=frozenset({REVOKED})))
    adas = scene.watch(only=EventFilter(user_ids=frozenset({"ada", "bob"})))
    both = scene.watch(only=EventFilter(frozenset({REVOKED}), frozenset({"ada"})))
    all_of_it = scene.watch()
    for watcher in (some, adas, both, all_of_it):
        await watcher.started()
    happened = [
        *await scene.happen("ada", "bob", "cleo"),
        *await scene.happen("ada", "cleo", kind=REVOKED),
        *await scene.happen(NOBODY, kind=EventType.SIGNING_KEY_REVOKED),
        *await scene.happen(NOBODY, kind=REVOKED),
    ]
    await all_of_it.told(*happened)
    await some.told(("ada", "2"), ("cleo", "2"), (NOBODY, "2"))
    await adas.told(("ada", "1"), ("ada", "2"), ("bob", "1"), (NOBODY, "1"), (NOBODY, "2"))
    await both.told(("ada", "2"), (NOBODY, "2"))
    # The same for watches that resume, from the very first cursor on.
    for watcher, only in [
        (some, EventFilter(types=frozenset({REVOKED}))),
        (both, EventFilter(frozenset({REVOKED}), frozenset({"ada"}))),
    ]:
        again = scene.watch(watcher.messages[0].cursor, only)
        await again.told(*watcher.events)


async def test_an_event_that_a_filter_excludes_sends_no_message(scene_with: SceneOn):
    scene = scene_with(poll=NEVER)
    picky = await scene.watch(only=EventFilter(user_ids=frozenset({"ada"}))).started()
    everything = await scene.watch().started()
    others = await scene.happen(*["bob"] * 10)
    await everything.told(*others)
    mine = await scene.happen("ada")
    await picky.told(*mine)
    assert [len(message.events) for message in picky.messages] == [0, 1]
    # Its cursor is after all events that the filter excluded.
    again = await scene.watch(picky.cursor).started()
    await again.told(*await scene.happen("ada"))


async def test_watches_without_matching_events_are_kept_alive(scene_with: SceneOn):
    """Heartbeats keep them alive, and their cursors move on although no event is sent."""
    scene = scene_with(heartbeat=QUICK)
    picky = await scene.watch(only=EventFilter(user_ids=frozenset({"ada"}))).started()
    await scene.happen(*["bob"] * 3)
    end = (await scene.log.end(scene.clock())).entries
    await picky.has(
        lambda: place_of(picky.cursor).entries == end, "a heartbeat behind the others' events"
    )
    assert not picky.events


async def test_heartbeats_say_until_when_everything_was_sent(scene_with: SceneOn):
    scene = scene_with(heartbeat=QUICK)
    watcher = await scene.watch().started()
    for _ in range(3):
        scene.clock.advance(HOUR)
        await watcher.has(
            lambda: place_of(watcher.cursor).as_of == scene.clock(), "a heartbeat of now"
        )
    assert watcher.heartbeats >= 3
    assert not watcher.events


async def test_only_a_read_of_all_partitions_proves_until_when_everything_was_sent(
    scene_with: SceneOn,
):
    scene = scene_with(poll=NEVER)
    watcher, as_of = await scene.watch().started(), scene.clock()
    scene.clock.advance(HOUR)
    await watcher.told(*await scene.happen("ada"))
    assert place_of(watcher.cursor).as_of == as_of
    await scene.watch().started()  # A new watch causes such a read.
    await watcher.told(("ada", "1"), *await scene.happen("ada"))
    assert place_of(watcher.cursor).as_of == scene.clock()


# --- pace -----------------------------------------------------------------------------------------


async def test_a_watcher_that_falls_too_far_behind_is_ended(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recent, "MAX_RECENT_EVENTS", 20)
    stuck, slow, good = [await scene.watch().started() for _ in range(3)]
    stuck.hold()
    happened: list[tuple[str, str]] = []
    for number in range(40):
        happened += await scene.happen(USERS[number % len(USERS)])
        await good.told(*happened)
        if number == 15:
            slow.hold()
        if number == 30:
            slow.free()
            await slow.told(*happened)
    assert isinstance(await stuck.ended(), CursorExpired), "a stuck watch ends, too"
    assert len(stuck.messages) == 1
    assert scene.expired() == 1
    assert scene.watching() == 2
    await slow.told(*happened)
    resumed = scene.watch(stuck.cursor)
    await resumed.told(*happened)


@pytest.mark.parametrize(("limit", "most"), [("MAX_RECENT_EVENTS", 12), ("MAX_RECENT_BYTES", 6000)])
async def test_the_memory_is_bounded(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
):
    monkeypatch.setattr(recent, limit, most)
    watcher = await scene.watch().started()
    happened: list[tuple[str, str]] = []
    for _ in range(40):
        happened += await scene.happen("ada", "bob")
        await watcher.told(*happened)
        held = list(scene.feed._reader.recent.batches.values())
        events = sum(len(batch.events) for batch in held)
        size = sum(len(batch.cursor) + sum(len(e.message) for e in batch.events) for batch in held)
        assert (events if limit == "MAX_RECENT_EVENTS" else size) <= most
        assert held, "the memory is empty"
    assert scene.expired() == 0


async def test_batches_that_all_watchers_have_read_are_not_kept(scene: Scene):
    """Otherwise the memory of a quiet server grows for hours, until the limit is reached."""
    quick, stuck = [await scene.watch().started() for _ in range(2)]
    stuck.hold()
    first = await scene.happen(*USERS)
    await quick.told(*first)
    late = await scene.watch(quick.messages[0].cursor).started()
    await late.told(*first)
    happened = first + await scene.happen(*USERS * 5)
    for watcher in (quick, late):
        await watcher.told(*happened)
    assert scene.feed._reader.recent.held_events > len(USERS), (
        "the stuck watcher still needs these events"
    )
    stuck.free()
    await stuck.told(*happened)
    happened += await scene.happen("ada")
    await quick.told(*happened)
    kept = scene.feed._reader.recent
    assert kept.held_events == 1
    assert kept.held_bytes == sum(batch.held_bytes for batch in kept.batches.values())


async def test_the_counted_size_of_the_memory_is_an_upper_bound():
    """Objects can take several times as much memory as their bytes on the wire."""
    recent_batches = RecentBatches()
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(500):
            written = (
                WrittenEvent(EventType.DEVICE_SIGNED_IN, f"user-{number}", bytes(400 + number % 7))
                for _ in range(3)
            )
            recent_batches.add(Batch(tuple(written), bytes(400 + number % 5)))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert recent_batches.held_bytes / 2 < held <= recent_batches.held_bytes


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_heartbeats_use_a_clock_that_cannot_be_set(scene_with: SceneOn, step: timedelta):
    scene = scene_with(heartbeat=QUICK)
    watcher = await scene.watch().started()
    began = watcher.messages[0].read_uptime
    assert began == scene.uptime
    scene.clock.advance(step)
    scene.uptime += timedelta(seconds=10)
    await watcher.has(
        lambda: watcher.messages[-1].read_uptime == scene.uptime, "a heartbeat of now"
    )
    assert watcher.messages[-1].read_time == scene.clock()
    assert all(
        (message.read_time is None) == (message.read_uptime is None) for message in watcher.messages
    )


async def test_heartbeats_alone_do_not_fill_the_memory(
    scene_with: SceneOn, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recent, "MAX_RECENT_BYTES", 1000)
    scene = scene_with(heartbeat=timedelta())
    watcher = await scene.watch().started()
    await watcher.has(lambda: watcher.heartbeats >= 30, "30 heartbeats")
    assert sum(len(batch.cursor) for batch in scene.feed._reader.recent.batches.values()) <= 1000


async def test_a_watcher_that_is_behind_gets_many_events_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recent, "MAX_MESSAGE_EVENTS", 10)
    slow, good = [await scene.watch().started() for _ in range(2)]
    slow.hold()
    happened: list[tuple[str, str]] = []
    for _ in range(35):
        happened += await scene.happen("ada")
        await good.told(*happened)
    slow.free()
    await slow.told(*happened)
    assert max(len(message.events) for message in slow.messages) == 10
    assert len(slow.messages) <= 6


# --- cost -----------------------------------------------------------------------------------------


async def test_an_event_is_encoded_once_for_all_watchers(scene_with: SceneOn):
    scene = scene_with(poll=NEVER)
    watchers = [await scene.watch().started() for _ in range(6)]
    watchers += [
        await scene.watch(only=EventFilter(user_ids=frozenset({"ada"}))).started() for _ in range(3)
    ]
    happened: list[tuple[str, str]] = []
    for number in range(1, 11):
        happened += await scene.happen("ada")
        for watcher in watchers:
            await watcher.told(*happened)
        assert scene.written.events == number
    batches = len(watchers[0].messages) - 1
    assert scene.written.cursors == len(watchers) + batches
    for messages in zip(*(watcher.messages for watcher in watchers[:6]), strict=True):
        assert not messages[0].events or all(message.raw is messages[0].raw for message in messages)


async def test_only_partitions_with_news_are_read_between_polls(scene_with: SceneOn):
    scene = scene_with(poll=NEVER)
    watcher = await scene.watch().started()
    happened: list[tuple[str, str]] = []

    async def only_one_is_read() -> bool:
        scene.log.partitions.clear()
        happened.extend(await scene.happen("ada"))
        await watcher.told(*happened)
        return set().union(*scene.log.partitions) == {partition("ada")}

    await eventually(only_one_is_read, "the first looks at everything to be over", seconds=5)
    scene.log.asked.clear()
    for user in USERS * 2:
        scene.log.partitions.clear()
        happened += await scene.happen(user)
        await watcher.told(*happened)
        assert set().union(*scene.log.partitions) == {partition(user)}
    assert scene.log.asked["primaries"] == 0


async def test_one_event_costs_few_bytes_on_the_wire(scene_on: SceneOn, valkey_backend: Backend):
    async with Proxy(valkey_backend.url) as wire:
        scene = scene_on(connect(wire.url, PATIENT), poll=NEVER)
        watchers = [await scene.watch().started() for _ in range(5)]
        happened: list[tuple[str, str]] = []

        async def one_read() -> bool:
            wire.commands.clear()
            happened.extend(await scene.happen("ada"))
            for watcher in watchers:
                await watcher.told(*happened)
            return wire.commands["XRANGE"] == 1

        await eventually(one_read, "the first looks at everything to be over", seconds=5)
        for _ in range(5):
            assert await one_read()
            assert wire.commands["EVALSHA"] == 1
            assert sum(wire.commands.values()) == 2
        for watcher in watchers:
            await watcher.stop()
        await scene.store.close()


# --- without watchers -----------------------------------------------------------------------------


def tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks()


async def test_the_last_watcher_leaves_nothing_behind(scene_on: SceneOn, valkey_backend: Backend):
    scene = scene_on(valkey_backend.connect())
    before = tasks()

    async def listeners() -> int:
        async with valkey_backend.admin() as admin:
            [_, number] = await admin.execute_command("PUBSUB", "NUMSUB", scene.keys.wake_channel)
        return int(number)

    async def nobody_listens() -> bool:
        return await listeners() == 0

    async def somebody_listens() -> bool:
        return await listeners() == 1

    for _ in range(3):
        one, two = [await scene.watch().started() for _ in range(2)]
        await eventually(somebody_listens, "the reader to listen")
        await one.stop()
        await two.told(*await scene.happen("ada"))
        await two.stop()
        await eventually(lambda: tasks() == before, "all tasks to be over")
        await eventually(nobody_listens, "the reader to hang up")
        reads = len(scene.log.partitions)
        await scene.happen("ada")
        assert len(scene.log.partitions) == reads
    assert scene.watching() == 0


async def test_leaving_at_any_time_leaves_nothing_behind(scene: Scene):
    await scene.happen(*USERS)
    before = tasks()
    moments = [from_ms(0), None]
    for steps in range(60):
        watcher = scene.watch(moments[steps % 2])
        for _ in range(steps):
            await asyncio.sleep(0)
        await watcher.stop()
        # After two of three watches, the next watch starts while the reader may still be ending.
        if steps % 3 == 0:
            await eventually(lambda: tasks() == before, "all tasks to be over")
    watcher = await scene.watch().started()
    await watcher.told(*await scene.happen(*USERS))
    await watcher.stop()
    await eventually(lambda: tasks() == before, "all tasks to be over")


async def test_a_watcher_that_comes_as_the_last_one_leaves_gets_every_event(scene: Scene):
    cursor: str | None = None
    told: list[tuple[str, str]] = []
    happened: list[tuple[str, str]] = []
    for number in range(10):
        watcher = await scene.watch(cursor).started()
        happened += await scene.happen("ada", "bob")
        await watcher.has(lambda w=watcher: len(w.events) >= 1, "some of it")  # type: ignore[misc]
        if number % 2:
            stopping = asyncio.ensure_future(watcher.stop())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        else:
            stopping = asyncio.ensure_future(watcher.stop())
            await stopping
        told += watcher.events
        cursor = watcher.cursor
        await stopping
    last = scene.watch(cursor)
    await eventually(lambda: len(told) + len(last.events) >= len(happened), "the rest")
    assert by_user([*told, *last.events]) == by_user(happened)


async def test_a_watch_that_cannot_start_gets_an_error(scene_on: SceneOn, valkey_backend: Backend):
    before = tasks()
    async with Proxy(valkey_backend.url) as wire:
        scene = scene_on(connect(wire.url, PATIENT))
        await wire.close()
        for since in (
            None,
            from_ms(0),
            cursor_of(LogPosition((START,) * PARTITIONS, scene.clock())),
        ):
            watcher = scene.watch(since)
            assert isinstance(await watcher.ended(), StoreUnavailable)
            assert not watcher.messages
            assert scene.watching() == 0
        await wire.open()
        watcher = await scene.watch().started()
        # A running watch goes on during an outage of the store. A new watch can't start.
        await wire.close()
        assert isinstance(await scene.watch().ended(), StoreUnavailable)
        assert watcher.is_watching
        await wire.open()
        await eventually(lambda: _can_watch(scene), "the store to be found again")
        await watcher.told(*await scene.happen("ada"))
        await watcher.stop()
        assert scene.watching() == 0
        await scene.store.close()
    await eventually(lambda: tasks() == before, "all tasks to be over")


async def _can_watch(scene: Scene) -> bool:
    watcher = scene.watch()
    await eventually(
        lambda: bool(watcher.messages) or not watcher.is_watching, "the watch to begin or to end"
    )
    good = watcher.is_watching
    await watcher.stop()
    return good


# --- faults that must affect nothing else ---------------------------------------------------------


async def test_an_error_in_one_watch_affects_no_other(scene: Scene):
    good = await scene.watch().started()

    async def broken(_: bytes) -> None:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await scene.feed.watch(None, EventFilter(), broken)
    await good.told(*await scene.happen("ada"))

    async def too_slow(_: bytes) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await scene.feed.watch(None, EventFilter(), too_slow)
    assert scene.watching() == 1
    assert scene.expired() == 0


async def test_an_event_that_cannot_be_encoded_ends_no_reader(scene: Scene):
    """The event ends the watches instead, because they would miss the event."""
    watcher = await scene.watch().started()
    write, scene.written.event = scene.written.event, _refuse  # type: ignore[method-assign,assignment]
    await scene.happen("ada")
    assert isinstance(await watcher.ended(), CursorExpired)
    scene.written.event = write  # type: ignore[method-assign]
    other = await scene.watch().started()
    await other.told(*await scene.happen("bob"))


def _refuse(_: object) -> bytes:
    raise ValueError("can't be written")


async def test_a_watch_that_is_ended_while_a_page_arrives_learns_the_reason(scene: Scene):
    """The history is dropped at the very moment at which a page was sent and the watch could
    go on.
    """
    watcher = await scene.watch().started()
    await watcher.told(*await scene.happen(*USERS))
    late = scene.watch(watcher.messages[0].cursor).hold()
    await late.has(lambda: late.waiting, "the first message")

    def let_go(pages: dict[int, object]) -> None:
        if any(isinstance(page, HistoryGone) for page in pages.values()):
            late.free()

    scene.log.on_read = let_go
    await scene.run("DEL", scene.keys.events("ada"))
    assert isinstance(await late.ended(), CursorExpired)
    assert isinstance(await watcher.ended(), CursorExpired)


async def test_a_watch_that_is_ended_while_a_message_is_read_learns_the_reason(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    """The feed forgets the next events of the watch at the very moment at which the watch could go
    on.
    """
    monkeypatch.setattr(recent, "MAX_RECENT_EVENTS", 5)
    watcher = (await scene.watch().started()).hold()
    await scene.watch().started()
    write = scene.written.cursor

    def let_go(cursor: str) -> bytes:
        if scene.written.events == 7:
            watcher.free()
        return write(cursor)

    monkeypatch.setattr(scene.written, "cursor", let_go)
    for number in range(1, 8):
        await scene.happen("ada")
        await eventually(lambda n=number: scene.written.events == n, "the event to be read")  # type: ignore[misc]
        if number == 1:
            await watcher.has(lambda: watcher.waiting, "a message")
    assert isinstance(await watcher.ended(), CursorExpired)
    assert scene.expired() == 1
