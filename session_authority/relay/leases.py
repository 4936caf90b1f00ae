"""Holds the lease of a partition. Only the relay that holds the lease takes events of the partition
for an endpoint, and notes their outcome.

`sharing` decides which relay leases which partitions.
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
    """A lease. It must be acquired just before this object is made. `unsettled` and `take` raise
    LeaseLost if another relay holds the lease. `settle`, `note_failure` and `put_aside` raise
    LeaseLost if the store does not answer until the lease may have ended.

    Args:
        deliveries: The store's state of deliveries.
        number: The number of the partition.
        endpoint: The name of the endpoint.
        relay: The name of the relay that holds the lease.
        store_pause: The pause before the next try if the store does not answer.
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
        """Raises LeaseLost if another relay may hold the lease by now."""
        if monotonic() >= self._ends_at_seconds:
            raise LeaseLost

    async def unsettled(self, but: Container[EntryId]) -> Sequence[TakenEvent]:
        """Returns the events that were taken from the log but not settled, except those in `but`.

        Raises StoreUnavailable, GroupGone.
        """
        began = monotonic()
        taken = await self._deliveries.unsettled(*self._at, self._relay, but)
        self._extend(began)
        return taken

    async def take(self, count: int) -> Sequence[TakenEvent]:
        """Takes new events from the log. Raises StoreUnavailable, GroupGone."""
        began = monotonic()
        taken = await self._deliveries.take(*self._at, self._relay, count)
        self._extend(began)
        return taken

    async def start_group(self, after: EntryId) -> None:
        """Creates the consumer group again, after this entry, if the store lost the group. Raises
        StoreUnavailable.
        """
        await self._deliveries.start_group(*self._at, after)

    async def settle(self, entries: Sequence[EntryId]) -> None:
        """Notes that these events have arrived or need no delivery."""
        await self._write(lambda: self._deliveries.settle(*self._at, entries))

    async def note_failure(self, entry: EntryId, attempts: Attempts) -> None:
        """Notes the failed attempts of an event, so that the next holder of the lease knows
        them.
        """
        await self._write(lambda: self._deliveries.note_failure(*self._at, entry, attempts))

    async def put_aside(self, taken: TakenEvent, count: int, reason: str, now: datetime) -> None:
        """Notes that an event was given up after this many attempts."""
        await self._write(lambda: self._deliveries.put_aside(*self._at, taken, count, reason, now))

    async def release(self) -> None:
        """Gives the lease back. If the store does not answer, the lease expires by itself."""
        with contextlib.suppress(StoreUnavailable):
            await self._deliveries.release(*self._at, self._relay)

    async def _write(self, write: Callable[[], Awaitable[None]]) -> None:
        """Writes to the store. Tries again while the store does not answer and the lease is
        held.
        """
        while True:
            try:
                await write()
                return
            except StoreUnavailable:
                self.refuse_if_lost()
            await asyncio.sleep(self._store_pause_seconds)

    def _extend(self, began_at_seconds: float) -> None:
        """Extends the lease, counted from the start of the request that extended it."""
        self._ends_at_seconds = began_at_seconds + LEASE_TIME.total_seconds()
