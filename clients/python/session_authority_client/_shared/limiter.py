"""Limits how many calls a client has under way at once.

This is the count and the queue. It waits for nothing and sends nothing. Any number of threads may
use it, or one event loop.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import grpc

from session_authority_client._shared.failures import client_closed
from session_authority_client.errors import Unavailable

# Well below the service's MAX_PER_CONNECTION (100): watches count there, too.
MAX_IN_FLIGHT = 64

# A function that is called once. It is called with None when a slot is free, and returns True if it
# accepts the slot. Or it is called with the reason why there will never be a slot.
Granted = Callable[[Unavailable | None], bool]


class Limiter:
    """The slots of one client, and the queue for them, in the order of arrival.

    Raises TypeError or ValueError if there are no slots.
    """

    def __init__(self, max_in_flight: int) -> None:
        if not isinstance(max_in_flight, int):
            raise TypeError(f"max_in_flight: a number of calls, not {type(max_in_flight).__name__}")
        if max_in_flight < 1:
            raise ValueError("max_in_flight: at least 1")
        self._slots = self._free = max_in_flight
        self._lock = threading.Lock()
        self._queue: deque[Granted] = deque()
        self.closed = False

    def try_acquire(self) -> bool:
        """Acquires a slot if one is free. Returns False if all are in use."""
        with self._lock:
            if not self._free:
                return False
            self._free -= 1
            return True

    def acquire_or_queue(self, granted: Granted) -> bool:
        """Acquires a slot, or queues for one. Returns True if the slot was acquired at once."""
        with self._lock:
            if not self.closed:
                if self._free:
                    self._free -= 1
                    return True
                self._queue.append(granted)
                return False
        granted(client_closed())
        return False

    def release(self) -> None:
        """Gives the slot to the caller that has waited longest and still accepts it."""
        while True:
            with self._lock:
                if not self._queue:
                    self._free += 1
                    return
                granted = self._queue.popleft()
            if granted(None):
                return

    def withdraw(self, granted: Granted) -> None:
        """Removes a caller that gave up from the queue."""
        with self._lock, suppress(ValueError):  # a slot is granted this very moment
            self._queue.remove(granted)

    def close(self) -> None:
        """Grants no more slots, and fails all callers in the queue."""
        with self._lock:
            self.closed = True
            queue = list(self._queue)
            self._queue.clear()
        for granted in queue:
            granted(client_closed())

    def timed_out(self) -> Unavailable:
        """The error of a caller whose time was over before a slot was free."""
        text = (
            f"there was no place in time: {self._slots} calls of this client are under way"
            " (max_in_flight)"
        )
        return Unavailable(text, grpc.StatusCode.DEADLINE_EXCEEDED)
