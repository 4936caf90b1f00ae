"""The client: one method for each RPC, typed, with a deadline. Whatever fails raises a
`SessionAuthorityError`.
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
from session_authority_client._async.watching import AsyncWatch
from session_authority_client._shared import arguments, convert
from session_authority_client._shared.failures import error_of_item
from session_authority_client._shared.limiter import MAX_IN_FLIGHT
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
    SigningKeys,
    Validation,
)
from session_authority_client.wire import session_authority_pb2 as pb


class AsyncSessionAuthority:
    """Asks one Session Authority. Close it, or use it as a context manager.

    `target` is `host:port`, or `dns:///host:port` to spread over all addresses of a name. `token`
    is this caller's bearer token, or returns it. `timeout` is what each call may take unless it
    says otherwise, retries included. For one event loop.

    `batching`: validations that come while others are under way go together after them. `cache`:
    validations are answered in this process as long as they certainly hold; CACHE.md says how stale
    they can be.

    `max_in_flight` is how many calls may be under way at once, a batch being one; what is more
    waits its turn, which counts against its timeout, and is `Unavailable` if that does not come. It
    is for one connection, to one server, and must stay below what the service lets one have (its
    MAX_PER_CONNECTION, 100), with some room: watches that are read here count there.
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
    ) -> None:
        self._transport = Transport(target, tls, token, options)
        if cache is not None:
            cache.take()
        self._timeout = arguments.seconds("timeout", timeout)
        self._calls = AsyncCalls(self._open_channel, self._transport, max_in_flight)
        self._batch_queue = AsyncBatchQueue(self._calls, batching=batching)
        self._cache = cache
        if cache is not None:
            self._coalescer = AsyncCoalescer(cache, self._batch_queue)
            self._cache_watch = AsyncWatch(cache, self._transport, self._open_channel)

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
        """Hangs up. Calls and watches under way end with `Unavailable`, as does every call from now
        on.
        """
        await self._calls.close()
        await self._batch_queue.close()
        if self._cache is not None:
            await self._coalescer.close()
            await self._cache_watch.close()

    async def _call(self, method: str, request: Message, timeout: timedelta | None) -> Any:
        return await self._calls.make(method, request, self._seconds(timeout))

    def _seconds(self, timeout: timedelta | None) -> float:
        return self._timeout if timeout is None else arguments.seconds("timeout", timeout)

    def _forget(self, user_id: str) -> None:
        """Whatever came of a change of this client's, its next validation asks: it need not wait
        for the event.
        """
        if self._cache is not None:
            self._cache.forget_user(user_id)

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
        request_id: str | None = None,
        timeout: timedelta | None = None,
    ) -> IssuedDevice:
        """Signs a user in on a device, whose ID may be empty or nonsense: then a fresh one is
        assigned.

        A `request_id` is made if none is given, so that a retry after a lost reply signs in once.
        Give your own to go on with a sign-in that a crash of yours interrupted. Raises
        InvalidRequest, DeviceLimitReached, RequestIdReused, RequestIdSpent.
        """
        request = pb.IssueDeviceRequest(
            user_id=arguments.text("user_id", user_id),
            device_id=arguments.presented("device_id", device_id),
            client=convert.client_message(client),
            claims=arguments.claims(claims),
            auth_methods=arguments.texts("auth_methods", auth_methods),
            request_id=arguments.text("request_id", request_id or str(uuid4())),
        )
        if session_ttl is not None:
            request.session_ttl.FromTimedelta(arguments.duration("session_ttl", session_ttl))
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
        timeout: timedelta | None = None,
    ) -> Renewal:
        """Swaps a token for the next one, when `renew_recommended` says so or when it has
        expired.
        """
        request = pb.RenewSessionRequest(
            access_token=arguments.presented("access_token", access_token),
            device_id=arguments.presented("device_id", device_id),
            client=convert.client_message(client),
        )
        try:
            return convert.renewal(await self._call("RenewSession", request, timeout))
        finally:
            if self._cache is not None:
                self._cache.discard(access_token, device_id)

    # --- validating -------------------------------------------------------------------------------

    async def validate_session(
        self,
        access_token: str,
        device_id: str,
        *,
        client: ClientInfo | None = None,
        observe_only: bool = False,
        timeout: timedelta | None = None,
    ) -> Validation:
        """Whether (device, user, token) is good: right now, or with a cache as far as it can know.

        `observe_only` changes nothing, and is for operators: it never looks into the cache.
        """
        cache = None if observe_only else self._cache
        if cache is not None:
            found = cache.get(access_token, device_id)
            if found is not None:
                return found
        request = pb.ValidateSessionRequest(
            access_token=arguments.presented("access_token", access_token),
            device_id=arguments.presented("device_id", device_id),
            client=convert.client_message(client),
            observe_only=observe_only,
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
        """The same for up to 500 pairs of access token and device ID at once, in their order.

        What is wrong with one fails that one only: its error is in its place. They never come from
        a cache.
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
        """A page of a user's devices. See `devices` for all of them."""
        request = pb.ListDevicesRequest(
            user_id=arguments.text("user_id", user_id),
            current_device_id=arguments.presented("current_device_id", current_device_id),
            include_signed_out=include_signed_out,
            page_size=page_size,
            page_token=page_token,
        )
        return convert.device_page(await self._call("ListDevices", request, timeout))

    async def devices(
        self, user_id: str, *, current_device_id: str = "", include_signed_out: bool = False
    ) -> AsyncIterator[Device]:
        """All of a user's devices, the newest activity first: "My devices"."""
        token = ""
        while True:
            page = await self.list_devices(
                user_id,
                current_device_id=current_device_id,
                include_signed_out=include_signed_out,
                page_token=token,
            )
            for device in page.devices:
                yield device
            token = page.next_page_token
            if not token:
                return

    async def update_device(
        self, user_id: str, device_id: str, *, display_name: str, timeout: timedelta | None = None
    ) -> Device:
        """Gives a device a name, or with an empty one takes it away. Raises DeviceNotFound."""
        request = pb.UpdateDeviceRequest(
            user_id=arguments.text("user_id", user_id),
            device_id=arguments.text("device_id", device_id),
            display_name=arguments.text("display_name", display_name),
        )
        return convert.device((await self._call("UpdateDevice", request, timeout)).device)

    async def revoke_device(
        self,
        user_id: str,
        device_id: str,
        *,
        reason: str = "",
        forget: bool = False,
        timeout: timedelta | None = None,
    ) -> bool:
        """Signs a user out on a device; whether they were signed in there. `forget` drops the
        device from the list too.
        """
        request = pb.RevokeDeviceRequest(
            user_id=arguments.text("user_id", user_id),
            device_id=arguments.text("device_id", device_id),
            reason=arguments.text("reason", reason),
            forget=forget,
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
        timeout: timedelta | None = None,
    ) -> int:
        """Signs a user out everywhere, or everywhere else; on how many devices they were signed
        in.
        """
        request = pb.RevokeAllRequest(
            user_id=arguments.text("user_id", user_id),
            except_device_id=arguments.text("except_device_id", except_device_id),
            reason=arguments.text("reason", reason),
            forget=forget,
        )
        try:
            revoked: int = (await self._call("RevokeAll", request, timeout)).revoked_devices
        finally:
            self._forget(user_id)
        return revoked

    # --- keys and events --------------------------------------------------------------------------

    async def get_signing_keys(self, *, timeout: timedelta | None = None) -> SigningKeys:
        """The public keys, for verifying tokens elsewhere. That says nothing of whether their
        sessions are still good.
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
        """What happens, from a cursor, from a moment, or from now on, until the service or the
        connection ends it.

        `since` must be aware, and is for whoever has no cursor. The first batch comes at once. Keep
        the cursor of the last one, and go on from it after `Unavailable`. Raises CursorExpired if
        that can't be done without missing events. Each watch holds one of the places that the
        service lets a connection have.
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
