"""Converts the protobuf messages of the service to the values of this package, and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from session_authority_client import types as t
from session_authority_client._shared.arguments import presented
from session_authority_client.wire import session_authority_pb2 as pb

_E = TypeVar("_E", bound=Enum)


def moment(stamp: Timestamp) -> datetime:
    """Converts a Timestamp to a datetime. This function is faster than protobuf's own method
    `ToDatetime`.
    """
    return datetime.fromtimestamp(stamp.seconds, UTC).replace(microsecond=stamp.nanos // 1000)


def _maybe(message: Any, name: str) -> datetime | None:
    return moment(getattr(message, name)) if message.HasField(name) else None


def _of(kind: type[_E], number: int) -> _E:
    """Returns the member of an enum with this number. If this version of the package does not know
    the number, returns the first member, which is UNSPECIFIED.
    """
    try:
        return kind(number)
    except ValueError:
        return kind(0)


def client_message(client: t.ClientInfo | None) -> pb.ClientInfo | None:
    """Makes the message with the facts about an end user's browser or app. Returns None if `client`
    is None. Raises TypeError if a value has a wrong type.
    """
    if client is None:
        return None
    if not isinstance(client, t.ClientInfo):
        raise TypeError(f"client: a ClientInfo, not {type(client).__name__}")
    return pb.ClientInfo(
        ip_address=presented("client.ip_address", client.ip_address or ""),
        user_agent=presented("client.user_agent", client.user_agent or ""),
        display_name=presented("client.display_name", client.display_name or ""),
        app_version=presented("client.app_version", client.app_version or ""),
        client_hints=_hints_message(client.client_hints),
        place=_place_message(client.place),
    )


def _place_message(place: t.Place | None) -> pb.Place | None:
    if place is None:
        return None
    name = "client.place"
    try:
        return pb.Place(
            city=presented(f"{name}.city", place.city),
            country_code=presented(f"{name}.country_code", place.country_code),
        )
    except AttributeError:
        raise TypeError(f"{name}: a Place, not {type(place).__name__}") from None


def _hints_message(hints: t.ClientHints | None) -> pb.ClientHints | None:
    if hints is None:
        return None
    name = "client.client_hints"
    try:
        message = pb.ClientHints(
            brands=[
                pb.ClientBrand(
                    name=presented(f"{name}.brands", brand.name),
                    version=presented(f"{name}.brands", brand.version),
                )
                for brand in hints.brands
            ],
            platform=presented(f"{name}.platform", hints.platform),
            platform_version=presented(f"{name}.platform_version", hints.platform_version),
            model=presented(f"{name}.model", hints.model),
            form_factors=[presented(f"{name}.form_factors", kind) for kind in hints.form_factors],
        )
        if hints.mobile is not None:
            message.mobile = hints.mobile
    except AttributeError:
        raise TypeError(f"{name}: a ClientHints, not {type(hints).__name__}") from None
    return message


def _client(message: pb.ClientInfo) -> t.ClientInfo:
    return t.ClientInfo(
        ip_address=message.ip_address,
        user_agent=message.user_agent,
        display_name=message.display_name,
        app_version=message.app_version,
        client_hints=_hints(message.client_hints) if message.HasField("client_hints") else None,
        place=(
            t.Place(message.place.city, message.place.country_code)
            if message.HasField("place")
            else None
        ),
    )


def _hints(message: pb.ClientHints) -> t.ClientHints:
    return t.ClientHints(
        brands=tuple(t.ClientBrand(brand.name, brand.version) for brand in message.brands),
        platform=message.platform,
        platform_version=message.platform_version,
        model=message.model,
        mobile=message.mobile if message.HasField("mobile") else None,
        form_factors=tuple(message.form_factors),
    )


def device(message: pb.Device) -> t.Device:
    """Converts a device."""
    return t.Device(
        device_id=message.device_id,
        display_name=message.display_name,
        operating_system=message.operating_system,
        browser=message.browser,
        form_factor=_of(t.FormFactor, message.form_factor),
        last_client=_client(message.last_client),
        session_id=message.session_id,
        create_time=_maybe(message, "create_time"),
        sign_in_time=_maybe(message, "sign_in_time"),
        last_seen_time=_maybe(message, "last_seen_time"),
        expire_time=_maybe(message, "expire_time"),
        current=message.current,
        signed_in=message.signed_in,
        model=message.model,
        absolute_expire_time=_maybe(message, "absolute_expire_time"),
        city=message.city,
        country_code=message.country_code,
        auth_methods=tuple(message.auth_methods),
        last_alarm=_alarm(message.last_alarm) if message.HasField("last_alarm") else None,
    )


def _alarm(message: pb.DeviceAlarm) -> t.DeviceAlarm:
    cause = _of(t.ReplayCause, message.replay_cause)
    return t.DeviceAlarm(moment(message.create_time), cause)


def _session(message: pb.Session) -> t.Session:
    return t.Session(
        user_id=message.user_id,
        device_id=message.device_id,
        session_id=message.session_id,
        generation=message.generation,
        claims=t.Claims(message.claims),
        auth_methods=tuple(message.auth_methods),
        sign_in_time=moment(message.sign_in_time),
        token_expire_time=moment(message.token_expire_time),
        expire_time=moment(message.expire_time),
        absolute_expire_time=_maybe(message, "absolute_expire_time"),
    )


def issued_device(message: pb.IssueDeviceResponse) -> t.IssuedDevice:
    """Converts the response of a sign-in."""
    return t.IssuedDevice(
        device=device(message.device),
        access_token=message.access_token,
        token_expire_time=moment(message.token_expire_time),
        device_id_assigned=message.device_id_assigned,
        new_device=message.new_device,
        evicted_devices=tuple(map(device, message.evicted_devices)),
        durability=_of(t.Durability, message.durability),
    )


def validation(message: pb.ValidateSessionResponse) -> t.Validation:
    """Converts the result of a validation. The returned Validation is active only if the message
    contains a session, its `status` is ACTIVE, and its `active` is True.
    """
    status = _of(t.SessionStatus, message.status)
    active = message.active and status is t.SessionStatus.ACTIVE and message.HasField("session")
    return t.Validation(
        active=active,
        status=status,
        device_id=message.device_id,
        device_id_assigned=message.device_id_assigned,
        session=_session(message.session) if active else None,
        renew_recommended=message.renew_recommended,
        revoked_devices=message.revoked_devices,
    )


def renewal(message: pb.RenewSessionResponse) -> t.Renewal:
    """Converts the result of a renewal. The returned Renewal has a session only if the message's
    `status` is ACTIVE and the message contains a session.
    """
    status = _of(t.SessionStatus, message.status)
    active = status is t.SessionStatus.ACTIVE and message.HasField("session")
    return t.Renewal(
        status=status,
        session=_session(message.session) if active else None,
        rotated=message.rotated,
        access_token=message.access_token or None,
        token_expire_time=_maybe(message, "token_expire_time"),
        revoked_devices=message.revoked_devices,
        durability=_of(t.Durability, message.durability),
    )


def session_state(message: pb.SessionState) -> t.SessionState:
    """Converts the state of a session."""
    return t.SessionState(
        _of(t.SessionStatus, message.status),
        _maybe(message, "expire_time"),
        _maybe(message, "absolute_expire_time"),
    )


def device_page(message: pb.ListDevicesResponse) -> t.DevicePage:
    """Converts one page of the list of a user's devices."""
    return t.DevicePage(
        tuple(map(device, message.devices)), message.next_page_token, message.total_size
    )


def signing_keys(message: pb.GetSigningKeysResponse) -> t.SigningKeys:
    """Converts the public keys that verify access tokens."""
    keys = tuple(t.SigningKey(key.key_id, key.algorithm, key.jwk_json) for key in message.keys)
    return t.SigningKeys(keys, message.jwks_json)


def event_types(kinds: Sequence[t.EventType]) -> Any:
    """Returns the numbers of the event types that a watch requests. The code that protobuf
    generates accepts numbers of event types, although its type annotations don't allow numbers.
    """
    return [kind.value for kind in kinds]


def event_batch(message: pb.WatchEventsResponse) -> t.EventBatch:
    """Converts the events of one message of a watch."""
    return t.EventBatch(
        tuple(map(_event, message.events)),
        message.cursor,
        _maybe(message, "read_time"),
        message.read_uptime.ToTimedelta() if message.HasField("read_uptime") else None,
    )


def _event(message: pb.Event) -> t.Event:
    return t.Event(
        event_id=message.event_id,
        type=_of(t.EventType, message.type),
        create_time=moment(message.create_time),
        user_id=message.user_id,
        session_id=message.session_id,
        actor=message.actor,
        reason=message.reason,
        device_id=message.device.device_id,
        device_display_name=message.device.display_name,
        client=_client(message.client.info),
        operating_system=message.client.operating_system,
        browser=message.client.browser,
        form_factor=_of(t.FormFactor, message.client.form_factor),
        new_device=message.new_device,
        first_device=message.first_device,
        replay_cause=_of(t.ReplayCause, message.replay_cause),
        replay_action=_of(t.ReplayAction, message.replay_action),
        except_device_id=message.except_device_id,
        key_id=message.key_id,
        model=message.client.model,
        city=message.client.city,
        country_code=message.client.country_code,
    )
