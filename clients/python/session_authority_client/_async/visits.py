"""Opens the visits of an app. The visits use the app's client, or a client that a function of the
app makes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import timedelta
from threading import Lock
from time import monotonic

from session_authority_client._async.client import AsyncSessionAuthority
from session_authority_client._async.primitives import async_home
from session_authority_client._async.single_flight import AsyncSingleFlight
from session_authority_client._async.visit import AsyncVisit
from session_authority_client._shared.throttled_log import ThrottledLog
from session_authority_client.flow import Flow, Headers, InsecureHost, Refused
from session_authority_client.types import Renewal

_INSECURE = (
    "Refused a request to the host %.200r: insecure cookies are for http://localhost only. Open the"
    " app there, or serve it over HTTPS without Cookies(insecure=True)"
)


class AsyncVisits:
    """Opens the visits of one app.

    `authority` is a client, or a function that makes a client. If `authority` is a function, it is
    called at the first visit, and again at the first visit in another process or event loop.
    `close` closes only the last client that the function made. `dress` turns a refusal into an
    exception that the app's web framework knows.
    """

    def __init__(
        self,
        authority: AsyncSessionAuthority | Callable[[], AsyncSessionAuthority],
        flow: Flow,
        dress: Callable[[Refused], Refused] | None = None,
    ) -> None:
        self._given = authority
        self._made: AsyncSessionAuthority | None = None
        self._home: Hashable = None
        self._lock = Lock()
        self._flow = flow
        self._dress = dress
        self._renewals: AsyncSingleFlight[Renewal] = AsyncSingleFlight(late=False)
        self._states = ThrottledLog()

    async def open(
        self,
        method: str,
        headers: Headers,
        peer: str,
        target: str = "",
        *,
        timeout: timedelta | None = None,
    ) -> AsyncVisit:
        """Opens the visit of a request, and asks the Session Authority about the request's token.

        Args:
            method: The method of the request, or "WEBSOCKET" for a handshake whose method is
                unknown.
            headers: The headers of the request. Each lower-case name has a list of values.
            peer: The address at the other end of the request's connection. The address is empty for
                a connection through a unix socket.
            target: The path with its query, as the client sent it.
            timeout: The time that all calls to open and close this visit may take together. No call
                gets more time than the client's own timeout.

        If the request itself must be refused, raises `flow.CrossOrigin`, `flow.InsecureHost` or
        `flow.ReturnHop` without a call to the Session Authority. If the Session Authority gave no
        answer or refused the call, the methods that use the session raise NoAnswer later.
        """
        ends = None if timeout is None else monotonic() + timeout.total_seconds()
        try:
            presented = self._flow.presented(method, headers, peer, target)
        except InsecureHost:
            self._states.error(_INSECURE, "".join(headers.get("host", ())))
            raise
        visit = AsyncVisit(
            self._authority(),
            self._flow,
            self._renewals,
            presented,
            self._dress,
            self._states,
            ends,
        )
        await visit.open()
        return visit

    async def close(self) -> None:
        """Closes the client that the function made. If another visit is opened later, the function
        makes another client.
        """
        made, self._made = self._made, None
        if made is not None:
            await made.close()

    def _authority(self) -> AsyncSessionAuthority:
        if not callable(self._given):
            return self._given
        with self._lock:
            if self._made is None or self._home != async_home():
                self._made, self._home = self._given(), async_home()
            return self._made
