"""Finds the calls that take long, and stops calls whose deadlines have passed.

Nearly all calls end within a few milliseconds, and setting a timer for each call would cost 5 to 10
µs. To save this cost, a call that begins is only added to a set. One timer for all calls finds the
calls that are still running after 10 to 20 ms. Only long calls get their own timer for the
deadline, or a task that notices if the caller gives up. If a deadline is at most 20 ms away when
the call begins, the call gets its own timer at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Generic, Self, TypeVar

INTERVAL_SECONDS = 0.01
# The number of intervals that `unless_given_up` waits. After at most two intervals, the call is
# watched (see `LongCalls`). During the other intervals, gRPC's core can report that the caller has
# given up.
_INTERVALS_UNTIL_KNOWN = 8

T = TypeVar("T")


class LongCalls(Generic[T]):
    """Holds the running calls. `found` is called once for each call that is still running after one
    to two intervals of 10 ms.
    """

    def __init__(self, found: Callable[[T], None]) -> None:
        self._found = found
        self._young: set[T] = set()
        self._old: set[T] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: T) -> None:
        """Remembers a call that begins."""
        self._young.add(call)
        if self._timer is None:
            self._set_timer()

    def discard(self, call: T) -> None:
        """Forgets a call that has ended."""
        self._young.discard(call)
        self._old.discard(call)

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._look)

    def _look(self) -> None:
        for call in self._old:
            self._found(call)
        self._old, self._young = self._young, set()
        self._timer = None
        if self._old:
            self._set_timer()


async def unless_given_up() -> None:
    """Waits at least 80 ms, so that gRPC has time to cancel the running task if the caller has
    given up. When a caller gives up, the stream of its requests ends as if the request were
    complete. gRPC reports only later that the caller has given up.
    """
    # One long wait is not enough: if the event loop was blocked, the wait could end before gRPC's
    # report is handled. During several short waits, the event loop can handle the report.
    for _ in range(_INTERVALS_UNTIL_KNOWN):
        await asyncio.sleep(INTERVAL_SECONDS)


class Deadlines:
    """Makes the deadlines of calls. One common timer finds the calls that take long. Only calls
    that take long, or have a short deadline, get their own timers.
    """

    def __init__(self) -> None:
        self.long: LongCalls[Deadline] = LongCalls(Deadline.set_timer)

    def within(self, seconds: float, then_seconds: float) -> Deadline:
        """Returns a context manager that limits the time of a block of the running task, as
        `asyncio.timeout` does. At first, the time limit is `seconds`. After `extend` was called,
        the time limit is `then_seconds`. Both limits count from the call of `within`.
        """
        return Deadline(self.long, seconds, then_seconds)


class Deadline:
    """The deadline of one call, as a context manager. When the deadline has passed, the task is
    cancelled, and the `with` block raises TimeoutError.
    """

    __slots__ = (
        "_at",
        "_cancelling",
        "_is_over",
        "_long",
        "_task",
        "_then_at",
        "_timer",
        "is_extended",
    )

    def __init__(self, long: LongCalls[Deadline], seconds: float, then_seconds: float) -> None:
        self._long = long
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        now = monotonic()
        self._at, self._then_at = now + seconds, now + then_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = self.is_extended = False
        if seconds > 2 * INTERVAL_SECONDS:
            long.add(self)
        else:
            self.set_timer()

    def __enter__(self) -> Self:
        return self

    def extend(self) -> None:
        """Applies the second time limit, `then_seconds`, instead of the first."""
        self._at = self._then_at
        self.is_extended = True

    def set_timer(self) -> None:
        """Sets a timer that cancels the task when the deadline has passed."""
        self._timer = self._task.get_loop().call_at(self._at, self._end)

    def _end(self) -> None:
        if monotonic() < self._at:  # The deadline was extended after the timer was set.
            self.set_timer()
        else:
            self._is_over = True
            self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._long.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        # Other code may have cancelled the task, too. The CancelledError from that other code must
        # not be replaced by a TimeoutError.
        if (
            self._is_over
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error
