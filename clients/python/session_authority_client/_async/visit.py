"""Defines the visit: the request of an end user, as the middleware passes it to the app. A visit
tells the app who is signed in, and has methods that sign users in and out.

Middleware opens a visit before it calls the app, and closes the visit when the response's headers
are sent.
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
    """One request of an end user, with the user's session if there is one. Only one task or thread
    may use a visit at a time. The method `ended` is an exception, because any task or thread may
    call it.
    """

    def next_path(self, default: str = "/") -> str:
        """Returns the path to which the app should redirect the user after a sign-in. The
        middleware's redirect to `Flow.sign_in_url` has put this path into the field `next` of the
        request's query. Returns the default if the query has no field `next`, or has two fields
        `next` with different values. Also returns the default if the field is not a path of this
        origin with at most 2,000 characters.
        """
        return next_in(self._presented.target, default)

    def requested_step_up(self) -> StepUp | None:
        """Returns the step-up that a page requires: a more recent or stronger sign-in of a user who
        is already signed in. The middleware's redirect to `Flow.sign_in_url` has put the step-up
        into the query of this request. Returns None if the query has no step-up.

        Many sign-in pages redirect users who are signed in already. If this method returns a
        step-up, the sign-in page must not redirect a signed-in user. An attacker can write the
        query, so a step-up says which sign-in to request, but permits nothing.
        """
        return step_up_in(self._presented.target)

    # --- the end of the session, for connections that stay open -----------------------------------

    async def ended(self, timeout: timedelta | None = None) -> bool:
        """Waits until the session has ended. A session ends when it is signed out, revoked,
        replaced by another sign-in on this device, or expired. A session does not end when a token
        expires or is renewed, and an outage of the service does not end the session. Any task or
        thread may call this method.

        Returns True if the session has ended, and False if the timeout ends first. Raises
        SignInRequired if nobody is signed in, and NoAnswer if the service gave no answer. Raises
        Unavailable if the client is closed before or during the wait.
        """
        return await self._authority.endings.wait(self.require(), timeout)

    def on_ended(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Adds a callback, which is called once after the session has ended. The callback runs in
        the event loop, or in a thread of the client for threads. The callback must not block.
        Returns a function that removes the callback.

        Middleware that knows when the connection is over removes the callback itself. When the
        client is closed, no callback is called, because it is unknown whether the session has
        ended. Raises SignInRequired if nobody is signed in, NoAnswer if the service gave no answer,
        and Unavailable if the client is closed.
        """
        return self._session_end.listen(self.require(), callback)

    async def until_ended(self, items: AsyncIterable[_T]) -> AsyncIterator[_T]:
        """Yields the items of a stream until the session has ended. At the end, closes the source
        of the items if the source is a generator. For a task the stream ends at once, even while
        the task waits for the next item. For a thread it ends only when the next item arrives.

        Raises SignInRequired if nobody is signed in, NoAnswer if the service gave no answer, and
        Unavailable if the client is closed.
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
        """Makes the middleware keep this connection open when the session ends."""
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
        """Signs in a user who has just proven their identity. If the client is a browser, the
        response sets the cookies of the token and of the device ID. If the client is an app and no
        browser, put the token and the device ID into your own response.

        If another user has a session in this browser, that session ends, because the browser gets
        the cookies of the new user.

        Args:
            user_id: The user.
            claims: The facts about the user that the app finds in the session.
            auth_methods: How the user proved their identity, such as "pwd".
            session_ttl: How long the session may last at most, even if it is used. Default: the
                service's own maximum.
            request_id: Two calls with the same `request_id` make one sign-in.
            remember: If False, the browser forgets the session when the browser is closed, but
                keeps its device ID. If False, the session also ends after `Flow.brief_idle_timeout`
                without a use.
            idle_timeout: How long the session may last unused. Default: the service's own idle
                timeout, or `Flow.brief_idle_timeout` if `remember` is False. The service's own idle
                timeout is the maximum.

        Raises NoAnswer if the service gives no answer, and the other errors of the client's method
        `issue_device`. Raises RuntimeError if the response's headers are sent already.
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
        """Signs the user out on this device, or on the device with the ID `device_id`. With
        `forget`, the device is also removed from the user's list of devices. After a sign-out with
        `forget`, a later sign-in on the device counts as a sign-in on a new device. Returns True if
        the user was signed in on the device.

        A sign-out on this device also deletes the token cookie that the browser sent, even if
        nobody is signed in. If nobody is signed in on this device, a sign-out on another device
        does nothing. This method never raises SignInRequired.

        Raises NoAnswer if the service gives no answer, and InvalidRequest if `device_id` is no
        device ID. Raises TypeError for a value of a wrong type, and Conflict if other calls change
        the user's data at the same time. A sign-out on this device raises RuntimeError if the
        response's headers are sent already.
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
        """Signs the user out on all devices except this one. With `except_current=False`, the user
        is signed out on this device, too. Returns the number of devices on which this call signed
        the user out.

        Raises SignInRequired if nobody is signed in, and NoAnswer if the service gives no answer.
        Raises TypeError for a value of a wrong type, and Conflict if other calls change the user's
        data at the same time. With `except_current=False`, raises RuntimeError if the response's
        headers are sent already.
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
        """Returns the user's devices. The device with the newest activity is first, and the device
        that sent this request is marked as `current`. `page_size` is the maximum number of devices
        that one call to the service returns, up to 1,000. Zero means 50. Raises SignInRequired if
        nobody is signed in, and NoAnswer if the service gives no answer.
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
        """Changes the name of a device of the user. An empty name removes the name. Returns the
        device.

        Raises SignInRequired if nobody is signed in, and NoAnswer if the service gives no answer.
        Raises DeviceNotFound if the user has no device with this ID, and Conflict if other calls
        change the user's data at the same time. Raises InvalidRequest for a text that is no device
        ID, and for a name that is too long or has no visible character.
        """
        session = self.require()
        with self._answering():
            return await self._authority.update_device(
                session.user_id, device_id, display_name=name
            )

    async def update_claims(self, claims: Mapping[str, str]) -> Session:
        """Changes the claims of the user, such as an e-mail address, on this device and on all
        other devices of the user. The new claims replace all existing claims. Returns the session
        with the new claims.

        This browser usually gets a token with the new claims in this response, so the next page
        shows the new claims. If the token of this request had expired, the browser gets the new
        token with the response to its next request. If the app responds later than 10 seconds after
        this call, the browser also gets the new token with the response to its next request. An app
        that is no browser gets the token from `renew`. Every other browser of the user gets a new
        token with the response to its next request.

        Raises SignInRequired if nobody is signed in, and NoAnswer if the service gives no answer.
        Raises InvalidRequest for malformed claims, and Conflict if other calls change the user's
        data at the same time.
        """
        session = self.require()
        with self._answering():
            await self._authority.update_session(session.user_id, claims)
        self._session = replace(session, claims=dict(claims))
        self._renew_soon()
        return self._session

    async def renew(self) -> Renewal:
        """Renews the token of an app that is no browser. Call this method in your own endpoint for
        renewals. The middleware itself renews the tokens of browsers.

        In the returned renewal, `access_token` is None if the app keeps the token that it has.
        Raises SignInRequired if the request has no token of a valid session, and NoAnswer if the
        service gives no answer. Raises Conflict if other calls change the user's data at the same
        time, and RuntimeError if the response's headers are sent already.
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
        """Signs a user in with an idle timeout. If the idle timeout is longer than the service's
        maximum, the maximum is used. If the idle timeout is shorter than the service's minimum and
        `lengthen` is True, the minimum is used.
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
        """Ends the session that another user had before in this browser. If that session stayed
        valid, a late response could give the cookies of that session back to the browser. If the
        call fails, this method only logs the failure.
        """
        try:
            await self._authority.revoke_device(
                session.user_id, session.device_id, reason="sign_in_of_another_user"
            )
        except SessionAuthorityError as error:  # the new user stays signed in
            _log.warning(
                "The user who was signed in before in this browser is not signed out: %s",
                error.reason or error.code.name,
            )

    async def _session_to_end(self) -> Session | None:
        """Returns the session that a sign-out must end. If the token of an app that is no browser
        has expired, this method renews the token to find the session. The session may still live,
        and must not outlive the sign-out.
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
