"""Decides whether this process may answer calls: its clock is right, its store is safe, and it
could read its keys and its access policy.

Every call checks the readiness, so a check only reads two clocks. This module measures nothing and
reads no file. The probe of the store, and the checks of files, report their results to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from session_authority.domain.errors import NotReady, StoreUnavailable
from session_authority.runtime.clock import now, uptime

MAX_CLOCK_SKEW = timedelta(seconds=5)
# How long files may be unreadable. A revocation may be in them.
MAX_UNREADABLE = timedelta(seconds=5)

_FOR_EVER = timedelta.max
_NEVER = datetime.min.replace(tzinfo=UTC)


class Readiness:
    """Refuses calls until the store was found safe and the clock right. Later it refuses calls
    while the clock is wrong or files can't be read.

    Between two probes it compares the wall clock with a clock that is never set, so the very next
    call notices a step of the wall clock. A store that gives no answer is no reason to refuse:
    calls that need this store fail by themselves, and on a cluster other calls succeed.

    Args:
        must_verify: True if no call is answered before the store was found safe.
        clock: The process's wall clock.
        uptime: A clock that is never set.
        found_right: Called with each moment at which the wall clock was found right, and with the
            uptime at that moment.
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
        # How far the wall clock is ahead of the primaries' clocks: at least, and at most.
        self._ahead: tuple[timedelta, timedelta] | None = None
        # When the machine was started, by the wall clock of the last probe; and as far as that may
        # be off now.
        self._started_at = self._first_start_at = self._last_start_at = _NEVER
        self._unreadable_at: dict[str, timedelta] = {}
        self._first_unreadable_at = _FOR_EVER

    def note_clocks(self, moment: datetime, primaries: Iterable[datetime]) -> str | None:
        """Notes the time of this process and of every primary. Returns the fault of the clock, if
        there is one.
        """
        ahead = [moment - time for time in primaries]
        self._ahead = min(ahead), max(ahead)
        passed = self._uptime()
        self._started_at = moment - passed
        self._first_start_at = self._started_at - MAX_CLOCK_SKEW - min(ahead)
        self._last_start_at = self._started_at + MAX_CLOCK_SKEW - max(ahead)
        fault = self._clock_fault(moment, passed)
        # If the process has stood still since that moment, the uptime may be that of a later one.
        if fault is None and abs(self._clock() - moment) <= MAX_CLOCK_SKEW:
            self._found_right(moment, passed)
        return fault

    def note_store(self, fault: str | None) -> None:
        """Notes the reason why the store is unsafe. None if it is safe."""
        self._store_fault = fault

    def note_readable(self, what: str) -> None:
        """Notes that these files could be read just now. After the first call, further calls must
        follow again and again.
        """
        self._unreadable_at[what] = self._uptime() + MAX_UNREADABLE
        self._first_unreadable_at = min(self._unreadable_at.values())

    def refuse_if_unfit(self) -> None:
        """Raises NotReady if this process must not answer now. Raises StoreUnavailable if the store
        has not answered since the start.
        """
        if self.fault() is not None:
            raise StoreUnavailable if self._ahead is None else NotReady

    def fault(self) -> str | None:
        """The reason why this process must not answer now, in words for the log. None if it may."""
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
        """The fault of the wall clock at this moment and uptime, by the last probe."""
        assert self._ahead is not None  # the store has answered
        started_at = moment - passed
        if self._first_start_at <= started_at <= self._last_start_at:
            return None
        stepped = started_at - self._started_at
        differs = max(abs(ahead + stepped) for ahead in self._ahead)
        return f"the store's clock differs by {differs.total_seconds():.1f} s"
