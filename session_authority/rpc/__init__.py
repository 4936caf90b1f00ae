"""The gRPC face: decodes requests, calls the authority, encodes answers. Decides nothing."""

from session_authority.rpc.access import Doorkeeper
from session_authority.rpc.interceptors import Capacity, Guard
from session_authority.rpc.service import SERVICE_NAME, SessionAuthorityService

__all__ = [
    "SERVICE_NAME",
    "Capacity",
    "Doorkeeper",
    "Guard",
    "SessionAuthorityService",
]
