"""Records to put into a store, and a view of the store's content that does not use the store's own
reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from session_authority.domain.clients import Client as EndUserClient
from session_authority.domain.devices import DeviceRecord
from session_authority.domain.errors import StoreUnavailable
from session_authority.domain.events import Event, EventType
from session_authority.domain.identifiers import device_key
from session_authority.domain.session_claims import SessionClaims
from session_authority.domain.sessions import SessionRecord, StoredClaims
from session_authority.internal.v1 import records_pb2
from session_authority.store import KeyNames, Limits, RedisClient, SessionStore, connect
from session_authority.store.codec import encode_claims, encode_device, encode_session
from session_authority.store.key_names import PARTITIONS, partition
from session_authority.store.records import Commit, Committed, IssuedRecord, RemovedSessions, Stored
from tests.support.backends import PATIENT

NOW = datetime(2026, 1, 1, 12, 0, 0, 120_000, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
REQUEST = UUID("2f0d41a5-6c5e-4a83-a3f7-8a1d63a6f0aa")


def key(number: int) -> bytes:
    """The device key of the device with this number."""
    return device_key(UUID(int=number))


def session(number: int = 1, *, ttl: timedelta = 30 * DAY, **changes: Any) -> SessionRecord:
    """The session with this number, just signed in."""
    record = SessionRecord(
        session_id=number.to_bytes(16),
        replaced=None,
        generation=1,
        holder=None,
        predecessor=None,
        signed_in_at=NOW,
        dated_at=NOW,
        token_ends_at=NOW + timedelta(hours=1),
        ends_at=NOW + ttl,
        first_seen_at=None,
        last_seen_at=NOW,
    )
    return replace(record, **changes)


def device(number: int = 1, **changes: Any) -> DeviceRecord:
    """The device with this number."""
    record = DeviceRecord(
        device_id=UUID(int=number),
        display_name=f"Phone {number}",
        last_client=EndUserClient("192.0.2.7", "Mozilla/5.0", "Shop", "1.2"),
        first_seen_at=NOW,
        last_signed_in_at=NOW,
        last_seen_at=NOW,
    )
    return replace(record, **changes)


def removal_of(*sessions: SessionRecord) -> RemovedSessions:
    """What a write reports after it removed these sessions."""
    return RemovedSessions(tuple(map(encode_session, sessions)))


def stored_session(number: int = 1, **changes: Any) -> Stored[Any]:
    record = session(number, **changes)
    return Stored(record, encode_session(record))


def claims(number: int = 1, **changes: Any) -> SessionClaims:
    """The claims of the session with this number."""
    return replace(
        SessionClaims(number.to_bytes(16), {"email": f"{number}@example.org"}), **changes
    )


def stored_claims(number: int = 1, **changes: Any) -> Stored[Any]:
    found = claims(number, **changes)
    return Stored(found, encode_claims(found))


def stored_device(number: int = 1, **changes: Any) -> Stored[Any]:
    record = device(number, **changes)
    return Stored(record, encode_device(record))


def event(
    user_id: str, number: int = 1, *, kind: EventType = EventType.DEVICE_SIGNED_IN, reason: str = ""
) -> Event:
    """An event of this user on the device with this number."""
    return Event(kind, NOW, user_id, "tests", device_id=UUID(int=number), reason=reason)


def issued(number: int = 1) -> IssuedRecord:
    """The record of a request and of its result."""
    return IssuedRecord(
        request_digest=bytes(32),
        session_id=number.to_bytes(16),
        device_id=UUID(int=number),
        device_id_assigned=True,
        new_device=False,
        evicted=(key(8), key(9)),
    )


def user_of_each_partition() -> list[str]:
    """64 user IDs: the ID at index p belongs to partition p."""
    found: dict[int, str] = {}
    for number in count():
        name = f"user-{number}"
        found.setdefault(partition(name), name)
        if len(found) == PARTITIONS:
            return [found[p] for p in range(PARTITIONS)]
    raise AssertionError


@dataclass(frozen=True)
class Contents:
    """Everything that the store has of one user's partition."""

    sessions: dict[bytes, bytes]
    devices: dict[bytes, bytes]
    claims: dict[bytes, bytes]
    events: list[tuple[bytes, dict[bytes, bytes]]]


@dataclass(frozen=True)
class Room:
    """A store, the keys below its prefix, and an administrator's connection that reads and breaks
    them.
    """

    store: SessionStore
    admin: RedisClient
    keys: KeyNames

    async def put(self, user_id: str, *numbers: int, ttl: timedelta = 30 * DAY) -> None:
        """Signs the user in on the devices with these numbers, without events. The claims are
        stored.
        """
        commit = Commit(
            user_id=user_id,
            now=NOW,
            set_sessions={key(n): session(n, ttl=ttl) for n in numbers},
            set_devices={key(n): device(n) for n in numbers},
            set_claims={key(n): claims(n) for n in numbers},
        )
        assert await self.store.commit(commit) == Committed()

    async def run(self, *command: str | bytes | int) -> Any:
        """Returns the raw reply to a command."""
        return await self.admin.execute_command(*command)

    async def events(self, user_id: str) -> Sequence[records_pb2.EventRecord]:
        """The events of the user's partition, oldest first."""
        entries = await self.run("XRANGE", self.keys.events(user_id), "-", "+")
        return [records_pb2.EventRecord.FromString(fields[b"event"]) for _, fields in entries]

    async def contents(self, user_id: str) -> Contents:
        """Returns everything that is stored, byte for byte."""
        return Contents(
            sessions=await self.run("HGETALL", self.keys.sessions(user_id)),
            devices=await self.run("HGETALL", self.keys.devices(user_id)),
            claims=await self.run("HGETALL", self.keys.claims(user_id)),
            events=await self.run("XRANGE", self.keys.events(user_id), "-", "+"),
        )

    async def claims(self, user_id: str) -> dict[bytes, SessionClaims]:
        """The claims that are stored for the user's sessions."""
        return {k: found.record for k, found in (await self.store.claims(user_id)).items()}

    async def ttl(self, name: str) -> timedelta | None:
        """How long a key lives on. None: for ever; negative: the key does not exist."""
        milliseconds = int(await self.run("PTTL", name))
        return None if milliseconds == -1 else timedelta(milliseconds=milliseconds)


async def unavailable(*attempts: Awaitable[object]) -> None:
    """Checks that each of these calls reports an unavailable store, within the time of a test."""
    async with asyncio.timeout(20):
        results = await asyncio.gather(*attempts, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable] * len(attempts), results


def every_operation(
    store: SessionStore, user_id: str, *, probe: bool = True
) -> list[Awaitable[object]]:
    """One call of each operation, all of them for this user; with `probe`, also the operation that
    belongs to no user.
    """
    return [
        store.session(user_id, key(1)),
        store.ask(store.question(user_id, key(1))),
        store.device(user_id, key(1)),
        store.session_and_device(user_id, key(1)),
        store.user(user_id),
        store.claims(user_id),
        store.claims_of(user_id, key(1), stored_session(stored_claims=StoredClaims.NEWER)),
        store.commit(Commit(user_id, NOW, set_sessions={key(1): session(1)})),
        store.revoke_device(user_id, key(1), forget=False, event=event(user_id)),
        store.revoke_all(user_id, except_key=None, forget=False, event=event(user_id)),
        *([store.prove_writable()] if probe else []),
    ]


Mutation = Callable[[SessionStore], Awaitable[object]]

MUTATIONS: dict[str, Mutation] = {
    "commit": lambda store: store.commit(
        Commit("ada", NOW, set_sessions={key(1): session(2)}, events=(event("ada", reason="x"),))
    ),
    "revoke_device": lambda store: store.revoke_device(
        "ada", key(1), forget=False, event=event("ada", reason="x")
    ),
    "revoke_all": lambda store: store.revoke_all(
        "ada", except_key=None, forget=True, event=event("ada", reason="x")
    ),
}


async def warm_room(room: Room) -> Room:
    """A room whose store was used already: its scripts are loaded, and ada is signed in."""
    await room.put("ada", 1)
    for mutation in MUTATIONS.values():
        await mutation(room.store)
    await room.run("DEL", room.keys.events("ada"))
    await room.put("ada", 1)
    await room.put("eve", 7)
    return room


async def let_through(_: bytes) -> None:
    """What a proxy does with bytes that it passes on unchanged."""


def store_at(url: str, prefix: str, limits: Limits = PATIENT) -> SessionStore:
    """A store at a URL."""
    return SessionStore(connect(url, limits), KeyNames(prefix))
