"""The requests to the use cases, in the terms of the domain. Their values are checked, except the
access tokens, which the use cases verify, and the values in `AsPresented`.
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
    """A token as an end user's request carried it.

    `device_id` is None if the device ID was missing or malformed. `actor` is the name of the
    caller. If `passive`, the end user did nothing, so the session does not count as used.
    """

    access_token: str
    device_id: UUID | None
    client: Client
    actor: str
    passive: bool = False


class AsPresented(NamedTuple):
    """The unchecked fields of a request to validate a token. The first three fields are the raw
    values of the fields with the same names in `Presented`. With `observe_only`, the validation
    writes nothing.
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
    """A checked request to sign a user in. If `device_id` is None, the service assigns one. If
    `idle_timeout` is None, the service's own timeout applies.
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
        """Returns the SHA-256 of the request's contents. The digest distinguishes a retry from
        another request with the same `request_id`.

        The end user's client is not included: before a retry, a phone may have left the Wi-Fi, or
        an app may have been updated.
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
