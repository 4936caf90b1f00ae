"""Delivers events: takes them from the log, sends them to the endpoints, and tries again until they
arrive or are given up.

Any number of relays share the work. Each holds leases of some partitions for each endpoint, as many
as the others, and only the holder of a lease takes that partition's events. The events of one user
are sent one after the other, each once the one before it has arrived or was given up; those of
different users don't wait for each other. An event may be sent twice, with the same ID: by a relay
that died before it could note that the event had arrived, or that was cut off from the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from session_authority.domain.errors import StoreUnavailable
from session_authority.domain.events import EventFilter, RecordedEvent
from session_authority.domain.moments import to_ms
from session_authority.relay.endpoints import Endpoint
from session_authority.relay.webhooks import Delivered, Refused, cloud_event
from session_authority.runtime import logs
from session_authority.runtime.metrics import Metrics
from session_authority.store import Deliveries, EventLog
from session_authority.store.deliveries import (
    LEASE_TIME,
    Attempts,
    GroupGone,
    LeaseLost,
    TakenEvent,
)
from session_authority.store.key_names import PARTITIONS
from session_authority.store.log_position import EntryId

GIVE_UP_AFTER = timedelta(hours=24)
_FIRST_DELAY, _LONGEST_DELAY = timedelta(seconds=1), timedelta(minutes=15)
# How far clocks may differ.
_CLOCK_MARGIN = timedelta(seconds=5)
# How often relays count each other, and look at a partition that nobody spoke of. Both keep leases,
# which last longer.
_ROUND_SECONDS = 2.0
_LOOK_SECONDS = 3.0
_STORE_PAUSE_SECONDS = 0.5
# So many events of a partition are under way or to be tried again; the others wait in the log. Of
# one user no more than a few count, so that one whose events can't be taken leaves room for others;
# but all of them must fit into memory.
_WINDOW, _OF_ONE_USER, _MOST_TAKEN = 128, 8, 4096
# An endpoint that answers again after so many failures in a row gets at once what had to wait for
# it; not too often.
_OUTAGE_FAILURES, _RECOVERY_SECONDS = 5, 30.0

_log = structlog.get_logger(__name__)


class Sends(Protocol):
    """Sends to one endpoint; see `webhooks.Sender`."""

    async def send(self, event_id: str, body: bytes, now: datetime) -> Delivered | Refused:
        """Sends one event."""

    async def close(self) -> None:
        """Hangs up."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take: shorter in tests."""

    give_up_after: timedelta = GIVE_UP_AFTER
    first_delay: timedelta = _FIRST_DELAY
    longest_delay: timedelta = _LONGEST_DELAY

    def delay(self, failures: int, asked: timedelta | None) -> float:
        """Seconds until the next attempt: twice as long each time, anywhere in the upper half of
        that, so that many that failed together don't come back together; but not before the
        endpoint asked for it.
        """
        longest = self.longest_delay.total_seconds()
        ceiling = min(self.first_delay.total_seconds() * 2.0 ** min(failures - 1, 32), longest)
        seconds = ceiling * random.uniform(0.5, 1)  # noqa: S311 - spreads, hides nothing
        return seconds if asked is None else max(seconds, asked.total_seconds())


class Relay:
    """One relay, for all endpoints."""

    def __init__(
        self,
        name: str,
        deliveries: Deliveries,
        log: EventLog,
        endpoints: Sequence[tuple[Endpoint, Sends]],
        *,
        source: str,
        clock: Callable[[], datetime],
        metrics: Metrics,
        pace: Pace | None = None,
    ) -> None:
        self._log = log
        self._routes = [
            _Route(name, deliveries, endpoint, sender, source, clock, metrics, pace or Pace())
            for endpoint, sender in endpoints
        ]

    async def run(self, stop: asyncio.Event) -> None:
        """Delivers until told to stop; then finishes what is being sent, and leaves the rest to
        others.
        """
        async with self._log.listening(self._hear):
            await asyncio.gather(*(route.run(stop) for route in self._routes))

    def _hear(self, number: int | None) -> None:
        for route in self._routes:
            route.wake(range(PARTITIONS) if number is None else [number])


class _Route:
    """The way to one endpoint: the partitions that this relay holds for it."""

    def __init__(
        self,
        relay: str,
        deliveries: Deliveries,
        endpoint: Endpoint,
        sender: Sends,
        source: str,
        clock: Callable[[], datetime],
        metrics: Metrics,
        pace: Pace,
    ) -> None:
        self.relay = relay
        self.deliveries = deliveries
        self.endpoint = endpoint
        self.only = EventFilter(types=endpoint.types)
        self.clock = clock
        self.pace = pace
        self._sender = sender
        self._source = source
        self._metrics = metrics
        self.slots = asyncio.Semaphore(endpoint.max_in_flight)
        self._relays = 1
        self._held: dict[int, _Partition] = {}
        self._leaving: dict[int, asyncio.Task[None]] = {}
        # How far this relay saw each partition come: from there on it delivers again if the store
        # forgets its groups.
        self.known: dict[int, EntryId] = {}
        self._failures = 0
        self._failing_since: datetime | None = None
        self._recovered = asyncio.Event()
        self._last_recovery = float("-inf")

    def wake(self, numbers: Iterable[int]) -> None:
        """These partitions have news."""
        for number in numbers:
            if number in self._held:
                self._held[number].look.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Delivers to this endpoint until told to stop."""
        stopped = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                try:
                    await self._share_out()
                except Exception as error:  # noqa: BLE001 - one bad round must not end the relay
                    _log.error(
                        "relay_round_failed", endpoint=self.endpoint.name, **logs.fault(error)
                    )
                await asyncio.wait([stopped], timeout=_ROUND_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311
        finally:
            stopped.cancel()
            self._give_back(self._held)
            if self._leaving:
                await asyncio.wait(self._leaving.values())
            await self._sender.close()
            with contextlib.suppress(StoreUnavailable):
                await self.deliveries.leave(self.endpoint.name, self.relay)

    async def _share_out(self) -> None:
        """Takes or gives back leases, so that every relay that delivers to the endpoint holds about
        as many.
        """
        with contextlib.suppress(StoreUnavailable):  # it is logged; the last count is good enough
            self._relays = max(await self.deliveries.enlist(self.endpoint.name, self.relay), 1)
        share = -(-PARTITIONS // self._relays)
        for number in [number for number, partition in self._held.items() if partition.ended]:
            del self._held[number]
        for number in [number for number, leaving in self._leaving.items() if leaving.done()]:
            del self._leaving[number]
        if len(self._held) > share:
            self._give_back(random.sample(sorted(self._held), len(self._held) - share))
            return
        # Also of those that others hold: what happens from now on is for this endpoint, whoever may
        # deliver it.
        await asyncio.gather(
            *(self._begin(number) for number in range(PARTITIONS) if number not in self.known)
        )
        free = [
            number
            for number in self.known
            if number not in self._held and number not in self._leaving
        ]
        random.shuffle(free)
        while free and len(self._held) < share:
            some, free = free[: share - len(self._held)], free[share - len(self._held) :]
            won = await asyncio.gather(*(self._lease(number) for number in some))
            for number in [number for number, mine in zip(some, won, strict=True) if mine]:
                self._held[number] = _Partition(self, number)

    async def _begin(self, number: int) -> None:
        with contextlib.suppress(StoreUnavailable):  # it is tried again in the next round
            await self.deliveries.start_group(number, self.endpoint.name, None)
            self.known[number] = (to_ms(self.clock() - _CLOCK_MARGIN), 0)

    async def _lease(self, number: int) -> bool:
        """Takes a lease. Whatever becomes of one partition is no matter to the others."""
        with contextlib.suppress(StoreUnavailable):
            if await self.deliveries.lease(number, self.endpoint.name, self.relay):
                await self.deliveries.start_group(number, self.endpoint.name, self.known[number])
                return True
        return False

    def _give_back(self, numbers: Iterable[int]) -> None:
        """Gives leases back, each once what is being sent is through."""
        for number in list(numbers):
            self._leaving[number] = asyncio.ensure_future(self._held.pop(number).stop())

    async def send(self, taken: TakenEvent) -> Delivered | Refused:
        """One attempt, by whoever has one of the slots."""
        assert taken.event is not None
        body = cloud_event(RecordedEvent(taken.event_id, taken.event), self._source)
        outcome = await self._sender.send(taken.event_id, body, self.clock())
        if isinstance(outcome, Delivered):
            self._metrics.deliveries.labels(self.endpoint.name, "delivered").inc()
            self._note_success()
        else:
            self._metrics.deliveries.labels(self.endpoint.name, "failed").inc()
            self._note_failure(outcome.reason)
        return outcome

    def _note_success(self) -> None:
        failures, self._failures, self._failing_since = self._failures, 0, None
        now = asyncio.get_running_loop().time()
        if failures >= _OUTAGE_FAILURES and now - self._last_recovery >= _RECOVERY_SECONDS:
            self._last_recovery = now
            _log.info("endpoint_recovered", endpoint=self.endpoint.name)
            recovered, self._recovered = self._recovered, asyncio.Event()
            recovered.set()

    def _note_failure(self, reason: str) -> None:
        self._failures += 1
        self._failing_since = self._failing_since or self.clock()
        if self._failures == _OUTAGE_FAILURES:
            _log.warning("endpoint_failing", endpoint=self.endpoint.name, reason=reason)

    def inherit(self, attempts: Attempts) -> None:
        """Learns from another relay's notes since when the endpoint has been failing."""
        if self._failures == 0 and self._failing_since is None:
            self._failing_since = attempts.first

    def is_hopeless(self, taken: TakenEvent, attempts: Attempts) -> bool:
        """Whether to give an event up: it was tried for long enough, or is that old and the
        endpoint was away for as long.

        The latter keeps what piles up behind an outage from waiting until the log forgets it.
        """
        now, enough = self.clock(), self.pace.give_up_after
        if now - attempts.first >= enough:
            return True
        assert taken.event is not None
        return (
            now - taken.event.happened_at >= enough
            and self._failing_since is not None
            and now - self._failing_since >= enough
        )

    async def pause(self, seconds: float) -> None:
        """Waits, or until the endpoint has recovered."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._recovered.wait(), seconds)

    def count_given_up(self) -> None:
        self._metrics.deliveries.labels(self.endpoint.name, "given_up").inc()


class _Partition:
    """One partition's events on their way to one endpoint, for as long as this relay holds the
    lease.
    """

    def __init__(self, route: _Route, number: int) -> None:
        self._route = route
        self._number = number
        self._endpoint = route.endpoint.name
        self._deliveries = route.deliveries
        self.look = asyncio.Event()
        self._held_until = asyncio.get_running_loop().time() + LEASE_TIME.total_seconds()
        # What waits for each user, the first of which is being delivered by a task of its own.
        self._waiting: dict[str, deque[TakenEvent]] = {}
        # When each became due: from then on it has its day.
        self._under_way: dict[EntryId, datetime] = {}
        self._full = False
        self._senders: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._task = asyncio.ensure_future(self._run())

    @property
    def ended(self) -> bool:
        """The lease is lost, or was given back."""
        return self._task.done()

    async def stop(self) -> None:
        """Finishes what is being sent right now, and gives the lease back."""
        self._halt()
        await asyncio.wait([self._task])

    def _halt(self) -> None:
        self._stopping.set()
        self.look.set()

    async def _run(self) -> None:
        try:
            await self._deliver_all()
        except LeaseLost:
            _log.info("lease_lost", endpoint=self._endpoint, partition=self._number)
        except Exception as error:  # noqa: BLE001 - the lease goes back, and somebody starts anew
            _log.error(
                "delivery_failed",
                endpoint=self._endpoint,
                partition=self._number,
                **logs.fault(error),
            )
        finally:
            self._stopping.set()
            while self._senders:
                await asyncio.wait(self._senders, timeout=_LOOK_SECONDS)
                with contextlib.suppress(
                    StoreUnavailable, LeaseLost
                ):  # the next holder waits for what is being sent
                    await self._deliveries.take(self._number, self._endpoint, self._route.relay, 0)
            with contextlib.suppress(StoreUnavailable):  # then it runs out
                await self._deliveries.release(self._number, self._endpoint, self._route.relay)

    async def _deliver_all(self) -> None:
        fetch = self._fetch_unsettled
        while not self._stopping.is_set():
            self.look.clear()
            try:
                try:
                    full = await fetch()
                    fetch = self._fetch
                except GroupGone:
                    _log.error(
                        "deliveries_forgotten", endpoint=self._endpoint, partition=self._number
                    )
                    await self._deliveries.start_group(
                        self._number, self._endpoint, self._route.known[self._number]
                    )
                    continue
            except StoreUnavailable:
                if not self._is_ours():
                    raise LeaseLost from None
                fetch = self._fetch_unsettled  # the reply that did not come may have had some
                await self._pause(_STORE_PAUSE_SECONDS)
                continue
            if not full:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.look.wait(), _LOOK_SECONDS)

    async def _fetch_unsettled(self) -> bool:
        """Goes on with what was taken before, by whoever had the lease, and is not under way."""
        began, under_way = asyncio.get_running_loop().time(), set(self._under_way)
        taken = await self._deliveries.unsettled(self._number, self._endpoint, self._route.relay)
        self._prolong(began)
        await self._start([event for event in taken if event.entry not in under_way])
        return True

    async def _fetch(self) -> bool:
        """Takes what is new, as far as there is room; whether there may be more."""
        room = self._room()
        self._full = room == 0
        began = asyncio.get_running_loop().time()
        taken = await self._deliveries.take(self._number, self._endpoint, self._route.relay, room)
        self._prolong(began)
        await self._start(taken)
        return 0 < room == len(taken)

    def _room(self) -> int:
        counted = sum(min(len(queue), _OF_ONE_USER) for queue in self._waiting.values())
        return max(min(_WINDOW - counted, _MOST_TAKEN - len(self._under_way)), 0)

    def _prolong(self, began: float) -> None:
        self._held_until = began + LEASE_TIME.total_seconds()

    def _is_ours(self) -> bool:
        """The lease can't have passed to another relay yet."""
        return asyncio.get_running_loop().time() < self._held_until

    async def _start(self, events: Sequence[TakenEvent]) -> None:
        skipped: list[EntryId] = []
        for taken in events:
            self._route.known[self._number] = max(self._route.known[self._number], taken.entry)
            if taken.event is not None and not self._route.only.passes(taken.event):
                skipped.append(taken.entry)
                continue
            if taken.attempts is not None:
                self._route.inherit(taken.attempts)
            user = "" if taken.event is None else taken.event.user_id
            self._under_way[taken.entry] = (
                self._route.clock() if taken.attempts is None else taken.attempts.first
            )
            if user in self._waiting:
                self._waiting[user].append(taken)
            else:
                self._waiting[user] = deque([taken])
                sender = asyncio.ensure_future(self._deliver_to(user))
                self._senders.add(sender)
                sender.add_done_callback(self._senders.discard)
        if skipped:
            await self._note(lambda: self._deliveries.settle(self._number, self._endpoint, skipped))

    async def _deliver_to(self, user: str) -> None:
        """Delivers what waits for a user, in order."""
        queue = self._waiting[user]
        try:
            while queue and not self._stopping.is_set():
                await self._deliver(queue[0])
                del self._under_way[queue.popleft().entry]
                if self._full:
                    self.look.set()  # there is room again
            del self._waiting[user]
        except LeaseLost:
            self._halt()
        except Exception as error:  # noqa: BLE001 - the lease goes back, and somebody starts anew
            _log.error(
                "delivery_failed",
                endpoint=self._endpoint,
                partition=self._number,
                **logs.fault(error),
            )
            self._halt()

    async def _deliver(self, taken: TakenEvent) -> None:
        """Tries until the event has arrived, is given up, or this relay stops."""
        if taken.event is None:
            await self._give_up(
                taken, taken.attempts, "the event can't be read, or was trimmed from the log"
            )
            return
        attempts = taken.attempts
        if attempts is not None:
            await self._pause(self._route.pace.delay(1, None))
        while not self._stopping.is_set():
            if not await self._slot():
                return
            try:
                if not self._is_ours():
                    raise LeaseLost
                outcome = await self._route.send(taken)
            finally:
                self._route.slots.release()
            if isinstance(outcome, Delivered):
                await self._note(
                    lambda: self._deliveries.settle(self._number, self._endpoint, [taken.entry])
                )
                return
            attempts = Attempts(
                1 if attempts is None else attempts.count + 1, self._under_way[taken.entry]
            )
            if self._route.is_hopeless(taken, attempts):
                await self._give_up(taken, attempts, outcome.reason)
                return
            await self._note_failure(taken, attempts)
            await self._pause(self._route.pace.delay(attempts.count, outcome.retry_after))

    async def _slot(self) -> bool:
        """Waits for one of the endpoint's slots; False, and none, if this relay is told to stop
        meanwhile.
        """
        waiting = asyncio.ensure_future(self._route.slots.acquire())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not self._stopping.is_set():
            stopping.cancel()
            return True
        waiting.cancel()
        await asyncio.wait([waiting])
        if not waiting.cancelled():
            self._route.slots.release()
        return False

    async def _note_failure(self, taken: TakenEvent, attempts: Attempts) -> None:
        await self._note(
            lambda: self._deliveries.note_failure(
                self._number, self._endpoint, taken.entry, attempts
            )
        )

    async def _give_up(self, taken: TakenEvent, attempts: Attempts | None, reason: str) -> None:
        count = 0 if attempts is None else attempts.count
        _log.error(
            "event_given_up",
            endpoint=self._endpoint,
            event_id=taken.event_id,
            attempts=count,
            reason=reason,
        )
        self._route.count_given_up()
        now = self._route.clock()
        await self._note(
            lambda: self._deliveries.put_aside(
                self._number, self._endpoint, taken, count, reason, now
            )
        )

    async def _note(self, write: Callable[[], Awaitable[None]]) -> None:
        """Writes down what became of an event, if need be again and again for as long as the lease
        is ours.
        """
        while True:
            try:
                await write()
                return
            except StoreUnavailable:
                if not self._is_ours():
                    raise LeaseLost from None
            await asyncio.sleep(_STORE_PAUSE_SECONDS)

    async def _pause(self, seconds: float) -> None:
        """Waits, but not longer than the endpoint's recovery, or this relay's end."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        pause = asyncio.ensure_future(self._route.pause(seconds))
        try:
            await asyncio.wait([stopping, pause], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            pause.cancel()
