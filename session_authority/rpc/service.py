"""Implements the methods of the gRPC service. Most methods decode the request, call the
`Authority`, and encode the answer. WatchEvents instead sends events from the `Feed`.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from typing import Any

import grpc

from session_authority.authority import Authority
from session_authority.domain.durability import Confirmations, confirmations
from session_authority.domain.errors import CallerNotAllowed
from session_authority.domain.fields import FieldChecks
from session_authority.domain.requests import AsPresented, Presented
from session_authority.domain.results import Validation
from session_authority.events import Feed
from session_authority.rpc import batch_results, messages
from session_authority.rpc.auditing import Auditor
from session_authority.rpc.authorization import caller
from session_authority.rpc.status import failure_of
from session_authority.rpc.streams import Stream
from session_authority.v1 import session_authority_pb2 as pb
from session_authority.v1 import session_authority_pb2_grpc as pb_grpc

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["SessionAuthorityService"].full_name
# Batches are processed in groups of this many items, and other calls can run between two groups.
# Verifying the signatures of a whole batch at once would block the event loop for too long.
_BATCH_ITEMS_AT_ONCE = 64

Context = grpc.aio.ServicerContext[Any, Any]
_Mutation = (
    pb.IssueDeviceRequest
    | pb.RenewSessionRequest
    | pb.UpdateSessionRequest
    | pb.UpdateDeviceRequest
    | pb.RevokeDeviceRequest
    | pb.RevokeAllRequest
)


class SessionAuthorityService(pb_grpc.SessionAuthorityServiceServicer):
    """Implements the contract. `session_authority.proto` says what each method promises."""

    def __init__(self, authority: Authority, feed: Feed, auditor: Auditor | None = None) -> None:
        self._authority = authority
        self._feed = feed
        self._auditor = auditor or Auditor()

    async def IssueDevice(
        self, request: pb.IssueDeviceRequest, context: Context
    ) -> pb.IssueDeviceResponse:
        sign_in = messages.sign_in_request(request, self._authority.limits)
        with self._confirmations(request) as confirmed:
            issued = await self._authority.issue_device(sign_in, caller().name)
        return messages.issue_device_response(issued, confirmed.durability)

    def _confirmations(self, request: _Mutation) -> AbstractContextManager[Confirmations]:
        return confirmations(
            required=request.require_replicated, offered=self._authority.waits_for_replicas
        )

    async def RenewSession(
        self, request: pb.RenewSessionRequest, context: Context
    ) -> pb.RenewSessionResponse:
        presented = messages.presented(request, caller().name)
        with self._confirmations(request) as confirmed:
            renewed = await self._authority.renew_session(presented)
        return messages.renew_session_response(renewed, confirmed.durability)

    async def UpdateSession(
        self, request: pb.UpdateSessionRequest, context: Context
    ) -> pb.UpdateSessionResponse:
        checks = FieldChecks()
        user_id = checks.user_id(request.user_id)
        device_id = checks.optional_device_id(request.device_id, "device_id")
        claims = checks.claims(request.claims)
        checks.done()
        with self._confirmations(request) as confirmed:
            updated = await self._authority.update_session(
                user_id, device_id, claims, caller().name
            )
        durability = messages.DURABILITY[confirmed.durability]
        return pb.UpdateSessionResponse(updated_sessions=updated, durability=durability)

    async def ValidateSession(self, request: pb.ValidateSessionRequest, context: Context) -> bytes:
        asked = messages.as_presented(request)
        kept = await self._authority.kept_answer(asked)
        return kept or await self._validate(request, asked, context)

    async def BatchValidateSessions(
        self, request: pb.BatchValidateSessionsRequest, context: Context
    ) -> bytes:
        checks = FieldChecks()
        checks.batch(len(request.requests))
        checks.done()
        asked = list(map(messages.as_presented, request.requests))
        kept = await self._authority.kept_answers(asked)
        results = [b"" if answer is None else batch_results.result_of(answer) for answer in kept]
        rest = [number for number, answer in enumerate(kept) if answer is None]
        for start in range(0, len(rest), _BATCH_ITEMS_AT_ONCE):
            stride = rest[start : start + _BATCH_ITEMS_AT_ONCE]
            judged = (
                self._validate_one_of_batch(request.requests[number], asked[number], context)
                for number in stride
            )
            for number, result in zip(stride, await asyncio.gather(*judged), strict=True):
                results[number] = result
        return b"".join(results)

    async def _validate(
        self, request: pb.ValidateSessionRequest, asked: AsPresented, context: Context
    ) -> bytes:
        presented = messages.presented(request, caller().name)
        if request.observe_only:
            validation = await self._observe(presented, context)
        else:
            validation = await self._authority.validate_session(presented)
        answer = messages.validate_session_response(validation).SerializeToString()
        self._authority.keep_answer(asked, validation, answer)
        return answer

    async def _observe(self, presented: Presented, context: Context) -> Validation:
        """Validates a token for a request with `observe_only`. The validation changes no record,
        and is written to the audit log. Raises CallerNotAllowed if the caller may not use
        `observe_only`.
        """
        user_id, status, code = "", "", grpc.StatusCode.PERMISSION_DENIED
        try:
            if not caller().may_observe:
                raise CallerNotAllowed("ask with observe_only")
            code = grpc.StatusCode.UNAVAILABLE
            validation = await self._authority.validate_session(presented, observe_only=True)
            user_id = validation.session.token.user_id if validation.session is not None else ""
            status, code = validation.status.name, grpc.StatusCode.OK
        finally:
            self._auditor.looked(context, user_id, code, status)
        return validation

    async def _validate_one_of_batch(
        self, request: pb.ValidateSessionRequest, asked: AsPresented, context: Context
    ) -> bytes:
        try:
            return batch_results.answered(await self._validate(request, asked, context))
        except Exception as error:  # noqa: BLE001 - one error must not fail other items
            return batch_results.failed(error)

    async def CheckSessions(
        self, request: pb.CheckSessionsRequest, context: Context
    ) -> pb.CheckSessionsResponse:
        checks = FieldChecks()
        checks.batch(len(request.sessions), "sessions")
        checks.done()
        results: list[pb.CheckSessionsResult] = []
        for start in range(0, len(request.sessions), _BATCH_ITEMS_AT_ONCE):
            stride = request.sessions[start : start + _BATCH_ITEMS_AT_ONCE]
            results += await asyncio.gather(*map(self._check_one, stride))
        return pb.CheckSessionsResponse(results=results)

    async def _check_one(self, message: pb.SessionName) -> pb.CheckSessionsResult:
        try:
            state = await self._authority.check_session(messages.session_name(message))
            return pb.CheckSessionsResult(state=messages.session_state(state))
        except Exception as error:  # noqa: BLE001 - one error must not fail other items
            failure = failure_of(error, "CheckSessions")
        return pb.CheckSessionsResult(error=failure.message_of_batch())

    async def ListDevices(
        self, request: pb.ListDevicesRequest, context: Context
    ) -> pb.ListDevicesResponse:
        checks = FieldChecks()
        user_id = checks.user_id(request.user_id)
        current = checks.optional_device_id(request.current_device_id, "current_device_id")
        page_size = checks.page_size(request.page_size)
        checks.done()
        page = await self._authority.list_devices(
            user_id,
            current_device_id=current,
            include_signed_out=request.include_signed_out,
            page_size=page_size,
            page_token=request.page_token,
        )
        return pb.ListDevicesResponse(
            devices=map(messages.device_message, page.devices),
            next_page_token=page.next_page_token,
            total_size=page.total_size,
        )

    async def UpdateDevice(
        self, request: pb.UpdateDeviceRequest, context: Context
    ) -> pb.UpdateDeviceResponse:
        checks = FieldChecks()
        user_id = checks.user_id(request.user_id)
        device_id = checks.device_id(request.device_id)
        display_name = checks.display_name(request.display_name)
        checks.done()
        with self._confirmations(request) as confirmed:
            device = await self._authority.update_device(user_id, device_id, display_name)
        return pb.UpdateDeviceResponse(
            device=messages.device_message(device),
            durability=messages.DURABILITY[confirmed.durability],
        )

    async def RevokeDevice(
        self, request: pb.RevokeDeviceRequest, context: Context
    ) -> pb.RevokeDeviceResponse:
        checks = FieldChecks()
        user_id = checks.user_id(request.user_id)
        device_id = checks.device_id(request.device_id)
        reason = checks.reason(request.reason)
        checks.done()
        with self._confirmations(request) as confirmed:
            revoked = await self._authority.revoke_device(
                user_id, device_id, reason=reason, forget=request.forget, actor=caller().name
            )
        durability = messages.DURABILITY[confirmed.durability]
        return pb.RevokeDeviceResponse(revoked=revoked, durability=durability)

    async def RevokeAll(
        self, request: pb.RevokeAllRequest, context: Context
    ) -> pb.RevokeAllResponse:
        checks = FieldChecks()
        user_id = checks.user_id(request.user_id)
        kept = checks.optional_device_id(request.except_device_id, "except_device_id")
        reason = checks.reason(request.reason)
        checks.done()
        with self._confirmations(request) as confirmed:
            revoked = await self._authority.revoke_all(
                user_id,
                except_device_id=kept,
                reason=reason,
                forget=request.forget,
                actor=caller().name,
            )
        durability = messages.DURABILITY[confirmed.durability]
        return pb.RevokeAllResponse(revoked_devices=revoked, durability=durability)

    async def GetSigningKeys(
        self, request: pb.GetSigningKeysRequest, context: Context
    ) -> pb.GetSigningKeysResponse:
        return messages.signing_keys_response(self._authority.signing_keys())

    async def WatchEvents(self, request: pb.WatchEventsRequest, context: Stream) -> None:
        since, only = messages.watch_request(request)
        self._auditor.watched(context.context, request.user_ids)
        await self._feed.watch(since, only, context.write)
