"""The arguments and results of calls, without types of gRPC or protobuf. All times are aware, and
in UTC.
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
    """The status of a token. `UNSPECIFIED` stands for a status that this version of the client does
    not know. Such a token is not active.
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
    """The kind of a device."""

    UNSPECIFIED = 0
    DESKTOP = 1
    PHONE = 2
    TABLET = 3
    TV = 4
    CONSOLE = 5
    WEARABLE = 6
    BOT = 7


class EventType(Enum):
    """The type of an event. `UNSPECIFIED` stands for a type that this version of the client does
    not know. When you get such an event, drop everything in your caches.
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
    """The reason why a token counts as replayed."""

    UNSPECIFIED = 0
    SUPERSEDED_TOKEN = 1
    SECOND_COPY = 2
    LEFT_DEVICE = 3
    REPLACED_SESSION = 4


class ReplayAction(Enum):
    """The action that the service took after a replay."""

    UNSPECIFIED = 0
    REVOKE_ALL = 1
    REVOKE_DEVICE = 2
    DENY = 3


class Durability(Enum):
    """How safe a change is.

    UNSPECIFIED: nothing was written, or the service is too old to report the durability. LOCAL: a
    failover can lose the change. REPLICATED: as many replicas have the change as the service is set
    to wait for.
    """

    UNSPECIFIED = 0
    LOCAL = 1
    REPLICATED = 2


@dataclass(frozen=True, slots=True)
class ClientBrand:
    """A name and a version of a browser, such as "Google Chrome" and "148.0.7778.96"."""

    name: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class ClientHints:
    """The values of a browser's `Sec-CH-UA` headers. A value that the browser did not send is
    empty, and `mobile` is then None.
    """

    brands: Sequence[ClientBrand] = ()
    platform: str = ""
    platform_version: str = ""
    model: str = ""
    mobile: bool | None = None
    form_factors: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """The place of an end user: a city, and a country as an ISO 3166-1 alpha-2 code ("DE"). A field
    is empty if it is not known.
    """

    city: str = ""
    country_code: str = ""


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """The facts about the end user's browser or app. They are only for display. No decision depends
    on them.

    A `place` from the app replaces the place that the service finds for the address.
    """

    ip_address: str = ""
    user_agent: str = ""
    display_name: str = ""
    app_version: str = ""
    client_hints: ClientHints | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class DeviceAlarm:
    """A theft alarm about a session on a device."""

    create_time: datetime
    replay_cause: ReplayCause


@dataclass(frozen=True, slots=True)
class Device:
    """A browser or an app installation of a user. A text field is empty if its value is not known.

    `city` and `country_code` ("DE") say where the device was last seen. `auth_methods` are those of
    the sign-in of the live session. If the user is signed out on the device, `session_id` and
    `auth_methods` are empty, and the expiry times are None. `last_alarm` is the last theft alarm
    about the device in the last 28 days, or None.
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
    """The facts about a user, as a dict that can't be changed, so that threads can share it.
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
    """A good session: a sign-in of a user on a device. `claims` are the facts about the user, as
    the token has them. They were set at sign-in, or by `update_session` before the token was made.
    `auth_methods` are those of the sign-in.

    `expire_time` is when the session ends if it is not used again. `absolute_expire_time` is when
    the session ends even if it is used. It is None if the service is too old to send it.
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
    """The fields that identify a session without a token."""

    user_id: str
    device_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class SessionState:
    """The state of a session. As a condition, the state of a live session is true, and any other
    state is false.

    The expiry times have the meaning that they have in `Session`. They are None if the session is
    not live.
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
    """The result of a sign-in."""

    device: Device
    access_token: str = field(repr=False)
    token_expire_time: datetime
    device_id_assigned: bool
    new_device: bool
    evicted_devices: Sequence[Device]
    durability: Durability = Durability.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of a validation. As a condition, it is true if `active` is True. `session` is None
    if `active` is False.
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
    """The result of a renewal. As a condition, it is true if `active` is True: the session is good.

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
    """Some of a user's devices, sorted by activity, the latest first. `next_page_token` is empty on
    the last page.
    """

    devices: Sequence[Device]
    next_page_token: str
    total_size: int


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key that verifies tokens (RFC 7517)."""

    key_id: str
    algorithm: str
    jwk_json: str


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """All signing keys of the service. `jwks_json` is a JWK set (RFC 7517)."""

    keys: Sequence[SigningKey]
    jwks_json: str


@dataclass(frozen=True, slots=True)
class Event:
    """An event about a session or a signing key. docs/events.md says which fields are set for which
    type.
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
    """Events that one message brought, and the cursor after them.

    `read_time` is set only in a proof, a message that comes about every 10 seconds. It means that
    the watch has sent all events from before this time. `read_uptime` is the same moment by the
    server's monotonic clock. The difference between the values of `read_uptime` in two batches of a
    watch is the time between the two moments.
    """

    events: Sequence[Event]
    cursor: str
    read_time: datetime | None
    read_uptime: timedelta | None
