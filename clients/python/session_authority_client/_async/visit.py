"""Requests of end users: who is signed in, signing in and out, and the cookies that the responses
must set.

Middleware opens a visit before the app, and closes it when the response's headers go out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Lock
from time import monotonic

from session_authority_client._async.client import AsyncSessionAuthority
from session_authority_client._async.primitives import async_home
from session_authority_client._async.single_flight import AsyncSingleFlight
from session_authority_client._shared.caching import Caching, caching
from session_authority_client._shared.device_ids import canonical_device_id
from session_authority_client._shared.local_paths import next_in
from session_authority_client._shared.throttled_log import ThrottledLog
from session_authority_client.errors import SessionAuthorityError, Unavailable
from session_authority_client.flow import (
    CONDUCT,
    Conduct,
    Flow,
    Headers,
    InsecureHost,
    Presented,
    Refused,
)
from session_authority_client.types import Device, IssuedDevice, Renewal, Session, SessionStatus

_log = logging.getLogger("session_authority_client")
# An app that needs longer leaves renewing to the next request. By then another request may have
# renewed long ago, and the token that this request brought would look stolen. So this is far less
# than ALARM_AFTER, 5 minutes.
_RENEW_WITHIN = timedelta(seconds=10)
_OUTAGE = "The Session Authority gives no answer, so who needs a session gets 503: %s (%.300r)"
_INSECURE = (
    "Refused a request to the host %.200r: insecure cookies are for http://localhost only. Open the"
    " app there, or serve it over HTTPS without Cookies(insecure=True)"
)
_DENIED = "The Session Authority refuses to say who is signed in: %s"


class AsyncVisit:
    """A request, with its session if it has one. Only one task or thread may use it at a time."""

    def __init__(
        self,
        authority: AsyncSessionAuthority,
        flow: Flow,
        renewals: AsyncSingleFlight[Renewal],
        presented: Presented,
        dress: Callable[[Refused], Refused] | None,
        states: ThrottledLog,
    ) -> None:
        self._authority = authority
        self._dress = dress
        self._states = states
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
        self._hands_out = False
        self._ended = False

    @property
    def session(self) -> Session | None:
        """The session of the user, None if nobody is signed in. Raises NoAnswer if that is
        unknown: it must not look like a sign-out.
        """
        self._looked = True
        if self._failure is not None:
            raise self._refuse(self._flow.no_answer(self._presented, self._failure)) from None
        return self._session

    @property
    def status(self) -> SessionStatus:
        """What the token of the request is worth, for logs. UNSPECIFIED while that is unknown."""
        return self._status

    @property
    def device_id(self) -> str:
        """The ID of the browser or app. Empty before its first sign-in."""
        return self._presented.device_id if self._session is None else self._session.device_id

    def require(self) -> Session:
        """The session of the user. Raises SignInRequired if nobody is signed in, NoAnswer if that
        is unknown.
        """
        session = self.session
        if session is None:
            raise self._refuse(
                self._flow.sign_in_required(
                    self._presented, self._status, renew_recommended=self._renew_recommended
                )
            )
        return session

    def next_path(self, default: str = "/") -> str:
        """Where to send the user after a sign-in: the path of this origin that the request's query
        has as `next`, as a redirect to `sign_in_url` put it there; else the default.
        """
        return next_in(self._presented.target, default)

    # --- for middleware ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Finds out whether the session is good. A browser's token is renewed at once if it has
        expired, as only the renewal says whether its session is good; or if it was superseded and
        the service recommends that: the user's own browser renews, a queued upload does not.

        If the Session Authority is away, `session` and `require` say so. This takes as long as one
        call may take, or three if the token is renewed: a renewal may wait for another one.
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
            self._renew_recommended = found.renew_recommended
            renews = conduct is Conduct.RENEW or (found.renew_recommended and not found.active)
            if renews and not presented.app:
                await self._renew()
            elif conduct is Conduct.WIPE:
                self._take_back(self._flow.after_denial(presented, found.status))
            if found.active and found.renew_recommended and not presented.app:
                self._renew_until = monotonic() + _RENEW_WITHIN.total_seconds()
        except SessionAuthorityError as error:
            self._fail(error)

    async def close(self) -> Sequence[str]:
        """Returns the `Set-Cookie` headers of the response. Renews the token first if that was
        recommended a moment ago.
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

    def caching(self, names: Collection[str], content_type: str) -> Caching:
        """What the response says to caches, once the visit is closed. `names` are those of the
        app's headers, `content_type` is the kind of its contents.
        """
        return caching(
            names,
            content_type,
            hands_out=self._hands_out or bool(self._cookies),
            signed_in=self._session is not None,
            looked=self._looked,
            ended=self._ended,
        )

    def owns(self, line: str) -> bool:
        """Whether a `Set-Cookie` header of the app is about one of the two cookies. Then it must
        not go out: it would sign the user out.
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
        cookies = self._flow.after_renewal(presented, renewal, datetime.now(UTC))
        if renewal.active:
            self._cookies = cookies
            self._hands_out = renewal.access_token is not None
        else:
            self._take_back(cookies)
        return renewal

    def _take_back(self, cookies: list[str]) -> None:
        self._cookies, self._ended = cookies, bool(cookies)

    def take_refusal(self) -> Refused | None:
        """Returns the refusal that it raised last, once. A framework may have caught the exception
        and handled it in its own way, which the middleware puts right.
        """
        refused, self._refused = self._refused, None
        return refused

    def _refuse(self, refused: Refused) -> Refused:
        self._refused = refused if self._dress is None else self._dress(refused)
        return self._refused

    def _fail(self, error: SessionAuthorityError) -> None:
        if isinstance(error, Unavailable):
            self._states.error(_OUTAGE, error.reason or error.code.name, str(error))
        else:
            self._states.error(_DENIED, error.reason or error.code.name)
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
        """Signs a user in who has just proven their identity. The response sets both cookies. An
        app that is no browser gets token and device ID in your own response.

        Another user who was signed in in this browser is signed out here: the browser has the
        cookies of the new user.

        Args:
            user_id: The user.
            claims: What the app wants to find in each session.
            auth_methods: How the user proved their identity, such as "pwd".
            session_ttl: The life of the session, if not the service's own.
            request_id: Repeated, it signs in once.

        Raises NoAnswer, and all else that `issue_device` raises.
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
        self._hands_out = True
        self._status, self._failure, self._refused = SessionStatus.ACTIVE, None, None
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
            absolute_expire_time=device.absolute_expire_time,
        )
        if before is not None and before.user_id != user_id and not self._presented.app:
            self._ended = True
            await self._end(before)
        return issued

    async def sign_out(self, device_id: str | None = None, *, reason: str = "sign_out") -> None:
        """Signs the user out here, or on another device of the user. Without a session there is
        nothing to do, and no error. Raises NoAnswer.
        """
        session = await self._session_to_end()
        named = None if device_id is None else canonical_device_id(device_id)
        if named == "":
            return
        here = named is None or (session is not None and named == session.device_id)
        if here:
            self._check_open()
        if session is not None:
            with self._answering():
                await self._authority.revoke_device(
                    session.user_id, named or session.device_id, reason=reason
                )
        if here:
            self._forget()

    async def sign_out_everywhere(
        self, *, except_current: bool = True, reason: str = "sign_out_everywhere"
    ) -> int:
        """Signs the user out on all devices, or on all others. Returns on how many. Raises
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
        """Returns the user's devices, the newest activity first. This device is `current`. Raises
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

    async def rename(self, device_id: str, name: str) -> Device:
        """Names a device of the user; an empty name removes the name. Returns the device. Raises
        SignInRequired, NoAnswer, DeviceNotFound, and InvalidRequest for a name that is too long.
        """
        session = self.require()
        with self._answering():
            return await self._authority.update_device(
                session.user_id, device_id, display_name=name
            )

    async def update_claims(self, claims: Mapping[str, str]) -> Session:
        """Changes the claims of the user, such as an e-mail address, here and on all other devices
        of the user. They replace all claims that there are. Returns the session with them.

        Each browser gets a token with them with its next request. Raises SignInRequired, NoAnswer,
        InvalidRequest.
        """
        session = self.require()
        with self._answering():
            await self._authority.update_session(session.user_id, claims)
        self._session = replace(session, claims=dict(claims))
        return self._session

    async def renew(self) -> Renewal:
        """Renews the token of an app that is no browser, for your endpoint that renews. The token
        of a browser is renewed by the middleware.

        `access_token` is None if the app keeps the token that it has. Raises SignInRequired,
        NoAnswer.
        """
        self._check_open()
        if not self._presented.token:
            raise self._refuse(self._flow.sign_in_required(self._presented, self._status))
        with self._answering():
            renewal = await self._renew()
        self._failure, self._refused = None, None
        if not renewal.active:
            raise self._refuse(self._flow.sign_in_required(self._presented, renewal.status))
        return renewal

    async def _end(self, session: Session) -> None:
        """Ends the session of the user who was signed in in this browser before. Else a late
        response would renew that session, and bring it back.
        """
        try:
            await self._authority.revoke_device(
                session.user_id, session.device_id, reason="sign_in_of_another_user"
            )
        except SessionAuthorityError as error:  # the new user is signed in all the same
            _log.warning(
                "Who was signed in in a browser before another user is not signed out there: %s",
                error.reason or error.code.name,
            )

    async def _session_to_end(self) -> Session | None:
        """The session of the user, even if an app's token has expired: the session goes on, and
        must not outlive a sign-out.
        """
        expired = CONDUCT[self._status] is Conduct.RENEW
        if self.session is None and self._presented.token and expired:
            with self._answering():
                await self._renew()
        return self.session

    def _forget(self) -> None:
        self._session, self._status = None, SessionStatus.NO_SESSION
        self._take_back(self._flow.after_sign_out(self._presented))

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
            self._states.error(_OUTAGE, error.reason or error.code.name, str(error))
            raise self._refuse(self._flow.no_answer(self._presented, error)) from error


class AsyncVisits:
    """Opens the visits of one app.

    `authority` is a client, or a function that makes one. The function is called with the first
    visit, and again in another process or event loop. `close` closes only a client that the
    function made. `dress` turns a refusal into an exception that a framework knows.
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

    async def open(self, method: str, headers: Headers, peer: str, target: str = "") -> AsyncVisit:
        """Opens the visit of a request. `peer` is the address at the other end of its connection,
        empty at a unix socket. `target` is the path with its query, as the client sent it.

        Raises CrossOrigin, InsecureHost, ReturnHop before it asks the Session Authority.
        """
        try:
            presented = self._flow.presented(method, headers, peer, target)
        except InsecureHost:
            self._states.error(_INSECURE, "".join(headers.get("host", ())))
            raise
        visit = AsyncVisit(
            self._authority(), self._flow, self._renewals, presented, self._dress, self._states
        )
        await visit.open()
        return visit

    async def close(self) -> None:
        """Closes the client that it made. Another visit would make another one."""
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
