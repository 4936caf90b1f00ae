"""Whether this process may answer at all: its clock is right, its store is safe, and it knows what
its keys and its access policy say.

Every call asks it, so asking costs two looks at clocks. It measures nothing and reads nothing by
itself: the probe of the store and the looks at files tell it what they found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from session_authority.domain.errors import NotReady, StoreUnavailable
from session_authority.runtime.clock import now, uptime

MAX_CLOCK_SKEW = timedelta(seconds=5)
# How long files may be unreadable: a revocation may be in them.
MAX_UNREADABLE = timedelta(seconds=5)

_MAX_SKEW_SECONDS = MAX_CLOCK_SKEW.total_seconds()


class Readiness:
    """Refuses to answer until the store was found safe and its clock right, and from then on while
    the clock is off or files can't be read.

    Between two probes it compares the wall clock with one that nobody sets, so that a step is
    noticed by the very next call. A store that does not answer is not its business: calls that need
    that store fail by themselves, and on a cluster the others need not.

    Args:
        must_verify: Whether the store must be found safe before anything is answered.
        clock: The process's wall clock.
        uptime: A clock that nobody sets.
        found_right: Hears of each moment at which the wall clock was found to be right.
    """

    def __init__(
        self,
        *,
        must_verify: bool = False,
        clock: Callable[[], datetime] = now,
        uptime: Callable[[], timedelta] = uptime,
        found_right: Callable[[datetime], None] = lambda _: None,
    ) -> None:
        self._found_right = found_right
        self._clock = clock
        self._uptime = uptime
        self._store_fault: str | None = (
            "the store was not yet found to be safe" if must_verify else None
        )
        # How far the wall clock is ahead of the primaries' clocks: at least, and at most.
        self._ahead_seconds: tuple[float, float] | None = None
        self._started_at_seconds = 0.0
        self._unreadable_at: dict[str, timedelta] = {}

    def note_clocks(self, moment: datetime, primaries: Iterable[datetime]) -> str | None:
        """Notes what time it was here and on every primary. Returns what is wrong with the clock,
        if anything is.
        """
        ahead = [(moment - time).total_seconds() for time in primaries]
        self._ahead_seconds = min(ahead), max(ahead)
        passed = self._uptime()
        self._started_at_seconds = moment.timestamp() - passed.total_seconds()
        fault = self._clock_fault(moment, passed)
        if fault is None:
            self._found_right(moment)
        return fault

    def note_store(self, fault: str | None) -> None:
        """Notes what makes the store unsafe; None if it is safe."""
        self._store_fault = fault

    def note_readable(self, what: str) -> None:
        """Notes that it is known what these files hold, as of now. From then on that must be noted
        again and again.
        """
        self._unreadable_at[what] = self._uptime() + MAX_UNREADABLE

    def refuse_if_unfit(self) -> None:
        """Raises NotReady if this process must not answer now, StoreUnavailable if the store has
        not answered since the start.
        """
        if self.fault() is not None:
            raise StoreUnavailable if self._ahead_seconds is None else NotReady

    def fault(self) -> str | None:
        """Why this process must not answer now, in words for the log; None if it may."""
        if self._ahead_seconds is None:
            return "the store has not answered yet"
        if self._store_fault is not None:
            return self._store_fault
        passed = self._uptime()
        if (clock_fault := self._clock_fault(self._clock(), passed)) is not None:
            return clock_fault
        for what, until in self._unreadable_at.items():
            if passed > until:
                limit = MAX_UNREADABLE.total_seconds()
                return f"{what} can't be read for {limit:g} s, so nobody knows what changed"
        return None

    def _clock_fault(self, moment: datetime, passed: timedelta) -> str | None:
        """What is wrong with the wall clock at this moment and uptime, by the last probe."""
        assert self._ahead_seconds is not None  # the store has answered
        stepped = moment.timestamp() - passed.total_seconds() - self._started_at_seconds
        least, most = (ahead + stepped for ahead in self._ahead_seconds)
        if least >= -_MAX_SKEW_SECONDS and most <= _MAX_SKEW_SECONDS:
            return None
        return f"the store's clock differs by {max(abs(least), abs(most)):.1f} s"
