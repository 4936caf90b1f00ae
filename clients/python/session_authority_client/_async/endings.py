"""Asks the service whether the sessions of open connections still live. Each client has one task or
thread that checks the sessions of all open connections of the client. The task or thread runs only
while sessions are open.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import grpc

from session_authority_client._async.calls import AsyncCalls
from session_authority_client._async.primitives import AsyncAlarm, AsyncBackground
from session_authority_client._shared import convert
from session_authority_client._shared.failures import client_closed, error_of_item
from session_authority_client._shared.open_sessions import OpenSessions, Round
from session_authority_client.cache import NearCache
from session_authority_client.errors import SessionAuthorityError
from session_authority_client.types import Session
from session_authority_client.wire import session_authority_pb2 as pb

# The timeout of a check. No request of an end user waits for a check, so the timeout may be longer
# than the timeout of other calls.
_CHECK_SECONDS = 2.0


class AsyncEndings:
    """Checks the sessions of open connections, and calls the listeners of a session after the
    session has ended.
    """

    def __init__(self, calls: AsyncCalls, cache: NearCache | None) -> None:
        self._calls = calls
        self._alarm = AsyncAlarm()
        self._background = AsyncBackground("session-authority-endings")
        self._waiting: set[AsyncAlarm] = set()
        self._closed = False
        self.sessions = OpenSessions(cache, self._alarm.set)

    def listen(self, session: Session, listener: Callable[[], None]) -> Callable[[], None]:
        """Adds a listener, which is called once after the session has ended. Returns a function
        that removes the listener. Raises Unavailable if the client is closed.
        """
        if self._closed:
            raise client_closed()
        stop = self.sessions.listen(session, listener)
        self._background.start(self._keep_asking)
        return stop

    async def wait(self, session: Session, timeout: timedelta | None) -> bool:
        """Waits for the end of a session. Returns True if the session has ended, and False if the
        timeout ends first. Raises Unavailable if the client is closed before or during the wait.
        """
        ended, woken = AsyncAlarm(), AsyncAlarm()

        def tell() -> None:
            ended.set()
            woken.set()

        # The alarm is added before the call of `listen`, which raises if the client is already
        # closed. If the client is closed after the call of `listen`, `close` finds this alarm and
        # sets it.
        self._waiting.add(woken)
        try:
            stop = self.listen(session, tell)
            try:
                await woken.wait(None if timeout is None else timeout.total_seconds())
            finally:
                stop()
        finally:
            self._waiting.discard(woken)
        if self._closed and not ended.is_set():
            raise client_closed()
        return ended.is_set()

    async def close(self) -> None:
        """Stops the checks, and ends all calls of `wait` that are under way. No listener is called,
        because it is unknown whether the listener's session has ended.
        """
        self._closed = True
        for woken in tuple(self._waiting):
            woken.set()
        await self._background.close(self._alarm)

    async def _keep_asking(self) -> bool:
        """Sends one check, or waits until a check is due. Returns False if no session is open."""
        asked = self.sessions.take_due()
        if asked is not None:
            await self._ask(asked)
            return True
        seconds = self.sessions.seconds_until_due()
        if seconds is None:
            return False
        await self._alarm.wait(seconds)
        self._alarm.clear()
        return True

    async def _ask(self, asked: Round) -> None:
        request = pb.CheckSessionsRequest(
            sessions=[
                pb.SessionName(
                    user_id=opened.name.user_id,
                    device_id=opened.name.device_id,
                    session_id=opened.name.session_id,
                )
                for opened in asked.sessions
            ]
        )
        try:
            answer = await self._calls.make("CheckSessions", request, _CHECK_SECONDS)
        except Exception as error:  # noqa: BLE001 - asking must go on
            known = error if isinstance(error, SessionAuthorityError) else _unknown(error)
            self.sessions.unanswered(asked, known)
            return
        self.sessions.answered(
            asked,
            [
                convert.session_state(result.state)
                if result.HasField("state")
                else error_of_item(result.error)
                for result in answer.results
            ],
        )


def _unknown(error: Exception) -> SessionAuthorityError:
    return SessionAuthorityError(type(error).__name__, grpc.StatusCode.UNKNOWN)
