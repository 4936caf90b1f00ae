"""Requests of end users: who they are, signing in and out, and the cookies that the responses must
set.

Middleware opens a visit before the app, and closes it when the response's headers go out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Lock
from time import monotonic

from session_authority_client._async.client import AsyncSessionAuthority
from session_authority_client._async.primitives import async_home
from session_authority_client._async.single_flight import AsyncSingleFlight
from session_authority_client.errors import SessionAuthorityError, Unavailable
from session_authority_client.flow import (
    CONDUCT,
    Conduct,
    Flow,
    Headers,
    Presented,
    Refused,
    is_device_id,
)
from session_authority_client.types import Device, IssuedDevice, Renewal, Session, SessionStatus

_log = logging.getLogger("session_authority_client")
# An app that takes longer leaves renewing to the next request. By then another one may have renewed
# long ago, and the token that this one brought would look stolen: far less than ALARM_AFTER, 5
# minutes.
_RENEW_WITHIN = timedelta(seconds=10)


class AsyncVisit:
    """A request, with the session that it has, if any. Not for use by several tasks or threads at
    once.
    """

    def __init__(
        self,
        authority: AsyncSessionAuthority,
        flow: Flow,
        renewals: AsyncSingleFlight[Renewal],
        presented: Presented,
        dress: Callable[[Refused], Refused] | None,
    ) -> None:
        self._authority = authority
        self._dress = dress
        self._refused: Refused | None = None
        self._flow = flow
        self._renewals = renewals
        self._presented = presented
        self._status = presented.status or SessionStatus.UNSPECIFIED
        self._session: Session | None = None
        self._failure: SessionAuthorityError | None = None
        self._renew_until = 0.0
        self._cookies: list[str] | None = None
        self._closed = False

    @property
    def session(self) -> Session | None:
        """Who it is; None if nobody is signed in. Raises NoAnswer if that is unknown: it must not
        look like a sign-out.
        """
        if self._failure is not None:
            raise self._refuse(self._flow.no_answer(self._presented, self._failure)) from None
        return self._session

    @property
    def status(self) -> SessionStatus:
        """What its token is worth, for logs. UNSPECIFIED while that is unknown."""
        return self._status

    @property
    def device_id(self) -> str:
        """The browser or app. Empty if it has no device ID yet: it gets one with its first
        sign-in.
        """
        return self._presented.device_id if self._session is None else self._session.device_id

    def require(self) -> Session:
        """Who it is. Raises SignInRequired if nobody is signed in, NoAnswer if that is unknown."""
        session = self.session
        if session is None:
            raise self._refuse(self._flow.sign_in_required(self._presented, self._status))
        return session

    # --- for middleware ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Finds out whether the session is good. An expired token is renewed at once: nothing else
        tells.

        A Session Authority that is away is told to whoever asks for the session. It takes as long
        as one call may, or three if the token has expired: a renewal may wait for another one.
        """
        presented = self._presented
        if presented.status is not None:
            return
        try:
            found = await self._authority.validate_session(
                presented.token, presented.device_id, client=presented.client
            )
            self._status, self._session = found.status, found.session
            conduct = CONDUCT[found.status]
            if conduct is Conduct.RENEW and not presented.app:
                await self._renew()
            elif conduct is Conduct.WIPE:
                self._cookies = self._flow.after_denial(presented, found.status)
            if found.active and found.renew_recommended and not presented.app:
                self._renew_until = monotonic() + _RENEW_WITHIN.total_seconds()
        except SessionAuthorityError as error:
            self._fail(error)

    async def close(self) -> Sequence[str]:
        """The `Set-Cookie` headers of the response, as they go out. Renews if that was recommended
        a moment ago.
        """
        if not self._closed:
            self._closed = True
            if self._cookies is None and monotonic() < self._renew_until:
                try:
                    await self._renew()
                # The token is good for now. The next request renews it.
                except SessionAuthorityError as error:
                    _log.info("A token was not renewed: %s", error.reason or error.code.name)
        return self._cookies or ()

    def owns(self, line: str) -> bool:
        """Whether a `Set-Cookie` header of the app's is about one of the two cookies. Then it must
        not go out: it would sign out.
        """
        if not self._flow.cookies.is_set_by(line):
            return False
        _log.warning(
            "The app sets a cookie of its own named %s, which is the Session Authority's, so it was"
            " left out. Give one of them another name: Flow(Cookies(token=..., device=...))",
            line.partition("=")[0].strip(),
        )
        return True

    async def _renew(self) -> Renewal:
        presented = self._presented
        # A renewal that was sent before this request may not know of a sign-out that this request
        # must not miss.
        renewal = await self._renewals.share(
            (presented.token, presented.device_id),
            lambda: self._authority.renew_session(
                presented.token, presented.device_id, client=presented.client
            ),
        )
        self._status = renewal.status
        self._session = renewal.session if renewal.active else None
        self._cookies = self._flow.after_renewal(presented, renewal, datetime.now(UTC))
        return renewal

    def take_refusal(self) -> Refused | None:
        """What it raised last, dressed for a framework whose own handling of it must be put
        right.
        """
        refused, self._refused = self._refused, None
        return refused

    def _refuse(self, refused: Refused) -> Refused:
        if self._dress is None:
            return refused
        self._refused = self._dress(refused)
        return self._refused

    def _fail(self, error: SessionAuthorityError) -> None:
        if not isinstance(error, Unavailable):
            _log.error(
                "The Session Authority refuses to say who is signed in: %s",
                error.reason or error.code.name,
            )
        self._failure, self._status = error, SessionStatus.UNSPECIFIED

    # --- signing in and out -----------------------------------------------------------------------

    async def sign_in(
        self,
        user_id: str,
        *,
        claims: Mapping[str, str] | None = None,
        auth_methods: Sequence[str] = (),
        session_ttl: timedelta | None = None,
        request_id: str | None = None,
    ) -> IssuedDevice:
        """Signs a user in who has proven who they are. The response sets both cookies; an app is to
        be told both by yours.

        Who else was signed in in this browser is signed out here: its cookies are theirs no more.
        Raises NoAnswer, and whatever else `issue_device` does.
        """
        self._check_open()
        before = self._session
        with self._answering():
            issued = await self._authority.issue_device(
                user_id,
                device_id=self._presented.device_id,
                client=self._presented.client,
                claims=claims,
                auth_methods=auth_methods,
                session_ttl=session_ttl,
                request_id=request_id,
            )
        now, device = datetime.now(UTC), issued.device
        self._cookies = self._flow.after_sign_in(self._presented, issued, now)
        self._status, self._failure = SessionStatus.ACTIVE, None
        self._session = Session(
            user_id=user_id,
            device_id=device.device_id,
            session_id=device.session_id,
            generation=1,
            claims=dict(claims or {}),
            auth_methods=tuple(auth_methods),
            sign_in_time=device.sign_in_time or now,
            token_expire_time=issued.token_expire_time,
            expire_time=device.expire_time or issued.token_expire_time,
        )
        if before is not None and before.user_id != user_id and not self._presented.app:
            await self._end(before)
        return issued

    async def sign_out(self, device_id: str | None = None, *, reason: str = "sign_out") -> None:
        """Signs the user out here, or on another device of theirs. Nothing to do is no error.
        Raises NoAnswer.
        """
        session = await self._session_to_end()
        if device_id is not None and not is_device_id(device_id):
            return
        here = device_id is None or (session is not None and device_id.lower() == session.device_id)
        if here:
            self._check_open()
        if session is not None:
            with self._answering():
                await self._authority.revoke_device(
                    session.user_id, device_id or session.device_id, reason=reason
                )
        if here:
            self._forget()

    async def sign_out_everywhere(
        self, *, except_current: bool = True, reason: str = "sign_out_everywhere"
    ) -> int:
        """Signs the user out on all devices, or on all others; on how many they were. Raises
        SignInRequired, NoAnswer.
        """
        await self._session_to_end()
        session = self.require()
        if not except_current:
            self._check_open()
        spared = session.device_id if except_current else ""
        with self._answering():
            revoked = await self._authority.revoke_all(
                session.user_id, except_device_id=spared, reason=reason
            )
        if not except_current:
            self._forget()
        return revoked

    async def devices(self, *, include_signed_out: bool = False) -> Sequence[Device]:
        """The user's devices, the newest activity first; this one is `current`. Raises
        SignInRequired, NoAnswer.
        """
        session = self.require()
        with self._answering():
            found = self._authority.devices(
                session.user_id,
                current_device_id=session.device_id,
                include_signed_out=include_signed_out,
            )
            return [device async for device in found]

    async def renew(self) -> Renewal:
        """Renews the token of an app, for the endpoint where it asks for that; a browser's renews
        by itself.

        `access_token` is None if the app keeps the one that it has. Raises SignInRequired,
        NoAnswer.
        """
        self._check_open()
        if not self._presented.token:
            raise self._refuse(self._flow.sign_in_required(self._presented, self._status))
        with self._answering():
            renewal = await self._renew()
        self._failure = None
        if not renewal.active:
            raise self._refuse(self._flow.sign_in_required(self._presented, renewal.status))
        return renewal

    async def _end(self, session: Session) -> None:
        """Ends one that another user's has taken the place of: else a late response would renew it,
        and bring it back.
        """
        try:
            await self._authority.revoke_device(
                session.user_id, session.device_id, reason="sign_in_of_another_user"
            )
        except SessionAuthorityError as error:  # who comes is signed in all the same
            _log.warning(
                "Who was signed in in a browser before another user is not signed out there: %s",
                error.reason or error.code.name,
            )

    async def _session_to_end(self) -> Session | None:
        """Who it is, even if an app's token has expired: its session goes on, and must not outlive
        a sign-out.
        """
        expired = CONDUCT[self._status] is Conduct.RENEW
        if self.session is None and self._presented.token and expired:
            with self._answering():
                await self._renew()
        return self.session

    def _forget(self) -> None:
        self._session, self._status = None, SessionStatus.NO_SESSION
        self._cookies = self._flow.after_sign_out(self._presented)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(
                "the response's headers are out: its cookies can't be changed any more"
            )

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:
            raise self._refuse(self._flow.no_answer(self._presented, error)) from error


class AsyncVisits:
    """Opens the visits of one app, each with what its request brought.

    `authority` may be a function that makes a client: it is called with the first visit, and again
    in another process or event loop. `close` closes what it made, and nothing that was given.
    `dress` makes a refusal one that a framework knows.
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

    async def open(self, method: str, headers: Headers, peer: str) -> AsyncVisit:
        """The visit of a request. `peer` is the address at the other end of its connection, empty
        at a unix socket.

        Raises CrossOrigin, before anybody is asked.
        """
        presented = self._flow.presented(method, headers, peer)
        visit = AsyncVisit(self._authority(), self._flow, self._renewals, presented, self._dress)
        await visit.open()
        return visit

    async def close(self) -> None:
        """Hangs up. It would call again for another visit."""
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
