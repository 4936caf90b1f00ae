"""Owns the lease of a partition: only the relay that holds it takes that partition's events for an
endpoint, and writes down what became of them.

Which relay leases which partitions is for `sharing`.
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
    """A lease that was acquired just now. Its methods raise LeaseLost once another relay may hold
    the partition.

    Args:
        deliveries: How far deliveries have come.
        number: The partition.
        endpoint: The name of the endpoint.
        relay: The name of the relay that holds the lease.
        store_pause: How long to wait for a store that does not answer.
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
        """Raises LeaseLost if another relay may hold the partition by now."""
        if monotonic() >= self._ends_at_seconds:
            raise LeaseLost

    async def unsettled(self, but: Container[EntryId]) -> Sequence[TakenEvent]:
        """The events that a holder took and did not settle, but for these entries. Raises
        StoreUnavailable, GroupGone.
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
        """Goes on after this entry, if the store forgot. Raises StoreUnavailable."""
        await self._deliveries.start_group(*self._at, after)

    async def settle(self, entries: Sequence[EntryId]) -> None:
        """Notes that events arrived, or need no delivery."""
        await self._write(lambda: self._deliveries.settle(*self._at, entries))

    async def note_failure(self, entry: EntryId, attempts: Attempts) -> None:
        """Notes attempts that failed, so that the next holder knows of them."""
        await self._write(lambda: self._deliveries.note_failure(*self._at, entry, attempts))

    async def put_aside(self, taken: TakenEvent, count: int, reason: str, now: datetime) -> None:
        """Notes that an event was given up after this many attempts."""
        await self._write(lambda: self._deliveries.put_aside(*self._at, taken, count, reason, now))

    async def release(self) -> None:
        """Gives the lease back. If the store is away, the lease runs out."""
        with contextlib.suppress(StoreUnavailable):
            await self._deliveries.release(*self._at, self._relay)

    async def _write(self, write: Callable[[], Awaitable[None]]) -> None:
        """Writes, if need be again and again while the lease is held."""
        while True:
            try:
                await write()
                return
            except StoreUnavailable:
                self.refuse_if_lost()
            await asyncio.sleep(self._store_pause_seconds)

    def _extend(self, began_at_seconds: float) -> None:
        """The lease lasts from when the request that extended it began, at least."""
        self._ends_at_seconds = began_at_seconds + LEASE_TIME.total_seconds()
