"""Finds the calls that take long, and keeps calls inside their deadlines.

Nearly all calls end within a few milliseconds, and a timer for each call costs 5 to 10 µs. So this
module only remembers each call when it begins. One timer for all calls finds the calls that are
still under way after one to two intervals of 10 ms. Only these calls get a timer, or a watch on
their caller. A call with at most 20 ms until its deadline gets its timer at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Generic, Self, TypeVar

INTERVAL_SECONDS = 0.01
# A call is watched after at most two intervals. The remaining intervals give gRPC's core time to
# report that the caller has given up.
_INTERVALS_UNTIL_KNOWN = 8

T = TypeVar("T")


class LongCalls(Generic[T]):
    """The calls under way. `found` is called once for each call that is still under way after one
    to two intervals.
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
    """Waits 80 ms or longer, so that gRPC has time to cancel the running task if its caller has
    given up. When a caller gives up, its requests end as if they were complete. gRPC reports the
    reason only later.
    """
    # Several short waits, because the timers of a blocked event loop are late.
    for _ in range(_INTERVALS_UNTIL_KNOWN):
        await asyncio.sleep(INTERVAL_SECONDS)


class Deadlines:
    """The deadlines of calls under way."""

    def __init__(self) -> None:
        self.long: LongCalls[Deadline] = LongCalls(Deadline.set_timer)

    def within(self, seconds: float, then_seconds: float) -> Deadline:
        """Limits the time of a block of the running task, as `asyncio.timeout` does. At first the
        limit is `seconds`. After `extend` is called, it is `then_seconds`. Both count from now.
        """
        return Deadline(self.long, seconds, then_seconds)


class Deadline:
    """The deadline of one call, as a context manager. When the deadline has passed, the block is
    cancelled and TimeoutError is raised.
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
        """Applies the longer time limit from now on."""
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
        # Other code may have cancelled the task, too. The cancellation by that code must not be
        # hidden.
        if (
            self._is_over
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error
