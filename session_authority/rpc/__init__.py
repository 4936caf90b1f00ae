"""The gRPC face: decodes requests, calls the authority, encodes answers. Decides nothing."""

from session_authority.rpc.interceptors import Guard
from session_authority.rpc.messages import EventWire
from session_authority.rpc.service import SERVICE_NAME, SessionAuthorityService

__all__ = ["SERVICE_NAME", "EventWire", "Guard", "SessionAuthorityService"]
