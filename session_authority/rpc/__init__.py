"""The gRPC face: decodes requests, calls the authority, encodes answers. Decides nothing."""

from session_authority.rpc.authorization import Authorizer
from session_authority.rpc.interceptors import Capacity, Guard
from session_authority.rpc.service import SERVICE_NAME, SessionAuthorityService

__all__ = [
    "SERVICE_NAME",
    "Authorizer",
    "Capacity",
    "Guard",
    "SessionAuthorityService",
]
