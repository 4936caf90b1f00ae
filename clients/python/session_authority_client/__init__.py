"""Asks a Session Authority whether a user's session on a device is still good.

`AsyncSessionAuthority` is for asyncio, `SessionAuthority` for threads; both have the same methods.
"""

from session_authority_client._async.client import AsyncSessionAuthority
from session_authority_client._shared.transport import Tls
from session_authority_client._sync.client import SessionAuthority
from session_authority_client.cache import CacheStats, NearCache
from session_authority_client.errors import (
    CallerNotAllowed,
    CallerUnknown,
    Conflict,
    CursorExpired,
    DeviceLimitReached,
    DeviceNotFound,
    FieldViolation,
    InternalError,
    InvalidRequest,
    Overloaded,
    RequestIdReused,
    RequestIdSpent,
    SessionAuthorityError,
    Unavailable,
)
from session_authority_client.types import (
    ClientInfo,
    Device,
    DevicePage,
    Event,
    EventBatch,
    EventType,
    FormFactor,
    IssuedDevice,
    Renewal,
    ReplayAction,
    ReplayCause,
    Session,
    SessionStatus,
    SigningKey,
    SigningKeys,
    Validation,
)

__all__ = [
    "AsyncSessionAuthority",
    "CacheStats",
    "CallerNotAllowed",
    "CallerUnknown",
    "ClientInfo",
    "Conflict",
    "CursorExpired",
    "Device",
    "DeviceLimitReached",
    "DeviceNotFound",
    "DevicePage",
    "Event",
    "EventBatch",
    "EventType",
    "FieldViolation",
    "FormFactor",
    "InternalError",
    "InvalidRequest",
    "IssuedDevice",
    "NearCache",
    "Overloaded",
    "Renewal",
    "ReplayAction",
    "ReplayCause",
    "RequestIdReused",
    "RequestIdSpent",
    "Session",
    "SessionAuthority",
    "SessionAuthorityError",
    "SessionStatus",
    "SigningKey",
    "SigningKeys",
    "Tls",
    "Unavailable",
    "Validation",
]
