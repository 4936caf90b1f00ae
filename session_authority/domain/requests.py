"""Defines the requests to the use cases. The fields of a request are checked, with two exceptions:
the use cases verify the access tokens, and the fields of `AsPresented` are unchecked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from session_authority.domain.clients import Client


@dataclass(frozen=True, slots=True)
class Presented:
    """A token and the other facts that the request of an end user brought.

    `device_id` is None if the device ID was missing or malformed. `actor` is the name of the
    caller. If `passive` is true, the end user did nothing, so the session does not count as used.
    """

    access_token: str
    device_id: UUID | None
    client: Client
    actor: str
    passive: bool = False


class AsPresented(NamedTuple):
    """The unchecked fields of a request to validate a token. The first three fields have the raw
    values of the fields of `Presented` with the same names. If `observe_only` is true, the
    validation writes nothing.
    """

    access_token: str
    device_id: str
    passive: bool = False
    observe_only: bool = False


@dataclass(frozen=True, slots=True)
class SessionName:
    """Identifies a session without one of its tokens."""

    user_id: str
    device_id: UUID
    session_id: bytes


@dataclass(frozen=True, slots=True)
class SignInRequest:
    """A checked request to sign a user in. If `device_id` is None, the service assigns a device ID.
    If `idle_timeout` is None, the service's own timeout applies.
    """

    user_id: str
    device_id: UUID | None
    client: Client
    claims: Mapping[str, str]
    auth_methods: tuple[str, ...]
    session_ttl: timedelta
    request_id: UUID | None
    idle_timeout: timedelta | None = None

    def digest(self) -> bytes:
        """Returns the SHA-256 of the request's contents. The digest shows whether a second request
        with the same `request_id` is a retry or a different request.

        The facts of the end user's client are not part of the digest. Before a retry, a phone may
        have left the Wi-Fi, or an app may have been updated.
        """
        contents: list[object] = [
            self.user_id,
            str(self.device_id),
            sorted(self.claims.items()),
            self.auth_methods,
            self.session_ttl.total_seconds(),
        ]
        if self.idle_timeout is not None:
            contents.append(self.idle_timeout.total_seconds())
        return hashlib.sha256(json.dumps(contents).encode()).digest()
