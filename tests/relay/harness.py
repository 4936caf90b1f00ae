"""A relay with a real store, and endpoints whose answers a test decides."""

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

DEADLINE_SECONDS = 20.0  # For conditions that a test awaits.
NOW = datetime.fromisoformat("2026-01-01T00:00:00Z")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MS = timedelta(milliseconds=1)
# Relays that retry, count each other and look for work often.
FAST = Pace(
    backoff=Backoff(first=MS, longest=20 * MS),
    round_interval=100 * MS,
    look_interval=200 * MS,
    store_pause=50 * MS,
)
SLOW = replace(FAST, backoff=Backoff(first=HOUR, longest=HOUR))
BAD = Refused("status 500")
# The speed of a busy machine is not tested here.
PATIENT = Limits(connect_timeout=timedelta(seconds=10), reply_timeout=timedelta(seconds=10))


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Waits until the condition is true."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():  # noqa: ASYNC110 - a condition has no event
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"waited {DEADLINE_SECONDS:g} s for {what}")


async def until(condition: Callable[[], Awaitable[object]], what: str) -> None:
    """Waits in the same way for a condition that calls the store. A store that does not answer yet
    counts as False.
    """
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
    """An endpoint. `refuses` says how many times it refuses the events with a reason. The reason
    "*" stands for all events. The endpoint hangs while `hangs` is not set.
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
        """Accepts or refuses an event. The event's reason names it."""
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
        """Records that it was closed."""
        self.closed = True


async def _all_held(deliveries: Deliveries, box: Mailbox) -> bool:
    return (await deliveries.state(box.endpoint.name)).partitions == PARTITIONS


class RelayHarness:
    """A store, and relays that start and stop."""

    def __init__(self, url: str, prefix: str) -> None:
        self.keys, self._url = KeyNames(prefix), url
        self.client = connect(url, PATIENT)
        self.store = SessionStore(self.client, self.keys)
        self.clock = Clock(NOW)
        self.metrics = RelayMetrics()

    async def happen(
        self, user: str, *reasons: str, kind: EventType = EventType.DEVICE_REVOKED
    ) -> None:
        """Writes one event of a user for each reason."""
        for reason in reasons:
            event = Event(kind, self.clock.now, user, "tests", reason=reason)
            await self.store.commit(Commit(user, NOW, events=(event,)))

    @asynccontextmanager
    async def relay(
        self, *boxes: Mailbox, pace: Pace = FAST, name: str = "relay-1", whole: bool = True
    ) -> AsyncIterator[asyncio.Event]:
        """A running relay. If `whole`, the relays hold all partitions. Setting the event that is
        yielded stops the relay.
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
        """The number of leases that each relay has."""
        found = [
            await self.client.execute_command("GET", self.keys.lease(n, endpoint))
            for n in range(PARTITIONS)
        ]
        return Counter(holder.decode() for holder in found if holder)

    async def are_held(self, expected: dict[str, int]) -> bool:
        """Returns whether each relay holds this many leases."""
        return await self.holders() == expected

    async def are_dead(self, count: int) -> bool:
        """Returns whether there are this many dead letters."""
        return len(await self.dead()) == count

    async def dead(self) -> Sequence[DeadLetter]:
        """The dead letters."""
        return [
            letter async for letter in Deliveries(self.client, self.keys).dead_letters("mailer")
        ]

    async def all_settled(self) -> bool:
        """Returns whether no delivery is under way."""
        return not (await Deliveries(self.client, self.keys).state("mailer")).taken

    def counted(self, outcome: str, endpoint: str = "mailer") -> float:
        """The number of deliveries with this outcome."""
        labels = {"endpoint": endpoint, "outcome": outcome}
        return (
            self.metrics.registry.get_sample_value("session_authority_deliveries_total", labels)
            or 0.0
        )
