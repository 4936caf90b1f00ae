"""The log of events on each backend: where it ends, what follows a position, when the log can't
know that, and how listeners learn of news.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from redis.asyncio import Redis

from session_authority.domain.errors import StoreUnavailable
from session_authority.domain.moments import from_ms, to_ms
from session_authority.store import (
    EventLog,
    KeyNames,
    RedisClient,
    SessionStore,
    codec,
    connect,
    event_log,
)
from session_authority.store.acl import acl_rules
from session_authority.store.driver import subscription
from session_authority.store.driver.cluster import Cluster
from session_authority.store.event_log import EVENT_MEMORY, HistoryGone, Page, trim_margin
from session_authority.store.key_names import PARTITIONS, TAGS, partition
from session_authority.store.log_position import START, EntryId, behind_moment
from session_authority.store.records import Commit
from tests.store.samples import NOW, event, key, session, user_of_each_partition
from tests.support.backends import PATIENT, Backend, valkey_server
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

HERE, THERE = 5, 60  # Two partitions. On a cluster they are on different nodes.
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
MILLISECOND = timedelta(milliseconds=1)
NOW_MS = to_ms(NOW)


@dataclass(frozen=True)
class Book:
    """A log, and the server below it."""

    log: EventLog
    client: RedisClient
    admin: RedisClient
    keys: KeyNames

    async def write(self, *entries: EntryId, number: int = HERE, **fields: bytes) -> None:
        """Adds entries with the IDs that the test chooses. The reason of each event is its ID."""
        for entry in entries:
            text = f"{entry[0]}-{entry[1]}"
            raw = fields or {"event": codec.encode_event(event("ada", reason=text))}
            pairs = [part for pair in raw.items() for part in pair]
            await self.run("XADD", self.keys.stream(number), text, *pairs)

    async def run(self, *command: str | bytes | int) -> Any:
        """Runs a raw command as the administrator."""
        return await self.admin.execute_command(*command)

    async def read(
        self, after: EntryId, *, limit: int = 100, now: datetime = NOW, number: int = HERE
    ) -> Any:
        """Returns the events that follow."""
        [(answered, page)] = (await self.log.read({number: after}, limit=limit, now=now)).items()
        assert answered == number
        return page


@pytest.fixture
async def book(backend: Backend, prefix: str) -> AsyncIterator[Book]:
    client, keys = backend.connect(), KeyNames(prefix)
    async with aclosing(backend.admin()) as admin:
        yield Book(EventLog(client, keys), client, admin, keys)
    await client.aclose()


def at(milliseconds: int, number: int = 0) -> EntryId:
    return NOW_MS + milliseconds, number


def ago(time: timedelta) -> EntryId:
    """The ID of an entry that is this old. The store's clock is the clock of this machine."""
    return to_ms(datetime.now(UTC) - time), 0


def told(page: Any) -> list[EntryId]:
    assert isinstance(page, Page), page
    for entry, recorded in page.events:
        assert recorded.event.reason == f"{entry[0]}-{entry[1]}"
    return [entry for entry, _ in page.events]


# --- positions ------------------------------------------------------------------------------------


async def test_an_empty_log_ends_at_its_start(book: Book):
    for place in (await book.log.end(NOW), await book.log.at(NOW, NOW)):
        assert place.entries == (START,) * PARTITIONS
        assert place.as_of == NOW
    assert await book.read(START) == Page((), START, more=False)


async def test_the_end_is_the_last_entry_of_each_stream(book: Book):
    await book.write(at(0), at(1), at(1, 1))
    await book.write(at(-5), number=THERE)
    place = await book.log.end(NOW + HOUR)
    assert place.as_of == NOW + HOUR
    expected = {HERE: at(1, 1), THERE: at(-5)}
    assert place.entries == tuple(expected.get(number, START) for number in range(PARTITIONS))


async def test_the_position_of_a_moment_is_before_the_events_of_that_moment(book: Book):
    await book.write((1, 0), at(0), at(0, 7), at(10), at(10, 1))
    for milliseconds, last in [
        (-1, (1, 0)),
        (0, (1, 0)),
        (1, at(0, 7)),
        (10, at(0, 7)),
        (11, at(10, 1)),
    ]:
        place = await book.log.at(NOW + milliseconds * MILLISECOND, NOW)
        assert (place.entries[HERE], place.entries[THERE], place.as_of) == (last, START, NOW)
    for early in (from_ms(0), from_ms(1)):
        assert (await book.log.at(early, NOW)).entries[HERE] == START
    assert (await book.log.at(from_ms(2), NOW)).entries[HERE] == (1, 0)


# --- reading --------------------------------------------------------------------------------------


async def test_all_events_that_follow_are_read(book: Book):
    entries = [at(0), at(0, 1), at(3), at(1000)]
    await book.write(*entries)
    for place, entry in enumerate([START, *entries]):
        page = await book.read(entry)
        assert told(page) == entries[place:]
        assert page.last == entries[-1]
        assert not page.more


async def test_pages_lead_to_the_end(book: Book):
    entries = [at(number // 3, number % 3) for number in range(10)]
    await book.write(*entries)
    for limit in (1, 3, 4, 5, 9, 10, 11):
        found: list[EntryId] = []
        place, more = START, True
        while more:
            page = await book.read(place, limit=limit)
            assert len(page.events) <= limit
            found += told(page)
            assert page.last == (found[-1] if found else START)
            place, more = page.last, page.more
        assert found == entries


async def test_each_partition_is_read_from_its_own_position(book: Book):
    await book.write(at(0), at(1))
    await book.write(at(0), at(1), at(2), number=THERE)
    pages = await book.log.read({THERE: at(1), HERE: START, 0: START}, limit=10, now=NOW)
    assert {number: told(page) for number, page in pages.items()} == {
        THERE: [at(2)],
        HERE: [at(0), at(1)],
        0: [],
    }


async def test_the_id_of_an_event_is_its_position(book: Book):
    await book.write(at(0, 3))
    [(_, recorded)] = (await book.read(START)).events
    assert recorded.event_id == f"evt_{TAGS[HERE]}_{NOW_MS}_3"
    assert recorded.event == event("ada", reason=f"{NOW_MS}-3")


async def test_events_of_the_store_are_read(book: Book):
    store = SessionStore(book.client, book.keys)
    users = user_of_each_partition()
    for user in users:
        await store.commit(Commit(user, NOW, events=(event(user), event(user, 2))))
    pages = await book.log.read(dict.fromkeys(range(PARTITIONS), START), limit=10, now=NOW)
    for number, user in enumerate(users):
        page = pages[number]
        assert isinstance(page, Page)
        assert [recorded.event for _, recorded in page.events] == [event(user), event(user, 2)]
        assert (await book.log.end(NOW)).entries[number] == page.last


async def test_an_unreadable_event_is_skipped(book: Book):
    await book.write(at(0))
    await book.write(at(1), event=b"\xff\xff")
    await book.write(at(3))
    await book.write(at(4), event=b"\xff")
    with structlog.testing.capture_logs() as logged:
        page = await book.read(START)
    unreadable = [
        (entry["partition"], entry["entry"])
        for entry in logged
        if entry["event"] == "event_unreadable"
    ]
    assert unreadable == [(HERE, f"{NOW_MS + 1}-0"), (HERE, f"{NOW_MS + 4}-0")]
    assert told(page) == [at(0), at(3)]
    assert page.last == at(4)
    assert told(await book.read(at(1), limit=1)) == [at(3)]
    assert (await book.read(at(3))).last == at(4)


# --- events that the log has lost -----------------------------------------------------------------


async def test_a_flushed_store_has_no_history(book: Book):
    await book.write(at(0), at(1))
    assert told(await book.read(at(0))) == [at(1)]
    await book.admin.flushall()
    assert isinstance(await book.read(at(0)), HistoryGone)
    await book.write(at(1), at(2))  # The history stays lost.
    assert isinstance(await book.read(at(0)), HistoryGone)
    assert told(await book.read(START)) == [at(1), at(2)]


async def test_the_position_of_a_removed_entry_is_refused(book: Book):
    await book.write(at(0), at(1), at(2))
    await book.run("XDEL", book.keys.stream(HERE), f"{NOW_MS + 1}-0")
    assert isinstance(await book.read(at(1)), HistoryGone)
    assert told(await book.read(at(0))) == [at(2)]


@pytest.mark.parametrize(
    "then", [[], [at(0), at(1)], [at(0), at(1), at(1, 9), at(3)]], ids=["empty", "short", "other"]
)
async def test_a_stream_that_was_rolled_back_is_another_stream(book: Book, then: list[EntryId]):
    await book.write(at(0), at(1), at(2))
    await book.run("DEL", book.keys.stream(HERE))
    await book.write(*then)
    assert isinstance(await book.read(at(2)), HistoryGone)


async def test_only_the_partition_that_lost_events_reports_it(book: Book):
    for number in (HERE, THERE):
        await book.write(at(0), at(1), number=number)
    await book.run("DEL", book.keys.stream(HERE))
    pages = await book.log.read({HERE: at(0), THERE: at(0)}, limit=10, now=NOW)
    assert isinstance(pages[HERE], HistoryGone)
    assert told(pages[THERE]) == [at(1)]


async def test_a_reader_misses_nothing_when_old_entries_are_trimmed(book: Book):
    """The position itself was trimmed, as every entry is after a week. All entries that follow it
    are still there.
    """
    await book.write(at(0), at(1), at(2))
    await book.run("XTRIM", book.keys.stream(HERE), "MINID", f"{NOW_MS + 2}-0")
    oldest = NOW + EVENT_MEMORY - HOUR  # With an hour to spare.
    assert told(await book.read(at(0), now=oldest)) == [at(2)]
    assert told(await book.read(at(1), now=oldest + MILLISECOND)) == [at(2)]
    assert isinstance(await book.read(at(1), now=oldest), HistoryGone)
    assert isinstance(await book.read(at(0), now=oldest - MILLISECOND), HistoryGone)
    # A stream whose entries were all trimmed still knows its last ID. A new stream does not.
    await book.run("XTRIM", book.keys.stream(HERE), "MAXLEN", "0")
    assert told(await book.read(at(0), now=oldest)) == []
    assert told(await book.read(at(2), now=oldest + 2 * MILLISECOND)) == []
    assert isinstance(await book.read(at(3), now=oldest + HOUR), HistoryGone)
    await book.run("DEL", book.keys.stream(HERE))
    assert isinstance(await book.read(at(0), now=oldest), HistoryGone)


@pytest.mark.parametrize("memory", [HOUR, EVENT_MEMORY, timedelta(days=30)])
async def test_the_log_forgets_by_time_where_nothing_is_added(book: Book, memory: timedelta):
    store = SessionStore(book.client, book.keys, event_memory=memory)
    old, young = ago(memory + MINUTE), ago(memory - MINUTE)
    for number in (HERE, THERE):
        await book.write(old, young, number=number)
    await store.trim_events()
    for number in (HERE, THERE):
        assert told(await book.read(START, number=number)) == [young]


@pytest.mark.parametrize("skew", [-10_000, 10_000])
@pytest.mark.parametrize("change", ["commit", "revoke"])
async def test_the_log_forgets_by_the_clock_of_the_store(book: Book, skew: int, change: str):
    """The clock of the process that adds an event does not matter."""
    user = user_of_each_partition()[HERE]
    store = SessionStore(book.client, book.keys)
    old, young = ago(EVENT_MEMORY + MINUTE), ago(MINUTE)
    await book.write(old, young)
    wrong = replace(event(user), happened_at=NOW + skew * HOUR)
    if change == "commit":
        await store.commit(Commit(user, wrong.happened_at, events=(wrong,)))
    else:
        await store.commit(Commit(user, NOW, set_sessions={key(1): session(1)}))
        await store.revoke_all(user, except_key=None, forget=False, event=wrong)
    entries = [entry for entry, _ in (await book.read(START)).events]
    assert entries[0] == young
    assert len(entries) == 2


async def test_a_new_event_trims_all_old_events(book: Book):
    user = user_of_each_partition()[HERE]
    await book.write(at(0), at(1), at(2))
    store = SessionStore(book.client, book.keys, event_memory=HOUR)
    await store.commit(Commit(user, datetime.now(UTC), events=(event(user),)))
    page = await book.read(START)
    assert [entry > at(2) for entry, _ in page.events] == [True]


@pytest.mark.parametrize("memory", [HOUR, timedelta(days=30)])
async def test_the_age_that_is_trimmed_is_the_setting(book: Book, memory: timedelta):
    log = EventLog(book.client, book.keys, memory)
    await book.write(at(0), at(1))
    await book.run("XTRIM", book.keys.stream(HERE), "MINID", f"{NOW_MS + 1}-0")
    oldest = NOW + memory - trim_margin(memory)
    [page] = (await log.read({HERE: at(0)}, limit=9, now=oldest)).values()
    assert told(page) == [at(1)]
    [page] = (await log.read({HERE: at(0)}, limit=9, now=oldest - MILLISECOND)).values()
    assert isinstance(page, HistoryGone)


@pytest.mark.parametrize("after", [START, at(0)], ids=["start", "old"])
async def test_a_stream_that_was_too_long_lost_recent_events(
    book: Book, monkeypatch: pytest.MonkeyPatch, after: EntryId
):
    monkeypatch.setattr(event_log, "MAX_EVENTS_PER_PARTITION", 8)
    later = NOW + EVENT_MEMORY
    await book.write(*(at(number) for number in range(1, 8)))
    for limit in (3, 7, 8, 100):
        assert told(await book.read(after, limit=limit, now=later))[:3] == [at(1), at(2), at(3)]
    await book.write(at(8))
    for limit in (3, 7, 8):
        assert isinstance(await book.read(after, limit=limit, now=later), HistoryGone)
    # The entry is still there.
    assert told(await book.read(at(1), limit=3, now=later)) == [
        at(2),
        at(3),
        at(4),
    ]


# --- failures -------------------------------------------------------------------------------------


async def test_a_partition_that_cannot_be_read_does_not_affect_others(book: Book):
    await book.run("SET", book.keys.stream(HERE), "no stream")
    await book.write(at(0), number=THERE)
    pages = await book.log.read({HERE: START, THERE: START}, limit=10, now=NOW)
    assert isinstance(pages[HERE], StoreUnavailable)
    assert told(pages[THERE]) == [at(0)]
    early = behind_moment(NOW_MS - 5000)
    assert (await book.log.end(NOW)).entries[HERE] == early
    assert (await book.log.at(NOW, NOW)).entries[HERE] == behind_moment(NOW_MS - 1)
    assert (await book.log.end(NOW)).entries[THERE] == at(0)
    await book.run("DEL", book.keys.stream(HERE))
    assert (await book.log.end(NOW)).entries[THERE] == at(0)


async def test_an_unreachable_store_is_unavailable(valkey_backend: Backend, prefix: str):
    async with Proxy(valkey_backend.url) as wire:
        client = connect(wire.url, PATIENT)
        log = EventLog(client, KeyNames(prefix))
        await log.end(NOW)
        await wire.close()
        for attempt in (log.end(NOW), log.at(NOW, NOW), log.primaries()):
            with pytest.raises(StoreUnavailable):
                await attempt
        pages = await log.read({HERE: START, THERE: at(0)}, limit=1, now=NOW)
        assert [type(pages[number]) for number in (HERE, THERE)] == [StoreUnavailable] * 2
        await wire.open()
        await log.end(NOW)
        await client.aclose()


async def test_without_the_length_of_a_stream_there_is_no_answer(
    valkey_backend: Backend, prefix: str
):
    """Without the length, the log can't know whether entries are missing."""
    async with Proxy(valkey_backend.url) as wire:
        client = connect(wire.url, PATIENT)
        book = Book(EventLog(client, KeyNames(prefix)), client, client, KeyNames(prefix))
        await book.write(at(0), at(1))

        async def refuse(data: bytes) -> None:
            if b"XLEN" in data:
                raise ConnectionError

        wire.on_request = refuse
        assert isinstance(await book.read(START, limit=1), StoreUnavailable)
        assert told(await book.read(START, limit=3)) == [at(0), at(1)]
        await client.aclose()


# --- the primaries --------------------------------------------------------------------------------


async def test_primaries_keep_their_names(book: Book):
    names = await book.log.primaries()
    assert len(names) == PARTITIONS
    assert None not in names
    assert await book.log.primaries() == names
    assert len(set(names)) == (3 if isinstance(book.client, Cluster) else 1)


async def test_a_restarted_primary_has_another_name(tmp_path: Any, prefix: str):
    with valkey_server(tmp_path) as server:
        client = connect(server.url, PATIENT)
        log = EventLog(client, KeyNames(prefix))
        before = await log.primaries()
        server.kill()
        with pytest.raises(StoreUnavailable):
            await log.primaries()
        server.start()
        after = await log.primaries()
        assert all(old and new and old != new for old, new in zip(before, after, strict=True))
        await client.aclose()


async def test_a_store_that_hides_its_run_id_has_no_names(valkey_backend: Backend, prefix: str):
    async with aclosing(valkey_backend.admin()) as admin:
        await admin.execute_command("ACL", "SETUSER", prefix, *acl_rules(prefix), "nopass", "-info")
        client = connect(valkey_backend.url_as(prefix), PATIENT)
        assert await EventLog(client, KeyNames(prefix)).primaries() == ("",) * PARTITIONS
        await client.aclose()
        await admin.execute_command("ACL", "DELUSER", prefix)


# --- news -----------------------------------------------------------------------------------------


async def heard(wakes: AsyncGenerator[int | None]) -> int | None:
    async with asyncio.timeout(20):
        return await anext(wakes)


async def test_listeners_learn_which_partition_has_news(book: Book):
    store, users = SessionStore(book.client, book.keys), user_of_each_partition()
    async with aclosing(book.log.wakes()) as wakes:
        assert await heard(wakes) is None
        for number in (0, HERE, THERE, 63, HERE):
            user = users[number]
            await store.commit(Commit(user, NOW, events=(event(user),)))
            assert await heard(wakes) == number
        for nonsense in ("", "64", "-1", "1.5", "\0", "no number", "99999999999"):
            await book.run("PUBLISH", book.keys.wake_channel, nonsense)
        await book.run("PUBLISH", book.keys.wake_channel, "7")
        assert await heard(wakes) == 7
        await book.run("PUBLISH", KeyNames("another").wake_channel, "8")
        await book.run("PUBLISH", book.keys.wake_channel, "9")
        assert await heard(wakes) == 9


async def hang_up_on_listeners(client: RedisClient) -> None:
    if isinstance(client, Cluster):
        places = [(str(node.host), int(node.port)) for node in client.get_primaries()]
    else:
        options = client.connection_pool.connection_kwargs
        places = [(str(options["host"]), int(options["port"]))]
    for host, port in places:
        async with Redis(host=host, port=port) as own:
            await own.client_kill_filter(_type="pubsub")


@pytest.mark.parametrize("name", ["cluster", "redis", "valkey"])
async def test_wake_ups_continue_after_a_killed_connection(
    backends: Any, name: str, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(subscription, "_RETRY_SECONDS", 0.01)
    client, keys = backends(name).connect(), KeyNames(prefix)
    async with aclosing(EventLog(client, keys).wakes()) as wakes:
        assert await heard(wakes) is None
        for number in range(3):
            await client.execute_command("PUBLISH", keys.wake_channel, str(number))
            while (told := await heard(wakes)) != number:
                assert told == number - 1, (
                    "another node of a cluster may pass on the earlier message late"
                )
            await hang_up_on_listeners(client)
            assert await heard(wakes) is None, "the listener must look for missed events"
    await client.aclose()


async def test_wake_ups_continue_after_an_outage_of_the_store(
    valkey_backend: Backend, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(subscription, "_RETRY_SECONDS", 0.01)
    async with Proxy(valkey_backend.url) as wire:
        client = connect(wire.url, PATIENT)
        async with aclosing(EventLog(client, KeyNames(prefix)).wakes()) as wakes:
            assert await heard(wakes) is None
            await wire.close()
            next_wake = asyncio.ensure_future(heard(wakes))
            await wire.open()
            assert await next_wake is None
        await client.aclose()


async def test_a_silent_connection_is_given_up(
    valkey_backend: Backend, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    """The connection may be dead without an error. The listener pings it, and the server must
    answer.
    """
    monkeypatch.setattr(subscription, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(subscription, "_QUIET_SECONDS", 0.05)
    async with Proxy(valkey_backend.url) as wire:
        client = connect(wire.url, PATIENT)
        async with aclosing(EventLog(client, KeyNames(prefix)).wakes()) as wakes:
            assert await heard(wakes) is None
            next_wake = asyncio.ensure_future(heard(wakes))
            await eventually(lambda: _is(wire.commands["PING"] >= 3), "the line to be asked thrice")
            assert not next_wake.done(), "a connection that answers is not given up"
            silent = asyncio.Event()

            async def swallow(data: bytes) -> None:
                if b"PONG" in data or b"pong" in data:
                    await silent.wait()

            wire.on_reply = swallow
            assert await next_wake is None
            assert wire.commands["SUBSCRIBE"] >= 2
            silent.set()
        await client.aclose()


async def test_a_listener_that_stops_closes_its_connection(valkey_backend: Backend, prefix: str):
    client, keys = valkey_backend.connect(), KeyNames(prefix)

    admin = valkey_backend.admin()

    async def listeners() -> int:
        [_, number] = await admin.execute_command("PUBSUB", "NUMSUB", keys.wake_channel)
        return int(number)

    wakes = EventLog(client, keys).wakes()
    assert await heard(wakes) is None
    assert await listeners() == 1
    next_wake = asyncio.ensure_future(heard(wakes))
    await asyncio.sleep(0)
    next_wake.cancel()
    await asyncio.wait([next_wake])
    await wakes.aclose()
    await eventually(lambda: _none(listeners()), "the server to see that nobody listens")
    await client.aclose()
    await admin.aclose()


async def _is(value: bool) -> bool:
    return value


async def _none(count: Any) -> bool:
    return not await count


def test_the_partitions_of_these_tests_belong_to_different_users():
    users: Mapping[int, str] = dict(enumerate(user_of_each_partition()))
    assert partition(users[HERE]) == HERE
    assert partition(users[THERE]) == THERE
