"""Converts events to the messages of the public contract. The feed and the relay share this
conversion.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import cast

from google.protobuf.timestamp_pb2 import Timestamp

from session_authority.domain.appearances.appearance import appearance
from session_authority.domain.appearances.hints import NO_HINTS, ClientHints
from session_authority.domain.clients import NO_CLIENT, Client, FormFactor
from session_authority.domain.devices import Alarm
from session_authority.domain.events import EventType, RecordedEvent
from session_authority.domain.moments import to_seconds
from session_authority.domain.places import NO_PLACE, Place
from session_authority.domain.session_limits import ReplayAction
from session_authority.domain.verdicts import ReplayCause
from session_authority.v1 import session_authority_pb2 as pb

# Each enum below exists in the contract and in the domain. The values have the same names in both
# enums, but the domain's UNKNOWN is UNSPECIFIED in the contract. The dicts below map the values of
# one enum to the values of the other.
FORM_FACTORS = {
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
EVENT_TYPES = {
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
    """Returns a moment as a message of the contract."""
    return Timestamp(seconds=to_seconds(moment), nanos=moment.microsecond * 1000)


def client_info_message(client: Client) -> pb.ClientInfo:
    """Returns a client as a message of the contract. The message has the facts that the caller
    gave, but the place may come from the service's GeoIP database.
    """
    return pb.ClientInfo(
        ip_address=client.ip_address,
        user_agent=client.user_agent,
        display_name=client.display_name,
        app_version=client.app_version,
        client_hints=None if client.hints == NO_HINTS else _hints_message(client.hints),
        place=None if client.place == NO_PLACE else _place_message(client.place),
    )


def _place_message(place: Place) -> pb.Place:
    return pb.Place(city=place.city, country_code=place.country_code)


def _hints_message(hints: ClientHints) -> pb.ClientHints:
    message = pb.ClientHints(
        brands=[pb.ClientBrand(name=brand.name, version=brand.version) for brand in hints.brands],
        platform=hints.platform,
        platform_version=hints.platform_version,
        model=hints.model,
        form_factors=hints.form_factors,
    )
    if hints.mobile is not None:
        message.mobile = hints.mobile
    return message


def alarm_message(alarm: Alarm) -> pb.DeviceAlarm:
    """Returns an alarm about a device as a message of the contract."""
    cause = None if alarm.cause is None else _REPLAY_CAUSE[alarm.cause]
    return pb.DeviceAlarm(create_time=timestamp(alarm.happened_at), replay_cause=cause)


def event_message(recorded: RecordedEvent) -> pb.Event:
    """Returns an event as a message of the contract."""
    event = recorded.event
    message = pb.Event(
        event_id=recorded.event_id,
        type=_EVENT_TYPE[event.type],
        create_time=timestamp(event.happened_at),
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
    if event.client != NO_CLIENT:
        message.client.CopyFrom(_event_client(event.client))
    return message


def event_type_name(number: pb.EventType) -> str:
    """Returns the name of an event type in the contract, without the prefix EVENT_TYPE_. The name
    is UNSPECIFIED if this version of the service does not know the type of the event.
    """
    return pb.EventType.Name(number).removeprefix("EVENT_TYPE_")


def _event_client(client: Client) -> pb.EventClient:
    looks = appearance(client)
    return pb.EventClient(
        info=client_info_message(client),
        operating_system=looks.operating_system,
        browser=looks.browser,
        form_factor=FORM_FACTORS[looks.form_factor],
        model=looks.model,
        city=client.place.city,
        country_code=client.place.country_code,
    )


class WatchMessages:
    """Encodes the parts of the messages that a watch sends. Each part is an encoded
    `WatchEventsResponse`. If several parts are joined, the result decodes to one message with the
    contents of all these parts.
    """

    def event(self, recorded: RecordedEvent) -> bytes:
        """Returns an encoded message with one event."""
        return pb.WatchEventsResponse(events=[event_message(recorded)]).SerializeToString()

    def cursor(self, cursor: str) -> bytes:
        """Returns an encoded message with a cursor."""
        return pb.WatchEventsResponse(cursor=cursor).SerializeToString()

    def read_time(self, moment: datetime, uptime: timedelta) -> bytes:
        """Returns a proof: an encoded message which says that all events up to a moment were sent.
        `uptime` is the same moment by the monotonic clock.
        """
        message = pb.WatchEventsResponse(read_time=timestamp(moment))
        message.read_uptime.FromTimedelta(uptime)
        return message.SerializeToString()
