"""Holds the lease of a partition for an endpoint. Only the relay that holds the lease takes events
of the partition for this endpoint, and stores the outcomes of the deliveries.

The module `sharing` decides which relay leases which partitions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Container, Sequence
from datetime import datetime, timedelta
from time import monotonic

from session_authority.domain.errors import StoreUnavailable
from session_authority.store import Deliveries
from session_authority.store.deliveries import LEASE_TIME, Attempts, LeaseLost, TakenEvent
from session_authority.store.log_position import EntryId


class Lease:
    """Represents a lease that this relay holds. The lease must be acquired just before this object
    is made. `unsettled` and `take` raise LeaseLost if this relay no longer holds the lease.
    `settle`, `note_failure` and `put_aside` raise LeaseLost if the store gives no answer before the
    lease may have expired.

    Args:
        deliveries: Reads and writes the state of deliveries in the store.
        number: The number of the partition.
        endpoint: The name of the endpoint.
        relay: The name of the relay that holds the lease.
        store_pause: The pause before a write is tried again, if the store gave no answer.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        number: int,
        endpoint: str,
        relay: str,
        store_pause: timedelta,
    ) -> None:
        self.number = number
        self._deliveries = deliveries
        self._at = (number, endpoint)
        self._relay = relay
        self._store_pause_seconds = store_pause.total_seconds()
        self._ends_at_seconds = 0.0
        self._extend(monotonic())

    def refuse_if_lost(self) -> None:
        """Raises LeaseLost if the lease may have expired, because another relay may then hold the
        lease.
        """
        if monotonic() >= self._ends_at_seconds:
            raise LeaseLost

    async def unsettled(self, but: Container[EntryId]) -> Sequence[TakenEvent]:
        """Returns the events that were taken from the log but not settled, except the entries in
        `but`. Extends the lease.

        Raises LeaseLost if this relay no longer holds the lease, StoreUnavailable if the store
        gives no answer, GroupGone if the store lost the consumer group.
        """
        began = monotonic()
        taken = await self._deliveries.unsettled(*self._at, self._relay, but)
        self._extend(began)
        return taken

    async def take(self, count: int) -> Sequence[TakenEvent]:
        """Takes up to `count` new events from the log, and extends the lease.

        Raises LeaseLost if this relay no longer holds the lease, StoreUnavailable if the store
        gives no answer, GroupGone if the store lost the consumer group.
        """
        began = monotonic()
        taken = await self._deliveries.take(*self._at, self._relay, count)
        self._extend(began)
        return taken

    async def start_group(self, after: EntryId) -> None:
        """Creates the consumer group of the endpoint again, if the store lost the group. The group
        starts after the entry `after`. Raises StoreUnavailable if the store gives no answer.
        """
        await self._deliveries.start_group(*self._at, after)

    async def settle(self, entries: Sequence[EntryId]) -> None:
        """Stores that these events were delivered, or that the endpoint does not want them."""
        await self._write(lambda: self._deliveries.settle(*self._at, entries))

    async def note_failure(self, entry: EntryId, attempts: Attempts) -> None:
        """Stores the failed attempts of an event, so that the next holder of the lease can read
        them.
        """
        await self._write(lambda: self._deliveries.note_failure(*self._at, entry, attempts))

    async def put_aside(self, taken: TakenEvent, count: int, reason: str, now: datetime) -> None:
        """Makes an event a dead letter after `count` failed attempts."""
        await self._write(lambda: self._deliveries.put_aside(*self._at, taken, count, reason, now))

    async def release(self) -> None:
        """Gives the lease back. If the store does not answer, the lease expires by itself."""
        with contextlib.suppress(StoreUnavailable):
            await self._deliveries.release(*self._at, self._relay)

    async def _write(self, write: Callable[[], Awaitable[None]]) -> None:
        """Calls `write` until a call succeeds. Raises LeaseLost if the store gives no answer before
        the lease may have expired.
        """
        while True:
            try:
                await write()
                return
            except StoreUnavailable:
                self.refuse_if_lost()
            await asyncio.sleep(self._store_pause_seconds)

    def _extend(self, began_at_seconds: float) -> None:
        """Computes the end of the lease from the start of the request that extended the lease."""
        self._ends_at_seconds = began_at_seconds + LEASE_TIME.total_seconds()
