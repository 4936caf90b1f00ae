"""The claims of a session that its older tokens don't have, and the decision to change them.

The claims of a session are in its tokens alone, until they are changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from session_authority.domain.session_limits import SessionLimits
from session_authority.domain.sessions import SessionRecord, StoredClaims


@dataclass(frozen=True, slots=True)
class SessionClaims:
    """The claims that every next token of a session gets.

    `auth_methods` are those of the sign-in, where they leave too little room in a token for claims
    of any size, and empty otherwise.
    """

    session_id: bytes
    claims: Mapping[str, str]
    auth_methods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimsChange:
    """The decision to change claims. Keys are device keys.

    `claims` are what the live sessions that are meant shall have; `changed` are the records of
    those that don't have them yet.
    """

    claims: Mapping[bytes, SessionClaims]
    changed: Mapping[bytes, SessionRecord]


def change_claims(
    *,
    sessions: Mapping[bytes, SessionRecord],
    stored: Mapping[bytes, SessionClaims],
    key: bytes | None,
    claims: Mapping[str, str],
    limits: SessionLimits,
    now: datetime,
) -> ClaimsChange:
    """Decides a change of the claims of a user's sessions: of that on one device, or, if `key` is
    None, of all. `stored` are the claims that the store has.
    """
    wanted: dict[bytes, SessionClaims] = {}
    changed: dict[bytes, SessionRecord] = {}
    for device_key, record in sessions.items():
        if key not in (None, device_key) or not record.is_live(limits, now):
            continue
        before = _claims_of(record, stored.get(device_key))
        kept = () if before is None else before.auth_methods
        wanted[device_key] = SessionClaims(record.session_id, claims, kept)
        if before != wanted[device_key]:
            changed[device_key] = replace(record, stored_claims=StoredClaims.NEWER)
    return ClaimsChange(wanted, changed)


def _claims_of(record: SessionRecord, stored: SessionClaims | None) -> SessionClaims | None:
    """The stored claims, unless they are of an earlier session on the device."""
    if record.stored_claims is StoredClaims.NONE or stored is None:
        return None
    return stored if stored.session_id == record.session_id else None
