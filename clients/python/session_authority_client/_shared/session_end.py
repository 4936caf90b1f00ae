"""Calls the app's callbacks when the session of one visit ends, and the middleware's, which closes
the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from session_authority_client.errors import Unavailable
from session_authority_client.types import Session

Stop = Callable[[], None]


class SessionEnd:
    """The actions at the end of one visit's session. `listen` registers a listener for the end."""

    __slots__ = ("_hang_up", "_keeps_open", "_listen", "_stop_hanging_up", "_stops")

    def __init__(self, listen: Callable[[Session, Callable[[], None]], Stop]) -> None:
        self._listen = listen
        self._stops: list[Stop] = []
        self._hang_up: Callable[[], None] | None = None
        self._stop_hanging_up: Stop | None = None
        self._keeps_open = False

    def listen(self, session: Session, listener: Callable[[], None]) -> Stop:
        """Calls a listener when the session ends, until the connection is over. Returns a function
        that cancels this.
        """
        stop = self._listen(session, listener)
        self._stops.append(stop)
        return stop

    def hang_up_with(self, hang_up: Callable[[], None], looked_at: Session | None) -> None:
        """Calls `hang_up` of the middleware when the session ends. `looked_at` is the session if
        the app has used it.
        """
        self._hang_up = hang_up
        self.look(looked_at)

    def look(self, session: Session | None) -> None:
        """Notes that the app uses the session: from now on its response depends on the session."""
        unheard = self._hang_up is not None and self._stop_hanging_up is None
        if session is not None and unheard and not self._keeps_open:
            assert self._hang_up is not None
            with suppress(Unavailable):  # the client is closed: nobody reports the session's end
                self._stop_hanging_up = self._listen(session, self._hang_up)

    def keep_open(self) -> None:
        """Keeps the middleware from ending the connection."""
        self._keeps_open = True
        self._stop()

    def leave(self) -> None:
        """Cancels all callbacks, because the connection is over."""
        self._stop()
        self._hang_up = None
        stops, self._stops = self._stops, []
        for stop in stops:
            stop()

    def _stop(self) -> None:
        stop, self._stop_hanging_up = self._stop_hanging_up, None
        if stop is not None:
            stop()
