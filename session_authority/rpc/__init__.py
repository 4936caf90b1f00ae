"""Serves the gRPC interface: admits calls, decodes requests, calls the package `authority`, and
encodes answers.

This package decides nothing about sessions.
"""

from session_authority.rpc.authorization import Authorizer
from session_authority.rpc.interceptors import Capacity, Guard
from session_authority.rpc.observing import Observer
from session_authority.rpc.service import SERVICE_NAME, SessionAuthorityService

__all__ = [
    "SERVICE_NAME",
    "Authorizer",
    "Capacity",
    "Guard",
    "Observer",
    "SessionAuthorityService",
]
