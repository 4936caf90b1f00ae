"""Delivers the events of one partition to one endpoint. Takes events from the log, and sends each
event until the event is delivered or given up.

The endpoint may get an event more than once, each time with the same ID. A relay sends an event
again if the endpoint's response was late or lost. An event is also sent again if a relay dies, or
loses its connection to the store, before it has stored that the event was delivered.

The module `sharing` decides which relay delivers a partition. The module `window` decides the order
of events.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import structlog

from session_authority.domain.errors import StoreUnavailable
from session_authority.domain.events import EventFilter, RecordedEvent
from session_authority.relay.endpoints import Endpoint
from session_authority.relay.leases import Lease
from session_authority.relay.pacing import EndpointHealth, Pace, wait_for_any
from session_authority.relay.webhooks import Delivered, Refused, cloud_event
from session_authority.relay.window import Window
from session_authority.runtime import logs
from session_authority.runtime.relay_metrics import RelayMetrics
from session_authority.runtime.tasks import BackgroundTasks
from session_authority.store import Deliveries
from session_authority.store.deliveries import Attempts, GroupGone, LeaseLost, TakenEvent
from session_authority.store.log_position import EntryId

_log = structlog.get_logger(__name__)


class Sends(Protocol):
    """Sends events to one endpoint. `webhooks.Sender` implements this protocol."""

    async def send(self, event_id: str, body: bytes, now: datetime) -> Delivered | Refused:
        """Sends one event to the endpoint."""

    async def close(self) -> None:
        """Closes the connections to the endpoint."""


class Route:
    """Holds what the deliveries to one endpoint have in common. All partitions use the same
    `Route`.

    Args:
        relay: The name of this relay, which holds the leases.
        deliveries: Reads and writes the state of deliveries in the store.
        endpoint: The endpoint that gets the events.
        sender: Sends events to the endpoint.
        source: The value of the attribute `source` in each CloudEvent.
        clock: Returns the present time.
        metrics: Counts deliveries.
        pace: The intervals, delays and limits of deliveries.
    """

    def __init__(
        self,
        relay: str,
        deliveries: Deliveries,
        endpoint: Endpoint,
        sender: Sends,
        *,
        source: str,
        clock: Callable[[], datetime],
        metrics: RelayMetrics,
        pace: Pace,
    ) -> None:
        self.relay = relay
        self.deliveries = deliveries
        self.endpoint = endpoint.name
        self.clock = clock
        self.pace = pace
        self.passes = EventFilter(types=endpoint.types).passes
        self.slots = asyncio.Semaphore(endpoint.max_in_flight)
        self.health = EndpointHealth(endpoint.name, pace.give_up_after, clock)
        # For each partition, the last log entry that this relay has taken. Before the relay has
        # taken an entry, the value is an ID from shortly before this relay's first round. If Redis
        # loses a consumer group, the new group starts after this entry.
        self.reached: dict[int, EntryId] = {}
        self._sender = sender
        self._source = source
        self._metrics = metrics

    async def send(self, taken: TakenEvent) -> Delivered | Refused:
        """Sends an event once. The caller must have acquired one of the `slots`."""
        event = taken.event
        assert event is not None
        body = cloud_event(RecordedEvent(taken.event_id, event), self._source)
        outcome = await self._sender.send(taken.event_id, body, self.clock())
        if isinstance(outcome, Delivered):
            self.count("delivered")
            self.health.note_success()
        else:
            self.count("failed")
            self.health.note_failure(outcome.reason)
        return outcome

    def count(self, outcome: str) -> None:
        """Adds 1 to the metric of this outcome: `delivered`, `failed` or `given_up`."""
        self._metrics.deliveries.labels(self.endpoint, outcome).inc()

    async def close(self) -> None:
        """Closes the connections to the endpoint. Removes this relay from the store's list of
        relays that deliver to the endpoint.
        """
        await self._sender.close()
        with contextlib.suppress(StoreUnavailable):
            await self.deliveries.leave(self.endpoint, self.relay)


class PartitionDelivery:
    """Delivers the events of one partition to one endpoint while this relay holds the lease of the
    partition.
    """

    def __init__(self, route: Route, lease: Lease) -> None:
        self.look = asyncio.Event()
        """This flag is set when the log may have events to take."""
        self._route = route
        self._lease = lease
        self._window = Window()
        self._full = False
        self._senders = BackgroundTasks()
        self._stopping = asyncio.Event()
        self._task = asyncio.ensure_future(self._run())

    @property
    def ended(self) -> bool:
        """Returns True after this delivery has ended, because the lease was lost or given back."""
        return self._task.done()

    async def stop(self) -> None:
        """Waits for the sends that are under way, and gives the lease back."""
        self._halt()
        await asyncio.wait([self._task])

    def _halt(self) -> None:
        self._stopping.set()
        self.look.set()

    async def _run(self) -> None:
        try:
            await self._deliver_all()
        except LeaseLost:
            _log.info("lease_lost", endpoint=self._route.endpoint, partition=self._lease.number)
        except Exception as error:  # noqa: BLE001 - after any error, the lease is given back
            self._log_failure(error)
        finally:
            self._stopping.set()
            await self._finish_sending()
            await self._lease.release()

    async def _finish_sending(self) -> None:
        """Waits for the sends that are under way.

        Extends the lease during the wait, so that no other relay acquires the lease and sends the
        same events again.
        """
        while self._senders:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._route.pace.look_interval.total_seconds()):
                    await self._senders.settled()
            with contextlib.suppress(StoreUnavailable, LeaseLost):
                await self._lease.take(0)

    async def _deliver_all(self) -> None:
        fetch, pace = self._fetch_unsettled, self._route.pace
        while not self._stopping.is_set():
            self.look.clear()
            try:
                try:
                    more = await fetch()
                    fetch = self._fetch
                except GroupGone:
                    await self._begin_again()
                    continue
            except StoreUnavailable:
                self._lease.refuse_if_lost()
                fetch = self._fetch_unsettled  # if a reply was lost, its events count as taken
                await self._pause(pace.store_pause.total_seconds())
                continue
            if not more:
                await wait_for_any(self.look, seconds=pace.look_interval.total_seconds())

    async def _begin_again(self) -> None:
        number = self._lease.number
        _log.error("deliveries_forgotten", endpoint=self._route.endpoint, partition=number)
        await self._lease.start_group(self._route.reached[number])

    async def _fetch_unsettled(self) -> bool:
        """Fetches the events that this relay, or an earlier holder of the lease, has taken from the
        log and not settled. Leaves out events that are in the window already. Always returns True,
        so that the caller fetches new events next.
        """
        await self._start(await self._lease.unsettled(but=self._window.entries()))
        return True

    async def _fetch(self) -> bool:
        """Takes new events from the log, as many as the window has room for. Returns True if the
        events fill this room, because the log may then have more events.
        """
        room = self._window.room()
        self._full = room == 0
        taken = await self._lease.take(room)
        await self._start(taken)
        return 0 < room == len(taken)

    async def _start(self, events: Sequence[TakenEvent]) -> None:
        """Adds these events to the window, and starts their delivery. Settles the events that the
        endpoint does not want.
        """
        reached, number = self._route.reached, self._lease.number
        skipped: list[EntryId] = []
        for taken in events:
            reached[number] = max(reached[number], taken.entry)
            event = taken.event
            if event is not None and not self._route.passes(event):
                skipped.append(taken.entry)
                continue
            if taken.attempts is None:
                due_at = self._route.clock()
            else:
                due_at = taken.attempts.first_at
                self._route.health.note_earlier_failure(due_at)
            user = "" if event is None else event.user_id
            if self._window.add(user, taken, due_at):
                self._senders.start(self._deliver_to(user))
        if skipped:
            await self._lease.settle(skipped)

    async def _deliver_to(self, user: str) -> None:
        """Delivers the events of a user one after the other, in the order of the window."""
        try:
            while (taken := self._window.first(user)) and not self._stopping.is_set():
                await self._deliver(taken)
                self._window.remove_first(user)
                if self._full:
                    self.look.set()  # the window has room again
        except LeaseLost:
            self._halt()
        except Exception as error:  # noqa: BLE001 - after any error, the lease is given back
            self._log_failure(error)
            self._halt()

    async def _deliver(self, taken: TakenEvent) -> None:
        """Sends an event until the event is delivered or given up, or until this object stops
        delivering.
        """
        attempts, pace = taken.attempts, self._route.pace
        happened_at = _happened_at(taken)
        if happened_at is None:
            reason = "the event can't be read, or was trimmed from the log"
            await self._give_up(taken, attempts, reason)
            return
        if attempts is not None:
            await self._pause(pace.delay_seconds(1, None))
        while not self._stopping.is_set():
            outcome = await self._send(taken)
            if outcome is None:
                return
            if isinstance(outcome, Delivered):
                await self._lease.settle([taken.entry])
                return
            count = 1 if attempts is None else attempts.count + 1
            attempts = Attempts(count, self._window.due_at(taken))
            if self._route.health.is_hopeless(happened_at, attempts.first_at):
                await self._give_up(taken, attempts, outcome.reason)
                return
            await self._lease.note_failure(taken.entry, attempts)
            await self._pause(pace.delay_seconds(count, outcome.retry_after))

    async def _send(self, taken: TakenEvent) -> Delivered | Refused | None:
        """Sends an event once. Returns None if this object stops before a slot of the endpoint is
        free.
        """
        if not await self._acquire_slot():
            return None
        try:
            self._lease.refuse_if_lost()
            return await self._route.send(taken)
        finally:
            self._route.slots.release()

    async def _acquire_slot(self) -> bool:
        """Waits until a slot of the endpoint is free, and acquires the slot. If this object stops
        during the wait, returns False and acquires no slot.
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

    async def _give_up(self, taken: TakenEvent, attempts: Attempts | None, reason: str) -> None:
        count = 0 if attempts is None else attempts.count
        _log.error(
            "event_given_up",
            endpoint=self._route.endpoint,
            event_id=taken.event_id,
            attempts=count,
            reason=reason,
        )
        self._route.count("given_up")
        await self._lease.put_aside(taken, count, reason, self._route.clock())

    async def _pause(self, seconds: float) -> None:
        """Waits for `seconds`, but returns early if the endpoint recovers or this object stops."""
        await wait_for_any(self._stopping, self._route.health.recovered, seconds=seconds)

    def _log_failure(self, error: Exception) -> None:
        about = {"endpoint": self._route.endpoint, "partition": self._lease.number}
        _log.error("delivery_failed", **about, **logs.fault(error))


def _happened_at(taken: TakenEvent) -> datetime | None:
    """Returns the time of the event, or None if the event can't be read.

    The code is in a separate function, so that the decoded event is freed at once. A local variable
    of the caller would keep the event in memory during all attempts to deliver the event.
    """
    event = taken.event
    return None if event is None else event.happened_at
