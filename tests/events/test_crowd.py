"""Many watchers come, go and resume at random while events flow: no watcher misses an event, or
gets one twice or out of order.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from itertools import count
from random import Random

import pytest

from session_authority.domain.errors import CursorExpired
from session_authority.domain.events import EventFilter
from session_authority.events import history as history_module
from session_authority.events import recent
from session_authority.events.feed import Feed, Send
from session_authority.store.records import Commit
from tests.events.harness import ALL, Message, Scene, read_message
from tests.store.samples import NOW, event
from tests.support.budget import budget
from tests.support.waiting import eventually

USERS = [f"user-{number}" for number in range(40)]
EVENTS, WATCHERS, WRITERS = budget(700), 14, 4


class History:
    """All events: each user's events are numbered from 1. Several tasks write, and each user has
    one writer.
    """

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self.is_over = False

    async def write(self, scene: Scene, users: list[str], times: int, chance: Random) -> None:
        for _ in range(times):
            user = chance.choice(users)
            some = chance.choice([1, 1, 1, 3])
            first = self.begun[user] + 1
            self.begun[user] += some
            events = tuple(event(user, reason=str(first + n)) for n in range(some))
            await scene.store.commit(Commit(user, NOW, events=events))
            self.written[user] += some


class Somebody:
    """A watcher that watches several times, each time from where the last watch ended. It checks
    every event on arrival.
    """

    def __init__(self, history: History, only: EventFilter, chance: Random) -> None:
        self._history, self._only, self._chance = history, only, chance
        # The earliest and the latest event of each user that may arrive first.
        self._earliest = {user: number + 1 for user, number in history.written.items()}
        self._latest: dict[str, int] | None = None
        self.told: dict[str, list[int]] = defaultdict(list)
        self.cursor: str | None = None
        self.goes = 0

    def _check(self, message: Message) -> None:
        if self._latest is None:
            assert not message.events
            self._latest = {user: number + 1 for user, number in self._history.begun.items()}
        for user, reason in message.events:
            number = int(reason)
            assert not self._only.user_ids or user in self._only.user_ids
            if self.told[user]:
                assert number == self.told[user][-1] + 1
            else:
                assert self._earliest.get(user, 1) <= number <= self._latest.get(user, 1)
            self.told[user].append(number)
        self.cursor = message.cursor

    def _taking(self, patience: int, enough: asyncio.Event) -> Send:
        """Returns a function that accepts messages at a random pace. The function sets `enough`
        after `patience` messages, or when the watcher has all events.
        """
        seen = count(1)

        async def take(raw: bytes) -> None:
            for _ in range(self._chance.choice([0, 0, 0, 2, 20])):
                await asyncio.sleep(0)
            self._check(read_message(raw))
            if next(seen) >= patience or self.is_done():
                enough.set()

        return take

    async def watch(self, feeds: list[Feed]) -> None:
        while not self.is_done():
            self.goes += 1
            enough = asyncio.Event()
            take = self._taking(self._chance.choice([2, 3, 8]), enough)
            feed = self._chance.choice(feeds)
            watch = asyncio.ensure_future(feed.watch(self.cursor, self._only, take))
            stop = asyncio.ensure_future(enough.wait())
            await asyncio.wait([watch, stop], return_when=asyncio.FIRST_COMPLETED)
            for task in (watch, stop):
                task.cancel()
            await asyncio.wait([watch, stop])
            if not watch.cancelled() and (error := watch.exception()) is not None:
                # The watcher was too slow. It watches again from its cursor.
                assert isinstance(error, CursorExpired), error
                assert self.cursor is not None

    def is_done(self) -> bool:
        if not self._history.is_over or self._latest is None:
            return False
        for user, last in self._history.written.items():
            mine = not self._only.user_ids or user in self._only.user_ids
            numbers = self.told[user]
            if mine and (numbers[-1] if numbers else self._latest.get(user, 1) - 1) < last:
                return False
        return True


@pytest.mark.parametrize("memory", [60, 8192], ids=["short", "long"])
async def test_no_watcher_misses_an_event(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, memory: int
):
    monkeypatch.setattr(recent, "MAX_RECENT_EVENTS", memory)
    monkeypatch.setattr(history_module, "MAX_READ_EVENTS", 64)
    monkeypatch.setattr(recent, "MAX_MESSAGE_EVENTS", 25)
    history, chance = History(), Random(memory)
    feeds = [scene.feed, scene.feed, scene.another_feed()]
    shares = [USERS[number::WRITERS] for number in range(WRITERS)]
    writers = [
        asyncio.ensure_future(history.write(scene, share, EVENTS // WRITERS, Random(number)))
        for number, share in enumerate(shares)
    ]
    crowd: list[Somebody] = []
    watching: list[asyncio.Task[None]] = []
    for number in range(WATCHERS):
        # They come one after another, during the whole history.
        due = number * EVENTS // WATCHERS
        await eventually(lambda due=due: history.written.total() >= due, "events to flow")  # type: ignore[misc]
        only = EventFilter(user_ids=frozenset(chance.sample(USERS, 7))) if number % 4 == 3 else ALL
        crowd.append(Somebody(history, only, Random(number)))
        watching.append(asyncio.ensure_future(crowd[-1].watch(feeds)))
    async with asyncio.timeout(60 + EVENTS / 20):
        await asyncio.gather(*writers)
        history.is_over = True
        # Each user gets one last event, so that all watchers learn that the history has ended.
        for user in USERS:
            await history.write(scene, [user], 1, chance)
        await asyncio.gather(*watching)
    assert history.written.total() >= EVENTS
    assert crowd[0].told.keys() == set(USERS)
    assert sum(map(len, crowd[0].told.values())) > EVENTS // 2, (
        "the first watcher watched almost from the start"
    )
    assert sum(somebody.goes for somebody in crowd) > 2 * WATCHERS
    assert scene.watching() == 0
