"""The near cache with real servers: one that is watched and asked, and gets into trouble, and one
that goes on revoking.

The trouble lasts for longer than the cache believes its last proof, so the checker's bound is the
documented one.
"""

from __future__ import annotations

import asyncio
import random
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from client_tests.history import Answered, History, Revoked, now
from client_tests.servers import Server, server
from client_tests.test_batching import until
from session_authority_client import (
    AsyncSessionAuthority,
    NearCache,
    SessionAuthority,
    SessionAuthorityError,
)
from session_authority_client.cache import MAX_SILENCE
from tests.processes.harness import add_signing_key
from tests.support.backends import valkey_server
from tests.support.proxy import Proxy

USERS = 40
LONG = timedelta(seconds=30)


class Stage:
    """Callers with caches, who ask for everybody all the time, and what they were told."""

    def __init__(self, other: AsyncSessionAuthority) -> None:
        self.history = History()
        self.other = other
        self.users: dict[str, tuple[str, str]] = {}
        self.over = False

    async def sign_in(self) -> None:
        for number in range(USERS):
            issued = await self.other.issue_device(f"user-{number}")
            self.users[f"user-{number}"] = issued.access_token, issued.device.device_id

    async def revoke(self, user: str) -> None:
        called = now()
        assert await self.other.revoke_all(user) == 1
        self.history.revoked.append(Revoked(user, called, now()))

    async def ask(self, client: AsyncSessionAuthority | SessionAuthority) -> None:
        cache = client._cache
        assert cache is not None
        while not self.over:
            user = random.choice(list(self.users))
            started, hits = now(), cache._hits
            try:
                if isinstance(client, SessionAuthority):
                    answer = await asyncio.to_thread(client.validate_session, *self.users[user])
                else:
                    answer = await client.validate_session(*self.users[user])
                self.history.answered.append(
                    Answered(user, started, now(), answer.active, cache._hits > hits)
                )
            except SessionAuthorityError:
                pass  # says nothing
            await asyncio.sleep(0.002)

    def denied(self, user: str) -> bool:
        """Somebody was told."""
        return any(
            answer.user == user and not answer.active for answer in reversed(self.history.answered)
        )

    async def all_live(self, caches: list[NearCache]) -> None:
        async with asyncio.timeout(60):
            while not all(cache.live and cache.stats().entries > USERS // 2 for cache in caches):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def _break(what: str, watched: Server, wire: Proxy, stage: Stage, users: list[str]) -> None:
    """The trouble, and revocations at every point of it."""
    if what == "cut":
        for user in users:
            await wire.cut()
            await stage.revoke(user)
            await asyncio.sleep(random.uniform(0, 0.3))
    elif what == "stop":
        watched.process.send_signal(signal.SIGSTOP)
        try:
            for user in users:
                await stage.revoke(user)
                await asyncio.sleep((MAX_SILENCE.total_seconds() + 3) / len(users))
        finally:
            watched.process.send_signal(signal.SIGCONT)
    else:
        for user in users[:2]:
            await stage.revoke(user)
        await asyncio.to_thread(watched.kill)
        for user in users[2:]:
            await stage.revoke(user)
        await asyncio.to_thread(watched.start)


@pytest.mark.parametrize("trouble", ["cut", "stop", "kill"])
async def test_no_answer_is_staler_than_documented(tmp_path: Path, trouble: str) -> None:
    add_signing_key(tmp_path / "keys")
    with (
        valkey_server(tmp_path / "valkey") as valkey,
        server(valkey.url, tmp_path / "keys") as watched,
        server(valkey.url, tmp_path / "keys") as other_server,
    ):
        caches = [NearCache(), NearCache(), NearCache()]
        async with (
            Proxy(f"grpc://{watched.address}") as wire,
            AsyncSessionAuthority(other_server.address, timeout=LONG) as other,
            AsyncSessionAuthority(wire.url.removeprefix("redis://"), cache=caches[0]) as one,
            AsyncSessionAuthority(wire.url.removeprefix("redis://"), cache=caches[1]) as two,
        ):
            with SessionAuthority(wire.url.removeprefix("redis://"), cache=caches[2]) as three:
                stage = Stage(other)
                await stage.sign_in()
                tasks = [asyncio.create_task(stage.ask(client)) for client in (one, two, three)]
                await stage.all_live(caches)
                users = list(stage.users)
                await stage.revoke(users[0])
                await until(lambda: stage.denied(users[0]))
                await _break(trouble, watched, wire, stage, users[1:11])
                await stage.all_live(caches)
                await stage.revoke(users[11])
                await until(lambda: all(stage.denied(user) for user in users[:12]))
                stage.over = True
                await asyncio.gather(*tasks)
    assert sum(answer.here for answer in stage.history.answered) > 20
    assert sum(cache.stats().emptied for cache in caches) >= 3
    if trouble == "stop":  # that is what the bound is for
        assert stage.history.worst() > 1
    assert stage.history.violations(MAX_SILENCE.total_seconds()) == []
