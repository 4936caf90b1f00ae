"""Decodes requests into checked values of the domain, and encodes results of the domain as answers.
The module `events.messages` encodes events.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, cast

from google.protobuf.duration_pb2 import Duration

from session_authority.domain.appearances.appearance import appearance
from session_authority.domain.appearances.hints import (
    MAX_READ_ITEMS,
    Brand,
    ClientHints,
    clean_hints,
)
from session_authority.domain.clients import NO_CLIENT, Client
from session_authority.domain.devices import ListedDevice
from session_authority.domain.durability import Durability
from session_authority.domain.events import EventFilter
from session_authority.domain.fields import FieldChecks
from session_authority.domain.identifiers import parse_uuid
from session_authority.domain.places import shown_place
from session_authority.domain.requests import AsPresented, Presented, SessionName, SignInRequest
from session_authority.domain.results import (
    ActiveSession,
    IssuedDevice,
    RenewedSession,
    SessionState,
    Validation,
)
from session_authority.domain.session_limits import SessionLimits
from session_authority.domain.verdicts import SessionStatus
from session_authority.events.messages import (
    EVENT_TYPES,
    FORM_FACTORS,
    alarm_message,
    client_info_message,
    timestamp,
)
from session_authority.v1 import session_authority_pb2 as pb

# Maps each status of the domain to the status with the same name in the contract.
_STATUS = {
    status: cast("pb.SessionStatus", pb.SessionStatus.Value(f"SESSION_STATUS_{status.name}"))
    for status in SessionStatus
}

# The key None is for a call that wrote nothing.
DURABILITY = {
    None: pb.DURABILITY_UNSPECIFIED,
    Durability.LOCAL: pb.DURABILITY_LOCAL,
    Durability.REPLICATED: pb.DURABILITY_REPLICATED,
}


# The limit of the size of client hints that are cached. The client hints of a browser are about 200
# bytes long.
_MAX_REMEMBERED_BYTES = 1024


def presented(message: pb.ValidateSessionRequest | pb.RenewSessionRequest, actor: str) -> Presented:
    """Returns what a request presented: the token, the device ID, the facts of the client, and the
    flag `passive`. The result also has the name of the caller, `actor`. A malformed device ID
    counts as missing.

    Facts of the client that can't be shown are left out, and long texts are cut. So no request
    breaks a rule, and this function raises no InvalidRequest.
    """
    checks = FieldChecks()
    client = _client_of(message.client, checks)
    checks.done()
    return Presented(
        message.access_token, parse_uuid(message.device_id), client, actor, message.passive
    )


def as_presented(message: pb.ValidateSessionRequest) -> AsPresented:
    """Returns the token, the device ID and the flags `passive` and `observe_only` of a request,
    exactly as the caller sent them.
    """
    return AsPresented(
        message.access_token, message.device_id, message.passive, message.observe_only
    )


def _client_of(message: pb.ClientInfo, checks: FieldChecks) -> Client:
    address, agent = message.ip_address, message.user_agent
    name, version = message.display_name, message.app_version
    placed = message.HasField("place")
    if not (address or agent or name or version or placed or message.HasField("client_hints")):
        return NO_CLIENT
    client = checks.client(address, agent, name, version)
    if placed:
        place = shown_place(message.place.city, message.place.country_code)
        client = replace(client, place=place)
    if not message.HasField("client_hints"):
        return client
    return replace(client, hints=_hints_of(message.client_hints))


def _hints_of(message: pb.ClientHints) -> ClientHints:
    # Browsers send the same client hints with each request. The cache saves the cost of cleaning
    # the same hints in each validation.
    raw = message.SerializeToString()
    return _remembered(raw) if len(raw) <= _MAX_REMEMBERED_BYTES else _cleaned(message)


@lru_cache(maxsize=1024)
def _remembered(raw: bytes) -> ClientHints:
    return _cleaned(pb.ClientHints.FromString(raw))


def _cleaned(message: pb.ClientHints) -> ClientHints:
    return clean_hints(
        brands=[Brand(brand.name, brand.version) for brand in message.brands[:MAX_READ_ITEMS]],
        platform=message.platform,
        platform_version=message.platform_version,
        model=message.model,
        mobile=message.mobile if message.HasField("mobile") else None,
        form_factors=message.form_factors[:MAX_READ_ITEMS],
    )


def sign_in_request(message: pb.IssueDeviceRequest, limits: SessionLimits) -> SignInRequest:
    """Returns the checked request for a sign-in. Raises InvalidRequest with all fields that break a
    rule.
    """
    checks = FieldChecks()
    request = SignInRequest(
        user_id=checks.user_id(message.user_id),
        device_id=parse_uuid(message.device_id),
        client=_client_of(message.client, checks),
        claims=checks.claims(message.claims),
        auth_methods=checks.auth_methods(message.auth_methods),
        session_ttl=checks.session_ttl(_asked(message, "session_ttl"), limits.session_ttl),
        request_id=checks.request_id(message.request_id),
        idle_timeout=checks.idle_timeout(
            _asked(message, "idle_timeout"), limits.shortest_idle_timeout, limits.idle_timeout
        ),
    )
    checks.done()
    return request


def _asked(message: pb.IssueDeviceRequest, field: Literal["session_ttl", "idle_timeout"]) -> Any:
    """Returns the duration in an optional field of a sign-in request, or None if the field is
    absent.
    """
    if not message.HasField(field):
        return None
    duration: Duration = getattr(message, field)
    # A timedelta can't hold all durations of the message, so the seconds are limited to 10**9. This
    # limit is far above the longest duration that the checks accept.
    seconds = min(max(duration.seconds, -(10**9)), 10**9)
    return timedelta(seconds=seconds, microseconds=duration.nanos // 1000)


def issue_device_response(
    issued: IssuedDevice, durability: Durability | None
) -> pb.IssueDeviceResponse:
    """Returns the answer to a sign-in."""
    return pb.IssueDeviceResponse(
        device=device_message(issued.device),
        access_token=issued.access_token,
        token_expire_time=timestamp(issued.token_expires_at),
        device_id_assigned=issued.device_id_assigned,
        new_device=issued.new_device,
        evicted_devices=map(device_message, issued.evicted),
        durability=DURABILITY[durability],
    )


def session_message(session: ActiveSession) -> pb.Session:
    """Returns the message for an active session."""
    token = session.token
    return pb.Session(
        user_id=token.user_id,
        device_id=str(session.device_id),
        session_id=token.session_id.hex(),
        generation=token.generation,
        claims=token.claims,
        sign_in_time=timestamp(token.signed_in_at),
        token_expire_time=timestamp(token.expires_at),
        expire_time=timestamp(session.expires_at),
        auth_methods=token.auth_methods,
        absolute_expire_time=timestamp(session.absolute_end),
    )


def validate_session_response(validation: Validation) -> pb.ValidateSessionResponse:
    """Returns the answer to a validation."""
    return pb.ValidateSessionResponse(
        active=validation.status is SessionStatus.ACTIVE,
        status=_STATUS[validation.status],
        device_id=str(validation.device_id),
        device_id_assigned=validation.device_id_assigned,
        session=None if validation.session is None else session_message(validation.session),
        renew_recommended=validation.renew_recommended,
        revoked_devices=validation.revoked_devices,
    )


def renew_session_response(
    renewed: RenewedSession, durability: Durability | None
) -> pb.RenewSessionResponse:
    """Returns the answer to a renewal."""
    response = pb.RenewSessionResponse(
        status=_STATUS[renewed.status],
        revoked_devices=renewed.revoked_devices,
        durability=DURABILITY[durability],
    )
    if renewed.session is not None:
        response.session.CopyFrom(session_message(renewed.session))
        if renewed.access_token is not None:
            response.rotated = True
            response.access_token = renewed.access_token
            response.token_expire_time.CopyFrom(timestamp(renewed.session.token.expires_at))
    return response


def session_name(message: pb.SessionName) -> SessionName:
    """Returns the session that a message identifies. Raises InvalidRequest with all fields that
    break a rule.
    """
    checks = FieldChecks()
    user_id = checks.user_id(message.user_id)
    device_id = checks.device_id(message.device_id)
    session_id = checks.session_id(message.session_id)
    checks.done()
    return SessionName(user_id, device_id, session_id)


def session_state(state: SessionState) -> pb.SessionState:
    """Returns the message for the state of a session."""
    message = pb.SessionState(status=_STATUS[state.status])
    if state.expires_at is not None and state.absolute_end is not None:
        message.expire_time.CopyFrom(timestamp(state.expires_at))
        message.absolute_expire_time.CopyFrom(timestamp(state.absolute_end))
    return message


def device_message(listed: ListedDevice) -> pb.Device:
    """Returns the message for a device. The answers of ListDevices, IssueDevice and UpdateDevice
    contain messages for devices.
    """
    device, session = listed.device, listed.session
    client = device.last_client
    looks = appearance(client)
    return pb.Device(
        device_id=str(device.device_id),
        display_name=device.shown_name(),
        operating_system=looks.operating_system,
        browser=looks.browser,
        form_factor=FORM_FACTORS[looks.form_factor],
        last_client=client_info_message(client),
        session_id="" if session is None else session.session_id.hex(),
        create_time=timestamp(device.first_seen_at),
        sign_in_time=timestamp(device.last_signed_in_at),
        last_seen_time=timestamp(listed.last_seen_at),
        expire_time=None if listed.expires_at is None else timestamp(listed.expires_at),
        current=listed.current,
        signed_in=session is not None,
        model=looks.model,
        city=client.place.city,
        country_code=client.place.country_code,
        auth_methods=listed.auth_methods,
        last_alarm=None if listed.last_alarm is None else alarm_message(listed.last_alarm),
        absolute_expire_time=(
            None if listed.absolute_end is None else timestamp(listed.absolute_end)
        ),
    )


def watch_request(message: pb.WatchEventsRequest) -> tuple[str | datetime | None, EventFilter]:
    """Returns the start of a watch, and the filter for the events of the watch. The start is a
    cursor, a time, or None if the request has neither. None means that the watch starts now.

    Raises InvalidRequest with all fields that break a rule.
    """
    checks = FieldChecks()
    types = [
        checks.event_type(EVENT_TYPES.get(number), f"types[{i}]")
        for i, number in enumerate(message.types)
    ]
    user_ids = checks.user_ids(message.user_ids)
    since: str | datetime | None = message.cursor or None
    if message.HasField("start_time"):
        since = checks.start_time(message.start_time.seconds, has_cursor=bool(message.cursor))
    checks.done()
    return since, EventFilter(frozenset(types), frozenset(user_ids))


def signing_keys_response(jwks: Iterable[dict[str, str]]) -> pb.GetSigningKeysResponse:
    """Returns the answer with the public keys that verify tokens."""
    keys = list(jwks)
    return pb.GetSigningKeysResponse(
        keys=[
            pb.SigningKey(key_id=key["kid"], algorithm=key["alg"], jwk_json=json.dumps(key))
            for key in keys
        ],
        jwks_json=json.dumps({"keys": keys}),
    )
