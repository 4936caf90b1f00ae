"""Limits how many calls a client has under way at once.

This module counts the calls, and keeps the queue of callers that wait for a slot. This module
itself never waits, and sends nothing. The threads of a process may share a limiter, and so may the
tasks of one event loop.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import grpc

from session_authority_client._shared.failures import client_closed
from session_authority_client.errors import Unavailable

# The service's setting MAX_PER_CONNECTION limits the calls on one connection, and is 100 by
# default. `MAX_IN_FLIGHT` is well below 100, because the service also counts the watches on a
# connection.
MAX_IN_FLIGHT = 64

# A function that the limiter calls at most once for each caller in the queue. With the argument
# None, the function offers a free slot to the caller, and returns True if the caller accepts the
# slot. With an error as argument, the function tells the caller why it gets no slot.
Granted = Callable[[Unavailable | None], bool]


class Limiter:
    """Owns the slots of one client, and the queue of the callers that wait for a slot, in the order
    of arrival.

    A call occupies a slot while it is under way. Raises TypeError if the number of slots is not an
    int, and ValueError if the number is less than 1.
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
        """Acquires a slot if one is free. Returns False if all slots are in use."""
        with self._lock:
            if not self._free:
                return False
            self._free -= 1
            return True

    def acquire_or_queue(self, granted: Granted) -> bool:
        """Acquires a slot, or puts the caller into the queue. Returns True if the slot was acquired
        at once. Returns False if the caller is in the queue. If the limiter is closed, passes an
        error to `granted`, and returns False.
        """
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
        """Releases a slot, and gives it to the first caller in the queue that accepts it. If no
        caller in the queue accepts the slot, the slot becomes free.
        """
        while True:
            with self._lock:
                if not self._queue:
                    self._free += 1
                    return
                granted = self._queue.popleft()
            if granted(None):
                return

    def withdraw(self, granted: Granted) -> None:
        """Removes a caller from the queue after the caller has stopped waiting."""
        with self._lock, suppress(ValueError):  # another call has just removed `granted`
            self._queue.remove(granted)

    def close(self) -> None:
        """Passes an error to all callers in the queue, and to all later callers of
        `acquire_or_queue`.

        `try_acquire` still gives free slots. A call that uses a slot from `try_acquire` fails,
        because the client is closed.
        """
        with self._lock:
            self.closed = True
            queue = list(self._queue)
            self._queue.clear()
        for granted in queue:
            granted(client_closed())

    def timed_out(self) -> Unavailable:
        """Returns the error for a caller that got no slot within its timeout."""
        text = (
            f"there was no place in time: {self._slots} calls of this client are under way"
            " (max_in_flight)"
        )
        return Unavailable(text, grpc.StatusCode.DEADLINE_EXCEEDED)
