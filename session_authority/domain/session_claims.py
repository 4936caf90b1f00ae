"""Defines the claims that the store has for a session, and decides a change of claims.

Nearly all sessions have claims only in their tokens, until a caller changes the claims of the
session. For a few sessions, the store has claims from the sign-in on: sessions whose tokens may
have too little room for the largest allowed claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from session_authority.domain.session_limits import SessionLimits
from session_authority.domain.sessions import SessionRecord, StoredClaims


@dataclass(frozen=True, slots=True)
class SessionClaims:
    """The claims that the store has for a session. All new tokens of the session get these claims.

    `auth_methods` has the authentication methods of the sign-in if the tokens of the session may
    have too little room for the largest allowed claims. With the methods, a later call can compute
    whether other claims fit into a token. If the tokens have room for the largest allowed claims,
    `auth_methods` is empty.
    """

    session_id: bytes
    claims: Mapping[str, str]
    auth_methods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimsChange:
    """The decision on a change of claims. The keys of both mappings are device keys.

    `claims` has the new claims of each live session that the change concerns. `changed` has the new
    record of each session for which the store has no claims, or other claims than the new claims.
    The claims in the session's tokens are not compared.
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
    """Decides a change of claims.

    Args:
        sessions: The records of the user's sessions, by device key. Only live sessions change.
        stored: The claims that the store has, by device key.
        key: The key of the device whose session changes. None changes all sessions of the user.
        claims: The new claims.
        limits: The limits of sessions.
        now: The present time.
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
    """Returns the claims that the store has for the session. Returns None if the store has none, or
    if `stored` belongs to another session on the device.
    """
    if record.stored_claims is StoredClaims.NONE or stored is None:
        return None
    return stored if stored.session_id == record.session_id else None
