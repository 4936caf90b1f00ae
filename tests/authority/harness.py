"""A harness: a whole authority on a store of the test's choice, with a clock that a test moves. A
test can read everything that the authority wrote.

Tokens and records are read without the service's own decoders, where that is easy.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeVar
from uuid import UUID

from session_authority.authority import Authority
from session_authority.domain.clients import Client
from session_authority.domain.devices import DeviceRecord
from session_authority.domain.identifiers import parse_uuid
from session_authority.domain.requests import AsPresented, Presented, SignInRequest
from session_authority.domain.results import IssuedDevice, RenewedSession, Validation
from session_authority.domain.session_limits import SessionLimits
from session_authority.domain.sessions import SessionRecord
from session_authority.internal.v1 import records_pb2
from session_authority.runtime.metrics import Metrics
from session_authority.store import KeyNames, SessionStore
from session_authority.store import RedisClient as StoreClient
from session_authority.store.records import Commit, CommitResult
from session_authority.tokens import KeySource, Tokens
from tests.support.backends import Backend
from tests.support.clock import Clock
from tests.support.redis_contents import dump

T = TypeVar("T")

TICK = timedelta(milliseconds=10)  # the resolution of times in records
SECOND, MINUTE, HOUR, DAY = (
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)
# A time long ago. The IDs of stream entries have the time of today, so a test notices if an event
# takes its time from such an ID.
START = datetime(2020, 1, 1, tzinfo=UTC)
ISSUER, AUDIENCE = "https://sessions.example", "example"
USER, ACTOR = "ada", "login-service"
PHONE, LAPTOP, TABLET = (UUID(int=0xD000 + number, version=4) for number in range(3))
CLIENT = Client("203.0.113.7", "curl/8.5.0", "Pixel 8", "4.12.0")


class WatchedStore(SessionStore):
    """The real store. A test can set a function that runs just before the next commit."""

    before_commit: Callable[[Commit], Awaitable[None]] | None = None

    async def commit(self, commit: Commit) -> CommitResult:
        """Runs the test's function once, then commits."""
        if self.before_commit is not None:
            happening, self.before_commit = self.before_commit, None
            await happening(commit)
        return await super().commit(commit)


class ComeBetween:
    """Holds back the next commit of a store until the test has done other work."""

    def __init__(self, store: WatchedStore) -> None:
        self._about_to_commit, self._done = asyncio.Event(), asyncio.Event()
        store.before_commit = self._hold

    async def _hold(self, _: Commit) -> None:
        self._about_to_commit.set()
        await self._done.wait()

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits until a commit is about to happen, and does the work before the commit."""
        try:
            await self._about_to_commit.wait()
            return await work
        finally:
            self._done.set()


@dataclass(frozen=True, slots=True)
class Text:
    """The contents of a token, as anybody can read them."""

    user_id: str
    device_key: bytes
    session_id: bytes
    generation: int
    copy: int
    issued: int  # seconds since START
    expires: int
    payload: Mapping[str, Any]


def read_token(text: str) -> Text:
    """Reads the payload of a token, and verifies nothing."""
    part = text.split(".")[1]
    payload = json.loads(_decode(part))
    session_id, generation, copy = payload["jti"].split(".")
    assert (session_id, int(generation)) == (payload["sid"], payload["gen"])
    start = int(START.timestamp())
    return Text(
        user_id=payload["sub"],
        device_key=_decode(payload["dk"]),
        session_id=bytes.fromhex(session_id),
        generation=payload["gen"],
        copy=int(copy, 16),
        issued=payload["iat"] - start,
        expires=payload["exp"] - start,
        payload=payload,
    )


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def key_of(device_id: UUID) -> bytes:
    """The key of a device, computed without the service's code."""
    return hashlib.sha256(device_id.bytes).digest()[:16]


def request(
    user_id: str = USER,
    device_id: UUID | None = None,
    *,
    client: Client = CLIENT,
    claims: Mapping[str, str] | None = None,
    auth_methods: tuple[str, ...] = (),
    session_ttl: timedelta = 30 * DAY,
    request_id: UUID | None = None,
) -> SignInRequest:
    """A request to sign in, with defaults for everything that a test does not set."""
    return SignInRequest(
        user_id, device_id, client, claims or {}, auth_methods, session_ttl, request_id
    )


def presented(token: str, device_id: UUID | str = PHONE, client: Client = CLIENT) -> Presented:
    """A token with a device ID, in the form in which the RPC layer hands it to the authority."""
    return Presented(token, parse_uuid(str(device_id)), client, ACTOR)


_copies = count(secrets.randbelow(0xFFFF))


def unlike_the_last_ones(size: int) -> bytes:
    """Random bytes. The two bytes of a token's copy, which tests compare, never repeat soon."""
    return (next(_copies) % 0xFFFF + 1).to_bytes(2) if size == 2 else secrets.token_bytes(size)


class Scene:
    """An authority as one process has it. Several may share a store's prefix and a clock."""

    def __init__(
        self,
        backend: Backend,
        prefix: str,
        source: KeySource,
        limits: SessionLimits | None = None,
        clock: Clock | None = None,
        random_bytes: Callable[[int], bytes] = unlike_the_last_ones,
    ) -> None:
        self.limits = limits or SessionLimits()
        self.source = source
        self.clock = clock or Clock(START)
        self.client: StoreClient = backend.connect()
        self._backend = backend
        self.keys = KeyNames(prefix)
        self.prefix = prefix
        self.store = WatchedStore(self.client, self.keys)
        self.tokens = Tokens(
            source, ISSUER, AUDIENCE, self.limits.token_ttl + self.limits.idle_timeout + MINUTE
        )
        self.metrics = Metrics()
        self._answers: dict[bytes, Validation] = {}
        self.authority = Authority(
            store=self.store,
            tokens=self.tokens,
            limits=self.limits,
            metrics=self.metrics,
            clock=self.clock,
            random_bytes=random_bytes,
        )

    async def close(self) -> None:
        """Writes all pending changes, and closes the store."""
        await self.authority.settled()
        await self.store.close()

    async def sign_in(
        self, device_id: UUID | None = None, user_id: str = USER, **more: Any
    ) -> IssuedDevice:
        """Signs a user in."""
        return await self.authority.issue_device(request(user_id, device_id, **more), ACTOR)

    async def validate(
        self,
        token: str,
        device_id: UUID | str = PHONE,
        client: Client = CLIENT,
        *,
        observe_only: bool = False,
    ) -> Validation:
        """Validates a token, and waits until everything that the validation noted is written."""
        validation = await self.authority.validate_session(
            presented(token, device_id, client), observe_only=observe_only
        )
        await self.authority.settled()
        return validation

    async def serve(
        self, token: str, device_id: UUID | str = PHONE, **more: bool
    ) -> tuple[Validation, bool]:
        """Validates as the service does: with a kept answer if there is one, and with a new verdict
        if not. Returns the validation, and True if the answer was a kept one.
        """
        asked = AsPresented(token, str(device_id), **more)
        kept = await self.authority.kept_answer(asked)
        if kept is not None:
            return self._answers[kept], True
        judged = replace(presented(token, device_id), passive=asked.passive)
        validation = await self.authority.validate_session(judged, observe_only=asked.observe_only)
        await self.authority.settled()
        answer = b"answer %d" % len(self._answers)
        self._answers[answer] = validation
        self.authority.keep_answer(asked, validation, answer)
        return validation, False

    async def renew(
        self, token: str, device_id: UUID | str = PHONE, client: Client = CLIENT
    ) -> RenewedSession:
        """Renews a session, and waits until everything that the renewal noted is written."""
        renewed = await self.authority.renew_session(presented(token, device_id, client))
        await self.authority.settled()
        return renewed

    # Contents of the store.

    async def session(self, device_id: UUID = PHONE, user_id: str = USER) -> SessionRecord | None:
        """The stored session on a device, live or not."""
        stored = await self.store.session(user_id, key_of(device_id))
        return None if stored is None else stored.record

    async def device(self, device_id: UUID = PHONE, user_id: str = USER) -> DeviceRecord | None:
        """The stored record of a device."""
        stored = await self.store.device(user_id, key_of(device_id))
        return None if stored is None else stored.record

    async def raw_session(self, device_id: UUID = PHONE, user_id: str = USER) -> bytes | None:
        """The stored bytes of the session on a device."""
        raw: bytes | None = await self.client.execute_command(
            "HGET", self.keys.sessions(user_id), key_of(device_id)
        )
        return raw

    async def put_back(
        self, raw: bytes | None, device_id: UUID = PHONE, user_id: str = USER
    ) -> None:
        """Puts earlier bytes of the session on a device back, as a failover that lost writes does.

        The key gets a long time to live. Without it, the next commit would set the time that the
        session has left by the test's clock. Redis' own clock could then end the session within the
        test.
        """
        name, field = self.keys.sessions(user_id), key_of(device_id)
        if raw is None:
            await self.client.execute_command("HDEL", name, field)
            return
        await self.client.execute_command("HSET", name, field, raw)
        async with self._backend.admin() as admin:
            await admin.execute_command("PEXPIRE", name, 365 * DAY // timedelta(milliseconds=1))

    async def events(self, user_id: str = USER, after: str = "-") -> list[records_pb2.EventRecord]:
        """A user's events, oldest first."""
        entries = await self.client.execute_command("XRANGE", self.keys.events(user_id), after, "+")
        events = [records_pb2.EventRecord.FromString(fields[1]) for _, fields in _pairs(entries)]
        return [event for event in events if event.user_id == user_id]

    def told(self, event: records_pb2.EventRecord) -> dict[str, Any]:
        """All fields of an event that are not empty."""
        client = event.client
        said: dict[str, Any] = {
            "type": kind_of(event),
            "time": datetime.fromtimestamp(event.time_ms / 1000, UTC),
            "user_id": event.user_id,
            "device_id": UUID(bytes=event.device_id) if event.device_id else None,
            "device_display_name": event.device_display_name,
            "session_id": event.session_id,
            "actor": event.actor,
            "reason": event.reason,
            "new_device": event.new_device,
            "first_device": event.first_device,
            "replay_action": event.replay_action,
            "except_device_id": UUID(bytes=event.except_device_id)
            if event.except_device_id
            else None,
        }
        if event.replay_cause:
            said["replay_cause"] = records_pb2.ReplayCause.Name(event.replay_cause).removeprefix(
                "REPLAY_CAUSE_"
            )
        if client.ListFields():
            said["client"] = _client(client)
        if event.HasField("device_client"):
            said["device_client"] = _client(event.device_client)
        return {name: value for name, value in said.items() if value}

    async def happened(self, user_id: str = USER) -> list[str]:
        """The types of a user's events, oldest first."""
        return [kind_of(event) for event in await self.events(user_id)]

    async def dump(self) -> dict[bytes, Any]:
        """All keys below the prefix, with their contents."""
        return await dump(self._backend, self.prefix)


def _client(record: records_pb2.ClientRecord) -> Client:
    return Client(record.ip_address, record.user_agent, record.display_name, record.app_version)


def kind_of(event: records_pb2.EventRecord) -> str:
    """The name of an event's type, without its prefix."""
    return records_pb2.EventType.Name(event.type).removeprefix("EVENT_TYPE_")


def _pairs(entries: Any) -> list[tuple[bytes, tuple[bytes, bytes]]]:
    """The entries of a stream, from each form in which the driver returns them."""
    pairs = []
    for entry_id, fields in entries:
        ((name, value),) = fields.items() if isinstance(fields, dict) else [(fields[0], fields[1])]
        pairs.append((entry_id, (name, value)))
    return pairs
