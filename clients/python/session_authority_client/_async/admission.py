"""Defines the base class of a visit. The base class validates the token of a request, tells the app
who is signed in, and makes the cookies of the response.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic

from session_authority_client._async.client import AsyncSessionAuthority
from session_authority_client._async.single_flight import AsyncSingleFlight
from session_authority_client._shared.caching import Caching, caching
from session_authority_client._shared.session_end import SessionEnd
from session_authority_client._shared.step_up import step_up_of
from session_authority_client._shared.throttled_log import ThrottledLog
from session_authority_client.errors import SessionAuthorityError, Unavailable
from session_authority_client.flow import CONDUCT, Conduct, Flow, Presented, Refused
from session_authority_client.types import Renewal, Session, SessionStatus

_log = logging.getLogger("session_authority_client")
# The token of a request is renewed at the end of the request only if the app has responded within
# this time. If the app was slower, the next request renews the token. While a slow app works,
# another request may renew the same token. If the slow request renewed its old token longer than
# ALARM_AFTER after that, the service would take the old token for stolen. So the value here is far
# below ALARM_AFTER, which is 5 minutes by default.
_RENEW_WITHIN = timedelta(seconds=10)
_SHORTEST_CALL = timedelta(milliseconds=1)
_OUTAGE = (
    "The Session Authority gives no answer, so a request that needs a session gets 503: "
    "%s (%.300r). Is the service running at the client's address, and is the "
    "client's `timeout` long enough?"
)
_DENIED = "The Session Authority refuses to say who is signed in: %s"
_REFUSED = "The Session Authority refuses a call for a request: %s (%.300r)"


class AsyncAdmission:
    """One request of an end user, with the user's session if there is one."""

    def __init__(
        self,
        authority: AsyncSessionAuthority,
        flow: Flow,
        renewals: AsyncSingleFlight[Renewal],
        presented: Presented,
        dress: Callable[[Refused], Refused] | None,
        states: ThrottledLog,
        ends: float | None = None,
    ) -> None:
        self._authority = authority
        self._dress = dress
        self._states = states
        self._ends = ends  # a time of the monotonic clock, in seconds
        self._refused: Refused | None = None
        self._flow = flow
        self._renewals = renewals
        self._presented = presented
        self._status = presented.status or SessionStatus.UNSPECIFIED
        self._session: Session | None = None
        self._failure: SessionAuthorityError | None = None
        self._renew_recommended = False
        self._renew_until = 0.0
        self._cookies: list[str] | None = None
        self._closed = False
        self._looked = False
        self._had_session = False  # True if a session existed when the app read `session`
        self._hands_out = False
        self._ended = False
        self._session_end = SessionEnd(self._listen)

    @property
    def session(self) -> Session | None:
        """The session of the user, or None if nobody is signed in. Raises NoAnswer if the service
        gave no answer or refused the call, because an outage must not look like a sign-out.
        """
        self._looked = True
        self._had_session = self._had_session or self._session is not None
        self._session_end.look(self._session)
        if self._failure is not None:
            refused = self._flow.no_answer(self._presented, self._failure)
            raise self._refuse(refused) from self._failure
        return self._session

    @property
    def remembered(self) -> bool:
        """False if the browser forgets the session when the browser is closed. True in all other
        cases, and also if nobody is signed in. Pass this value to a sign-in that replaces the
        session, such as a step-up: `sign_in(..., remember=visit.remembered)`.
        """
        return self._session is None or self._presented.brief != self._session.session_id

    def time_left(self) -> timedelta | None:
        """Returns how long the session still lasts if the session is not used again. The session
        ends at the earlier of its idle end and its absolute end. The token may expire earlier, and
        is then renewed. Returns None if nobody is signed in. Raises NoAnswer if the service gave no
        answer or refused the call.

        For a request to a path in `Flow.passive_paths`, the service answers, so the returned time
        is current. For a request to another path, a near cache may answer with the idle end from
        before the last use. With such an answer, the returned time is too short by at most the
        `max_age` of the near cache. For all requests, the returned time is too long if the clock of
        the app is behind the clock of the service.
        """
        session = self.session
        if session is None:
            return None
        return max(session.expire_time - datetime.now(UTC), timedelta())

    @property
    def status(self) -> SessionStatus:
        """The status of the request's token, for logs. A sign-in, a sign-out or a renewal in this
        visit changes the status. The status is UNSPECIFIED if it is unknown.
        """
        return self._status

    @property
    def device_id(self) -> str:
        """The device ID of the browser or app. The device ID is empty if the request had no valid
        device ID, for example before the first sign-in in this browser or app.
        """
        return self._presented.device_id if self._session is None else self._session.device_id

    def require(
        self,
        *,
        max_age: timedelta | None = None,
        auth_methods: Collection[str] | None = None,
    ) -> Session:
        """Returns the session of the user. Raises SignInRequired if nobody is signed in, and
        NoAnswer if the service gave no answer or refused the call.

        Args:
            max_age: The maximum age of the sign-in. 30 seconds are added to `max_age`, because the
                clocks of the app and the service may differ. With zero, only a sign-in of the last
                30 seconds is accepted.
            auth_methods: The sign-in must have used one of these methods (RFC 8176), such as "otp".
                If two methods are needed together, call `require` once for each method.

        Raises StepUpRequired, which is a SignInRequired, if the sign-in is too old or used none of
        the methods. The session stays valid after StepUpRequired. Raises ValueError for a negative
        age, for an empty list of methods, for a single text instead of a list, and for a malformed
        name of a method. Raises TypeError for a value of a wrong type.
        """
        wanted = step_up_of(max_age, auth_methods)
        session = self.session
        if session is None:
            raise self._refuse(
                self._flow.sign_in_required(
                    self._presented, self._status, renew_recommended=self._renew_recommended
                )
            )
        if lack := wanted.lack_of(session, datetime.now(UTC) - session.sign_in_time):
            raise self._refuse(self._flow.step_up_required(self._presented, wanted, lack))
        return session

    # --- for middleware ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Finds out whether the session is valid. If the request has no token or a malformed token,
        `open` does not call the service. If the status of the token is REPLAYED, the response
        deletes the cookies of the browser.

        `open` renews a browser's token at once if the token has expired, because only a renewal
        shows whether the session is valid. `open` also renews a browser's token at once if the
        token is superseded and the service recommends a renewal. A token can be superseded for two
        reasons: someone has copied the token, or an app that is no browser has sent a queued upload
        with an old token. A browser has no queued uploads, and sends its newest token with each
        request. So a superseded token of a browser counts as copied: `open` renews the token, and
        the renewal makes the service raise the alarm.

        If the Session Authority does not answer, or refuses a call, `session` and `require` raise
        NoAnswer later. `open` lasts at most as long as the timeout of one call. If `open` renews
        the token, it lasts at most as long as the timeouts of three calls, because the renewal may
        wait for another renewal.

        `open` also renews the expired token of a passive request. Without the renewal of a passive
        request, the page would mistake an expired token for the end of the session. The renewal for
        a passive request does not count as a use of the session.
        """
        presented = self._presented
        if presented.status is not None:
            return
        try:
            found = await self._authority.validate_session(
                presented.token,
                presented.device_id,
                client=presented.client,
                passive=presented.passive,
                timeout=self._time_left_to_ask(),
            )
            self._status, self._session = found.status, found.session
            conduct = CONDUCT[found.status]
            self._renew_recommended = found.renew_recommended
            renews = conduct is Conduct.RENEW or (found.renew_recommended and not found.active)
            if renews and not presented.app:
                await self._renew()
            elif conduct is Conduct.WIPE:
                self._take_back(self._flow.after_denial(presented, found.status))
            if found.active and found.renew_recommended:
                self._renew_soon()
        except SessionAuthorityError as error:
            self._fail(error)

    def _renew_soon(self) -> None:
        """Makes `close` renew a browser's token, if `close` is called within the next 10
        seconds.
        """
        if not self._presented.app:
            self._renew_until = monotonic() + _RENEW_WITHIN.total_seconds()

    async def close(self) -> Sequence[str]:
        """Returns the `Set-Cookie` headers of the response. First renews the token of a browser if
        the service recommended a renewal in `open`, or if the app changed the claims. Does not
        renew the token if the recommendation or the change is more than 10 seconds old, or if the
        visit has made other cookies for the response. If the service refuses the renewal or gives
        no answer, the failure is only logged.
        """
        if not self._closed:
            self._closed = True
            if self._cookies is None and monotonic() < self._renew_until:
                try:
                    await self._renew()
                # The token is still valid, so the next request can renew it.
                except SessionAuthorityError as error:
                    _log.info("A token was not renewed: %s", error.reason or error.code.name)
        return self._cookies or ()

    def added_to(self, lines: Iterable[str]) -> list[str]:
        """Returns the `Set-Cookie` headers of the closed visit that can be added to the response. A
        cookie that the response sets already is left out, because the visit of an inner middleware
        may have signed another user in. `lines` are the values of the response's own `Set-Cookie`
        headers.
        """
        names = {line.partition("=")[0].strip() for line in lines}
        return [line for line in self._cookies or () if line.partition("=")[0] not in names]

    def caching(self, names: Collection[str], content_type: str) -> Caching:
        """Decides the headers that tell caches whether to store the response. Call this method
        after the visit is closed. `names` are the names of the app's headers. `content_type` is the
        type of the response's contents.
        """
        return caching(
            names,
            content_type,
            hands_out=self._hands_out or bool(self._cookies),
            # A renewal in `close` may find that the session has ended. The response that the app
            # has made before this renewal is still personal.
            signed_in=self._session is not None or self._had_session,
            looked=self._looked,
            ended=self._ended,
        )

    def writes(self, line: str) -> bool:
        """Returns True if a `Set-Cookie` header sets one of the cookies that the visit sets."""
        return self._flow.cookies.is_set_by(line)

    def owns(self, line: str, inner: object = None) -> bool:
        """Returns True if a `Set-Cookie` header of the app sets one of the visit's own cookies. The
        middleware must not send a header that sets one of these cookies, because the header would
        sign the user out. If the result is True, this method also logs a warning.

        If one middleware is inside another middleware, `inner` is the visit that the app saw. The
        inner middleware has already removed the app's headers that set the visit's cookies. If a
        header still sets one of these cookies, the header comes from the inner visit. For a header
        of the inner visit, this method returns False, so the outer middleware sends the header.
        """
        if not self.writes(line):
            return False
        if isinstance(inner, AsyncAdmission) and inner is not self and inner.writes(line):
            return False
        _log.warning(
            "The app sets a cookie of its own named %s, which is the Session Authority's, so it was"
            " left out. Give one of them another name: Flow(Cookies(token=..., device=...))",
            line.partition("=")[0].strip(),
        )
        return True

    def hang_up_at_end(self, hang_up: Callable[[], None]) -> None:
        """Calls `hang_up` to end the connection when the session ends, unless the app keeps the
        connection open. `hang_up` is called only if the app uses the session, before or after the
        call of this method. If the app never uses the session, the connection stays open. With
        `Flow.end_connections=False`, this method does nothing.
        """
        if self._flow.end_connections:
            self._session_end.hang_up_with(hang_up, self._session if self._looked else None)

    def leave(self) -> None:
        """Notes that the connection is over. After this call, the end of the session calls no
        listener.
        """
        self._session_end.leave()

    def _listen(self, session: Session, listener: Callable[[], None]) -> Callable[[], None]:
        return self._authority.endings.listen(session, listener)

    async def _renew(self) -> Renewal:
        presented = self._presented
        # A request can share the renewal of an earlier request until that renewal is sent. A
        # renewal that was sent before this request may have missed a sign-out. The renewal for a
        # passive request does not count as a use of the session, so only other passive requests
        # share it.
        renewal = await self._renewals.share(
            (presented.token, presented.device_id, presented.passive),
            lambda: self._authority.renew_session(
                presented.token,
                presented.device_id,
                client=presented.client,
                passive=presented.passive,
                timeout=self._time_left_to_ask(),
            ),
        )
        self._status = renewal.status
        self._session = renewal.session if renewal.active else None
        cookies = self._flow.after_renewal(presented, renewal, datetime.now(UTC))
        if renewal.active:
            self._cookies = cookies
            self._hands_out = renewal.access_token is not None
        else:
            self._take_back(cookies)
        return renewal

    def _time_left_to_ask(self) -> timedelta | None:
        """Returns the timeout of the next validation or renewal of this visit. None means the
        client's own timeout. A call gets at most the client's own timeout, and at least one
        millisecond.
        """
        if self._ends is None:
            return None
        left = max(timedelta(seconds=self._ends - monotonic()), _SHORTEST_CALL)
        return left if left < self._authority.timeout else None

    def _take_back(self, cookies: list[str]) -> None:
        self._cookies, self._ended = cookies, bool(cookies)

    def take_refusal(self) -> Refused | None:
        """Returns the last refusal that the visit has raised since the previous call of this
        method. Returns None if the visit has raised no refusal since the previous call. If a
        framework caught the refusal and made a response of its own, the middleware can send the
        response of the refusal instead.
        """
        refused, self._refused = self._refused, None
        return refused

    def note_refusal(self, error: SessionAuthorityError) -> None:
        """Logs that the Session Authority refused a call. This method writes at most one line a
        minute.
        """
        self._states.error(_REFUSED, error.reason or error.code.name, str(error))

    def _refuse(self, refused: Refused) -> Refused:
        self._refused = refused if self._dress is None else self._dress(refused)
        return self._refused

    def _fail(self, error: SessionAuthorityError) -> None:
        if isinstance(error, Unavailable):
            self._states.error(_OUTAGE, error.reason or error.code.name, str(error))
        else:
            self._states.error(_DENIED, error.reason or error.code.name)
        self._failure, self._status = error, SessionStatus.UNSPECIFIED

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:
            self._states.error(_OUTAGE, error.reason or error.code.name, str(error))
            raise self._refuse(self._flow.no_answer(self._presented, error)) from error
