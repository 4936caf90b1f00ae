"""Two real servers with mutual TLS, and a store with three Sentinels. The primary hangs, is
replaced, and returns: no caller gets a verdict from the old primary's records any more.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from session_authority_client import (
    AsyncSessionAuthority,
    IssuedDevice,
    NearCache,
    SessionStatus,
    Tls,
    Unavailable,
)
from tests.support.backends import SentinelGroup, sentinel_group
from tests.support.ca import CA
from tests.support.commands import Command, run
from tests.support.ports import free_port
from tests.support.waiting import eventually, wait_for

pytestmark = pytest.mark.slow

POLICY = """\
[callers.ops]
roles = ["issuer", "validator", "manager", "watcher"]
certificates = ["spiffe://test/ops"]
"""
USERS = [f"user-{number}" for number in range(20)]
PATIENCE = timedelta(seconds=30)


class Trial:
    """A Sentinel group, the servers on it, and their clients."""

    def __init__(self, folder: Path, group: SentinelGroup) -> None:
        self.group = group
        ca = CA(folder)
        server = ca.sign(hosts=["localhost"], addresses=["127.0.0.1"])
        caller = ca.sign(uris=["spiffe://test/ops"])
        self._tls = Tls(ca.pem, caller.certificate.read_bytes(), caller.key.read_bytes())
        self._folder = folder
        keys = str(folder / "keys")
        assert run(folder, "keys", "generate", "--promote", "--dir", keys).returncode == 0
        (folder / "access.toml").write_text(POLICY)
        self._settings = {
            "REDIS_URL": group.url,
            # No server notices by itself that the primary hangs.
            "REDIS_TIMEOUT": "60s",
            "KEYS": keys,
            "ACCESS_POLICY": str(folder / "access.toml"),
            "TLS_CERTIFICATE": str(server.certificate),
            "TLS_KEY": str(server.key),
            "TLS_CLIENT_CA": str(ca.file),
            "ALLOW_UNSAFE": "volatile-store,exposed-secrets",
        }
        self._servers: list[Command] = []

    def serve(self) -> str:
        """Starts a server. Returns its address."""
        address = f"localhost:{free_port()}"
        listen = address.replace("localhost", "127.0.0.1")
        folder = self._folder / f"server-{len(self._servers)}"
        server = Command(folder, ["serve"], self._settings | {"LISTEN": listen})
        self._servers.append(server)
        server.wait_for_event("serving")
        return address

    def client(self, address: str, cache: NearCache | None = None) -> AsyncSessionAuthority:
        return AsyncSessionAuthority(
            address, tls=self._tls, timeout=PATIENCE, batching=False, cache=cache
        )

    def replace_hung_primary(self) -> int:
        """Returns the port of the primary that hung, was replaced, and is back.

        The primary hangs only until one Sentinel reports `o_down`: a majority has found that the
        primary is down. So the servers hardly notice.
        """
        first = self.group.primary()
        with redis.Redis(port=first) as old:
            assert old.execute_command("WAIT", 2, 20_000) == 2
        while not self.group.moved_from(first):
            os.kill(self.group.servers[first].pid, signal.SIGSTOP)
            try:
                wait_for(lambda: "o_down" in self._flags(), "the Sentinels to agree")
            finally:
                os.kill(self.group.servers[first].pid, signal.SIGCONT)
            wait_for(
                lambda: self.group.moved_from(first) or self._flags() == {"master"},
                "the Sentinels to decide",
            )
        return first

    def _flags(self) -> set[str]:
        return {flag for flags in self.group.flags() for flag in flags.split(",")}

    def end(self) -> None:
        for server in self._servers:
            server.kill()


@pytest.fixture
async def trial(tmp_path: Path) -> AsyncIterator[Trial]:
    (tmp_path / "group").mkdir()
    context = sentinel_group(tmp_path / "group", replicas=2, sentinels=3)
    trial = Trial(tmp_path, await asyncio.to_thread(context.__enter__))
    yield trial
    trial.end()
    await asyncio.to_thread(context.__exit__, None, None, None)


async def test_no_user_is_signed_in_after_a_revocation_was_answered(trial: Trial) -> None:
    async with AsyncExitStack() as stack:
        cache = NearCache()
        one, other = [await asyncio.to_thread(trial.serve) for _ in range(2)]
        revoker = await stack.enter_async_context(trial.client(one))
        asker = await stack.enter_async_context(trial.client(other))
        cached = await stack.enter_async_context(trial.client(other, cache))

        issued = [await revoker.issue_device(user) for user in USERS]
        assert await status(cached, issued[0]) is SessionStatus.ACTIVE
        await eventually(lambda: cache.live, "the cache to be live")
        for session in issued:
            assert await status(cached, session) is SessionStatus.ACTIVE
        # Many concurrent calls, which leave idle connections to the primary.
        await asyncio.gather(*(status(asker, session) for session in issued * 10))

        replaced = await asyncio.to_thread(trial.replace_hung_primary)
        for user in USERS:
            await eventually(lambda user=user: revokes(revoker, user), "a revocation")  # type: ignore[misc]
        found = [await status(asker, session) for session in issued * 10]
        assert SessionStatus.ACTIVE not in found

        async def denies() -> bool:
            return await status(cached, issued[0]) is SessionStatus.NO_SESSION

        await eventually(denies, "the cache to know it")
        await eventually(lambda: cache.live, "the cache to be live again")
        # Writes that only the old primary has are lost when it follows the new one.
        await eventually(lambda: is_replica(replaced), "the old primary to be told", 40)
        for client in (asker, cached):
            found = [await status(client, session) for session in issued]
            assert set(found) == {SessionStatus.NO_SESSION}


async def status(client: AsyncSessionAuthority, issued: IssuedDevice) -> SessionStatus | None:
    """The status of the session, or None without an answer."""
    try:
        return (await client.validate_session(issued.access_token, issued.device.device_id)).status
    except Unavailable:
        return None


async def revokes(client: AsyncSessionAuthority, user: str) -> bool:
    try:
        await client.revoke_all(user)
    except Unavailable:
        return False
    return True


def is_replica(port: int) -> bool:
    with redis.Redis(port=port) as client:
        return bool(client.info("replication")["role"] == "slave")
