"""Where one read meets another: backlogs, moments, pages of a catch-up, and messages that several
watchers share.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from session_authority.domain.errors import CursorExpired, StoreUnavailable
from session_authority.domain.events import EventFilter
from session_authority.domain.moments import from_ms, to_ms
from session_authority.events import history as history_module
from session_authority.events import recent
from session_authority.events.cursors import parse_cursor
from session_authority.store import Limits, connect
from session_authority.store.event_log import EVENT_MEMORY, Page
from session_authority.store.key_names import PARTITIONS, partition
from session_authority.store.log_position import START, LogPosition, is_moment
from tests.events.conftest import SceneOn
from tests.events.harness import NEVER, USERS, Scene, Watcher, by_user
from tests.support.backends import PATIENT, Backend
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def place_of(watcher: Watcher, number: int = -1) -> LogPosition:
    """The position that a message of a watcher leads to."""
    place = parse_cursor(watcher.messages[number].cursor, PARTITIONS)
    assert place is not None
    return place


@asynccontextmanager
async def unheard(scene: Scene) -> AsyncIterator[None]:
    """Events that are written inside the block wake nobody."""
    keys = scene.store._keys
    # The log has the same key names, and may be about to listen. So only a copy is changed.
    scene.store._keys = copy(keys)
    scene.store._keys.wake_channel = "t-nobody-listens:wake"
    yield
    scene.store._keys = keys


# --- backlogs -------------------------------------------------------------------------------------


async def test_no_heartbeat_overtakes_an_earlier_event(scene_with: SceneOn):
    """This holds even if a partition has more events than one read returns: a watcher may believe
    that it got everything before the heartbeat.
    """
    scene = scene_with(poll=NEVER, heartbeat=timedelta())
    watcher = (await scene.watch().started()).hold()
    happened = await scene.happen("bob")
    # From now on all batches are kept for this watcher.
    await watcher.has(lambda: watcher.waiting, "a message")
    for _ in range(5):
        async with unheard(scene):
            happened += await scene.happen(*["ada"] * 30, "bob")
        beats = sum(not batch.events for batch in scene.feed._reader.recent.batches.values())
        newcomer = await scene.watch().started()  # Makes the reader read all partitions.
        await newcomer.stop()
        # A message may hold several batches, so the test looks at the batches in memory.
        batches = list(scene.feed._reader.recent.batches.values())
        assert sum(not batch.events for batch in batches) == beats + 1
        last = max(number for number, batch in enumerate(batches) if not batch.events)
        assert sum(len(batch.events) for batch in batches[:last]) == len(happened) - 1
    watcher.free()
    await watcher.told(*happened)


async def test_a_heartbeat_comes_when_it_is_due_and_not_with_every_read(scene: Scene):
    watcher = await scene.watch().started()

    async def looks(count: int) -> None:
        seen = scene.log.asked["primaries"]
        await eventually(lambda: scene.log.asked["primaries"] >= seen + count, f"{count} looks")

    await looks(5)
    assert watcher.heartbeats == 0
    for number in range(1, 4):
        scene.feed._reader._last_heartbeat -= (
            NEVER.total_seconds()
        )  # As if this much time had passed.
        await watcher.has(lambda n=number: watcher.heartbeats == n, "a heartbeat")  # type: ignore[misc]
        await looks(5)
        assert watcher.heartbeats == number


async def test_a_new_watch_starts_after_a_backlog(scene_with: SceneOn):
    scene = scene_with(poll=NEVER)
    first = await scene.watch().started()
    happened: list[tuple[str, str]] = []
    for _ in range(10):
        async with unheard(scene):
            happened += await scene.happen(*["ada"] * 9)
        watcher = await scene.watch().started()
        after = await scene.happen("ada")
        await watcher.told(*after)
        happened += after
        await watcher.stop()
    await first.told(*happened)


async def test_events_before_a_watch_are_not_read(scene_with: SceneOn):
    """The history may cover days, and none of it is read."""
    scene = scene_with(poll=NEVER)
    await scene.happen(*USERS * 3)
    watcher = await scene.watch().started()
    await watcher.told(*await scene.happen("ada"))
    assert scene.written.events == 1


async def test_a_watch_that_starts_as_the_history_is_dropped_starts_after_it(scene_with: SceneOn):
    """Earlier watches are ended. A watch that has got no event yet has nothing to miss."""
    scene = scene_with(poll=NEVER)
    watcher = await scene.watch().started()
    await watcher.told(*await scene.happen("ada"))
    await scene.run("DEL", scene.keys.events("ada"))
    newcomer = await scene.watch().started()
    assert isinstance(await watcher.ended(), CursorExpired)
    await newcomer.told(*await scene.happen("ada", "bob"))
    assert scene.expired() == 1


async def test_a_burst_of_one_user_arrives_completely_and_in_order(scene_with: SceneOn):
    scene = scene_with(poll=NEVER)
    watcher = await scene.watch().started()
    async with unheard(scene):
        happened = await scene.happen(*["ada"] * 600)
    happened += await scene.happen("ada")
    await watcher.told(*happened)
    assert watcher.messages[-1].cursor == (await scene.watch().started()).cursor


async def test_events_during_a_loss_of_wake_ups_are_read_when_they_return(
    scene_on: SceneOn, valkey_backend: Backend, prefix: str
):
    elsewhere = Scene(valkey_backend.connect(), prefix)
    async with Proxy(valkey_backend.url) as wire:
        scene = scene_on(connect(wire.url, PATIENT), poll=NEVER)
        watcher = await scene.watch().started()
        happened = await elsewhere.happen("ada")
        await watcher.told(*happened)
        for _ in range(2):
            await wire.close()
            happened += await elsewhere.happen(*USERS)
            await wire.open()
            await watcher.told(*happened)
        await watcher.stop()
        await scene.store.close()
    await elsewhere.close()


# --- how old a cursor is --------------------------------------------------------------------------


async def test_a_cursor_is_no_younger_than_the_last_read(scene_with: SceneOn):
    """A partition that could not be read may have news of any age."""
    scene = scene_with(poll=NEVER)
    watcher = await scene.watch().started()
    began = scene.clock()
    scene.clock.advance(3 * DAY)
    away = partition("bob")

    def lose(pages: dict[int, object]) -> None:
        if away in pages:
            pages[away] = StoreUnavailable()

    scene.log.on_read = lose
    early = await scene.watch().started()
    assert place_of(early).as_of == began
    assert early.messages[0].read_time is None, "nothing proves that all events were sent"
    await watcher.told(*await scene.happen("ada"))
    assert place_of(watcher).as_of == began
    scene.log.on_read = lambda _: None
    newcomer = await scene.watch().started()
    assert place_of(newcomer).as_of == newcomer.messages[0].read_time == scene.clock()


async def test_a_watch_does_not_start_while_nothing_can_be_read(scene_with: SceneOn):
    scene = scene_with(poll=NEVER)
    await scene.watch().started()

    def lose(pages: dict[int, object]) -> None:
        pages.update(dict.fromkeys(pages, StoreUnavailable()))

    scene.log.on_read = lose
    assert isinstance(await scene.watch().ended(), StoreUnavailable)


async def test_a_cursor_from_a_moment_is_no_younger_than_the_moment(scene_with: SceneOn):
    """This holds until all events since the moment were sent. Events that were not sent may be
    trimmed before the client resumes.
    """
    scene = scene_with(poll=NEVER)
    scene.clock.now = from_ms(to_ms(datetime.now(UTC)))
    happened = await scene.happen(*USERS)
    watcher = scene.watch(scene.clock() - 6 * DAY)
    await watcher.told(*happened)
    opening = watcher.messages[0].cursor
    scene.clock.advance(DAY - HOUR)
    await scene.watch(opening).told(*happened)
    scene.clock.advance(timedelta(milliseconds=1))
    assert isinstance(await scene.watch(opening).ended(), CursorExpired)
    await scene.watch(watcher.cursor).started()


async def test_a_watch_from_before_the_memory_can_be_resumed(scene_with: SceneOn):
    scene = scene_with(poll=NEVER)
    scene.clock.now = datetime.now(UTC)
    happened = await scene.happen(*USERS)
    watcher = await scene.watch(scene.clock() - 300 * DAY).started()
    scene.clock.advance(HOUR / 2)
    await scene.watch(watcher.messages[0].cursor).told(*happened)
    scene.clock.advance(HOUR)
    assert isinstance(await scene.watch(watcher.messages[0].cursor).ended(), CursorExpired)


async def test_cursors_during_a_catch_up_are_as_old_as_the_first(scene: Scene):
    """Only the last cursor of a catch-up covers all events up to now."""
    start = await scene.watch().started()
    old = place_of(start).as_of
    happened = await scene.happen(*["ada"] * 400, *["bob"] * 100)
    await start.told(*happened)
    scene.clock.advance(EVENT_MEMORY / 2)
    late = await scene.watch(start.messages[0].cursor).started()
    await late.told(*happened)
    assert len(late.messages) >= 3
    ages = [place_of(late, number).as_of for number in range(len(late.messages))]
    assert ages[:-1] == [old] * (len(ages) - 1)
    assert ages[-1] == scene.clock()


# --- catching up ----------------------------------------------------------------------------------


async def test_every_page_of_a_catch_up_leads_to_exactly_the_events_that_follow(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    """The partitions have very different lengths."""
    monkeypatch.setattr(history_module, "MAX_READ_EVENTS", 12)
    start = await scene.watch().started()
    happened = await scene.happen(*["ada"] * 60, *["bob"] * 7, *USERS)
    await start.told(*happened)
    late = scene.watch(start.messages[0].cursor)
    await late.told(*happened)
    assert len(late.messages) > 4
    told: list[tuple[str, str]] = []
    for message in list(late.messages):
        told += message.events
        resumed = await scene.watch(message.cursor).started()
        rest = len(happened) - len(told)
        await resumed.has(lambda r=resumed, n=rest: len(r.events) >= n, "the rest")  # type: ignore[misc]
        assert by_user([*told, *resumed.events]) == by_user(happened)
        await resumed.stop()


async def test_a_filter_applies_while_catching_up(scene: Scene):
    start = await scene.watch().started()
    happened = await scene.happen(*USERS * 3)
    await start.told(*happened)
    late = scene.watch(start.messages[0].cursor, EventFilter(user_ids=frozenset({"bob"})))
    await late.told(*(one for one in happened if one[0] == "bob"))
    await late.told(*(one for one in [*happened, *await scene.happen(*USERS)] if one[0] == "bob"))


async def test_any_number_of_catch_ups_uses_one_connection(
    scene_on: SceneOn, valkey_backend: Backend
):
    """Wake-ups have another connection. The others belong to sign-ins and validations."""
    async with Proxy(valkey_backend.url) as wire:
        limits = Limits(reply_timeout=timedelta(seconds=10), max_connections=5)
        scene = scene_on(connect(wire.url, limits), poll=NEVER)
        first = await scene.watch().started()
        happened = await scene.happen(*USERS * 5)
        await first.told(*happened)
        before = wire.connections
        crowd = [scene.watch(first.messages[0].cursor) for _ in range(100)]
        for watcher in crowd:
            await watcher.told(*happened)
        assert wire.connections == before
        for watcher in crowd:
            await watcher.stop()
        await first.stop()
        await scene.store.close()


# --- sharing --------------------------------------------------------------------------------------


async def test_watchers_that_are_equally_far_behind_share_a_message(scene_with: SceneOn):
    scene = scene_with(poll=NEVER)
    good = await scene.watch().started()
    slow = [(await scene.watch().started()).hold() for _ in range(4)]
    happened: list[tuple[str, str]] = []
    for _ in range(10):
        happened += await scene.happen("ada")
        await good.told(*happened)
    for watcher in slow:
        watcher.free()
        await watcher.told(*happened)
    assert len({id(watcher.messages[-1].raw) for watcher in slow}) == 1
    assert len(slow[0].messages[-1].events) == 9, "it has all missed events"
    assert scene.written.events == 10


async def test_a_joined_message_is_not_kept_for_ever(scene_with: SceneOn):
    """Each watcher here has missed another number of events, and gets a message of its own."""
    scene = scene_with(poll=NEVER)
    good = await scene.watch().started()
    slow: list[Watcher] = []
    happened: list[tuple[str, str]] = []
    for _ in range(50):
        slow.append((await scene.watch().started()).hold())
        happened += await scene.happen("ada")
        await good.told(*happened)
    for watcher in slow:
        watcher.free()
    for number, watcher in enumerate(slow):
        await watcher.told(*happened[number:])
    assert len(scene.feed._reader.recent.joined) <= recent.MAX_JOINED_MESSAGES


async def test_a_watch_is_ended_once(scene_with: SceneOn, monkeypatch: pytest.MonkeyPatch):
    """This holds for any number of events that follow before the watch has ended."""
    monkeypatch.setattr(recent, "MAX_RECENT_EVENTS", 5)
    scene = scene_with(poll=NEVER)
    stuck = await scene.watch().started()
    stuck.hold()
    await asyncio.gather(*(scene.happen(user) for user in USERS * 10))
    assert isinstance(await stuck.ended(), CursorExpired)
    assert scene.expired() == 1
    await eventually(lambda: scene.watching() == 0, "the watch to be gone")


async def test_a_reader_that_goes_back_while_a_page_arrives_reads_the_events_in_between(
    scene_with: SceneOn, store: Backend
):
    """The watch that made the reader go back has begun already, and would miss the events in
    between.
    """
    scene = scene_with(poll=NEVER)
    scene.clock.advance(datetime.now(UTC) + HOUR - scene.clock())
    [early] = await scene.happen("ada")
    key, aside = scene.keys.events("ada"), scene.keys.probe_in(partition("ada"))
    async with store.admin() as admin:
        # The reader must never see that there is no stream.
        await admin.execute_command("COPY", key, aside)
        await admin.execute_command("SET", key, "no stream")
    first = await scene.watch().started()
    reader = scene.feed._reader
    start = LogPosition((START,) * PARTITIONS, scene.clock())

    def go_back(pages: Any) -> None:
        if isinstance(pages.get(partition("ada")), Page):
            scene.log.on_read = lambda _: None
            reader.meet(start)

    scene.log.on_read = go_back
    async with store.admin() as admin:
        await admin.execute_command("RENAME", aside, key)
    await scene.watch().started()  # Makes the reader read all partitions.
    await first.told(early)


async def test_a_watch_starts_where_the_reader_was_before_a_partition_was_lost(
    scene_with: SceneOn, store: Backend
):
    """The watch starts from a moment, or from the cursor of a process that could not read the
    partition.
    """
    scene = scene_with()
    scene.clock.advance(datetime.now(UTC) + HOUR - scene.clock())
    running = await scene.watch().started()
    await running.told(*await scene.happen(*USERS))
    key, aside = scene.keys.events("ada"), scene.keys.probe_in(partition("ada"))
    async with store.admin() as admin:
        # The reader must never see that there is no stream.
        await admin.execute_command("COPY", key, aside)
        await admin.execute_command("SET", key, "no stream")
    elsewhere = await scene.watch(feed=scene.another_feed()).started()
    assert is_moment(place_of(elsewhere).entries[partition("ada")])
    watchers = [await scene.watch(since).started() for since in (scene.clock(), elsewhere.cursor)]
    others = await scene.happen("bob")
    for watcher in watchers:
        await watcher.told(*others)
    async with store.admin() as admin:
        await admin.execute_command("RENAME", aside, key)
    later = await scene.happen("ada")
    for watcher in watchers:
        await watcher.told(*others, *later)
    assert scene.expired() == 0
