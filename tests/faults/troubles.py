"""The faults, by name. Each fault lasts for some time, and has ended when its function returns."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import redis

from session_authority.store import KeyNames
from tests.faults.recorder import Recorder, now
from tests.faults.stage import ServerProcess, Stage
from tests.support.proxy import Proxy


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault that can be made, and its consequences: see `Fault`."""

    make: Callable[[Stage, Random], Awaitable[None]]
    holds_requests: bool = False
    ends_watches: bool = False
    loses_writes: bool = False

    @property
    def name(self) -> str:
        """The name of the fault."""
        return self.make.__name__.replace("_", " ")

    def follows(self) -> dict[str, bool]:
        """The consequences in its `Fault`."""
        flags = ("holds_requests", "ends_watches", "loses_writes")
        return {flag: getattr(self, flag) for flag in flags}


# A server that is stopped holds requests. With the deadline of a call (2.5 s), an honest request
# must not be under way for longer than `longest_flight` (4 s).
_LONGEST_STOP_SECONDS = 1.5


async def wire_delays(stage: Stage, random: Random) -> None:
    """Every message between one server and the store is late."""

    async def wait(_: bytes) -> None:
        await asyncio.sleep(random.uniform(0, 0.05))

    async with _on(random.choice(stage.wires), wait, wait):
        await asyncio.sleep(random.uniform(0.5, 1.5))


async def replies_lost(stage: Stage, random: Random) -> None:
    """The store carries out one server's commands. A third of the replies is lost with their
    connections.
    """

    async def lose(_: bytes) -> None:
        if random.random() < 0.3:
            raise ConnectionError

    async with _on(random.choice(stage.wires), on_reply=lose):
        await asyncio.sleep(random.uniform(0.5, 1.5))


async def replies_stall(stage: Stage, random: Random) -> None:
    """The store carries out one server's commands, and the replies come late or never."""
    over = asyncio.Event()

    async def stall(_: bytes) -> None:
        if random.random() < 0.3:
            await over.wait()

    async with _on(random.choice(stage.wires), on_reply=stall):
        await asyncio.sleep(random.uniform(0.5, 2.5))
    over.set()


async def wire_cut(stage: Stage, random: Random) -> None:
    """All connections between a server and the store break, one to five times. Each time it may be
    another server.
    """
    for _ in range(random.randint(1, 5)):
        await random.choice(stage.wires).cut()
        await asyncio.sleep(random.uniform(0, 0.3))


async def store_refuses(stage: Stage, random: Random) -> None:
    """One server can't connect to the store."""
    wire = random.choice(stage.wires)
    await wire.close()
    await asyncio.sleep(random.uniform(0.2, 1.5))
    await wire.open()


async def store_stopped(stage: Stage, random: Random) -> None:
    """The store hangs, and goes on."""
    process = stage.store.process_id
    os.kill(process, signal.SIGSTOP)
    try:
        await asyncio.sleep(random.choice((0.1, 0.5, 1.2, 2.5)))
    finally:
        os.kill(process, signal.SIGCONT)


async def store_killed(stage: Stage, random: Random) -> None:
    """The store is killed, and started again from its append-only file."""
    await asyncio.to_thread(os.kill, stage.store.process_id, signal.SIGKILL)
    await asyncio.sleep(random.uniform(0, 0.5))
    await asyncio.to_thread(stage.store.kill)
    await asyncio.to_thread(stage.store.start)


async def scripts_flushed(stage: Stage, random: Random) -> None:
    """The store forgets the scripts, over and over."""
    for _ in range(10):
        await asyncio.to_thread(_command, stage, "SCRIPT", "FLUSH")
        await asyncio.sleep(random.uniform(0, 0.1))


async def user_locked_out(stage: Stage, random: Random) -> None:
    """The service's Redis user is switched off, and its connections are closed."""
    user = _user_of(stage)
    await asyncio.to_thread(_command, stage, "ACL", "SETUSER", user, "off")
    await asyncio.to_thread(_command, stage, "CLIENT", "KILL", "USER", user)
    await asyncio.sleep(random.uniform(0.2, 1.0))
    await asyncio.to_thread(_command, stage, "ACL", "SETUSER", user, "on")


async def password_changed(stage: Stage, random: Random) -> None:
    """The service's Redis user has another password for a while. Its connections are closed."""
    user, own = _user_of(stage), str(stage.store.url.partition("@")[0].rpartition(":")[2])
    for password in (f"{own}-changed", own):
        await asyncio.to_thread(
            _command, stage, "ACL", "SETUSER", user, "resetpass", f">{password}"
        )
        await asyncio.to_thread(_command, stage, "CLIENT", "KILL", "USER", user)
        await asyncio.sleep(random.uniform(0.2, 1.0))


async def store_emptied(stage: Stage, random: Random) -> None:
    """All that the store holds is removed: everybody is signed out, and no event tells of it."""
    await asyncio.to_thread(_command, stage, "FLUSHALL")


async def server_killed(stage: Stage, random: Random) -> None:
    """A server is killed, and started again."""
    await _restart(random.choice(stage.servers), ServerProcess.kill)


async def server_restarted(stage: Stage, random: Random) -> None:
    """A server ends in order, and is started again."""
    await _restart(random.choice(stage.servers), ServerProcess.stop)


async def server_stopped(stage: Stage, random: Random) -> None:
    """A server hangs, and goes on."""
    server = random.choice(stage.servers)
    server.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(random.uniform(0.2, _LONGEST_STOP_SECONDS))
    finally:
        server.signal(signal.SIGCONT)


async def read_only(stage: Stage, random: Random) -> None:
    """The store becomes a replica of a server that is away, and refuses writes."""
    await asyncio.to_thread(_command, stage, "REPLICAOF", "127.0.0.1", "1")
    await asyncio.sleep(random.uniform(0.5, 2))
    await asyncio.to_thread(_command, stage, "REPLICAOF", "NO", "ONE")


async def full(stage: Stage, random: Random) -> None:
    """The store is full, and refuses to grow."""
    await asyncio.to_thread(_command, stage, "CONFIG", "SET", "maxmemory", "1")
    await asyncio.sleep(random.uniform(0.5, 2))
    await asyncio.to_thread(_command, stage, "CONFIG", "SET", "maxmemory", "0")


async def permission_taken(stage: Stage, random: Random) -> None:
    """The service may not do one of the things that it needs."""
    user, taken = (
        _user_of(stage),
        random.choice(("-xadd", "-publish", "-hset", "-hget", "-evalsha")),
    )
    await asyncio.to_thread(_command, stage, "ACL", "SETUSER", user, taken)
    await asyncio.sleep(random.uniform(0.5, 1.5))
    await asyncio.to_thread(_command, stage, "ACL", "SETUSER", user, f"+{taken[1:]}")


async def records_damaged(stage: Stage, random: Random) -> None:
    """Records are cut, emptied, lengthened, or of a version that nobody knows."""
    for _ in range(3):
        await asyncio.to_thread(_damage_one, stage, random)
        await asyncio.sleep(random.uniform(0, 0.3))


def _damage_one(stage: Stage, random: Random) -> None:
    assert stage.recorder is not None
    users = sorted({call.user for call in stage.recorder.history.calls})
    user, keys = random.choice(users), KeyNames()
    with redis.Redis.from_url(stage.store.admin_url) as admin:
        found = sorted(admin.hkeys(keys.sessions(user)))
        if not found:
            return
        key, name = random.choice(found), random.choice((keys.sessions(user), keys.devices(user)))
        whole = admin.hget(name, key) or b""
        forms = (b"", whole[: len(whole) // 2], b"\xff" + whole[1:], whole + b"x" * 80)
        stage.recorder.damage(user, key)
        admin.hset(name, key, random.choice(forms))


def named(*troubles: Trouble) -> dict[str, Trouble]:
    """The faults by name."""
    return {trouble.name: trouble for trouble in troubles}


STANDALONE = named(
    *map(Trouble, (wire_delays, replies_lost, replies_stall, wire_cut, store_refuses)),
    *map(Trouble, (store_stopped, scripts_flushed, user_locked_out, password_changed)),
    Trouble(store_killed, ends_watches=True),
    *(
        Trouble(make, holds_requests=True)
        for make in (server_killed, server_restarted, server_stopped)
    ),
    # After `REPLICAOF NO ONE` the store names another log.
    Trouble(read_only, ends_watches=True),
    *map(Trouble, (full, permission_taken, records_damaged)),
)


async def suffer(stage: Stage, trouble: Trouble, recorder: Recorder, random: Random) -> None:
    """Makes one fault, and waits until every server serves again."""
    started = now()
    try:
        await trouble.make(stage, random)
    finally:
        recorder.fault(trouble.name, started, **trouble.follows())
    await stage.heal()


@asynccontextmanager
async def _on(
    wire: Proxy,
    on_request: Callable[[bytes], Awaitable[None]] | None = None,
    on_reply: Callable[[bytes], Awaitable[None]] | None = None,
) -> AsyncIterator[None]:
    before = wire.on_request, wire.on_reply
    wire.on_request, wire.on_reply = on_request or before[0], on_reply or before[1]
    try:
        yield
    finally:
        wire.on_request, wire.on_reply = before


async def _restart(server: ServerProcess, end: Callable[[ServerProcess], None]) -> None:
    await asyncio.to_thread(end, server)
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(server.wait_until_serving)


def _command(stage: Stage, *words: str) -> Any:
    with redis.Redis.from_url(stage.store.admin_url) as admin:
        return admin.execute_command(*words)


def _user_of(stage: Stage) -> str:
    return str(stage.store.url.partition("//")[2].partition(":")[0])
