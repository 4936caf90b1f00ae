"""Decodes requests into checked values and encodes answers: the only place that knows both the wire
and the domain.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import cast

from google.protobuf.timestamp_pb2 import Timestamp

from session_authority.domain.answers import (
    ActiveSession,
    IssuedDevice,
    RenewedSession,
    SignInRequest,
    Validation,
)
from session_authority.domain.clients import Client, FormFactor, appearance
from session_authority.domain.devices import ListedDevice
from session_authority.domain.events import EventFilter, EventType, RecordedEvent
from session_authority.domain.fields import FieldChecks
from session_authority.domain.identifiers import parse_uuid
from session_authority.domain.policy import ReplayAction
from session_authority.domain.sessions import ReplayCause, SessionStatus
from session_authority.v1 import session_authority_pb2 as pb

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_NOBODY = Client()

# The enums of the contract and of the domain have the same names, by which they are tied here once.
_STATUS = {
    status: cast("pb.SessionStatus", pb.SessionStatus.Value(f"SESSION_STATUS_{status.name}"))
    for status in SessionStatus
}
_FORM_FACTOR = {
    factor: cast(
        "pb.FormFactor",
        pb.FormFactor.Value(
            f"FORM_FACTOR_{'UNSPECIFIED' if factor is FormFactor.UNKNOWN else factor.name}"
        ),
    )
    for factor in FormFactor
}
_EVENT_TYPE = {
    kind: cast(
        "pb.EventType",
        pb.EventType.Value(
            f"EVENT_TYPE_{'UNSPECIFIED' if kind is EventType.UNKNOWN else kind.name}"
        ),
    )
    for kind in EventType
}
_EVENT_TYPES = {
    number: kind for kind, number in _EVENT_TYPE.items() if kind is not EventType.UNKNOWN
}
_REPLAY_CAUSE = {
    cause: cast("pb.ReplayCause", pb.ReplayCause.Value(f"REPLAY_CAUSE_{cause.name}"))
    for cause in ReplayCause
}
_REPLAY_ACTION = {
    action: cast("pb.ReplayAction", pb.ReplayAction.Value(f"REPLAY_ACTION_{action.name}"))
    for action in ReplayAction
}


def timestamp(moment: datetime) -> Timestamp:
    """The moment on the wire."""
    since = moment - _EPOCH
    return Timestamp(seconds=since // _SECOND, nanos=since.microseconds * 1000)


def client_of(message: pb.ClientInfo, checks: FieldChecks) -> Client:
    """The client that a request tells of."""
    address, agent = message.ip_address, message.user_agent
    name, version = message.display_name, message.app_version
    if not (address or agent or name or version):
        return _NOBODY
    return checks.client(address, agent, name, version)


def sign_in_request(message: pb.IssueDeviceRequest, longest_session: timedelta) -> SignInRequest:
    """The request, checked. Raises InvalidRequest."""
    checks = FieldChecks()
    ttl = message.session_ttl
    # Out-of-range durations don't fit a timedelta; cut, they break the rule all the same.
    seconds = min(max(ttl.seconds, -(10**9)), 10**9)
    asked = (
        timedelta(seconds=seconds, microseconds=ttl.nanos // 1000)
        if message.HasField("session_ttl")
        else None
    )
    request = SignInRequest(
        user_id=checks.user_id(message.user_id),
        device_id=parse_uuid(message.device_id),
        client=client_of(message.client, checks),
        claims=checks.claims(message.claims),
        auth_methods=checks.auth_methods(message.auth_methods),
        session_ttl=checks.session_ttl(asked, longest_session),
        request_id=checks.request_id(message.request_id),
    )
    checks.done()
    return request


def issue_device_response(issued: IssuedDevice) -> pb.IssueDeviceResponse:
    """The answer to a sign-in."""
    return pb.IssueDeviceResponse(
        device=device_message(issued.device),
        access_token=issued.access_token,
        token_expire_time=timestamp(issued.token_expires),
        device_id_assigned=issued.device_id_assigned,
        new_device=issued.new_device,
        evicted_devices=map(device_message, issued.evicted),
    )


def session_message(session: ActiveSession) -> pb.Session:
    """A good session."""
    token = session.token
    return pb.Session(
        user_id=token.user_id,
        device_id=str(session.device_id),
        session_id=token.session_id.hex(),
        generation=token.generation,
        claims=token.claims,
        sign_in_time=timestamp(token.sign_in),
        token_expire_time=timestamp(token.expires),
        expire_time=timestamp(session.expires),
        auth_methods=token.auth_methods,
    )


def validate_session_response(validation: Validation) -> pb.ValidateSessionResponse:
    """The answer to a validation."""
    return pb.ValidateSessionResponse(
        active=validation.status is SessionStatus.ACTIVE,
        status=_STATUS[validation.status],
        device_id=str(validation.device_id),
        device_id_assigned=validation.device_id_assigned,
        session=None if validation.session is None else session_message(validation.session),
        renew_recommended=validation.renew_recommended,
        revoked_devices=validation.revoked_devices,
    )


def renew_session_response(renewed: RenewedSession) -> pb.RenewSessionResponse:
    """The answer to a renewal."""
    response = pb.RenewSessionResponse(
        status=_STATUS[renewed.status], revoked_devices=renewed.revoked_devices
    )
    if renewed.session is not None:
        response.session.CopyFrom(session_message(renewed.session))
        if renewed.access_token is not None:
            response.rotated = True
            response.access_token = renewed.access_token
            response.token_expire_time.CopyFrom(timestamp(renewed.session.token.expires))
    return response


def device_message(listed: ListedDevice) -> pb.Device:
    """A device as it is shown."""
    device, session = listed.device, listed.session
    client = device.last_client
    looks = appearance(client.user_agent)
    return pb.Device(
        device_id=str(device.device_id),
        display_name=device.shown_name(),
        operating_system=looks.operating_system,
        browser=looks.browser,
        form_factor=_FORM_FACTOR[looks.form_factor],
        last_client=_client_info(client),
        session_id="" if session is None else session.session_id.hex(),
        create_time=timestamp(device.first_seen),
        sign_in_time=timestamp(device.last_sign_in),
        last_seen_time=timestamp(listed.last_seen),
        expire_time=None if listed.expires is None else timestamp(listed.expires),
        current=listed.current,
        signed_in=session is not None,
    )


def _client_info(client: Client) -> pb.ClientInfo:
    return pb.ClientInfo(
        ip_address=client.ip_address,
        user_agent=client.user_agent,
        display_name=client.display_name,
        app_version=client.app_version,
    )


def watch_request(message: pb.WatchEventsRequest) -> tuple[str | datetime | None, EventFilter]:
    """From where on, and which events. Raises InvalidRequest."""
    checks = FieldChecks()
    types = [
        checks.event_type(_EVENT_TYPES.get(number), f"types[{i}]")
        for i, number in enumerate(message.types)
    ]
    user_ids = checks.user_ids(message.user_ids)
    since: str | datetime | None = message.cursor or None
    if message.HasField("start_time"):
        since = checks.start_time(message.start_time.seconds, has_cursor=bool(message.cursor))
    checks.done()
    return since, EventFilter(frozenset(types), frozenset(user_ids))


def event_message(recorded: RecordedEvent) -> pb.Event:
    """An event."""
    event = recorded.event
    message = pb.Event(
        event_id=recorded.event_id,
        type=_EVENT_TYPE[event.type],
        create_time=timestamp(event.time),
        user_id=event.user_id,
        session_id="" if event.session_id is None else event.session_id.hex(),
        actor=event.actor,
        reason=event.reason,
        new_device=event.new_device,
        first_device=event.first_device,
        replay_cause=None if event.replay_cause is None else _REPLAY_CAUSE[event.replay_cause],
        replay_action=None if event.replay_action is None else _REPLAY_ACTION[event.replay_action],
        except_device_id="" if event.except_device_id is None else str(event.except_device_id),
        key_id=event.key_id,
    )
    if event.device_id is not None:
        message.device.device_id = str(event.device_id)
        message.device.display_name = event.device_display_name
        message.device.last_client.CopyFrom(_event_client(event.device_client))
    if event.client != _NOBODY:
        message.client.CopyFrom(_event_client(event.client))
    return message


def event_type_name(number: pb.EventType) -> str:
    """The type's name in the contract, without its prefix; UNSPECIFIED for one that this version
    does not know.
    """
    return pb.EventType.Name(number).removeprefix("EVENT_TYPE_")


def _event_client(client: Client) -> pb.EventClient:
    looks = appearance(client.user_agent)
    return pb.EventClient(
        info=_client_info(client),
        operating_system=looks.operating_system,
        browser=looks.browser,
        form_factor=_FORM_FACTOR[looks.form_factor],
    )


class EventWire:
    """Writes the messages of a watch: encoded messages that follow each other are one message with
    the contents of both.
    """

    def event(self, recorded: RecordedEvent) -> bytes:
        """A message with one event."""
        return pb.WatchEventsResponse(events=[event_message(recorded)]).SerializeToString()

    def cursor(self, cursor: str) -> bytes:
        """A message with a cursor."""
        return pb.WatchEventsResponse(cursor=cursor).SerializeToString()

    def read_time(self, moment: datetime) -> bytes:
        """A message that says that everything until then was told."""
        return pb.WatchEventsResponse(read_time=timestamp(moment)).SerializeToString()


def signing_keys_response(jwks: Iterable[dict[str, str]]) -> pb.GetSigningKeysResponse:
    """The public keys."""
    keys = list(jwks)
    return pb.GetSigningKeysResponse(
        keys=[
            pb.SigningKey(key_id=key["kid"], algorithm=key["alg"], jwk_json=json.dumps(key))
            for key in keys
        ],
        jwks_json=json.dumps({"keys": keys}),
    )
