"""Decides which RPCs each caller may call. The policy file and the token file define the callers,
the names and tokens that identify each caller, and the permissions of each caller. A call without
permission is denied.

This package does not use gRPC, and reads no clock. The package `rpc` uses this package to find out
which caller makes a call.
"""

from session_authority.access.callers import (
    CallerToken,
    add_token,
    new_token,
    read_tokens,
    remove_tokens,
)
from session_authority.access.certificates import names_in
from session_authority.access.errors import AccessError
from session_authority.access.policy import Access, AccessSource, everybody, load_access
from session_authority.access.policy_file import Policy, read_policy
from session_authority.access.roles import ROWS, Caller, Role, rows_missing

__all__ = [
    "ROWS",
    "Access",
    "AccessError",
    "AccessSource",
    "Caller",
    "CallerToken",
    "Policy",
    "Role",
    "add_token",
    "everybody",
    "load_access",
    "names_in",
    "new_token",
    "read_policy",
    "read_tokens",
    "remove_tokens",
    "rows_missing",
]
