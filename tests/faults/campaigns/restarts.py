"""Servers and workers that are restarted in turn under the Python client's load. No call fails: the
client has another server, or another worker, and retries. Only calls to hung workers may fail.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from uuid import uuid4

from session_authority_client import (
    AsyncSessionAuthority,
    IssuedDevice,
    SessionAuthorityError,
    SessionStatus,
)
from tests.faults.campaigns.campaign import Order, Tally
from tests.faults.clients import running
from tests.faults.recorder import now
from tests.faults.stage import ServerProcess, standalone
from tests.support.commands import descendants
from tests.support.waiting import eventually

_CALLERS = 6
_PAUSE_SECONDS = 0.02
# The speed of a busy machine is not tested here.
_TIMEOUT, _STORE_TIMEOUT = timedelta(seconds=10), "5s"
_UNTIL_USED_SECONDS = 3.0  # After a connection was made: it may belong to a health check.
_WORKERS = 2
_PATIENCE_SECONDS = 60.0
# Of an error. Errors that begin with the same characters are counted together.
_SHOWN_CHARACTERS = 45
_TABLES, _ESTABLISHED = ("/proc/net/tcp", "/proc/net/tcp6"), "01"


class Caller:
    """A caller that signs in, validates, and signs out, for ever."""

    def __init__(
        self, client: AsyncSessionAuthority, random: Random, tally: Tally, *, may_fail: bool
    ) -> None:
        self._client = client
        self._may_fail = may_fail
        self._random = random
        self._tally = tally

    async def live(self) -> None:
        """Runs the caller's calls, one after the other."""
        issued: IssuedDevice | None = None
        while True:
            await asyncio.sleep(self._random.uniform(0, 2 * _PAUSE_SECONDS))
            self._tally.calls += 1
            started = now()
            try:
                issued = await self._one(issued)
            except SessionAuthorityError as error:
                self._tally.counts[f"failed: {error}"[:_SHOWN_CHARACTERS]] += 1
                took = f"{now() - started:.1f} s"
                self._tally.hold(self._may_fail, f"a call failed after {took}: {error!r}")
                issued = None

    async def _one(self, issued: IssuedDevice | None) -> IssuedDevice | None:
        if issued is None:
            return await self._client.issue_device(f"caller-{uuid4()}", timeout=_TIMEOUT)
        device, token = issued.device.device_id, issued.access_token
        if self._random.random() < 0.05:
            user = (await self._client.validate_session(token, device, timeout=_TIMEOUT)).session
            if user is not None:
                await self._client.revoke_all(user.user_id, timeout=_TIMEOUT)
            found = await self._client.validate_session(token, device, timeout=_TIMEOUT)
            self._tally.hold(found.status is SessionStatus.NO_SESSION, f"{found.status} after all")
            return None
        found = await self._client.validate_session(token, device, timeout=_TIMEOUT)
        self._tally.hold(found.status is SessionStatus.ACTIVE, f"{found.status} of a live session")
        return issued


@asynccontextmanager
async def _under_load(
    folder: Path,
    order: Order,
    tally: Tally,
    servers: int = 2,
    workers: int = 1,
    *,
    may_fail: bool = False,
) -> AsyncIterator[Sequence[ServerProcess]]:
    """Servers that callers use over one client."""
    async with standalone(
        folder, servers, TOKEN_TTL="2h", WORKERS=str(workers), REDIS_TIMEOUT=_STORE_TIMEOUT
    ) as stage:
        target = "ipv4:" + ",".join(server.address for server in stage.servers)
        async with AsyncSessionAuthority(target, timeout=_TIMEOUT) as client:
            random = Random(f"{order.seed} restarts")
            callers = [
                Caller(client, Random(random.random()), tally, may_fail=may_fail)
                for _ in range(_CALLERS)
            ]
            with running(*(caller.live() for caller in callers)):
                yield stage.servers


async def restarted_servers(folder: Path, order: Order, tally: Tally) -> None:
    """Ends one server after the other in order, and starts it again."""
    async with _under_load(folder, order, tally) as servers:
        while order.left(tally, 1):
            await _restart(servers[tally.trials % len(servers)])
            tally.trials += 1


async def rolling_restarts(folder: Path, order: Order, tally: Tally) -> None:
    """Restarts three servers in turn, as an upgrade does; all three are one trial."""
    async with _under_load(folder, order, tally, servers=3) as servers:
        while order.left(tally, 1):
            for server in servers:
                await _restart(server)
            tally.trials += 1


async def _restart(server: ServerProcess) -> None:
    """Ends a server in order, and starts it again. Returns when the client uses it again."""
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(server.wait_until_serving)
    # The client reconnects after two seconds at most. Without the wait, the client may have no
    # server while the next server restarts.
    connected = partial(_has_connections, server)
    await eventually(connected, "the client to connect", _PATIENCE_SECONDS)
    await asyncio.sleep(_UNTIL_USED_SECONDS)


async def restarted_workers(folder: Path, order: Order, tally: Tally) -> None:
    """Ends one worker after the other, in order or by force. Its supervisor starts another one."""
    await _replace_workers(folder, order, tally, signal.SIGTERM, signal.SIGKILL)


async def hung_workers(folder: Path, order: Order, tally: Tally) -> None:
    """Stops one worker after the other, and never continues it. The supervisor notices, and starts
    another worker. A call to a hung worker may exceed its deadline.
    """
    await _replace_workers(folder, order, tally, signal.SIGSTOP)


async def _replace_workers(folder: Path, order: Order, tally: Tally, *signals: int) -> None:
    random, hangs = Random(f"{order.seed} workers"), signal.SIGSTOP in signals
    async with _under_load(folder, order, tally, workers=_WORKERS, may_fail=hangs) as servers:
        for server in servers:
            await _listens(server, _WORKERS)
        while order.left(tally, 1):
            server = servers[tally.trials % len(servers)]
            listening, workers = server.logged("listening"), _workers(server)
            tally.hold(len(workers) == _WORKERS, f"{len(workers)} workers")
            os.kill(random.choice(workers), random.choice(signals))
            await _listens(server, listening + 1)
            tally.trials += 1


async def _listens(server: ServerProcess, times: int) -> None:
    """Waits until this many workers have begun to listen since the server was started."""
    what = f"{times} workers to have listened"
    await eventually(lambda: server.logged("listening") >= times, what, _PATIENCE_SECONDS)


def _workers(server: ServerProcess) -> list[int]:
    """The process IDs of a server's workers. The server has one more child: the process that tracks
    shared resources.
    """
    return [
        number
        for number in descendants(server.process_id)
        if b"spawn_main" in Path(f"/proc/{number}/cmdline").read_bytes()
    ]


def _has_connections(server: ServerProcess) -> bool:
    """Returns whether a client is connected to the server."""
    port = int(server.address.rpartition(":")[2])
    lines = [line for name in _TABLES for line in Path(name).read_text().splitlines()[1:]]
    rows = [line.split() for line in lines]
    return any(row[1].endswith(f":{port:04X}") and row[3] == _ESTABLISHED for row in rows)
