"""Decides whether this process may answer calls. Its clock must be right and its store safe, and
its keys and access policy must be readable.

Every call except a health check checks the readiness. So this check must be fast, and only reads
two clocks. This module measures nothing and reads no file. The probe of the store and the checks of
files report their results to this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from session_authority.domain.errors import NotReady, StoreUnavailable
from session_authority.runtime.clock import now, uptime

MAX_CLOCK_SKEW = timedelta(seconds=5)
# Files may be unreadable for at most this time, as they may contain a revocation.
MAX_UNREADABLE = timedelta(seconds=5)

_FOR_EVER = timedelta.max
_NEVER = datetime.min.replace(tzinfo=UTC)


class Readiness:
    """Refuses calls until the store was found safe and the clock right. Later it refuses calls
    while the clock is wrong or files can't be read.

    Between two probes it compares the wall clock with a monotonic clock. So the next call after a
    step of the wall clock notices the step. A store that stops answering is no reason to refuse all
    calls. The calls that need the store fail by themselves. In a cluster, calls that need another
    primary succeed.

    Args:
        must_verify: True if no call may be answered before the store was found safe.
        clock: Returns the time of the process's wall clock.
        uptime: Returns the time since the machine started, by a monotonic clock.
        found_right: Called after a probe that finds the wall clock right, with the time of the wall
            clock and the uptime at that moment. Not called if this process may have stood still
            between the readings of the two clocks.
    """

    def __init__(
        self,
        *,
        must_verify: bool = False,
        clock: Callable[[], datetime] = now,
        uptime: Callable[[], timedelta] = uptime,
        found_right: Callable[[datetime, timedelta], None] = lambda _moment, _uptime: None,
    ) -> None:
        self._found_right = found_right
        self._clock = clock
        self._uptime = uptime
        self._store_fault: str | None = (
            "the store was not yet found to be safe" if must_verify else None
        )
        # The smallest and the largest lead of the wall clock over the clocks of the primaries.
        self._ahead: tuple[timedelta, timedelta] | None = None
        # The start of the machine by the wall clock of the last probe. If the wall clock is right,
        # the start lies between `_first_start_at` and `_last_start_at`.
        self._started_at = self._first_start_at = self._last_start_at = _NEVER
        self._unreadable_at: dict[str, timedelta] = {}
        self._first_unreadable_at = _FOR_EVER

    def note_clocks(self, moment: datetime, primaries: Iterable[datetime]) -> str | None:
        """Notes the time of this process and of every primary. Returns the fault of the wall clock,
        if it has one.
        """
        ahead = [moment - time for time in primaries]
        self._ahead = min(ahead), max(ahead)
        passed = self._uptime()
        self._started_at = moment - passed
        self._first_start_at = self._started_at - MAX_CLOCK_SKEW - min(ahead)
        self._last_start_at = self._started_at + MAX_CLOCK_SKEW - max(ahead)
        fault = self._clock_fault(moment, passed)
        # If this process stood still between `moment` and now, the uptime may belong to a later
        # time.
        if fault is None and abs(self._clock() - moment) <= MAX_CLOCK_SKEW:
            self._found_right(moment, passed)
        return fault

    def note_store(self, fault: str | None) -> None:
        """Notes the reason why the store is unsafe, or None if the store is safe."""
        self._store_fault = fault

    def note_readable(self, what: str) -> None:
        """Notes that files of this kind could be read just now.

        After the first call for a kind, a further call for this kind must follow each time within
        MAX_UNREADABLE. Otherwise the files count as unreadable.
        """
        self._unreadable_at[what] = self._uptime() + MAX_UNREADABLE
        self._first_unreadable_at = min(self._unreadable_at.values())

    def refuse_if_unfit(self) -> None:
        """Raises NotReady if this process must not answer now. Raises StoreUnavailable instead if
        the store has not answered since the start.
        """
        if self.fault() is not None:
            raise StoreUnavailable if self._ahead is None else NotReady

    def fault(self) -> str | None:
        """Returns the reason why this process must not answer now. None if it may answer."""
        if self._ahead is None:
            return "the store has not answered yet"
        if self._store_fault is not None:
            return self._store_fault
        passed, moment = self._uptime(), self._clock()
        if not self._first_start_at <= moment - passed <= self._last_start_at:
            return self._clock_fault(moment, passed)
        if passed <= self._first_unreadable_at:
            return None
        what = min(self._unreadable_at, key=self._unreadable_at.__getitem__)
        limit = MAX_UNREADABLE.total_seconds()
        return f"{what} can't be read for {limit:g} s, so nobody knows what changed"

    def _clock_fault(self, moment: datetime, passed: timedelta) -> str | None:
        """Returns the fault of the wall clock at this time and uptime, according to the last probe.
        None if the wall clock is right.
        """
        assert self._ahead is not None  # set by the store's first answer
        started_at = moment - passed
        if self._first_start_at <= started_at <= self._last_start_at:
            return None
        stepped = started_at - self._started_at
        differs = max(abs(ahead + stepped) for ahead in self._ahead)
        return f"the store's clock differs by {differs.total_seconds():.1f} s"
