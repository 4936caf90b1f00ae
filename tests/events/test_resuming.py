"""A watch starts from a cursor or from a moment, and gets exactly the events that follow."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from session_authority.domain.errors import CursorExpired, InvalidRequest
from session_authority.domain.moments import from_ms
from session_authority.events import history as history_module
from session_authority.events import recent
from session_authority.events.cursors import cursor_of
from session_authority.store import SessionStore
from session_authority.store.event_log import EVENT_MEMORY
from session_authority.store.log_position import START, LogPosition
from tests.events.harness import HOUR, MILLISECOND, USERS, Scene, place_of
from tests.support.waiting import eventually

MINUTE, DAY = HOUR / 60, 24 * HOUR

# --- the start ------------------------------------------------------------------------------------


async def test_every_cursor_leads_to_exactly_the_events_that_follow(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(history_module, "MAX_READ_EVENTS", 16)  # Catching up takes several pages.
    first = await scene.watch().started()
    happened: list[tuple[str, str]] = []
    for number in range(24):
        happened += await scene.happen(*(USERS[(number + n) % 5] for n in range(1 + number % 4)))
        if number % 3:
            await first.told(*happened)
    await first.told(*happened)
    another = scene.another_feed()  # The feed of another server.
    resumed = []
    for number, message in enumerate(first.messages):
        rest = [e for later in first.messages[number + 1 :] for e in later.events]
        feed = another if number % 2 else scene.feed
        resumed.append((await scene.watch(message.cursor, feed=feed).started(), rest))
    # The cursors of the pages of a catch-up also lead to exactly the events that follow.
    for watcher, rest in resumed:
        await watcher.told(*rest)
    for watcher, _ in resumed[:: len(resumed) // 4]:
        for number, message in enumerate(watcher.messages):
            rest = [e for later in watcher.messages[number + 1 :] for e in later.events]
            again = await scene.watch(message.cursor, feed=another).started()
            await again.told(*rest)
            resumed.append((again, rest))
    more = await scene.happen(*USERS)
    for watcher, rest in resumed:
        await watcher.told(*rest, *more)
    ids = [event_id for message in first.messages for event_id in message.ids]
    assert len(set(ids)) == len(ids)
    assert [i for message in resumed[0][0].messages for i in message.ids if i not in ids] == []


async def test_a_moment_leads_to_the_events_after_it(scene: Scene):
    before = await scene.happen(*USERS)
    [(last, _)] = await scene.run("XREVRANGE", scene.keys.events(USERS[-1]), "+", "-", "COUNT", "1")
    moment = from_ms(int(last.split(b"-")[0]) + 1)
    await eventually(lambda: _later_than(scene.store, moment), "the store's clock to move on")
    after = await scene.happen(*USERS, *USERS)
    everything = await scene.watch(from_ms(0)).started()
    later = await scene.watch(moment).started()
    future = await scene.watch(moment + 1000 * HOUR).started()
    await everything.told(*before, *after)
    await later.told(*after)
    more = await scene.happen("ada")
    await everything.told(*before, *after, *more)
    await later.told(*after, *more)
    await future.told(*more)
    for message in later.messages:
        await scene.watch(message.cursor).started()


async def _later_than(store: SessionStore, moment: datetime) -> bool:
    return all(time >= moment for time in await store.server_times())


async def test_a_cursor_from_a_moment_is_as_old_as_the_moment(scene: Scene):
    """This does not hold for a moment in the future, or for a moment so long past that the cursor
    could not be used.
    """
    now = scene.clock()
    oldest = now - EVENT_MEMORY + 2 * HOUR
    for since, as_of in [
        (now - HOUR, now - HOUR),
        (now + HOUR, now),
        (now - 2 * EVENT_MEMORY, oldest),
    ]:
        watcher = await scene.watch(since).started()
        assert place_of(watcher.messages[0].cursor).as_of == as_of
        await scene.watch(watcher.messages[0].cursor).started()


async def test_catching_up_goes_on_while_events_flow(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history_module, "MAX_READ_EVENTS", 8)
    first = await scene.watch().started()
    happened = await scene.happen(*USERS * 10)
    await first.told(*happened)
    slow = scene.watch(first.messages[0].cursor).hold()
    for _ in range(12):
        await slow.has(lambda: slow.waiting, "the next page")
        happened += await scene.happen(*USERS)
        await first.told(*happened)
        await slow.take_one()
    slow.free()
    await slow.told(*happened)
    happened += await scene.happen(*USERS)
    await slow.told(*happened)


async def test_catching_up_outlasts_the_memory(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    """Events that the memory dropped in between are read again."""
    monkeypatch.setattr(recent, "MAX_RECENT_EVENTS", 10)
    first = await scene.watch().started()
    happened = await scene.happen("ada")
    await first.told(*happened)
    slow = scene.watch(first.messages[0].cursor).hold()
    for _ in range(5):
        await slow.has(lambda: slow.waiting, "the next message")
        for _ in range(3):
            happened += await scene.happen(*USERS)
            await first.told(*happened)
        await slow.take_one()
    slow.free()
    await slow.told(*happened)
    assert scene.expired() == 0


async def test_a_malformed_cursor_is_refused(scene: Scene):
    cursor = (await scene.watch().started()).cursor
    for bad in (
        "",
        "1",
        cursor[:-1],
        cursor + "A",
        cursor_of(LogPosition((START,) * 3, scene.clock())),
        "💥",
    ):
        error = await scene.watch(bad).ended()
        assert isinstance(error, InvalidRequest)
        assert [violation.field for violation in error.violations] == ["cursor"]
    assert scene.watching() == 1


async def test_a_cursor_older_than_the_memory_has_expired(scene: Scene):
    cursor = (await scene.watch().started()).cursor
    scene.clock.advance(EVENT_MEMORY - HOUR)
    await scene.watch(cursor).started()
    scene.clock.advance(MILLISECOND)
    watcher = scene.watch(cursor)
    assert isinstance(await watcher.ended(), CursorExpired)
    assert not watcher.messages
    await scene.watch().started()


@pytest.mark.parametrize(
    ("before", "after", "good_for"),
    [
        (HOUR, EVENT_MEMORY, 55 * MINUTE),
        (EVENT_MEMORY, HOUR, 55 * MINUTE),
        (HOUR, HOUR, 55 * MINUTE),
        (EVENT_MEMORY, 30 * DAY, EVENT_MEMORY - HOUR),
        (30 * DAY, 30 * DAY, 30 * DAY - HOUR),
    ],
)
async def test_a_cursor_is_good_for_the_shorter_of_two_memories(
    scene: Scene, before: timedelta, after: timedelta, good_for: timedelta
):
    """The memory is how long the log keeps events. Events that followed the cursor may have been
    trimmed, although they would be kept today.
    """
    scene.log.memory = before
    cursor = (await scene.watch().started()).cursor
    happened = await scene.happen(*USERS)
    scene.log.memory = after
    scene.clock.advance(good_for)
    resumed = await scene.watch(cursor).started()
    await resumed.told(*happened)
    scene.clock.advance(MILLISECOND)
    for user in USERS:
        await scene.run("XTRIM", scene.keys.events(user), "MAXLEN", 0)
    for old in (cursor, resumed.messages[0].cursor):
        watcher = scene.watch(old)
        assert isinstance(await watcher.ended(), CursorExpired)
        assert not watcher.messages
    await scene.watch().started()


async def test_a_cursor_made_after_a_change_is_good_for_the_new_memory(scene: Scene):
    scene.log.memory = HOUR
    cursor = (await scene.watch().started()).cursor
    happened = await scene.happen(*USERS)
    scene.log.memory = EVENT_MEMORY
    resumed = await scene.watch(cursor).started()
    await resumed.told(*happened)
    scene.clock.advance(EVENT_MEMORY - HOUR)
    await (await scene.watch(resumed.cursor).started()).told()


async def test_a_cursor_to_a_lost_position_has_expired_from_the_start(scene: Scene):
    """This holds even if only one of many partitions was lost, and even if no event follows."""
    watcher = await scene.watch().started()
    await watcher.told(*await scene.happen(*USERS))
    cursor = watcher.cursor
    await watcher.stop()
    await scene.run("DEL", scene.keys.events("ada"))
    refused = scene.watch(cursor)
    assert isinstance(await refused.ended(), CursorExpired)
    assert not refused.messages
    assert scene.watching() == 0
