"""Shares the partitions of the event log among all relays. For each endpoint, all relays hold the
leases of about the same number of partitions.

The module `delivery` delivers the events of a partition.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

import structlog

from session_authority.domain.errors import StoreUnavailable
from session_authority.domain.moments import to_ms
from session_authority.relay.delivery import PartitionDelivery, Route, Sends
from session_authority.relay.endpoints import Endpoint
from session_authority.relay.leases import Lease
from session_authority.relay.pacing import Pace, wait_for_any
from session_authority.runtime import logs
from session_authority.runtime.relay_metrics import RelayMetrics
from session_authority.store import Deliveries, EventLog
from session_authority.store.key_names import PARTITIONS

# The pause between two rounds varies at random: it is longer or shorter than the interval by up to
# this fraction. So the relays don't all start their rounds at the same time.
ROUND_JITTER = 0.2
# The clock of a relay may differ from the clock of Redis by this much.
_MAX_CLOCK_SKEW = timedelta(seconds=5)

_log = structlog.get_logger(__name__)


class Relay:
    """Delivers events to all endpoints. Relays in other processes may deliver a part of the events.

    Args:
        name: The name of this relay. No other relay may have the same name.
        deliveries: Reads and writes the state of deliveries in the store.
        log: Announces which partitions have new events.
        endpoints: Each endpoint, with the object that sends events to the endpoint.
        source: The value of the attribute `source` in each CloudEvent.
        clock: Returns the present time.
        metrics: Counts deliveries.
        pace: The intervals, delays and limits. None means the defaults of `Pace`.
    """

    def __init__(
        self,
        name: str,
        deliveries: Deliveries,
        log: EventLog,
        endpoints: Sequence[tuple[Endpoint, Sends]],
        *,
        source: str,
        clock: Callable[[], datetime],
        metrics: RelayMetrics,
        pace: Pace | None = None,
    ) -> None:
        self._log = log
        self._shares = [
            EndpointShare(
                Route(
                    name,
                    deliveries,
                    endpoint,
                    sender,
                    source=source,
                    clock=clock,
                    metrics=metrics,
                    pace=pace or Pace(),
                )
            )
            for endpoint, sender in endpoints
        ]

    async def run(self, stop: asyncio.Event) -> None:
        """Delivers events until `stop` is set. Then waits for the sends that are under way, and
        gives all leases back.
        """
        async with self._log.listening(self._hear):
            await asyncio.gather(*(share.run(stop) for share in self._shares))

    def _hear(self, number: int | None) -> None:
        for share in self._shares:
            share.wake(range(PARTITIONS) if number is None else [number])


class EndpointShare:
    """Owns the deliveries of the partitions that this relay has leased for one endpoint."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._relays = 1
        self._held: dict[int, PartitionDelivery] = {}
        self._leaving: dict[int, asyncio.Task[None]] = {}

    def wake(self, numbers: Iterable[int]) -> None:
        """Makes the deliveries of these partitions read the log. Ignores partitions that this relay
        has not leased.
        """
        for number in numbers:
            if number in self._held:
                self._held[number].look.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Delivers events to the endpoint until `stop` is set. Then gives all leases of the
        endpoint back.
        """
        interval_seconds = self._route.pace.round_interval.total_seconds()
        try:
            while not stop.is_set():
                try:
                    await self._share_out()
                except Exception as error:  # noqa: BLE001 - one error must not end the relay
                    fault = logs.fault(error)
                    _log.error("relay_round_failed", endpoint=self._route.endpoint, **fault)
                jitter = random.uniform(1 - ROUND_JITTER, 1 + ROUND_JITTER)  # noqa: S311 - no secret
                await wait_for_any(stop, seconds=interval_seconds * jitter)
        finally:
            self._give_back(self._held)
            if self._leaving:
                await asyncio.wait(self._leaving.values())
            await self._route.close()

    async def _share_out(self) -> None:
        """Acquires or gives back leases, so that all relays of the endpoint hold about the same
        number of leases.
        """
        route = self._route
        with contextlib.suppress(StoreUnavailable):  # logged by the store; keep the last count
            self._relays = max(await route.deliveries.enlist(route.endpoint, route.relay), 1)
        share = -(-PARTITIONS // self._relays)
        self._held = {number: held for number, held in self._held.items() if not held.ended}
        self._leaving = {number: left for number, left in self._leaving.items() if not left.done()}
        if len(self._held) > share:
            self._give_back(random.sample(sorted(self._held), len(self._held) - share))
            return
        # This step creates the endpoint's consumer groups in all partitions, even in those that
        # other relays hold. A group remembers where deliveries begin. So the endpoint gets all
        # later events, no matter which relay delivers them.
        begins = (
            self._begin(number) for number in range(PARTITIONS) if number not in route.reached
        )
        await asyncio.gather(*begins)
        busy = self._held.keys() | self._leaving.keys()
        free = [number for number in route.reached if number not in busy]
        random.shuffle(free)
        while free and len(self._held) < share:
            missing = share - len(self._held)
            chosen, free = free[:missing], free[missing:]
            won = await asyncio.gather(*(self._lease(number) for number in chosen))
            for lease in filter(None, won):
                self._held[lease.number] = PartitionDelivery(route, lease)

    async def _begin(self, number: int) -> None:
        with contextlib.suppress(StoreUnavailable):  # the next round tries again
            await self._route.deliveries.start_group(number, self._route.endpoint, None)
            start = to_ms(self._route.clock() - _MAX_CLOCK_SKEW)
            self._route.reached[number] = (start, 0)

    async def _lease(self, number: int) -> Lease | None:
        """Acquires the lease of a partition. Returns None if another relay holds the lease, or if
        the store gives no answer.

        A store that gives no answer for one partition may still answer for partitions on other
        Redis servers, so this method raises no StoreUnavailable.
        """
        route = self._route
        with contextlib.suppress(StoreUnavailable):
            if await route.deliveries.lease(number, route.endpoint, route.relay):
                reached = route.reached[number]
                await route.deliveries.start_group(number, route.endpoint, reached)
                return Lease(
                    route.deliveries, number, route.endpoint, route.relay, route.pace.store_pause
                )
        return None

    def _give_back(self, numbers: Iterable[int]) -> None:
        """Starts to give back the leases of these partitions. Each lease is given back after the
        sends of its partition have finished.
        """
        for number in list(numbers):
            self._leaving[number] = asyncio.ensure_future(self._held.pop(number).stop())
