from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_TYPE_UNSPECIFIED: _ClassVar[EventType]
    EVENT_TYPE_DEVICE_SIGNED_IN: _ClassVar[EventType]
    EVENT_TYPE_SESSION_REPLAYED: _ClassVar[EventType]
    EVENT_TYPE_ENDED_TOKEN_PRESENTED: _ClassVar[EventType]
    EVENT_TYPE_DEVICE_REVOKED: _ClassVar[EventType]
    EVENT_TYPE_ALL_REVOKED: _ClassVar[EventType]
    EVENT_TYPE_DEVICE_EVICTED: _ClassVar[EventType]
    EVENT_TYPE_SIGNING_KEY_REVOKED: _ClassVar[EventType]
    EVENT_TYPE_SUPERSEDED_TOKEN_PRESENTED: _ClassVar[EventType]
    EVENT_TYPE_SESSION_UPDATED: _ClassVar[EventType]

class ReplayCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPLAY_CAUSE_UNSPECIFIED: _ClassVar[ReplayCause]
    REPLAY_CAUSE_SUPERSEDED_TOKEN: _ClassVar[ReplayCause]
    REPLAY_CAUSE_SECOND_COPY: _ClassVar[ReplayCause]
    REPLAY_CAUSE_LEFT_DEVICE: _ClassVar[ReplayCause]
    REPLAY_CAUSE_REPLACED_SESSION: _ClassVar[ReplayCause]
EVENT_TYPE_UNSPECIFIED: EventType
EVENT_TYPE_DEVICE_SIGNED_IN: EventType
EVENT_TYPE_SESSION_REPLAYED: EventType
EVENT_TYPE_ENDED_TOKEN_PRESENTED: EventType
EVENT_TYPE_DEVICE_REVOKED: EventType
EVENT_TYPE_ALL_REVOKED: EventType
EVENT_TYPE_DEVICE_EVICTED: EventType
EVENT_TYPE_SIGNING_KEY_REVOKED: EventType
EVENT_TYPE_SUPERSEDED_TOKEN_PRESENTED: EventType
EVENT_TYPE_SESSION_UPDATED: EventType
REPLAY_CAUSE_UNSPECIFIED: ReplayCause
REPLAY_CAUSE_SUPERSEDED_TOKEN: ReplayCause
REPLAY_CAUSE_SECOND_COPY: ReplayCause
REPLAY_CAUSE_LEFT_DEVICE: ReplayCause
REPLAY_CAUSE_REPLACED_SESSION: ReplayCause

class ClientRecord(_message.Message):
    __slots__ = ("ip_address", "user_agent", "display_name", "app_version", "client_hints", "appearance", "place")
    IP_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    USER_AGENT_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    APP_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_HINTS_FIELD_NUMBER: _ClassVar[int]
    APPEARANCE_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    ip_address: str
    user_agent: str
    display_name: str
    app_version: str
    client_hints: ClientHintsRecord
    appearance: AppearanceRecord
    place: PlaceRecord
    def __init__(self, ip_address: _Optional[str] = ..., user_agent: _Optional[str] = ..., display_name: _Optional[str] = ..., app_version: _Optional[str] = ..., client_hints: _Optional[_Union[ClientHintsRecord, _Mapping]] = ..., appearance: _Optional[_Union[AppearanceRecord, _Mapping]] = ..., place: _Optional[_Union[PlaceRecord, _Mapping]] = ...) -> None: ...

class PlaceRecord(_message.Message):
    __slots__ = ("city", "country_code")
    CITY_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_CODE_FIELD_NUMBER: _ClassVar[int]
    city: str
    country_code: str
    def __init__(self, city: _Optional[str] = ..., country_code: _Optional[str] = ...) -> None: ...

class ClientHintsRecord(_message.Message):
    __slots__ = ("brands", "platform", "platform_version", "model", "mobile", "form_factors")
    BRANDS_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MOBILE_FIELD_NUMBER: _ClassVar[int]
    FORM_FACTORS_FIELD_NUMBER: _ClassVar[int]
    brands: _containers.RepeatedCompositeFieldContainer[BrandRecord]
    platform: str
    platform_version: str
    model: str
    mobile: bool
    form_factors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, brands: _Optional[_Iterable[_Union[BrandRecord, _Mapping]]] = ..., platform: _Optional[str] = ..., platform_version: _Optional[str] = ..., model: _Optional[str] = ..., mobile: bool = ..., form_factors: _Optional[_Iterable[str]] = ...) -> None: ...

class BrandRecord(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class AppearanceRecord(_message.Message):
    __slots__ = ("operating_system", "browser", "form_factor", "model", "name")
    OPERATING_SYSTEM_FIELD_NUMBER: _ClassVar[int]
    BROWSER_FIELD_NUMBER: _ClassVar[int]
    FORM_FACTOR_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    operating_system: str
    browser: str
    form_factor: str
    model: str
    name: str
    def __init__(self, operating_system: _Optional[str] = ..., browser: _Optional[str] = ..., form_factor: _Optional[str] = ..., model: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DeviceRecord(_message.Message):
    __slots__ = ("device_id", "display_name", "last_client", "first_seen_ms", "last_sign_in_ms", "last_seen_ms", "format", "last_sign_in", "last_alarm", "packed_agent", "packed_looks")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    LAST_CLIENT_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_SIGN_IN_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_MS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    LAST_SIGN_IN_FIELD_NUMBER: _ClassVar[int]
    LAST_ALARM_FIELD_NUMBER: _ClassVar[int]
    PACKED_AGENT_FIELD_NUMBER: _ClassVar[int]
    PACKED_LOOKS_FIELD_NUMBER: _ClassVar[int]
    device_id: bytes
    display_name: str
    last_client: ClientRecord
    first_seen_ms: int
    last_sign_in_ms: int
    last_seen_ms: int
    format: int
    last_sign_in: SignInRecord
    last_alarm: AlarmRecord
    packed_agent: bytes
    packed_looks: bytes
    def __init__(self, device_id: _Optional[bytes] = ..., display_name: _Optional[str] = ..., last_client: _Optional[_Union[ClientRecord, _Mapping]] = ..., first_seen_ms: _Optional[int] = ..., last_sign_in_ms: _Optional[int] = ..., last_seen_ms: _Optional[int] = ..., format: _Optional[int] = ..., last_sign_in: _Optional[_Union[SignInRecord, _Mapping]] = ..., last_alarm: _Optional[_Union[AlarmRecord, _Mapping]] = ..., packed_agent: _Optional[bytes] = ..., packed_looks: _Optional[bytes] = ...) -> None: ...

class SignInRecord(_message.Message):
    __slots__ = ("session_id", "auth_methods")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    AUTH_METHODS_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    auth_methods: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, session_id: _Optional[bytes] = ..., auth_methods: _Optional[_Iterable[str]] = ...) -> None: ...

class AlarmRecord(_message.Message):
    __slots__ = ("time_ms", "cause")
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    time_ms: int
    cause: ReplayCause
    def __init__(self, time_ms: _Optional[int] = ..., cause: _Optional[_Union[ReplayCause, str]] = ...) -> None: ...

class ClaimsRecord(_message.Message):
    __slots__ = ("session_id", "claims", "auth_methods")
    class ClaimsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    AUTH_METHODS_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    claims: _containers.ScalarMap[str, str]
    auth_methods: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, session_id: _Optional[bytes] = ..., claims: _Optional[_Mapping[str, str]] = ..., auth_methods: _Optional[_Iterable[str]] = ...) -> None: ...

class IssuedRecord(_message.Message):
    __slots__ = ("request_digest", "session_id", "device_id", "device_id_assigned", "new_device", "evicted_device_keys")
    REQUEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_ASSIGNED_FIELD_NUMBER: _ClassVar[int]
    NEW_DEVICE_FIELD_NUMBER: _ClassVar[int]
    EVICTED_DEVICE_KEYS_FIELD_NUMBER: _ClassVar[int]
    request_digest: bytes
    session_id: bytes
    device_id: bytes
    device_id_assigned: bool
    new_device: bool
    evicted_device_keys: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, request_digest: _Optional[bytes] = ..., session_id: _Optional[bytes] = ..., device_id: _Optional[bytes] = ..., device_id_assigned: bool = ..., new_device: bool = ..., evicted_device_keys: _Optional[_Iterable[bytes]] = ...) -> None: ...

class EventRecord(_message.Message):
    __slots__ = ("type", "time_ms", "user_id", "device_id", "device_display_name", "client", "session_id", "actor", "reason", "new_device", "first_device", "replay_cause", "replay_action", "except_device_id", "device_client", "key_id")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NEW_DEVICE_FIELD_NUMBER: _ClassVar[int]
    FIRST_DEVICE_FIELD_NUMBER: _ClassVar[int]
    REPLAY_CAUSE_FIELD_NUMBER: _ClassVar[int]
    REPLAY_ACTION_FIELD_NUMBER: _ClassVar[int]
    EXCEPT_DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_CLIENT_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    type: EventType
    time_ms: int
    user_id: str
    device_id: bytes
    device_display_name: str
    client: ClientRecord
    session_id: bytes
    actor: str
    reason: str
    new_device: bool
    first_device: bool
    replay_cause: ReplayCause
    replay_action: str
    except_device_id: bytes
    device_client: ClientRecord
    key_id: str
    def __init__(self, type: _Optional[_Union[EventType, str]] = ..., time_ms: _Optional[int] = ..., user_id: _Optional[str] = ..., device_id: _Optional[bytes] = ..., device_display_name: _Optional[str] = ..., client: _Optional[_Union[ClientRecord, _Mapping]] = ..., session_id: _Optional[bytes] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ..., new_device: bool = ..., first_device: bool = ..., replay_cause: _Optional[_Union[ReplayCause, str]] = ..., replay_action: _Optional[str] = ..., except_device_id: _Optional[bytes] = ..., device_client: _Optional[_Union[ClientRecord, _Mapping]] = ..., key_id: _Optional[str] = ...) -> None: ...
