"""Defines the arguments and results of calls, without types of gRPC or protobuf. All times are
aware `datetime` objects in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, NoReturn

__all__ = [
    "Claims",
    "ClientBrand",
    "ClientHints",
    "ClientInfo",
    "Device",
    "DeviceAlarm",
    "DevicePage",
    "Durability",
    "Event",
    "EventBatch",
    "EventType",
    "FormFactor",
    "IssuedDevice",
    "Place",
    "Renewal",
    "ReplayAction",
    "ReplayCause",
    "Session",
    "SessionName",
    "SessionState",
    "SessionStatus",
    "SigningKey",
    "SigningKeys",
    "Validation",
]


class SessionStatus(Enum):
    """Says whether a token or a session is good, or why it is not good. `UNSPECIFIED` stands for a
    status that this version of the client does not know. A token with the status `UNSPECIFIED` is
    not active.
    """

    UNSPECIFIED = 0
    ACTIVE = 1
    TOKEN_MISSING = 2
    TOKEN_INVALID = 3
    TOKEN_EXPIRED = 4
    NO_SESSION = 5
    SESSION_EXPIRED = 6
    SUPERSEDED = 7
    REPLAYED = 8
    SESSION_ENDED = 9
    WRONG_DEVICE = 10


class FormFactor(Enum):
    """Says what kind of device a browser or an app runs on."""

    UNSPECIFIED = 0
    DESKTOP = 1
    PHONE = 2
    TABLET = 3
    TV = 4
    CONSOLE = 5
    WEARABLE = 6
    BOT = 7


class EventType(Enum):
    """Says what an event is about. `UNSPECIFIED` stands for a type that this version of the client
    does not know. When you get an event of the type `UNSPECIFIED`, drop everything in your caches.
    """

    UNSPECIFIED = 0
    DEVICE_SIGNED_IN = 1
    SESSION_REPLAYED = 2
    ENDED_TOKEN_PRESENTED = 3
    DEVICE_REVOKED = 4
    ALL_REVOKED = 5
    DEVICE_EVICTED = 6
    SIGNING_KEY_REVOKED = 7
    SUPERSEDED_TOKEN_PRESENTED = 8
    SESSION_UPDATED = 9


class ReplayCause(Enum):
    """Says why a token counts as replayed."""

    UNSPECIFIED = 0
    SUPERSEDED_TOKEN = 1
    SECOND_COPY = 2
    LEFT_DEVICE = 3
    REPLACED_SESSION = 4


class ReplayAction(Enum):
    """Says what the service did after a replay."""

    UNSPECIFIED = 0
    REVOKE_ALL = 1
    REVOKE_DEVICE = 2
    DENY = 3


class Durability(Enum):
    """Says whether a failover of the store can lose a change.

    `UNSPECIFIED`: nothing was written, or the service is too old to report the durability. `LOCAL`:
    a failover can lose the change. `REPLICATED`: as many replicas have the change as the service's
    setting `REPLICAS_ACK` requires.
    """

    UNSPECIFIED = 0
    LOCAL = 1
    REPLICATED = 2


@dataclass(frozen=True, slots=True)
class ClientBrand:
    """The name and the version of a browser, such as "Google Chrome" and "148.0.7778.96"."""

    name: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class ClientHints:
    """Holds the values of a browser's `Sec-CH-UA` headers. If the browser did not send a value, the
    field is empty, or None in the case of `mobile`.
    """

    brands: Sequence[ClientBrand] = ()
    platform: str = ""
    platform_version: str = ""
    model: str = ""
    mobile: bool | None = None
    form_factors: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Says where an end user is: in which city, and in which country, as an ISO 3166-1 alpha-2 code
    ("DE"). A field is empty if its value is not known.
    """

    city: str = ""
    country_code: str = ""


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """Describes the end user's browser or app, for display only. No decision of the service depends
    on this description.

    If the caller sets `place`, it replaces the place that the service finds for the IP address.
    """

    ip_address: str = ""
    user_agent: str = ""
    display_name: str = ""
    app_version: str = ""
    client_hints: ClientHints | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class DeviceAlarm:
    """Describes a theft alarm about a session on a device."""

    create_time: datetime
    replay_cause: ReplayCause


@dataclass(frozen=True, slots=True)
class Device:
    """Describes a browser or an app installation of a user. A text field is empty if its value is
    not known.

    `city` and `country_code` ("DE") say where the device was last seen. `auth_methods` are the
    methods with which the user signed in to the live session on the device. If the user is signed
    out on the device, `session_id` and `auth_methods` are empty, and the expiry times are None.
    `last_alarm` is the last theft alarm about the device. `last_alarm` is None if there was no
    alarm in the last 28 days.
    """

    device_id: str
    display_name: str
    operating_system: str
    browser: str
    form_factor: FormFactor
    last_client: ClientInfo
    session_id: str
    create_time: datetime | None
    sign_in_time: datetime | None
    last_seen_time: datetime | None
    expire_time: datetime | None
    current: bool
    signed_in: bool
    model: str = ""
    absolute_expire_time: datetime | None = None
    city: str = ""
    country_code: str = ""
    auth_methods: Sequence[str] = ()
    last_alarm: DeviceAlarm | None = None


class Claims(dict[str, str]):
    """Holds the facts about a user in a dict that can't be changed, so that threads can share it.
    `dict(claims)` makes a copy that can be changed.
    """

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __copy__(self) -> Claims:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Claims:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Claims, (dict(self),)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("claims can't be changed; dict(claims) can")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


@dataclass(frozen=True, slots=True)
class Session:
    """Describes a good session: one sign-in of a user on a device. `claims` are the facts about the
    user in the token. The claims were set at the sign-in, or by `update_session` before the token
    was made. `auth_methods` are the methods with which the user signed in.

    `expire_time` is the time at which the session ends if it is not used again.
    `absolute_expire_time` is the time at which the session ends even if it is used.
    `absolute_expire_time` is None if the service is too old to send it.
    """

    user_id: str
    device_id: str
    session_id: str
    generation: int
    claims: Mapping[str, str]
    auth_methods: Sequence[str]
    sign_in_time: datetime
    token_expire_time: datetime
    expire_time: datetime
    absolute_expire_time: datetime | None = None

    def __post_init__(self) -> None:
        if type(self.claims) is not Claims:
            object.__setattr__(self, "claims", Claims(self.claims))


@dataclass(frozen=True, slots=True)
class SessionName:
    """Identifies a session without a token."""

    user_id: str
    device_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class SessionState:
    """Says whether a session is live, and when it ends. As a condition, a SessionState is true if
    the session is live, else false.

    `expire_time` and `absolute_expire_time` have the same meaning as in `Session`, and are None if
    the session is not live.
    """

    status: SessionStatus
    expire_time: datetime | None
    absolute_expire_time: datetime | None

    @property
    def active(self) -> bool:
        """Returns True if the session is live."""
        return self.status is SessionStatus.ACTIVE

    def __bool__(self) -> bool:
        return self.active


@dataclass(frozen=True, slots=True)
class IssuedDevice:
    """Holds the result of a sign-in."""

    device: Device
    access_token: str = field(repr=False)
    token_expire_time: datetime
    device_id_assigned: bool
    new_device: bool
    evicted_devices: Sequence[Device]
    durability: Durability = Durability.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Validation:
    """Holds the result of a validation. As a condition, a Validation is true if `active` is True.
    `session` is None if `active` is False.
    """

    active: bool
    status: SessionStatus
    device_id: str
    device_id_assigned: bool
    session: Session | None
    renew_recommended: bool
    revoked_devices: int

    def __bool__(self) -> bool:
        return self.active


@dataclass(frozen=True, slots=True)
class Renewal:
    """Holds the result of a renewal. As a condition, a Renewal is true if `active` is True: the
    session is good.

    `access_token` is the new token, or None. If `active` is True and `access_token` is None, the
    client keeps the token that it has.
    """

    status: SessionStatus
    session: Session | None
    rotated: bool
    access_token: str | None = field(repr=False)
    token_expire_time: datetime | None
    revoked_devices: int
    durability: Durability = Durability.UNSPECIFIED

    @property
    def active(self) -> bool:
        """Returns True if the token has a good session."""
        return self.status is SessionStatus.ACTIVE and self.session is not None

    def __bool__(self) -> bool:
        return self.active


@dataclass(frozen=True, slots=True)
class DevicePage:
    """One page of the list of a user's devices. The devices are sorted by their last activity, the
    latest first. `next_page_token` is empty on the last page.
    """

    devices: Sequence[Device]
    next_page_token: str
    total_size: int


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key that verifies tokens. `jwk_json` is the key as a JWK (RFC 7517)."""

    key_id: str
    algorithm: str
    jwk_json: str


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """All public keys that verify the service's tokens. `jwks_json` has the same keys as a JWK set
    (RFC 7517).
    """

    keys: Sequence[SigningKey]
    jwks_json: str


@dataclass(frozen=True, slots=True)
class Event:
    """An event about a session or a signing key. docs/events.md says for each type of event which
    fields are set.
    """

    event_id: str
    type: EventType
    create_time: datetime
    user_id: str
    session_id: str
    actor: str
    reason: str
    device_id: str
    device_display_name: str
    client: ClientInfo
    operating_system: str
    browser: str
    form_factor: FormFactor
    new_device: bool
    first_device: bool
    replay_cause: ReplayCause
    replay_action: ReplayAction
    except_device_id: str
    key_id: str
    model: str = ""
    city: str = ""
    country_code: str = ""


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Holds the events that one message of a watch brought, and the cursor after these events.

    `read_time` is set only in a proof, a message that comes about every 10 seconds. The watch has
    sent all events from before `read_time`. `read_uptime` is the same moment as `read_time`, but by
    the server's monotonic clock. The difference between the values of `read_uptime` in two proofs
    of a watch is the time between the two proofs.
    """

    events: Sequence[Event]
    cursor: str
    read_time: datetime | None
    read_uptime: timedelta | None
