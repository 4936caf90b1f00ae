"""Puts users with live sessions into Redis, as sign-ins would leave them, and signs their tokens.

The store's own codec makes the records, and pipelines write them, so that a million sessions take
seconds. Decides nothing: the domain defines what a sign-in leaves.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import redis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from session_authority.domain.base64url import decode_base64url
from session_authority.domain.clients import Client
from session_authority.domain.devices import DeviceRecord
from session_authority.domain.identifiers import device_key
from session_authority.domain.session_limits import DEVICE_MEMORY, SessionLimits
from session_authority.domain.sessions import SessionRecord, Token
from session_authority.domain.sign_in import new_session
from session_authority.store import KeyNames, codec
from session_authority.tokens import Algorithm, KeySource, Tokens, add_key, generate, promote

ADDRESS = "203.0.113.7"
# This text has 120 characters.
AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/140.0.0.0 Safari/537.36 OPR/99.0"
)
_USERS_A_PIPELINE = 500
_WRITING = (
    "aof_pending_bio_fsync",
    "aof_rewrite_in_progress",
    "aof_rewrite_scheduled",
    "rdb_bgsave_in_progress",
)
_LIMITS = SessionLimits()
_Fields = Mapping[Any, Any]  # the type that redis-py declares, in a form that Python 3.11 can read
# This time is longer than a run.
_A_RUN = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """One session: its user, its device, and the token that its client holds."""

    user_id: str
    device_id: UUID
    session_id: bytes
    access_token: str


class Population:
    """Signs users in without the service, directly in one Redis or cluster."""

    def __init__(self, client: redis.Redis | redis.RedisCluster, keys: Path) -> None:
        self._client = client
        self._names = KeyNames()
        self._tokens = Tokens(
            KeySource(keys), "session-authority", "session-authority", timedelta(days=30)
        )

    def add(
        self,
        users: Sequence[str],
        devices: int = 1,
        *,
        age: timedelta = timedelta(0),
        steady: bool = True,
        with_device: bool = True,
        tokens: bool = True,
    ) -> list[SignedIn]:
        """Signs each user in on `devices` devices, `age` ago.

        A `steady` session counts as just used, so that its use causes no write for as long as a run
        takes. Without `with_device`, only the sessions are stored and the devices are not
        remembered. Without `tokens`, no token is signed and nothing is returned. This is for
        sessions that only fill the store.
        """
        signed_in: list[SignedIn] = []
        for start in range(0, len(users), _USERS_A_PIPELINE):
            pipeline = self._client.pipeline(transaction=False)
            for user_id in users[start : start + _USERS_A_PIPELINE]:
                now = datetime.now(UTC) - age
                made = list(_sign_ins(devices, now, steady=steady))
                sessions: _Fields = {
                    key: codec.encode_session(record) for _, key, record, _ in made
                }
                pipeline.hset(self._names.sessions(user_id), mapping=sessions)
                pipeline.pexpire(self._names.sessions(user_id), _LIMITS.session_ttl)
                if with_device:
                    remembered: _Fields = {
                        key: codec.encode_device(device) for _, key, _, device in made
                    }
                    pipeline.hset(self._names.devices(user_id), mapping=remembered)
                    pipeline.pexpire(self._names.devices(user_id), DEVICE_MEMORY)
                if tokens:
                    signed_in += (
                        self._with_token(user_id, device_id, key, record)
                        for device_id, key, record, _ in made
                    )
            pipeline.execute()
        return signed_in

    def wait_for_disk(self) -> None:
        """Waits until one Redis has written all to disk. Its answers are late until then."""
        assert isinstance(self._client, redis.Redis)
        while any(map(self._client.info("persistence").get, _WRITING)):
            time.sleep(0.05)

    def _with_token(
        self, user_id: str, device_id: UUID, key: bytes, record: SessionRecord
    ) -> SignedIn:
        token = Token(
            user_id=user_id,
            device_key=key,
            session_id=record.session_id,
            generation=record.generation,
            copy=1 + int.from_bytes(os.urandom(2)) % 0xFFFF,
            issued_at=record.dated_at,
            expires_at=record.token_ends_at,
            signed_in_at=record.signed_in_at,
            claims={},
            auth_methods=(),
        )
        return SignedIn(user_id, device_id, record.session_id, self._tokens.sign(token))

    def add_to_floor(self, signed_in: Sequence[SignedIn]) -> None:
        """Stores the same sessions for the do-it-yourself check."""
        pipeline = self._client.pipeline(transaction=False)
        for one in signed_in:
            pipeline.hset(f"floor:{one.user_id}", str(one.device_id), one.session_id.hex())
        pipeline.execute()


def _sign_ins(
    devices: int, now: datetime, *, steady: bool
) -> Iterator[tuple[UUID, bytes, SessionRecord, DeviceRecord]]:
    client = Client(ADDRESS, AGENT)
    for _ in range(devices):
        device_id = UUID(bytes=os.urandom(16), version=4)
        record = new_session(
            session_id=os.urandom(16),
            replaced=None,
            session_ttl_end=now + _LIMITS.session_ttl,
            limits=_LIMITS,
            now=now,
        )
        if steady:
            record = replace(record, last_seen_at=now + _A_RUN)
        device = DeviceRecord(device_id, "", client, now, now, now)
        yield device_id, device_key(device_id), record, device


def make_keys(folder: Path) -> str:
    """Makes a folder with a signing key. Returns the public key (PEM)."""
    folder.mkdir(mode=0o700)
    now = datetime.now(UTC)
    key = generate(Algorithm.EDDSA, now)
    add_key(folder, key)
    promote(folder, key.kid, now)
    [public] = KeySource(folder).current.public_jwks()
    raw = Ed25519PublicKey.from_public_bytes(decode_base64url(public["x"]))
    return raw.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
