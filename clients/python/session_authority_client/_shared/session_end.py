"""Calls the callbacks of a visit when the visit's session ends. The app may add callbacks, and the
middleware adds a callback that closes the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from session_authority_client.errors import Unavailable
from session_authority_client.types import Session

Stop = Callable[[], None]


class SessionEnd:
    """Owns the callbacks for the end of one visit's session. The argument `listen` is a function of
    the visit, which adds a listener for the end of a session.
    """

    __slots__ = ("_hang_up", "_keeps_open", "_listen", "_stop_hanging_up", "_stops")

    def __init__(self, listen: Callable[[Session, Callable[[], None]], Stop]) -> None:
        self._listen = listen
        self._stops: list[Stop] = []
        self._hang_up: Callable[[], None] | None = None
        self._stop_hanging_up: Stop | None = None
        self._keeps_open = False

    def listen(self, session: Session, listener: Callable[[], None]) -> Stop:
        """Adds a listener, which is called when the session ends, unless the connection ends first.
        Returns a function that removes the listener. Raises Unavailable if the client is closed.
        """
        stop = self._listen(session, listener)
        self._stops.append(stop)
        return stop

    def hang_up_with(self, hang_up: Callable[[], None], looked_at: Session | None) -> None:
        """Stores `hang_up`, the middleware's function that closes the connection. If the app uses
        the session, `hang_up` is called when the session ends. `looked_at` is the session if the
        app has already used the session, and None if not.
        """
        self._hang_up = hang_up
        self.look(looked_at)

    def look(self, session: Session | None) -> None:
        """Notes that the app uses the session. The app's response may depend on the session from
        now on. So the end of the session closes the connection, unless `keep_open` is called. Does
        nothing if `session` is None, or if `hang_up_with` was not called before.
        """
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
