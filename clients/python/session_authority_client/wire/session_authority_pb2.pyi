from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from session_authority_client.wire import errors_pb2 as _errors_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SessionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SESSION_STATUS_UNSPECIFIED: _ClassVar[SessionStatus]
    SESSION_STATUS_ACTIVE: _ClassVar[SessionStatus]
    SESSION_STATUS_TOKEN_MISSING: _ClassVar[SessionStatus]
    SESSION_STATUS_TOKEN_INVALID: _ClassVar[SessionStatus]
    SESSION_STATUS_TOKEN_EXPIRED: _ClassVar[SessionStatus]
    SESSION_STATUS_NO_SESSION: _ClassVar[SessionStatus]
    SESSION_STATUS_SESSION_EXPIRED: _ClassVar[SessionStatus]
    SESSION_STATUS_SUPERSEDED: _ClassVar[SessionStatus]
    SESSION_STATUS_REPLAYED: _ClassVar[SessionStatus]
    SESSION_STATUS_SESSION_ENDED: _ClassVar[SessionStatus]
    SESSION_STATUS_WRONG_DEVICE: _ClassVar[SessionStatus]

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    DURABILITY_LOCAL: _ClassVar[Durability]
    DURABILITY_REPLICATED: _ClassVar[Durability]

class FormFactor(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FORM_FACTOR_UNSPECIFIED: _ClassVar[FormFactor]
    FORM_FACTOR_DESKTOP: _ClassVar[FormFactor]
    FORM_FACTOR_PHONE: _ClassVar[FormFactor]
    FORM_FACTOR_TABLET: _ClassVar[FormFactor]
    FORM_FACTOR_TV: _ClassVar[FormFactor]
    FORM_FACTOR_CONSOLE: _ClassVar[FormFactor]
    FORM_FACTOR_WEARABLE: _ClassVar[FormFactor]
    FORM_FACTOR_BOT: _ClassVar[FormFactor]

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

class ReplayAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPLAY_ACTION_UNSPECIFIED: _ClassVar[ReplayAction]
    REPLAY_ACTION_REVOKE_ALL: _ClassVar[ReplayAction]
    REPLAY_ACTION_REVOKE_DEVICE: _ClassVar[ReplayAction]
    REPLAY_ACTION_DENY: _ClassVar[ReplayAction]
SESSION_STATUS_UNSPECIFIED: SessionStatus
SESSION_STATUS_ACTIVE: SessionStatus
SESSION_STATUS_TOKEN_MISSING: SessionStatus
SESSION_STATUS_TOKEN_INVALID: SessionStatus
SESSION_STATUS_TOKEN_EXPIRED: SessionStatus
SESSION_STATUS_NO_SESSION: SessionStatus
SESSION_STATUS_SESSION_EXPIRED: SessionStatus
SESSION_STATUS_SUPERSEDED: SessionStatus
SESSION_STATUS_REPLAYED: SessionStatus
SESSION_STATUS_SESSION_ENDED: SessionStatus
SESSION_STATUS_WRONG_DEVICE: SessionStatus
DURABILITY_UNSPECIFIED: Durability
DURABILITY_LOCAL: Durability
DURABILITY_REPLICATED: Durability
FORM_FACTOR_UNSPECIFIED: FormFactor
FORM_FACTOR_DESKTOP: FormFactor
FORM_FACTOR_PHONE: FormFactor
FORM_FACTOR_TABLET: FormFactor
FORM_FACTOR_TV: FormFactor
FORM_FACTOR_CONSOLE: FormFactor
FORM_FACTOR_WEARABLE: FormFactor
FORM_FACTOR_BOT: FormFactor
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
REPLAY_ACTION_UNSPECIFIED: ReplayAction
REPLAY_ACTION_REVOKE_ALL: ReplayAction
REPLAY_ACTION_REVOKE_DEVICE: ReplayAction
REPLAY_ACTION_DENY: ReplayAction

class ClientInfo(_message.Message):
    __slots__ = ("ip_address", "user_agent", "display_name", "app_version", "client_hints", "place")
    IP_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    USER_AGENT_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    APP_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_HINTS_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    ip_address: str
    user_agent: str
    display_name: str
    app_version: str
    client_hints: ClientHints
    place: Place
    def __init__(self, ip_address: _Optional[str] = ..., user_agent: _Optional[str] = ..., display_name: _Optional[str] = ..., app_version: _Optional[str] = ..., client_hints: _Optional[_Union[ClientHints, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ...) -> None: ...

class Place(_message.Message):
    __slots__ = ("city", "country_code")
    CITY_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_CODE_FIELD_NUMBER: _ClassVar[int]
    city: str
    country_code: str
    def __init__(self, city: _Optional[str] = ..., country_code: _Optional[str] = ...) -> None: ...

class ClientHints(_message.Message):
    __slots__ = ("brands", "platform", "platform_version", "model", "mobile", "form_factors")
    BRANDS_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MOBILE_FIELD_NUMBER: _ClassVar[int]
    FORM_FACTORS_FIELD_NUMBER: _ClassVar[int]
    brands: _containers.RepeatedCompositeFieldContainer[ClientBrand]
    platform: str
    platform_version: str
    model: str
    mobile: bool
    form_factors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, brands: _Optional[_Iterable[_Union[ClientBrand, _Mapping]]] = ..., platform: _Optional[str] = ..., platform_version: _Optional[str] = ..., model: _Optional[str] = ..., mobile: bool = ..., form_factors: _Optional[_Iterable[str]] = ...) -> None: ...

class ClientBrand(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("device_id", "display_name", "operating_system", "browser", "form_factor", "last_client", "session_id", "create_time", "sign_in_time", "last_seen_time", "expire_time", "current", "signed_in", "model", "absolute_expire_time", "city", "country_code", "auth_methods", "last_alarm")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    OPERATING_SYSTEM_FIELD_NUMBER: _ClassVar[int]
    BROWSER_FIELD_NUMBER: _ClassVar[int]
    FORM_FACTOR_FIELD_NUMBER: _ClassVar[int]
    LAST_CLIENT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    SIGN_IN_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    SIGNED_IN_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ABSOLUTE_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    CITY_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_CODE_FIELD_NUMBER: _ClassVar[int]
    AUTH_METHODS_FIELD_NUMBER: _ClassVar[int]
    LAST_ALARM_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    display_name: str
    operating_system: str
    browser: str
    form_factor: FormFactor
    last_client: ClientInfo
    session_id: str
    create_time: _timestamp_pb2.Timestamp
    sign_in_time: _timestamp_pb2.Timestamp
    last_seen_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    current: bool
    signed_in: bool
    model: str
    absolute_expire_time: _timestamp_pb2.Timestamp
    city: str
    country_code: str
    auth_methods: _containers.RepeatedScalarFieldContainer[str]
    last_alarm: DeviceAlarm
    def __init__(self, device_id: _Optional[str] = ..., display_name: _Optional[str] = ..., operating_system: _Optional[str] = ..., browser: _Optional[str] = ..., form_factor: _Optional[_Union[FormFactor, str]] = ..., last_client: _Optional[_Union[ClientInfo, _Mapping]] = ..., session_id: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., sign_in_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_seen_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., current: bool = ..., signed_in: bool = ..., model: _Optional[str] = ..., absolute_expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., city: _Optional[str] = ..., country_code: _Optional[str] = ..., auth_methods: _Optional[_Iterable[str]] = ..., last_alarm: _Optional[_Union[DeviceAlarm, _Mapping]] = ...) -> None: ...

class DeviceAlarm(_message.Message):
    __slots__ = ("create_time", "replay_cause")
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    REPLAY_CAUSE_FIELD_NUMBER: _ClassVar[int]
    create_time: _timestamp_pb2.Timestamp
    replay_cause: ReplayCause
    def __init__(self, create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., replay_cause: _Optional[_Union[ReplayCause, str]] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("user_id", "device_id", "session_id", "generation", "claims", "sign_in_time", "token_expire_time", "expire_time", "auth_methods", "absolute_expire_time")
    class ClaimsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    SIGN_IN_TIME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    AUTH_METHODS_FIELD_NUMBER: _ClassVar[int]
    ABSOLUTE_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    device_id: str
    session_id: str
    generation: int
    claims: _containers.ScalarMap[str, str]
    sign_in_time: _timestamp_pb2.Timestamp
    token_expire_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    auth_methods: _containers.RepeatedScalarFieldContainer[str]
    absolute_expire_time: _timestamp_pb2.Timestamp
    def __init__(self, user_id: _Optional[str] = ..., device_id: _Optional[str] = ..., session_id: _Optional[str] = ..., generation: _Optional[int] = ..., claims: _Optional[_Mapping[str, str]] = ..., sign_in_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., token_expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., auth_methods: _Optional[_Iterable[str]] = ..., absolute_expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class IssueDeviceRequest(_message.Message):
    __slots__ = ("user_id", "device_id", "client", "claims", "auth_methods", "session_ttl", "request_id", "idle_timeout", "require_replicated")
    class ClaimsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    AUTH_METHODS_FIELD_NUMBER: _ClassVar[int]
    SESSION_TTL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_REPLICATED_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    device_id: str
    client: ClientInfo
    claims: _containers.ScalarMap[str, str]
    auth_methods: _containers.RepeatedScalarFieldContainer[str]
    session_ttl: _duration_pb2.Duration
    request_id: str
    idle_timeout: _duration_pb2.Duration
    require_replicated: bool
    def __init__(self, user_id: _Optional[str] = ..., device_id: _Optional[str] = ..., client: _Optional[_Union[ClientInfo, _Mapping]] = ..., claims: _Optional[_Mapping[str, str]] = ..., auth_methods: _Optional[_Iterable[str]] = ..., session_ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., request_id: _Optional[str] = ..., idle_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., require_replicated: bool = ...) -> None: ...

class IssueDeviceResponse(_message.Message):
    __slots__ = ("device", "access_token", "token_expire_time", "device_id_assigned", "new_device", "evicted_devices", "durability")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_ASSIGNED_FIELD_NUMBER: _ClassVar[int]
    NEW_DEVICE_FIELD_NUMBER: _ClassVar[int]
    EVICTED_DEVICES_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    device: Device
    access_token: str
    token_expire_time: _timestamp_pb2.Timestamp
    device_id_assigned: bool
    new_device: bool
    evicted_devices: _containers.RepeatedCompositeFieldContainer[Device]
    durability: Durability
    def __init__(self, device: _Optional[_Union[Device, _Mapping]] = ..., access_token: _Optional[str] = ..., token_expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., device_id_assigned: bool = ..., new_device: bool = ..., evicted_devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class RenewSessionRequest(_message.Message):
    __slots__ = ("access_token", "device_id", "client", "passive", "require_replicated")
    ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    PASSIVE_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_REPLICATED_FIELD_NUMBER: _ClassVar[int]
    access_token: str
    device_id: str
    client: ClientInfo
    passive: bool
    require_replicated: bool
    def __init__(self, access_token: _Optional[str] = ..., device_id: _Optional[str] = ..., client: _Optional[_Union[ClientInfo, _Mapping]] = ..., passive: bool = ..., require_replicated: bool = ...) -> None: ...

class RenewSessionResponse(_message.Message):
    __slots__ = ("status", "session", "rotated", "access_token", "token_expire_time", "revoked_devices", "durability")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROTATED_FIELD_NUMBER: _ClassVar[int]
    ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    REVOKED_DEVICES_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    status: SessionStatus
    session: Session
    rotated: bool
    access_token: str
    token_expire_time: _timestamp_pb2.Timestamp
    revoked_devices: int
    durability: Durability
    def __init__(self, status: _Optional[_Union[SessionStatus, str]] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., rotated: bool = ..., access_token: _Optional[str] = ..., token_expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., revoked_devices: _Optional[int] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class UpdateSessionRequest(_message.Message):
    __slots__ = ("user_id", "device_id", "claims", "require_replicated")
    class ClaimsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_REPLICATED_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    device_id: str
    claims: _containers.ScalarMap[str, str]
    require_replicated: bool
    def __init__(self, user_id: _Optional[str] = ..., device_id: _Optional[str] = ..., claims: _Optional[_Mapping[str, str]] = ..., require_replicated: bool = ...) -> None: ...

class UpdateSessionResponse(_message.Message):
    __slots__ = ("updated_sessions", "durability")
    UPDATED_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    updated_sessions: int
    durability: Durability
    def __init__(self, updated_sessions: _Optional[int] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class ValidateSessionRequest(_message.Message):
    __slots__ = ("access_token", "device_id", "client", "observe_only", "passive")
    ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    OBSERVE_ONLY_FIELD_NUMBER: _ClassVar[int]
    PASSIVE_FIELD_NUMBER: _ClassVar[int]
    access_token: str
    device_id: str
    client: ClientInfo
    observe_only: bool
    passive: bool
    def __init__(self, access_token: _Optional[str] = ..., device_id: _Optional[str] = ..., client: _Optional[_Union[ClientInfo, _Mapping]] = ..., observe_only: bool = ..., passive: bool = ...) -> None: ...

class ValidateSessionResponse(_message.Message):
    __slots__ = ("active", "status", "device_id", "device_id_assigned", "session", "renew_recommended", "revoked_devices")
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_ASSIGNED_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RENEW_RECOMMENDED_FIELD_NUMBER: _ClassVar[int]
    REVOKED_DEVICES_FIELD_NUMBER: _ClassVar[int]
    active: bool
    status: SessionStatus
    device_id: str
    device_id_assigned: bool
    session: Session
    renew_recommended: bool
    revoked_devices: int
    def __init__(self, active: bool = ..., status: _Optional[_Union[SessionStatus, str]] = ..., device_id: _Optional[str] = ..., device_id_assigned: bool = ..., session: _Optional[_Union[Session, _Mapping]] = ..., renew_recommended: bool = ..., revoked_devices: _Optional[int] = ...) -> None: ...

class BatchValidateSessionsRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[ValidateSessionRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[ValidateSessionRequest, _Mapping]]] = ...) -> None: ...

class BatchValidateSessionsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[BatchValidateSessionsResult]
    def __init__(self, results: _Optional[_Iterable[_Union[BatchValidateSessionsResult, _Mapping]]] = ...) -> None: ...

class BatchValidateSessionsResult(_message.Message):
    __slots__ = ("response", "error")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    response: ValidateSessionResponse
    error: RequestError
    def __init__(self, response: _Optional[_Union[ValidateSessionResponse, _Mapping]] = ..., error: _Optional[_Union[RequestError, _Mapping]] = ...) -> None: ...

class RequestError(_message.Message):
    __slots__ = ("code", "reason", "message", "field_violations")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: _errors_pb2.ErrorReason
    message: str
    field_violations: _containers.RepeatedCompositeFieldContainer[FieldViolation]
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[_Union[_errors_pb2.ErrorReason, str]] = ..., message: _Optional[str] = ..., field_violations: _Optional[_Iterable[_Union[FieldViolation, _Mapping]]] = ...) -> None: ...

class FieldViolation(_message.Message):
    __slots__ = ("field", "description")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    field: str
    description: str
    def __init__(self, field: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...

class CheckSessionsRequest(_message.Message):
    __slots__ = ("sessions",)
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[SessionName]
    def __init__(self, sessions: _Optional[_Iterable[_Union[SessionName, _Mapping]]] = ...) -> None: ...

class SessionName(_message.Message):
    __slots__ = ("user_id", "device_id", "session_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    device_id: str
    session_id: str
    def __init__(self, user_id: _Optional[str] = ..., device_id: _Optional[str] = ..., session_id: _Optional[str] = ...) -> None: ...

class CheckSessionsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[CheckSessionsResult]
    def __init__(self, results: _Optional[_Iterable[_Union[CheckSessionsResult, _Mapping]]] = ...) -> None: ...

class CheckSessionsResult(_message.Message):
    __slots__ = ("state", "error")
    STATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    state: SessionState
    error: RequestError
    def __init__(self, state: _Optional[_Union[SessionState, _Mapping]] = ..., error: _Optional[_Union[RequestError, _Mapping]] = ...) -> None: ...

class SessionState(_message.Message):
    __slots__ = ("status", "expire_time", "absolute_expire_time")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ABSOLUTE_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    status: SessionStatus
    expire_time: _timestamp_pb2.Timestamp
    absolute_expire_time: _timestamp_pb2.Timestamp
    def __init__(self, status: _Optional[_Union[SessionStatus, str]] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., absolute_expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListDevicesRequest(_message.Message):
    __slots__ = ("user_id", "current_device_id", "page_size", "page_token", "include_signed_out")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    CURRENT_DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_SIGNED_OUT_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    current_device_id: str
    page_size: int
    page_token: str
    include_signed_out: bool
    def __init__(self, user_id: _Optional[str] = ..., current_device_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., include_signed_out: bool = ...) -> None: ...

class ListDevicesResponse(_message.Message):
    __slots__ = ("devices", "next_page_token", "total_size")
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    next_page_token: str
    total_size: int
    def __init__(self, devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class UpdateDeviceRequest(_message.Message):
    __slots__ = ("user_id", "device_id", "display_name", "require_replicated")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_REPLICATED_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    device_id: str
    display_name: str
    require_replicated: bool
    def __init__(self, user_id: _Optional[str] = ..., device_id: _Optional[str] = ..., display_name: _Optional[str] = ..., require_replicated: bool = ...) -> None: ...

class UpdateDeviceResponse(_message.Message):
    __slots__ = ("device", "durability")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    device: Device
    durability: Durability
    def __init__(self, device: _Optional[_Union[Device, _Mapping]] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class RevokeDeviceRequest(_message.Message):
    __slots__ = ("user_id", "device_id", "reason", "forget", "require_replicated")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_REPLICATED_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    device_id: str
    reason: str
    forget: bool
    require_replicated: bool
    def __init__(self, user_id: _Optional[str] = ..., device_id: _Optional[str] = ..., reason: _Optional[str] = ..., forget: bool = ..., require_replicated: bool = ...) -> None: ...

class RevokeDeviceResponse(_message.Message):
    __slots__ = ("revoked", "durability")
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    revoked: bool
    durability: Durability
    def __init__(self, revoked: bool = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class RevokeAllRequest(_message.Message):
    __slots__ = ("user_id", "except_device_id", "reason", "forget", "require_replicated")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    EXCEPT_DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_REPLICATED_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    except_device_id: str
    reason: str
    forget: bool
    require_replicated: bool
    def __init__(self, user_id: _Optional[str] = ..., except_device_id: _Optional[str] = ..., reason: _Optional[str] = ..., forget: bool = ..., require_replicated: bool = ...) -> None: ...

class RevokeAllResponse(_message.Message):
    __slots__ = ("revoked_devices", "durability")
    REVOKED_DEVICES_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    revoked_devices: int
    durability: Durability
    def __init__(self, revoked_devices: _Optional[int] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class GetSigningKeysRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetSigningKeysResponse(_message.Message):
    __slots__ = ("keys", "jwks_json")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    JWKS_JSON_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[SigningKey]
    jwks_json: str
    def __init__(self, keys: _Optional[_Iterable[_Union[SigningKey, _Mapping]]] = ..., jwks_json: _Optional[str] = ...) -> None: ...

class SigningKey(_message.Message):
    __slots__ = ("key_id", "algorithm", "jwk_json")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    JWK_JSON_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    algorithm: str
    jwk_json: str
    def __init__(self, key_id: _Optional[str] = ..., algorithm: _Optional[str] = ..., jwk_json: _Optional[str] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ("cursor", "types", "user_ids", "start_time")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    USER_IDS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    types: _containers.RepeatedScalarFieldContainer[EventType]
    user_ids: _containers.RepeatedScalarFieldContainer[str]
    start_time: _timestamp_pb2.Timestamp
    def __init__(self, cursor: _Optional[str] = ..., types: _Optional[_Iterable[_Union[EventType, str]]] = ..., user_ids: _Optional[_Iterable[str]] = ..., start_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class WatchEventsResponse(_message.Message):
    __slots__ = ("events", "cursor", "read_time", "read_uptime")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    READ_TIME_FIELD_NUMBER: _ClassVar[int]
    READ_UPTIME_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    cursor: str
    read_time: _timestamp_pb2.Timestamp
    read_uptime: _duration_pb2.Duration
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., cursor: _Optional[str] = ..., read_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., read_uptime: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("event_id", "type", "create_time", "user_id", "device", "client", "session_id", "actor", "reason", "new_device", "first_device", "replay_cause", "replay_action", "except_device_id", "key_id")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NEW_DEVICE_FIELD_NUMBER: _ClassVar[int]
    FIRST_DEVICE_FIELD_NUMBER: _ClassVar[int]
    REPLAY_CAUSE_FIELD_NUMBER: _ClassVar[int]
    REPLAY_ACTION_FIELD_NUMBER: _ClassVar[int]
    EXCEPT_DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    type: EventType
    create_time: _timestamp_pb2.Timestamp
    user_id: str
    device: EventDevice
    client: EventClient
    session_id: str
    actor: str
    reason: str
    new_device: bool
    first_device: bool
    replay_cause: ReplayCause
    replay_action: ReplayAction
    except_device_id: str
    key_id: str
    def __init__(self, event_id: _Optional[str] = ..., type: _Optional[_Union[EventType, str]] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., user_id: _Optional[str] = ..., device: _Optional[_Union[EventDevice, _Mapping]] = ..., client: _Optional[_Union[EventClient, _Mapping]] = ..., session_id: _Optional[str] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ..., new_device: bool = ..., first_device: bool = ..., replay_cause: _Optional[_Union[ReplayCause, str]] = ..., replay_action: _Optional[_Union[ReplayAction, str]] = ..., except_device_id: _Optional[str] = ..., key_id: _Optional[str] = ...) -> None: ...

class EventDevice(_message.Message):
    __slots__ = ("device_id", "display_name", "last_client")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    LAST_CLIENT_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    display_name: str
    last_client: EventClient
    def __init__(self, device_id: _Optional[str] = ..., display_name: _Optional[str] = ..., last_client: _Optional[_Union[EventClient, _Mapping]] = ...) -> None: ...

class EventClient(_message.Message):
    __slots__ = ("info", "operating_system", "browser", "form_factor", "model", "city", "country_code")
    INFO_FIELD_NUMBER: _ClassVar[int]
    OPERATING_SYSTEM_FIELD_NUMBER: _ClassVar[int]
    BROWSER_FIELD_NUMBER: _ClassVar[int]
    FORM_FACTOR_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CITY_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_CODE_FIELD_NUMBER: _ClassVar[int]
    info: ClientInfo
    operating_system: str
    browser: str
    form_factor: FormFactor
    model: str
    city: str
    country_code: str
    def __init__(self, info: _Optional[_Union[ClientInfo, _Mapping]] = ..., operating_system: _Optional[str] = ..., browser: _Optional[str] = ..., form_factor: _Optional[_Union[FormFactor, str]] = ..., model: _Optional[str] = ..., city: _Optional[str] = ..., country_code: _Optional[str] = ...) -> None: ...
