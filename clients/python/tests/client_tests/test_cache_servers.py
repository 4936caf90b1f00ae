"""The near cache with two real servers. The clients watch and call one server, which gets into
trouble. The other server goes on revoking.

A server that is stopped stays stopped for longer than the cache trusts its last proof, so the
checker's bound is the documented bound.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from client_tests.harness import behind, until
from client_tests.history import Answered, History, Revoked, now
from client_tests.servers import Server, server
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


class Callers:
    """Callers with caches that validate all users all the time, and the history of their
    answers.
    """

    def __init__(self, other: AsyncSessionAuthority) -> None:
        self.history = History()
        self.other = other
        self.users: dict[str, tuple[str, str]] = {}
        self.over = False

    async def sign_in(self, prefix: str) -> None:
        for number in range(USERS):
            issued = await self.other.issue_device(f"{prefix}-{number}")
            self.users[f"{prefix}-{number}"] = issued.access_token, issued.device.device_id

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
                pass  # an error is no answer
            await asyncio.sleep(0.002)

    def denied(self, user: str) -> bool:
        """True if an answer to any caller denied this user."""
        return any(
            answer.user == user and not answer.active for answer in reversed(self.history.answered)
        )

    async def all_live(self, caches: list[NearCache]) -> None:
        def ready(cache: NearCache) -> bool:
            return cache.live and cache.stats().entries > USERS // 2

        async with asyncio.timeout(60):
            while not all(map(ready, caches)):  # noqa: ASYNC110 - a condition has no event
                await asyncio.sleep(0.02)


async def _break(
    what: str, watched: Server, wire: Proxy, callers: Callers, users: list[str]
) -> None:
    """Causes the trouble, and revokes users at every point of it."""
    if what == "cut":
        for user in users:
            await wire.cut()
            await callers.revoke(user)
            await asyncio.sleep(random.uniform(0, 0.3))
    elif what == "stop":
        watched.process.send_signal(signal.SIGSTOP)
        try:
            for user in users:
                await callers.revoke(user)
                await asyncio.sleep((MAX_SILENCE.total_seconds() + 3) / len(users))
        finally:
            watched.process.send_signal(signal.SIGCONT)
    else:
        for user in users[:2]:
            await callers.revoke(user)
        await asyncio.to_thread(watched.kill)
        for user in users[2:]:
            await callers.revoke(user)
        await asyncio.to_thread(watched.start)


@dataclass(frozen=True)
class Servers:
    """The server that the clients watch, and the server that goes on revoking."""

    watched: Server
    other: Server


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    add_signing_key(folder / "keys")
    with (
        valkey_server(folder / "valkey") as valkey,
        server(valkey.url, folder / "keys") as watched,
        server(valkey.url, folder / "keys") as other,
    ):
        yield Servers(watched, other)


@pytest.mark.parametrize("trouble", ["cut", "stop", "kill"])
async def test_no_answer_is_staler_than_documented(servers: Servers, trouble: str) -> None:
    watched, caches = servers.watched, [NearCache(), NearCache(), NearCache()]
    async with (
        Proxy(f"grpc://{watched.address}") as wire,
        AsyncSessionAuthority(servers.other.address, timeout=LONG) as other,
        AsyncSessionAuthority(behind(wire), cache=caches[0]) as one,
        AsyncSessionAuthority(behind(wire), cache=caches[1]) as two,
    ):
        with SessionAuthority(behind(wire), cache=caches[2]) as three:
            callers = Callers(other)
            await callers.sign_in(trouble)
            tasks = [asyncio.create_task(callers.ask(client)) for client in (one, two, three)]
            await callers.all_live(caches)
            users = list(callers.users)
            await callers.revoke(users[0])
            await until(lambda: callers.denied(users[0]))
            await _break(trouble, watched, wire, callers, users[1:11])
            await callers.all_live(caches)
            await callers.revoke(users[11])
            await until(lambda: all(callers.denied(user) for user in users[:12]))
            callers.over = True
            await asyncio.gather(*tasks)
    assert sum(answer.here for answer in callers.history.answered) > 20
    assert sum(cache.stats().emptied for cache in caches) >= 3
    if trouble == "stop":  # the bound is made for this trouble
        assert callers.history.worst() > 1
    assert callers.history.violations(MAX_SILENCE.total_seconds()) == []
