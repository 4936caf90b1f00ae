"""How many calls a client has under way at once: no more than there are places. Whoever finds none
waits, in the order of arrival.

This is the count and the queue, without anything that waits or is sent. Any number of threads may
use it, or one event loop.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import grpc

from session_authority_client.errors import Unavailable, client_closed

MAX_IN_FLIGHT = 64

# Called once: with nothing when a place is theirs, and says whether they take it; or with why there
# will never be one.
Turn = Callable[[Unavailable | None], bool]


class Places:
    """The places of one client. Raises TypeError or ValueError if there are none."""

    def __init__(self, max_in_flight: int) -> None:
        if not isinstance(max_in_flight, int):
            raise TypeError(f"max_in_flight: a number of calls, not {type(max_in_flight).__name__}")
        if max_in_flight < 1:
            raise ValueError("max_in_flight: at least 1")
        self._all = self._free = max_in_flight
        self._lock = threading.Lock()
        self._turns: deque[Turn] = deque()
        self.closed = False

    def take(self) -> bool:
        """Takes a place, if there is one: then nobody waits."""
        with self._lock:
            if not self._free:
                return False
            self._free -= 1
            return True

    def enter(self, turn: Turn) -> bool:
        """Takes a place, or lines up for one."""
        with self._lock:
            if not self.closed:
                if self._free:
                    self._free -= 1
                    return True
                self._turns.append(turn)
                return False
        turn(client_closed())
        return False

    def leave(self) -> None:
        """Gives the place to whoever has waited longest and still wants it."""
        while True:
            with self._lock:
                if not self._turns:
                    self._free += 1
                    return
                turn = self._turns.popleft()
            if turn(None):
                return

    def withdraw(self, turn: Turn) -> None:
        """Whoever waited has gone."""
        with self._lock, suppress(ValueError):  # it is their turn this very moment
            self._turns.remove(turn)

    def close(self) -> None:
        """There are no places any more, and whoever waits is told so."""
        with self._lock:
            self.closed = True
            turns = list(self._turns)
            self._turns.clear()
        for turn in turns:
            turn(client_closed())

    def none_in_time(self) -> Unavailable:
        """What becomes of whoever has waited for as long as they can."""
        text = (
            f"there was no place in time: {self._all} calls of this client are under way"
            " (max_in_flight)"
        )
        return Unavailable(text, grpc.StatusCode.DEADLINE_EXCEEDED)
