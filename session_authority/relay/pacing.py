"""Decides when a delivery is tried again. It knows the pause after a failure, when an endpoint has
recovered, and when an event is given up.

This module sends nothing and stores nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

import structlog

from session_authority.runtime.backoff import Backoff

_BACKOFF = Backoff(first=timedelta(seconds=1), longest=timedelta(minutes=15))
# After this many failures in a row an endpoint counts as failing.
_OUTAGE_FAILURES = 5
# When a failing endpoint recovers, waiting events are sent without delay, but at most once in this
# time.
_RECOVERY_INTERVAL_SECONDS = 30.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """The intervals, delays and limits of a relay. Tests pass shorter times."""

    give_up_after: timedelta = timedelta(hours=24)
    """An event is given up when its attempts have failed for this long.
    `EndpointHealth.is_hopeless` has one more rule.
    """
    backoff: Backoff = _BACKOFF
    """The delay after each failed attempt."""
    round_interval: timedelta = timedelta(seconds=2)
    """Relays count each other and share out the partitions at this interval. Leases last longer."""
    look_interval: timedelta = timedelta(seconds=3)
    """A relay looks for events at this interval, in case a wake-up was lost. Each look extends the
    lease.
    """
    store_pause: timedelta = timedelta(milliseconds=500)
    """The delay before the next request to a store that did not answer."""

    def delay_seconds(self, failures: int, retry_after: timedelta | None) -> float:
        """Returns the delay until the next attempt, at least the pause that the endpoint wants."""
        seconds = self.backoff.seconds(failures)
        return seconds if retry_after is None else max(seconds, retry_after.total_seconds())


class EndpointHealth:
    """The latest results of deliveries to an endpoint."""

    def __init__(
        self, endpoint: str, give_up_after: timedelta, clock: Callable[[], datetime]
    ) -> None:
        self.recovered = asyncio.Event()
        """Set when a failing endpoint recovers, but at most once in 30 seconds. Then a new
        `asyncio.Event` takes its place.
        """
        self._endpoint = endpoint
        self._give_up_after = give_up_after
        self._clock = clock
        self._failures = 0
        self._failing_since: datetime | None = None
        self._recovered_at_seconds = float("-inf")

    def note_success(self) -> None:
        """Records an event that the endpoint accepted."""
        failures, self._failures, self._failing_since = self._failures, 0, None
        now = monotonic()
        if (
            failures >= _OUTAGE_FAILURES
            and now - self._recovered_at_seconds >= _RECOVERY_INTERVAL_SECONDS
        ):
            self._recovered_at_seconds = now
            _log.info("endpoint_recovered", endpoint=self._endpoint)
            recovered, self.recovered = self.recovered, asyncio.Event()
            recovered.set()

    def note_failure(self, reason: str) -> None:
        """Records an attempt that the endpoint failed."""
        self._failures += 1
        self._failing_since = self._failing_since or self._clock()
        if self._failures == _OUTAGE_FAILURES:
            _log.warning("endpoint_failing", endpoint=self._endpoint, reason=reason)

    def note_earlier_failure(self, at: datetime) -> None:
        """Records the time of a failure that is noted in the store, unless this object has recorded
        a failure since the last success.
        """
        if self._failures == 0 and self._failing_since is None:
            self._failing_since = at

    def is_hopeless(self, happened_at: datetime, first_attempt_at: datetime) -> bool:
        """Returns True if an event is to be given up. There are two rules for this.

        An event is given up if it has been tried for the time `give_up_after`. It is also given up
        if it is that old, and its endpoint has failed for that time. Without the second rule, the
        events that wait behind an outage would each be tried for that time, one after the other,
        until the stream drops them.
        """
        now, enough = self._clock(), self._give_up_after
        if now - first_attempt_at >= enough:
            return True
        return (
            now - happened_at >= enough
            and self._failing_since is not None
            and now - self._failing_since >= enough
        )


async def wait_for_any(*events: asyncio.Event, seconds: float) -> None:
    """Waits until one of the events is set or the time is over."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
