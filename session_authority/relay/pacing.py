"""Decides how long to wait after a failed delivery, when an endpoint has recovered, and when an
event is given up.

This module sends no requests, and stores nothing.
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
# When a failing endpoint recovers, the events that wait for their next attempt are sent at once,
# but at most once in this interval.
_RECOVERY_INTERVAL_SECONDS = 30.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Holds the intervals, delays and limits of a relay. Tests pass shorter times."""

    give_up_after: timedelta = timedelta(hours=24)
    """An event is given up if its attempts have failed for this long. `EndpointHealth.is_hopeless`
    also applies a second rule.
    """
    backoff: Backoff = _BACKOFF
    """Computes the delay after a failed attempt."""
    round_interval: timedelta = timedelta(seconds=2)
    """At this interval, each relay counts the relays, and acquires or gives back leases. A lease
    lasts longer than the interval.
    """
    look_interval: timedelta = timedelta(seconds=3)
    """After this interval, a relay reads the log even if the store has announced no new events,
    because an announcement may have been lost. Each read extends the lease.
    """
    store_pause: timedelta = timedelta(milliseconds=500)
    """The delay before the next request to a store that did not answer."""

    def delay_seconds(self, failures: int, retry_after: timedelta | None) -> float:
        """Returns the delay before the next attempt. The delay is at least `retry_after`, if the
        endpoint asked for this pause.
        """
        seconds = self.backoff.seconds(failures)
        return seconds if retry_after is None else max(seconds, retry_after.total_seconds())


class EndpointHealth:
    """Records whether the latest deliveries to an endpoint succeeded."""

    def __init__(
        self, endpoint: str, give_up_after: timedelta, clock: Callable[[], datetime]
    ) -> None:
        self.recovered = asyncio.Event()
        """This `asyncio.Event` is set when a failing endpoint recovers, but at most once in 30
        seconds. Each time, a new `asyncio.Event` takes the place of the one that is set.
        """
        self._endpoint = endpoint
        self._give_up_after = give_up_after
        self._clock = clock
        self._failures = 0
        self._failing_since: datetime | None = None
        self._recovered_at_seconds = float("-inf")

    def note_success(self) -> None:
        """Records that the endpoint accepted an event."""
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
        """Records that an attempt to deliver an event to the endpoint failed."""
        self._failures += 1
        self._failing_since = self._failing_since or self._clock()
        if self._failures == _OUTAGE_FAILURES:
            _log.warning("endpoint_failing", endpoint=self._endpoint, reason=reason)

    def note_earlier_failure(self, at: datetime) -> None:
        """Records the time of an earlier failure, which was read from the store. Does nothing if
        this object has recorded a failure since the last success.
        """
        if self._failures == 0 and self._failing_since is None:
            self._failing_since = at

    def is_hopeless(self, happened_at: datetime, first_attempt_at: datetime) -> bool:
        """Returns True if one of two rules says that the relay must give an event up.

        The first rule: the attempts to deliver the event have failed for at least `give_up_after`.
        The second rule: the event happened at least `give_up_after` ago, and all deliveries to the
        endpoint have failed for at least `give_up_after`.

        The second rule is for long outages. During an outage, most events wait in the log, and are
        not tried before earlier events were given up. By the first rule alone, the attempts for
        each waiting event would then have to fail for another `give_up_after`. Meanwhile, the
        stream would drop other events that still wait.
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
    """Waits until one of the events is set, or until `seconds` have passed."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
