"""Decides whether this process may answer calls. The clock of the process must be right, the store
must be safe, and the files of keys and permissions must be readable.

Every call except a health check first checks the readiness. So the check of the readiness must be
fast, and reads only two clocks. This module does not ask the store and reads no file. `StoreProbe`
asks the store, `WatchedFiles` reads the files, and both report their results to this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from session_authority.domain.errors import NotReady, StoreUnavailable
from session_authority.runtime.clock import now, uptime

MAX_CLOCK_SKEW = timedelta(seconds=5)
# Files may be unreadable for at most this time. A file that can't be read may contain a revocation
# that this process does not know yet.
MAX_UNREADABLE = timedelta(seconds=5)

_FOR_EVER = timedelta.max
_NEVER = datetime.min.replace(tzinfo=UTC)


class Readiness:
    """Refuses calls until the store was found safe and the clock of this process was found right.
    Later `Readiness` refuses calls while the clock is wrong, the store is unsafe, or the files of
    keys or permissions can't be read.

    Each check of the readiness compares the wall clock with a monotonic clock. So if the wall clock
    is set to a wrong time between two probes of the store, the next call notices the wrong time. If
    the store stops answering, `Readiness` refuses no calls. Calls that need the store get an error
    from the store. In a cluster, some primaries may still answer, and calls that need only these
    primaries succeed.

    Args:
        must_verify: True if no call may be answered before the store was found safe.
        clock: Returns the time of the process's wall clock.
        uptime: Returns the time since the machine started, by a monotonic clock.
        found_right: Called after a probe that finds the wall clock right, with the time of the wall
            clock and the uptime at that moment. Not called if this process may have been stopped
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
        # `_ahead` says how far the wall clock is ahead of the clocks of the primaries: the smallest
        # and the largest difference. `_ahead` is None before the store's first answer.
        self._ahead: tuple[timedelta, timedelta] | None = None
        # `_started_at` is the time at which the machine started, computed from the wall clock at
        # the last probe. While the wall clock is right, the same computation gives a time between
        # `_first_start_at` and `_last_start_at`.
        self._started_at = self._first_start_at = self._last_start_at = _NEVER
        self._unreadable_at: dict[str, timedelta] = {}
        self._first_unreadable_at = _FOR_EVER

    def note_clocks(self, moment: datetime, primaries: Iterable[datetime]) -> str | None:
        """Stores how far the wall clock is ahead of the clocks of the primaries. `moment` is the
        time of the wall clock, and `primaries` has the time of each primary's clock at that moment.
        Returns the fault of the wall clock, or None if the wall clock is right.
        """
        ahead = [moment - time for time in primaries]
        self._ahead = min(ahead), max(ahead)
        passed = self._uptime()
        self._started_at = moment - passed
        self._first_start_at = self._started_at - MAX_CLOCK_SKEW - min(ahead)
        self._last_start_at = self._started_at + MAX_CLOCK_SKEW - max(ahead)
        fault = self._clock_fault(moment, passed)
        # If this process was stopped after `moment` was read, the uptime belongs to a later time
        # than `moment`. So `found_right` is not called if this process may have been stopped.
        if fault is None and abs(self._clock() - moment) <= MAX_CLOCK_SKEW:
            self._found_right(moment, passed)
        return fault

    def note_store(self, fault: str | None) -> None:
        """Stores the reason why the store is unsafe, or None if the store is safe."""
        self._store_fault = fault

    def note_readable(self, what: str) -> None:
        """Notes that the files of the kind `what` could be read just now.

        After the first call for a kind, further calls for the kind must follow at intervals of at
        most MAX_UNREADABLE. If no such call follows, the files of the kind count as unreadable.
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
        """Returns the reason why this process must not answer calls now, or None if it may
        answer.
        """
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
        """Returns the fault of the wall clock at the time `moment` and the uptime `passed`,
        according to the last probe. Returns None if the wall clock is right.
        """
        assert self._ahead is not None  # `note_clocks` has set it
        started_at = moment - passed
        if self._first_start_at <= started_at <= self._last_start_at:
            return None
        stepped = started_at - self._started_at
        differs = max(abs(ahead + stepped) for ahead in self._ahead)
        return f"the store's clock differs by {differs.total_seconds():.1f} s"
