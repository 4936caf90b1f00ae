"""Finds the calls that take long, and keeps calls inside their deadlines.

Nearly all calls are over in a few milliseconds, and a timer for each costs 5 to 10 µs. So calls are
only noted, and one timer for all finds those that are still there after one to two intervals: they
alone are given what each call would need.

While the process has more to do than it can, every call takes that long. Looking after all of them
would then cost up to a third of the answers. So looks are put off while the process is busy and
fewer calls end between two looks than are under way: by Little's law calls then take longer than an
interval on average. Calls that wait for something else than for the process are found at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

INTERVAL_SECONDS = 0.01
# A thread that uses this part of an interval is busy; a core that is shared gives it no more.
_BUSY_SHARE = 0.25
# A call that hangs among calls that are slow is found all the same, if later.
MAX_LOOKS_PUT_OFF = 4
# A call that lasts for so long has been found.
MAX_UNFOUND_SECONDS = 2 * (1 + MAX_LOOKS_PUT_OFF) * INTERVAL_SECONDS
# A call of which nothing comes is watched by then. The last ones are for gRPC's core to say what it
# knows.
_INTERVALS_UNTIL_KNOWN = 2 * (1 + MAX_LOOKS_PUT_OFF) + 6

T = TypeVar("T")


class LongCalls(Generic[T]):
    """Calls under way. `found` is called once with each that takes long. `used_seconds` is how long
    the running thread had a processor so far.
    """

    def __init__(
        self, found: Callable[[T], None], used_seconds: Callable[[], float] = time.thread_time
    ) -> None:
        self._found = found
        self._used_seconds = used_seconds
        self._used_before = 0.0
        self._young: set[T] = set()
        self._old: set[T] = set()
        self._ended = 0
        self._put_off = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: T) -> None:
        """Notes a call that begins."""
        self._young.add(call)
        if self._timer is None:
            self._set_timer()

    def discard(self, call: T) -> None:
        """Forgets a call that is over."""
        self._ended += 1
        self._young.discard(call)
        self._old.discard(call)

    def _set_timer(self) -> None:
        self._used_before = self._used_seconds()
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        ended, self._ended = self._ended, 0
        under_way = len(self._young) + len(self._old)
        is_slow = 0 < ended < under_way and self._is_busy()
        if is_slow and self._put_off < MAX_LOOKS_PUT_OFF:
            self._put_off += 1
            self._set_timer()
            return
        self._put_off = 0
        for call in self._old:
            self._found(call)
        self._old, self._young = self._young, set()
        if self._old:
            self._set_timer()

    def _is_busy(self) -> bool:
        return self._used_seconds() - self._used_before > _BUSY_SHARE * INTERVAL_SECONDS


async def unless_given_up() -> None:
    """Waits until the running task would have been cancelled because its caller has given up. A
    stream that such a caller leaves ends like any other one, and gRPC says why only later.
    """
    for _ in range(_INTERVALS_UNTIL_KNOWN):  # not all at once: a loop that stood still is behind
        await asyncio.sleep(INTERVAL_SECONDS)


class Deadlines:
    """The deadlines of calls under way."""

    def __init__(self) -> None:
        self.long: LongCalls[Deadline] = LongCalls(Deadline.set_timer)

    def within(self, seconds: float, then_seconds: float) -> Deadline:
        """Keeps a block of the running task inside a time, as `asyncio.timeout` does: `seconds`
        until `extend` is called, `then_seconds` from the beginning after that.
        """
        return Deadline(self.long, seconds, then_seconds)


class Deadline:
    """The deadline of one call: a context manager. Raises TimeoutError at the end of a block whose
    time is over.
    """

    __slots__ = (
        "_at",
        "_cancelling",
        "_is_over",
        "_long",
        "_loop",
        "_task",
        "_then_at",
        "_timer",
        "is_extended",
    )

    def __init__(self, long: LongCalls[Deadline], seconds: float, then_seconds: float) -> None:
        self._long = long
        self._loop = loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        now = loop.time()
        self._at, self._then_at = now + seconds, now + then_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = self.is_extended = False
        if seconds > MAX_UNFOUND_SECONDS:
            long.add(self)
        else:
            self.set_timer()

    def __enter__(self) -> Self:
        return self

    def extend(self) -> None:
        """The longer time applies from now on."""
        self._at = self._then_at
        self.is_extended = True

    def set_timer(self) -> None:
        """Makes sure that the task is cancelled in time."""
        self._timer = self._loop.call_at(self._at, self._end)

    def _end(self) -> None:
        if self._loop.time() < self._at:  # it was extended
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
        # Another may have cancelled the task too, and that must not be hidden.
        if (
            self._is_over
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error
