"""Checks whether a session is still live. Callers need this check for connections that stay open
for longer than a token lasts, such as WebSockets. The check needs no token and writes nothing.
"""

from __future__ import annotations

from session_authority.authority.resources import Resources
from session_authority.domain.identifiers import device_key
from session_authority.domain.requests import SessionName
from session_authority.domain.results import SessionState
from session_authority.domain.verdicts import SessionStatus, state_of


class SessionChecks:
    """Carries out CheckSessions."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def check_session(self, name: SessionName) -> SessionState:
        """Returns the state of a session at this moment."""
        limits = self._resources.limits
        stored = await self._resources.store.session(name.user_id, device_key(name.device_id))
        record = None if stored is None else stored.record
        status = state_of(record, name.session_id, limits, self._resources.clock())
        if record is None or status is not SessionStatus.ACTIVE:
            return SessionState(status)
        return SessionState(status, record.expires_at(limits), record.absolute_end(limits))
