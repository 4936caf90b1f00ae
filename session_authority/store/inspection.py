"""Shows the records and the keys that Redis has about one user, and removes records that can't be
read. Does not show events, the results of sign-ins with a `request_id`, or the keys for quiet
events about sessions without a readable record.

In this module, a key of another type is a Redis key that is not a hash, although the service stores
a hash under this name.

This module reads Redis itself, so an operator can use it while no service runs. A repair never
removes records that can be read. A repair also keeps records that a later version of the service
wrote, because the service can read these records after its next upgrade.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from session_authority.domain.errors import Conflict
from session_authority.domain.events import Event, EventType
from session_authority.domain.moments import MILLISECOND
from session_authority.domain.session_claims import SessionClaims
from session_authority.store.driver.connection import RedisClient
from session_authority.store.driver.read_paths import read_path_of
from session_authority.store.driver.reads import Reads
from session_authority.store.key_names import KeyNames
from session_authority.store.records import (
    Commit,
    Committed,
    RecordKind,
    Stored,
    Unreadable,
    UserState,
)
from session_authority.store.session_store import SessionStore

REASON = "unreadable_record"
_ACTOR = "session-authority inspect"
_MAX_ATTEMPTS = 5
# The types of quiet events. For each session, the service writes at most one quiet event of each
# type in an hour.
_QUIET = (
    EventType.ENDED_TOKEN_PRESENTED,
    EventType.SUPERSEDED_TOKEN_PRESENTED,
    EventType.SESSION_REPLAYED,
)


# The stored claims of a user's sessions, by device key. None if the Redis key of the claims is not
# a hash.
ClaimsByDevice = Mapping[bytes, Stored[SessionClaims] | Unreadable] | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key in Redis that belongs to the inspected user. `time_to_live` is None if the key never
    expires. `kind` is the kind of the records under the key. `kind` is None for a key without
    records, which only says that a quiet event was written in the last hour.
    """

    name: str
    kind: RecordKind | None
    time_to_live: timedelta | None


@dataclass(frozen=True, slots=True)
class Inspected:
    """The data that Redis has about one user: the records, and the keys that exist."""

    user_id: str
    state: UserState
    claims: ClaimsByDevice
    keys: Sequence[StoredKey]

    @property
    def other_types(self) -> frozenset[RecordKind]:
        """The kinds of records whose Redis key should be a hash but is not."""
        return _other_types(self.state, self.claims)

    @property
    def unreadable_count(self) -> int:
        """The number of records that can't be read, plus the number of keys that should be a hash
        but are not.
        """
        state = self.state
        records = len(state.unreadable_sessions) + len(state.unreadable_devices)
        return records + len(unreadable_claims(self.claims)) + len(self.other_types)


@dataclass(frozen=True, slots=True)
class Repaired:
    """The result of a repair. `sessions`, `devices` and `claims` have the device keys of the
    removed records. `other_types` has the kinds of records whose Redis key was removed because it
    was not a hash.
    """

    sessions: Sequence[bytes] = ()
    devices: Sequence[bytes] = ()
    claims: Sequence[bytes] = ()
    other_types: frozenset[RecordKind] = frozenset()

    @property
    def count(self) -> int:
        """The number of records and keys that the repair removed."""
        records = len(self.sessions) + len(self.devices) + len(self.claims)
        return records + len(self.other_types)


class Inspection:
    """Reads and repairs the data of users in Redis. Every method except `close` raises
    StoreUnavailable if Redis is unreachable, slow, or refuses a command.
    """

    def __init__(self, client: RedisClient, keys: KeyNames, store: SessionStore) -> None:
        self._keys = keys
        self._store = store
        self._reads = Reads(read_path_of(client, keys.probe))

    async def inspect(self, user_id: str) -> Inspected:
        """Returns the records and the keys of a user. Does not return the results of sign-ins with
        a `request_id`, because the key of a result can be found only with the `request_id`. Returns
        the keys for quiet events only for sessions whose record can be read.
        """
        state = await self._store.user(user_id)
        claims = await self._store.readable_claims(user_id)
        names: dict[str, RecordKind | None] = {
            self._keys.sessions(user_id): RecordKind.SESSION,
            self._keys.devices(user_id): RecordKind.DEVICE,
            self._keys.claims(user_id): RecordKind.CLAIMS,
        }
        for session in state.session_records().values():
            for kind in _QUIET:
                names[self._keys.told(user_id, session.session_id, kind)] = None
        lives = await self._reads.ask([("PTTL", name) for name in names])
        keys = (
            StoredKey(name, kind, _time_to_live(int(life)))
            for (name, kind), life in zip(names.items(), lives, strict=True)
            if int(life) != -2  # -2 means that the key does not exist
        )
        return Inspected(user_id, state, claims, tuple(keys))

    async def repair(self, user_id: str, now: datetime) -> Repaired:
        """Removes a user's records that can't be read, except records of a later version of the
        service. Also removes keys that should be a hash but are not. Returns what was removed.
        Writes the events of a revocation about the removed sessions, so that clients that watch
        events forget the sessions. Raises Conflict if the user's data changed during each of five
        attempts.
        """
        for _ in range(_MAX_ATTEMPTS):
            state = await self._store.user(user_id)
            stored = await self._store.readable_claims(user_id)
            sessions, devices, claims = (
                _damaged(state.unreadable_sessions),
                _damaged(state.unreadable_devices),
                _damaged(unreadable_claims(stored)),
            )
            repaired = Repaired(
                tuple(sessions), tuple(devices), tuple(claims), _other_types(state, stored)
            )
            if not repaired.count:
                return repaired
            events = [_revoked(user_id, state, key, now) for key in sessions]
            if RecordKind.SESSION in state.other_types:
                kind = EventType.ALL_REVOKED
                events.append(Event(kind, now, user_id, _ACTOR, reason=REASON))
            commit = Commit(  # a commit always removes keys that should be a hash but are not
                user_id,
                now,
                if_sessions=sessions,
                if_devices=devices,
                if_claims=claims,
                set_sessions=dict.fromkeys(sessions),
                set_devices=dict.fromkeys(devices),
                set_claims=dict.fromkeys(claims),
                events=tuple(events),
            )
            if isinstance(await self._store.commit(commit), Committed):
                return repaired
        raise Conflict

    async def close(self) -> None:
        """Waits for the replies to all commands that were sent, then closes the connections."""
        await self._reads.settled()
        await self._store.close()


def unreadable_claims(claims: ClaimsByDevice) -> dict[bytes, Unreadable]:
    """Returns the stored claims that can't be read, by device key. The sessions stay valid without
    stored claims, because their tokens also contain claims.
    """
    return {key: one for key, one in (claims or {}).items() if isinstance(one, Unreadable)}


def _other_types(state: UserState, claims: ClaimsByDevice) -> frozenset[RecordKind]:
    return state.other_types | ({RecordKind.CLAIMS} if claims is None else set())


def _damaged(records: Mapping[bytes, Unreadable]) -> dict[bytes, Unreadable]:
    """Returns the unreadable records that no later version of the service wrote."""
    return {key: record for key, record in records.items() if not record.later}


def _revoked(user_id: str, state: UserState, key: bytes, now: datetime) -> Event:
    """Returns the event about a session that was removed because its record could not be read. If
    the record of the session's device can be read, the event has the facts of the device.
    """
    event = Event(EventType.DEVICE_REVOKED, now, user_id, _ACTOR, reason=REASON)
    device = state.devices.get(key)
    if device is None:
        return event
    return replace(
        event,
        device_id=device.record.device_id,
        device_display_name=device.record.shown_name(),
        device_client=device.record.last_client,
    )


def _time_to_live(milliseconds: int) -> timedelta | None:
    return None if milliseconds < 0 else milliseconds * MILLISECOND
