"""Calls callbacks when the session of one visit ends. These are the app's callbacks, and the
middleware's callback that closes the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from session_authority_client.errors import Unavailable
from session_authority_client.types import Session

Stop = Callable[[], None]


class SessionEnd:
    """The callbacks for the end of one visit's session. The visit passes the function `listen`,
    which adds a listener for the end of a session.
    """

    __slots__ = ("_hang_up", "_keeps_open", "_listen", "_stop_hanging_up", "_stops")

    def __init__(self, listen: Callable[[Session, Callable[[], None]], Stop]) -> None:
        self._listen = listen
        self._stops: list[Stop] = []
        self._hang_up: Callable[[], None] | None = None
        self._stop_hanging_up: Stop | None = None
        self._keeps_open = False

    def listen(self, session: Session, listener: Callable[[], None]) -> Stop:
        """Calls a listener when the session ends, unless the connection ends first. Returns a
        function that removes the listener. Raises Unavailable if the client is closed.
        """
        stop = self._listen(session, listener)
        self._stops.append(stop)
        return stop

    def hang_up_with(self, hang_up: Callable[[], None], looked_at: Session | None) -> None:
        """Notes that the middleware's `hang_up` is to be called when the session ends. `looked_at`
        is the session if the app has already used it, else None.
        """
        self._hang_up = hang_up
        self.look(looked_at)

    def look(self, session: Session | None) -> None:
        """Notes that the app uses the session. From now on, its response depends on the session."""
        unheard = self._hang_up is not None and self._stop_hanging_up is None
        if session is not None and unheard and not self._keeps_open:
            assert self._hang_up is not None
            with suppress(Unavailable):  # a closed client reports no end of a session
                self._stop_hanging_up = self._listen(session, self._hang_up)

    def keep_open(self) -> None:
        """Prevents the middleware from ending the connection when the session ends."""
        self._keeps_open = True
        self._stop()

    def leave(self) -> None:
        """Removes all callbacks, because the connection is over."""
        self._stop()
        self._hang_up = None
        stops, self._stops = self._stops, []
        for stop in stops:
            stop()

    def _stop(self) -> None:
        stop, self._stop_hanging_up = self._stop_hanging_up, None
        if stop is not None:
            stop()
