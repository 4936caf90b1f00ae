"""Requests of end users: who is signed in, and signing in and out.

Middleware opens a visit before the app, and closes it when the response's headers go out.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from session_authority_client._async.admission import AsyncAdmission
from session_authority_client._async.primitives import AsyncCut
from session_authority_client._shared import arguments
from session_authority_client._shared.idle_limit import idle_limit
from session_authority_client._shared.local_paths import next_in
from session_authority_client._shared.step_up import StepUp, step_up_in
from session_authority_client.errors import InvalidRequest, SessionAuthorityError
from session_authority_client.flow import CONDUCT, Conduct
from session_authority_client.types import Device, IssuedDevice, Renewal, Session, SessionStatus

_T = TypeVar("_T")
_log = logging.getLogger("session_authority_client")


class AsyncVisit(AsyncAdmission):
    """A request, with its session if it has one. Only one task or thread may use it at a time."""

    def next_path(self, default: str = "/") -> str:
        """The path to which to send the user after a sign-in: `next` in the request's query, which
        a redirect to `sign_in_url` put there. Else, or if `next` is of another origin, the default.
        """
        return next_in(self._presented.target, default)

    def requested_step_up(self) -> StepUp | None:
        """The recent or strong sign-in that a page required of a user who is signed in: a redirect
        to `sign_in_url` put it into the query. Else None.

        A sign-in page that sends signed-in users away must not do so if this returns a step-up.
        Anybody may have written the query: it says what sign-in to request, and permits nothing.
        """
        return step_up_in(self._presented.target)

    # --- the end of the session, for connections that stay open -----------------------------------

    async def ended(self, timeout: timedelta | None = None) -> bool:
        """Waits until the session has ended: signed out or revoked, replaced by another sign-in on
        this device, or expired. A token that ends or is renewed does not end the session, and an
        outage of the service does not, either. Another task or thread may call this.

        Returns False if the timeout was over before. Raises SignInRequired, NoAnswer, and
        Unavailable if the client is closed, also while this waits.
        """
        return await self._authority.endings.wait(self.require(), timeout)

    def on_ended(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls a callback once when the session has ended: in the event loop, or in a thread of
        the client. The callback must not block. Returns a function that cancels this.

        Middleware that knows when the connection is over cancels this itself. When the client is
        closed, no callback is called: it is unknown whether the session has ended. Raises
        SignInRequired, NoAnswer, and Unavailable if the client is closed.
        """
        return self._session_end.listen(self.require(), callback)

    async def until_ended(self, items: AsyncIterable[_T]) -> AsyncIterator[_T]:
        """Yields the items of a stream until the session has ended. Then the source of the items is
        closed: in a task at once, even while it waits, and in a thread before its next item.

        Raises SignInRequired, NoAnswer.
        """
        cut = AsyncCut()
        stop = self.on_ended(cut.cut)
        try:
            async with aclosing(cut.each(items)) as wanted:
                async for item in wanted:
                    yield item
        finally:
            stop()

    def keep_open(self) -> None:
        """Makes the middleware leave this connection open when the session ends."""
        self._session_end.keep_open()

    # --- signing in and out -----------------------------------------------------------------------

    async def sign_in(
        self,
        user_id: str,
        *,
        claims: Mapping[str, str] | None = None,
        auth_methods: Sequence[str] = (),
        session_ttl: timedelta | None = None,
        request_id: str | None = None,
        remember: bool = True,
        idle_timeout: timedelta | None = None,
    ) -> IssuedDevice:
        """Signs a user in who has just proven their identity. The response sets both cookies. An
        app that is no browser gets token and device ID in your own response.

        Another user who was signed in in this browser is signed out here: the browser has the
        cookies of the new user.

        Args:
            user_id: The user.
            claims: The facts about the user that the app finds in each session.
            auth_methods: How the user proved their identity, such as "pwd".
            session_ttl: The life of the session, if not the service's own.
            request_id: Two calls with the same `request_id` make one sign-in.
            remember: If False, the browser forgets the session when the browser is closed, but
                keeps its device ID. An unused session ends after `Flow.brief_idle_timeout`.
            idle_timeout: How long the session may last unused, if not `Flow.brief_idle_timeout` or
                the service's own idle timeout. If the service's own is shorter, that one applies.

        Raises NoAnswer, and all other errors of `issue_device`.
        """
        self._check_open()
        before = self._session
        by_settings = not arguments.flag("remember", remember) and idle_timeout is None
        with self._answering():
            issued = await self._issue(
                user_id,
                self._flow.brief_idle_timeout if by_settings else idle_timeout,
                lengthen=by_settings,
                device_id=self._presented.device_id,
                client=self._presented.client,
                claims=claims,
                auth_methods=auth_methods,
                session_ttl=session_ttl,
                request_id=request_id,
            )
        now, device = datetime.now(UTC), issued.device
        brief = "" if remember else device.session_id
        self._cookies = self._flow.after_sign_in(self._presented, issued, now, remember=remember)
        self._presented = replace(self._presented, brief=brief)
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

    async def sign_out(
        self, device_id: str | None = None, *, reason: str = "sign_out", forget: bool = False
    ) -> bool:
        """Signs the user out here, or on another device of the user. Without a session there is
        nothing to do, and no error. With `forget` the device is removed from the list, too, and a
        later sign-in there counts as a sign-in on a new device. Returns True if the user was signed
        in there. Raises NoAnswer, TypeError, and InvalidRequest for a text that is no device ID.
        """
        named = None if device_id is None else arguments.device_id("device_id", device_id)
        session = await self._session_to_end()
        here = named is None or (session is not None and named == session.device_id)
        if here:
            self._check_open()
        revoked = False
        if session is not None:
            with self._answering():
                revoked = await self._authority.revoke_device(
                    session.user_id, named or session.device_id, reason=reason, forget=forget
                )
        if here:
            self._forget()
        return revoked

    async def sign_out_everywhere(
        self, *, except_current: bool = True, reason: str = "sign_out_everywhere"
    ) -> int:
        """Signs the user out on all devices, or on all other devices. Returns on how many devices
        the user was signed in. Raises SignInRequired, NoAnswer.
        """
        arguments.flag("except_current", except_current)
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

    async def devices(
        self, *, include_signed_out: bool = False, page_size: int = 0
    ) -> Sequence[Device]:
        """Returns the user's devices, the newest activity first. This device is `current`.
        `page_size` is the number of devices that one call returns, if not the service's own. Raises
        SignInRequired, NoAnswer.
        """
        session = self.require()
        with self._answering():
            found = self._authority.devices(
                session.user_id,
                current_device_id=session.device_id,
                include_signed_out=include_signed_out,
                page_size=page_size,
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
        of the user. The new claims replace all existing claims. Returns the session with them.

        This browser gets a token with the new claims in this response, so the next page shows them.
        If the token of this request had expired, the browser gets this token in its next response.
        Every other browser of the user gets one with the response to its next request. Raises
        SignInRequired, NoAnswer, InvalidRequest.
        """
        session = self.require()
        with self._answering():
            await self._authority.update_session(session.user_id, claims)
        self._session = replace(session, claims=dict(claims))
        self._renew_soon()
        return self._session

    async def renew(self) -> Renewal:
        """Renews the token of an app that is no browser. Call it in your endpoint for renewals. The
        middleware itself renews the token of a browser.

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

    async def _issue(
        self, user_id: str, idle_timeout: timedelta | None, *, lengthen: bool, **asked: Any
    ) -> IssuedDevice:
        """Signs in with an idle timeout, or with the service's longest one if that is shorter. With
        `lengthen` it also signs in with the service's shortest one if that is longer.
        """
        issue = self._authority.issue_device
        try:
            return await issue(user_id, idle_timeout=idle_timeout, **asked)
        except InvalidRequest as refusal:
            limit = idle_limit(refusal, idle_timeout, lengthen=lengthen)
            if limit is None:
                raise
        return await issue(user_id, idle_timeout=limit, **asked)

    async def _end(self, session: Session) -> None:
        """Ends the session of the user who was signed in in this browser before. Else a late
        response could renew that session, and give its cookies back to the browser.
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
