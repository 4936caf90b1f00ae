"""A relay against a real store, with endpoints that do as a test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from session_authority.domain.errors import StoreUnavailable
from session_authority.domain.events import Event, EventType
from session_authority.relay import Delivered, Endpoint, Refused, Relay
from session_authority.relay.pacing import Pace
from session_authority.runtime.backoff import Backoff
from session_authority.runtime.relay_metrics import RelayMetrics
from session_authority.store import Deliveries, EventLog, KeyNames, Limits, SessionStore, connect
from session_authority.store.deliveries import DeadLetter
from session_authority.store.key_names import PARTITIONS
from session_authority.store.records import Commit
from tests.support.clock import Clock

DEADLINE_SECONDS = 20.0  # for what is eventual
NOW = datetime.fromisoformat("2026-01-01T00:00:00Z")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MS = timedelta(milliseconds=1)
# Relays that try again, count each other and look around often.
FAST = Pace(
    backoff=Backoff(first=MS, longest=20 * MS),
    round_interval=100 * MS,
    look_interval=200 * MS,
    store_pause=50 * MS,
)
SLOW = replace(FAST, backoff=Backoff(first=HOUR, longest=HOUR))
BAD = Refused("status 500")
# Whether a loaded machine answers in time is not what is asked here.
PATIENT = Limits(connect_timeout=timedelta(seconds=10), reply_timeout=timedelta(seconds=10))


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Waits until it is so."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():  # noqa: ASYNC110 - a condition has no event
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"waited {DEADLINE_SECONDS:g} s for {what}")


async def until(condition: Callable[[], Awaitable[object]], what: str) -> None:
    """The same, for what must be asked for. A store that does not answer yet is no answer."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                with contextlib.suppress(StoreUnavailable):
                    if await condition():
                        return
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"waited {DEADLINE_SECONDS:g} s for {what}")


class Mailbox:
    """An endpoint: refuses what `refuses` says, by the event's reason, as often as it says; hangs
    while `hangs`.
    """

    def __init__(self, name: str = "mailer", **more: object) -> None:
        self.endpoint = replace(Endpoint(name, "https://mailer.example/", (b"s" * 32,)), **more)  # type: ignore[arg-type]
        self.refuses: Counter[str] = Counter()
        self.hangs = asyncio.Event()
        self.hangs.set()
        self.attempts: list[str] = []
        self.arrived: list[str] = []
        self.by_id: defaultdict[str, set[str]] = defaultdict(set)
        self.at_once = self.most_at_once = 0
        self.closed = False

    async def send(self, event_id: str, body: bytes, now: datetime) -> Delivered | Refused:
        """Takes or refuses an event; its reason stands for it."""
        reason = body.decode().partition('"reason":"')[2].partition('"')[0]
        self.attempts.append(reason)
        self.by_id[reason].add(event_id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            await self.hangs.wait()
        finally:
            self.at_once -= 1
        if self.refuses[reason] > 0 or self.refuses["*"] > 0:
            self.refuses[reason if self.refuses[reason] > 0 else "*"] -= 1
            return BAD
        self.arrived.append(reason)
        return Delivered()

    async def close(self) -> None:
        """Notes it."""
        self.closed = True


async def _all_held(deliveries: Deliveries, box: Mailbox) -> bool:
    return (await deliveries.state(box.endpoint.name)).partitions == PARTITIONS


class RelayHarness:
    """A store, and relays that come and go."""

    def __init__(self, url: str, prefix: str) -> None:
        self.keys, self._url = KeyNames(prefix), url
        self.client = connect(url, PATIENT)
        self.store = SessionStore(self.client, self.keys)
        self.clock = Clock(NOW)
        self.metrics = RelayMetrics()

    async def happen(
        self, user: str, *reasons: str, kind: EventType = EventType.DEVICE_REVOKED
    ) -> None:
        """Something happens to a user, once for each reason."""
        for reason in reasons:
            event = Event(kind, self.clock.now, user, "tests", reason=reason)
            await self.store.commit(Commit(user, NOW, events=(event,)))

    @asynccontextmanager
    async def relay(
        self, *boxes: Mailbox, pace: Pace = FAST, name: str = "relay-1", whole: bool = True
    ) -> AsyncIterator[asyncio.Event]:
        """A relay that has begun: if `whole`, all partitions are held, by it or another. Setting
        what is given stops it.
        """
        client = connect(self._url, PATIENT)
        deliveries = Deliveries(client, self.keys)
        relay = Relay(
            name,
            deliveries,
            EventLog(client, self.keys),
            [(box.endpoint, box) for box in boxes],
            source="tests",
            clock=self.clock,
            metrics=self.metrics,
            pace=pace,
        )
        stop = asyncio.Event()
        running = asyncio.ensure_future(relay.run(stop))
        try:
            for box in boxes if whole else ():
                await until(lambda box=box: _all_held(deliveries, box), "all partitions to be held")  # type: ignore[misc]
            yield stop
        finally:
            stop.set()
            await asyncio.wait_for(running, DEADLINE_SECONDS)
            await deliveries.close()

    async def holders(self, endpoint: str = "mailer") -> Counter[str]:
        """How many leases each relay has."""
        found = [
            await self.client.execute_command("GET", self.keys.lease(n, endpoint))
            for n in range(PARTITIONS)
        ]
        return Counter(holder.decode() for holder in found if holder)

    async def are_held(self, expected: dict[str, int]) -> bool:
        """Each relay holds so many."""
        return await self.holders() == expected

    async def are_dead(self, count: int) -> bool:
        """So many were put aside."""
        return len(await self.dead()) == count

    async def dead(self) -> Sequence[DeadLetter]:
        """What was put aside."""
        return [
            letter async for letter in Deliveries(self.client, self.keys).dead_letters("mailer")
        ]

    async def all_settled(self) -> bool:
        """Nothing is under way."""
        return not (await Deliveries(self.client, self.keys).state("mailer")).taken

    def counted(self, outcome: str, endpoint: str = "mailer") -> float:
        """What the metrics say."""
        labels = {"endpoint": endpoint, "outcome": outcome}
        return (
            self.metrics.registry.get_sample_value("session_authority_deliveries_total", labels)
            or 0.0
        )
