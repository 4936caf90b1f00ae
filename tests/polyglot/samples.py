"""Tokens and calls for tests: the tokens that a scripted service knows, and commands for eight
methods.
"""

from __future__ import annotations

from typing import Any

from client_tests.service_harness import DEVICE

TOKEN = {"access_token": "t", "device_id": DEVICE}
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "IssueDevice": ("sign_in", {"user_id": "ada"}),
    "RenewSession": ("renew", TOKEN),
    "ValidateSession": ("validate", TOKEN),
    "BatchValidateSessions": ("validate_batch", {"items": [TOKEN]}),
    "CheckSessions": (
        "check",
        {"sessions": [{"user_id": "ada", "device_id": DEVICE, "session_id": "0" * 32}]},
    ),
    "ListDevices": ("list", {"user_id": "ada"}),
    "RevokeDevice": ("revoke", {"user_id": "ada", "device_id": DEVICE}),
    "RevokeAll": ("revoke_all", {"user_id": "ada"}),
}


def item(user: str) -> dict[str, str]:
    """A token of a user of the scripted service."""
    return {"access_token": f"token of {user}", "device_id": DEVICE}
