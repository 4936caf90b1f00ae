"""Defines the client of the Session Authority. The client has one typed method for each RPC. All
calls except watches have a deadline. If a call fails, the method raises a `SessionAuthorityError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.message import Message

from session_authority_client._async.batching import AsyncBatchQueue
from session_authority_client._async.calls import AsyncCalls
from session_authority_client._async.coalescing import AsyncCoalescer
from session_authority_client._async.endings import AsyncEndings
from session_authority_client._async.watching import AsyncWatch
from session_authority_client._shared import arguments, convert
from session_authority_client._shared.failures import error_of_item
from session_authority_client._shared.limiter import MAX_IN_FLIGHT
from session_authority_client._shared.recording import Recorder
from session_authority_client._shared.tracing import Tracer
from session_authority_client._shared.transport import DEFAULT_TIMEOUT, Tls, Transport
from session_authority_client.cache import NearCache
from session_authority_client.errors import SessionAuthorityError
from session_authority_client.types import (
    ClientInfo,
    Device,
    DevicePage,
    EventBatch,
    EventType,
    IssuedDevice,
    Renewal,
    SessionName,
    SessionState,
    SigningKeys,
    Validation,
)
from session_authority_client.wire import session_authority_pb2 as pb


class AsyncSessionAuthority:
    """A client that calls one Session Authority. Close the client after use, or use it as a context
    manager.

    For one event loop.

    Args:
        target: `host:port`, or `dns:///host:port` to spread calls over all addresses of a name.
        tls: The certificates of a connection with TLS. If `tls` is None, the connection has no TLS.
        token: This caller's bearer token, or a function that returns the current token.
        timeout: The default timeout of a call with all its retries.
        options: More options of the gRPC channel. An entry of `options` replaces the client's own
            option with the same name.
        batching: If True, validations that arrive while other validations are under way are sent
            together, in one call.
        cache: A near cache that answers validations in this process. CACHE.md says how stale the
            answers of a near cache can be.
        max_in_flight: How many calls may be under way at once. A batch is one call. When this many
            calls are under way, a further call waits. A call that waits raises `Unavailable` if its
            timeout ends before another call has ended. Keep `max_in_flight` below the service's
            MAX_PER_CONNECTION (100 by default), because the service also counts the watches of this
            client.
        metrics: A `Recorder` that counts and measures the calls of this client, for example
            `metrics.ClientMetrics` for Prometheus.
        tracing: If True, the client makes a span for each call with OpenTelemetry's API, and sends
            the span's context to the service. A batch of validations has one span. A call that the
            client itself repeats has one span for each attempt. gRPC's own retries and watches have
            no span. Tracing needs the extra `tracing` of this package.

    Each method that calls the service may also raise exceptions that its docstring does not name:
    Unavailable, Overloaded, InvalidRequest, Conflict, CallerUnknown, CallerNotAllowed and
    InternalError. The module `errors` describes these exceptions. An argument of a wrong type
    raises TypeError. A timeout that is not more than zero raises ValueError.
    """

    def __init__(
        self,
        target: str,
        *,
        tls: Tls | None = None,
        token: str | Callable[[], str] | None = None,
        timeout: timedelta = DEFAULT_TIMEOUT,
        options: Sequence[tuple[str, Any]] = (),
        batching: bool = True,
        cache: NearCache | None = None,
        max_in_flight: int = MAX_IN_FLIGHT,
        metrics: Recorder | None = None,
        tracing: bool = False,
    ) -> None:
        self._transport = Transport(target, tls, token, options)
        if cache is not None:
            cache.claim()
        batching = arguments.flag("batching", batching)
        self._timeout = arguments.seconds("timeout", timeout)
        tracer = Tracer(target) if arguments.flag("tracing", tracing) else None
        self._calls = AsyncCalls(
            self._open_channel, self._transport, max_in_flight, metrics, tracer
        )
        self._batch_queue = AsyncBatchQueue(self._calls, batching=batching)
        self._cache = cache
        self.endings = AsyncEndings(self._calls, cache)
        if cache is not None:
            if metrics is not None:
                metrics.cache(cache)
            self._coalescer = AsyncCoalescer(cache, self._batch_queue)
            self._cache_watch = AsyncWatch(
                cache, self.endings.sessions, self._transport, self._open_channel
            )

    def _open_channel(self) -> grpc.aio.Channel:
        target, tls = self._transport.target, self._transport.tls
        channel_options = self._transport.channel_options()
        if tls is None:
            return grpc.aio.insecure_channel(target, channel_options)
        return grpc.aio.secure_channel(target, tls.credentials(), channel_options)

    async def __aenter__(self) -> AsyncSessionAuthority:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection. Calls and watches under way end with `Unavailable`. A call of a
        closed client also raises `Unavailable`.
        """
        await self._calls.close()
        await self._batch_queue.close()
        await self.endings.close()
        if self._cache is not None:
            await self._coalescer.close()
            await self._cache_watch.close()

    @property
    def timeout(self) -> timedelta:
        """The default timeout of a call with all its retries."""
        return timedelta(seconds=self._timeout)

    async def _call(self, method: str, request: Message, timeout: timedelta | None) -> Any:
        return await self._calls.make(method, request, self._seconds(timeout))

    def _seconds(self, timeout: timedelta | None) -> float:
        return self._timeout if timeout is None else arguments.seconds("timeout", timeout)

    def _forget(self, user_id: str) -> None:
        """Drops the cached answers about a user, and plans checks of the user's sessions that have
        open connections. Call this method after this client has changed sessions of the user, or
        has tried to change them. So the next validation of this client sees the change, even before
        the watch brings the event of the change.
        """
        if self._cache is not None:
            self._cache.forget_user(user_id)
        self.endings.sessions.doubt(user_id)

    # --- signing in -------------------------------------------------------------------------------

    async def issue_device(
        self,
        user_id: str,
        *,
        device_id: str = "",
        client: ClientInfo | None = None,
        claims: Mapping[str, str] | None = None,
        auth_methods: Sequence[str] = (),
        session_ttl: timedelta | None = None,
        idle_timeout: timedelta | None = None,
        request_id: str | None = None,
        require_replicated: bool = False,
        timeout: timedelta | None = None,
    ) -> IssuedDevice:
        """Signs a user in on a device. If the device ID is empty or malformed, the service assigns
        a new device ID.

        Args:
            user_id: The user, who has just proven their identity.
            device_id: The device ID that the browser or app presented.
            client: Facts about the browser or app, which the service only displays.
            claims: Facts about the user, which the service puts into the session's tokens. A
                validation returns the claims of the token that it validates.
            auth_methods: How the user proved their identity, such as "pwd".
            session_ttl: How long the session may last at most, even if it is used. Default: the
                service's own maximum.
            idle_timeout: How long the session may last unused. The maximum and the default are the
                service's own idle timeout. The minimum is one minute or twice the service's
                TOUCH_INTERVAL, whichever is longer. The service rounds the value down to whole
                minutes, and above 2 hours to longer steps.
            request_id: A UUID. Two calls with the same `request_id` within 15 minutes make one
                sign-in. Pass your own ID to continue a sign-in that a crash interrupted. If you
                pass no ID, the client makes an ID, so that retries after a lost response are also
                safe.
            require_replicated: If True, the call raises NotReplicated if too few replicas confirm
                the change in time. A service that is not configured to wait for replicas refuses
                the call.
            timeout: The timeout of this call. Default: the client's own timeout.

        Raises InvalidRequest, DeviceLimitReached, RequestIdReused, RequestIdSpent, Conflict or
        NotReplicated, as the module `errors` describes.
        """
        request = pb.IssueDeviceRequest(
            user_id=arguments.text("user_id", user_id),
            device_id=arguments.presented("device_id", device_id),
            client=convert.client_message(client),
            claims=arguments.claims(claims),
            auth_methods=arguments.texts("auth_methods", auth_methods),
            request_id=arguments.text("request_id", request_id or str(uuid4())),
            require_replicated=arguments.flag("require_replicated", require_replicated),
        )
        if session_ttl is not None:
            request.session_ttl.FromTimedelta(arguments.duration("session_ttl", session_ttl))
        if idle_timeout is not None:
            request.idle_timeout.FromTimedelta(arguments.duration("idle_timeout", idle_timeout))
        try:
            return convert.issued_device(await self._call("IssueDevice", request, timeout))
        finally:
            self._forget(user_id)

    async def renew_session(
        self,
        access_token: str,
        device_id: str,
        *,
        client: ClientInfo | None = None,
        passive: bool = False,
        require_replicated: bool = False,
        timeout: timedelta | None = None,
    ) -> Renewal:
        """Exchanges a token for the next token of its session. Call this method when a validation
        has returned `renew_recommended`, or when the token has expired.

        Args:
            access_token: The token that the browser or app presented.
            device_id: The device ID that the browser or app presented.
            client: Facts about the browser or app, which the service only displays.
            passive: If True, the renewal does not count as a use of the session. `validate_session`
                explains when to use `passive`.
            require_replicated: If True, the call raises NotReplicated if too few replicas confirm
                the change in time. A service that is not configured to wait for replicas refuses
                the call.
            timeout: The timeout of this call. Default: the client's own timeout.

        Raises InvalidRequest, Conflict or NotReplicated, as the module `errors` describes.
        """
        request = pb.RenewSessionRequest(
            access_token=arguments.presented("access_token", access_token),
            device_id=arguments.presented("device_id", device_id),
            client=convert.client_message(client),
            passive=arguments.flag("passive", passive),
            require_replicated=arguments.flag("require_replicated", require_replicated),
        )
        try:
            return convert.renewal(await self._call("RenewSession", request, timeout))
        finally:
            if self._cache is not None:
                self._cache.discard(access_token, device_id)

    async def update_session(
        self,
        user_id: str,
        claims: Mapping[str, str],
        *,
        device_id: str = "",
        require_replicated: bool = False,
        timeout: timedelta | None = None,
    ) -> int:
        """Changes the claims of live sessions, such as an e-mail address. Returns how many live
        sessions have the new claims now.

        Each session gets a token with the new claims at its next renewal. Until this renewal,
        validations of the session recommend a renewal, and return the old claims. Claims never
        grant permissions.

        Args:
            user_id: The user.
            claims: All claims that the sessions have after this call. A claim that is not in
                `claims` is removed.
            device_id: The device whose session is changed. If `device_id` is empty, the user's
                sessions on all devices are changed.
            require_replicated: If True, the call raises NotReplicated if too few replicas confirm
                the change in time. A service that is not configured to wait for replicas refuses
                the call.
            timeout: The timeout of this call. Default: the client's own timeout.

        Raises SessionNotFound if `device_id` is not empty and the user is not signed in on the
        device. Raises InvalidRequest, Conflict or NotReplicated, as the module `errors` describes.
        """
        request = pb.UpdateSessionRequest(
            user_id=arguments.text("user_id", user_id),
            device_id=arguments.text("device_id", device_id),
            claims=arguments.claims(claims),
            require_replicated=arguments.flag("require_replicated", require_replicated),
        )
        try:
            updated: int = (await self._call("UpdateSession", request, timeout)).updated_sessions
        finally:
            self._forget(user_id)
        return updated

    # --- validating -------------------------------------------------------------------------------

    async def validate_session(
        self,
        access_token: str,
        device_id: str,
        *,
        client: ClientInfo | None = None,
        observe_only: bool = False,
        passive: bool = False,
        timeout: timedelta | None = None,
    ) -> Validation:
        """Checks whether a token is valid for its user, session and device. The answer is current,
        or comes from the near cache.

        Args:
            access_token: The token that the browser or app presented.
            device_id: The device ID that the browser or app presented.
            client: Facts about the browser or app, which the service only displays.
            observe_only: If True, the validation changes nothing in the service, and does not use
                the near cache. `observe_only` is for operators.
            passive: True if the page sent the request by itself, without an action of the end user.
                A passive validation does not count as a use of the session. The near cache does not
                answer a passive validation, because the cached answer may have an old idle end. The
                near cache also does not store the answer to a passive validation. If the near cache
                stored the answer, a later request of the end user could get the answer from the
                near cache. The service would not count that later request as a use.
            timeout: The timeout of this call. Default: the client's own timeout.
        """
        cache = None if observe_only or passive else self._cache
        if cache is not None:
            found = cache.get(access_token, device_id)
            if found is not None:
                return found
        request = pb.ValidateSessionRequest(
            access_token=arguments.presented("access_token", access_token),
            device_id=arguments.presented("device_id", device_id),
            client=convert.client_message(client),
            observe_only=arguments.flag("observe_only", observe_only),
            passive=arguments.flag("passive", passive),
        )
        seconds = self._seconds(timeout)
        if cache is None:
            return convert.validation(await self._batch_queue.validate(request, seconds))
        self._cache_watch.start()
        return await self._coalescer.validate(request, seconds)

    async def validate_sessions(
        self,
        presented: Sequence[tuple[str, str]],
        *,
        timeout: timedelta | None = None,
    ) -> list[Validation | SessionAuthorityError]:
        """Validates 1 to 500 pairs of access token and device ID at once. Returns the answers in
        the order of the pairs.

        A malformed token or device ID is not an error: the answer has a status such as
        TOKEN_INVALID or NO_SESSION. If the service can't validate a pair, for example because Redis
        does not answer, only this pair fails: the answer at the index of the pair is a
        SessionAuthorityError. No answer comes from the near cache.

        Raises InvalidRequest if there is no pair, or if there are more than 500 pairs.
        """
        pairs = arguments.pairs("presented", presented)
        request = pb.BatchValidateSessionsRequest(
            requests=[
                pb.ValidateSessionRequest(access_token=token, device_id=device)
                for token, device in pairs
            ]
        )
        answer = await self._call("BatchValidateSessions", request, timeout)
        return [
            convert.validation(result.response)
            if result.HasField("response")
            else error_of_item(result.error)
            for result in answer.results
        ]

    async def check_sessions(
        self, sessions: Sequence[SessionName], *, timeout: timedelta | None = None
    ) -> list[SessionState | SessionAuthorityError]:
        """Checks whether 1 to 500 sessions still live. This method is for connections that stay
        open after their token has expired. A check does not count as a use of a session. Returns
        the answers in the order of `sessions`.

        Don't use this method to admit a request, because this method checks no token. If the
        service can't find out whether a session lives, the answer at the index of the session is a
        SessionAuthorityError. The answer is also a SessionAuthorityError if the name of the session
        is malformed. If the service is too old for this call, the method raises a plain
        SessionAuthorityError with the code UNIMPLEMENTED.

        Raises InvalidRequest if there is no session, or if there are more than 500 sessions.
        """
        request = pb.CheckSessionsRequest(sessions=arguments.session_names("sessions", sessions))
        answer = await self._call("CheckSessions", request, timeout)
        return [
            convert.session_state(result.state)
            if result.HasField("state")
            else error_of_item(result.error)
            for result in answer.results
        ]

    # --- devices ----------------------------------------------------------------------------------

    async def list_devices(
        self,
        user_id: str,
        *,
        current_device_id: str = "",
        include_signed_out: bool = False,
        page_size: int = 0,
        page_token: str = "",
        timeout: timedelta | None = None,
    ) -> DevicePage:
        """Returns one page of a user's devices. The method `devices` returns all devices.

        Args:
            user_id: The user.
            current_device_id: The device that sent the request, which is marked as `current` in the
                result.
            include_signed_out: If True, also lists devices on which the user is signed out.
            page_size: The maximum number of devices on the page, up to 1,000. Zero means 50. A page
                with fewer devices is not always the last page: the `next_page_token` of the last
                page is empty.
            page_token: The `next_page_token` of the previous page, or empty for the first page.
            timeout: The timeout of this call. Default: the client's own timeout.
        """
        request = pb.ListDevicesRequest(
            user_id=arguments.text("user_id", user_id),
            current_device_id=arguments.presented("current_device_id", current_device_id),
            include_signed_out=arguments.flag("include_signed_out", include_signed_out),
            page_size=arguments.whole("page_size", page_size),
            page_token=arguments.text("page_token", page_token),
        )
        return convert.device_page(await self._call("ListDevices", request, timeout))

    async def devices(
        self,
        user_id: str,
        *,
        current_device_id: str = "",
        include_signed_out: bool = False,
        page_size: int = 0,
    ) -> AsyncIterator[Device]:
        """Yields all devices of a user, for a page such as "My devices". The device with the newest
        activity is first. A device that becomes active during the iteration may be left out.

        Args:
            user_id: The user.
            current_device_id: The device that sent the request, which is marked as `current` in the
                result.
            include_signed_out: If True, also yields devices on which the user is signed out.
            page_size: The maximum number of devices that one call to the service returns, up to
                1,000. Zero means 50.
        """
        token = ""
        while True:
            page = await self.list_devices(
                user_id,
                current_device_id=current_device_id,
                include_signed_out=include_signed_out,
                page_size=page_size,
                page_token=token,
            )
            for device in page.devices:
                yield device
            token = page.next_page_token
            if not token:
                return

    async def update_device(
        self,
        user_id: str,
        device_id: str,
        *,
        display_name: str,
        require_replicated: bool = False,
        timeout: timedelta | None = None,
    ) -> Device:
        """Changes the name of a device. Returns the device.

        Args:
            user_id: The user.
            device_id: The device.
            display_name: The new name. An empty text removes the name.
            require_replicated: If True, the call raises NotReplicated if too few replicas confirm
                the change in time. A service that is not configured to wait for replicas refuses
                the call.
            timeout: The timeout of this call. Default: the client's own timeout.

        Raises DeviceNotFound, InvalidRequest, Conflict or NotReplicated, as the module `errors`
        describes.
        """
        request = pb.UpdateDeviceRequest(
            user_id=arguments.text("user_id", user_id),
            device_id=arguments.text("device_id", device_id),
            display_name=arguments.text("display_name", display_name),
            require_replicated=arguments.flag("require_replicated", require_replicated),
        )
        return convert.device((await self._call("UpdateDevice", request, timeout)).device)

    async def revoke_device(
        self,
        user_id: str,
        device_id: str,
        *,
        reason: str = "",
        forget: bool = False,
        require_replicated: bool = False,
        timeout: timedelta | None = None,
    ) -> bool:
        """Signs a user out on a device. Returns True if the user was signed in on the device.

        Args:
            user_id: The user.
            device_id: The device.
            reason: The reason for the sign-out, which the event of the sign-out contains.
            forget: If True, also removes the device from the user's list of devices.
            require_replicated: If True, the call raises NotReplicated if too few replicas confirm
                the change in time. A service that is not configured to wait for replicas refuses
                the call.
            timeout: The timeout of this call. Default: the client's own timeout.
        """
        request = pb.RevokeDeviceRequest(
            user_id=arguments.text("user_id", user_id),
            device_id=arguments.text("device_id", device_id),
            reason=arguments.text("reason", reason),
            forget=arguments.flag("forget", forget),
            require_replicated=arguments.flag("require_replicated", require_replicated),
        )
        try:
            revoked: bool = (await self._call("RevokeDevice", request, timeout)).revoked
        finally:
            self._forget(user_id)
        return revoked

    async def revoke_all(
        self,
        user_id: str,
        *,
        except_device_id: str = "",
        reason: str = "",
        forget: bool = False,
        require_replicated: bool = False,
        timeout: timedelta | None = None,
    ) -> int:
        """Signs a user out on all devices. Returns the number of devices on which this call signed
        the user out.

        Args:
            user_id: The user.
            except_device_id: The one device on which the user stays signed in, or empty.
            reason: The reason for the sign-out, which the event of the sign-out contains.
            forget: If True, also removes the devices from the user's list of devices.
            require_replicated: If True, the call raises NotReplicated if too few replicas confirm
                the change in time. A service that is not configured to wait for replicas refuses
                the call.
            timeout: The timeout of this call. Default: the client's own timeout.
        """
        request = pb.RevokeAllRequest(
            user_id=arguments.text("user_id", user_id),
            except_device_id=arguments.text("except_device_id", except_device_id),
            reason=arguments.text("reason", reason),
            forget=arguments.flag("forget", forget),
            require_replicated=arguments.flag("require_replicated", require_replicated),
        )
        try:
            revoked: int = (await self._call("RevokeAll", request, timeout)).revoked_devices
        finally:
            self._forget(user_id)
        return revoked

    # --- keys and events --------------------------------------------------------------------------

    async def get_signing_keys(self, *, timeout: timedelta | None = None) -> SigningKeys:
        """Returns the public keys with which other programs can verify the signatures of tokens. A
        token with a correct signature may still belong to a session that has ended.
        """
        return convert.signing_keys(
            await self._call("GetSigningKeys", pb.GetSigningKeysRequest(), timeout)
        )

    async def watch_events(
        self,
        *,
        cursor: str = "",
        since: datetime | None = None,
        types: Sequence[EventType] = (),
        user_ids: Sequence[str] = (),
    ) -> AsyncIterator[EventBatch]:
        """Yields batches of events about sessions, until the service or a broken connection ends
        the watch.

        The first batch comes at once. After `Unavailable`, start another watch with the cursor of
        the last batch. Each watch counts as a call on its connection. The service's setting
        MAX_PER_CONNECTION limits the calls on one connection.

        Args:
            cursor: The watch starts after the batch that had this cursor.
            since: The watch starts at this time, which must have a time zone. Pass `since` if you
                have no cursor.
            types: The watch yields only events of these types. If `types` is empty, the watch
                yields events of all types.
            user_ids: The watch yields only events of these users, and events that concern all
                users. If `user_ids` is empty, the watch yields the events of all users.

        Raises CursorExpired if the service no longer stores all events after `cursor` or `since`.
        Raises InvalidRequest for a malformed cursor, for a cursor together with `since`, and for a
        `since` before 1970. Also raises InvalidRequest for the type UNSPECIFIED, for a malformed
        user ID, and for more than 1,000 user IDs.
        """
        request = pb.WatchEventsRequest(
            cursor=arguments.text("cursor", cursor),
            types=convert.event_types(arguments.members("types", EventType, types)),
            user_ids=arguments.texts("user_ids", user_ids),
        )
        if since is not None:
            request.start_time.FromDatetime(arguments.aware("since", since))
        async with aclosing(self._calls.watch(request)) as messages:
            async for message in messages:
                yield convert.event_batch(message)
