"""The stage of a run: real `serve` processes on a real store, each behind its own wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from session_authority.console.connection import Target, health
from session_authority.internal.v1 import records_pb2
from session_authority.runtime.addresses import Listen
from session_authority.store import KeyNames, RedisClient, connect
from session_authority.store.key_names import PARTITIONS
from session_authority.store.log_position import entry_id, event_id
from tests.faults.history import Event, Terms
from tests.faults.recorder import Recorder, call_of, now
from tests.processes.harness import add_signing_key
from tests.support.backends import PATIENT, ValkeyServer, valkey_server
from tests.support.commands import Command
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.waiting import wait_for

# The shortest times in whole seconds with which honest requests raise no alarm.
INTERVALS = {"GRACE": "2s", "DURABLE_AFTER": "4s", "ALARM_AFTER": "10s", "TOKEN_TTL": "30m"}
TERMS = Terms(durable_after=4, alarm_after=10, longest_flight=4)
_UNSAFE = "open-access,volatile-store,short-grace"


class ServerProcess:
    """`serve` on a port that it keeps when it is killed and started again."""

    def __init__(
        self, name: str, folder: Path, url: str, keys: Path, settings: Mapping[str, str]
    ) -> None:
        self.name = name
        self.address = f"127.0.0.1:{free_port()}"
        self._folder = folder / name
        self._settings = {
            "REDIS_URL": url,
            "KEYS": str(keys),
            "LISTEN": self.address,
            "ALLOW_UNSAFE": _UNSAFE,
            **INTERVALS,
            **settings,
        }
        self.start()

    def start(self) -> None:
        """Starts the server. Also starts it again after it has ended."""
        self._command = self._serve()

    def _serve(self) -> Command:
        return Command(self._folder, ["serve"], self._settings)

    def wait_until_serving(self) -> None:
        """Waits until the server's health is SERVING."""
        target = Target(Listen.parse(self.address))
        wait_for(lambda: health(target, 1.0) == "SERVING", f"{self.name} to serve", 60)

    @property
    def process_id(self) -> int:
        """The process ID of the running server. With several workers it is their supervisor's."""
        return int(self._command.process.pid)

    def logged(self, event: str) -> int:
        """How often the server logged this event since its last start."""
        return self._command.events().count(event)

    def signal(self, number: int) -> None:
        """Sends a signal."""
        self._command.process.send_signal(number)

    def kill(self) -> None:
        """Kills it, whatever its state is."""
        self._command.kill()

    def stop(self) -> None:
        """Lets it end in order."""
        self._command.terminate()


@dataclass
class Stage:
    """A store and the servers on it. Each server reaches the store over its own wire, if there are
    `wires`.
    """

    servers: Sequence[ServerProcess]
    admin: Callable[[], RedisClient]
    store: Any
    wires: Sequence[Proxy] = ()
    recorder: Recorder | None = None
    """The recorder of the run that is played here."""

    async def log(self) -> list[Event]:
        """All events, with the events of a user in their order."""
        keys, found = KeyNames(), []
        async with _closing(self.admin()) as client:
            for number in range(PARTITIONS):
                entries = await client.execute_command("XRANGE", keys.stream(number), "-", "+")
                found += [_event(number, raw, fields) for raw, fields in entries]
        return found

    async def heal(self) -> None:
        """Waits until every server serves."""
        await asyncio.gather(
            *(asyncio.to_thread(server.wait_until_serving) for server in self.servers)
        )


@asynccontextmanager
async def _closing(client: RedisClient) -> AsyncIterator[RedisClient]:
    try:
        yield client
    finally:
        await client.aclose()


def _event(partition: int, raw: bytes, fields: Any) -> Event:
    values = (
        dict(zip(fields[::2], fields[1::2], strict=True)) if isinstance(fields, list) else fields
    )
    record = records_pb2.EventRecord.FromString(values[b"event"])
    name = records_pb2.EventType.Name(record.type).removeprefix("EVENT_TYPE_")
    tag = record.reason or record.client.app_version
    ident = event_id(partition, entry_id(raw))
    at = record.time_ms / 1000 - time.time() + now()
    return Event(ident, name, record.user_id, record.session_id.hex(), call_of(tag), at)


def durable_valkey(folder: Path) -> AbstractContextManager[ValkeyServer]:
    """The bundled Valkey, which syncs each write before it answers. Otherwise, if the process is
    killed, a write could be lost that was answered and that a slow disk delayed.
    """
    return valkey_server(folder, appendonly="yes", appendfsync="always")


@asynccontextmanager
async def standalone(
    folder: Path,
    servers: int = 2,
    *,
    wire: Callable[[str], Proxy] | None = Proxy,
    store: Callable[[Path], AbstractContextManager[Any]] = durable_valkey,
    process: type[ServerProcess] = ServerProcess,
    **settings: str,
) -> AsyncIterator[Stage]:
    """A store with an append-only file, and servers, each with a wire to the store. The bytes on a
    wire pass through this process. There are no wires if `wire` is None. `settings` are the
    servers' settings.
    """
    async with AsyncExitStack() as stack:
        context = store(folder / "store")
        opened = await asyncio.to_thread(context.__enter__)
        stack.push_async_callback(asyncio.to_thread, context.__exit__, None, None, None)
        made = [wire(opened.url) for _ in range(servers)] if wire is not None else []
        wires = [await stack.enter_async_context(one) for one in made]
        admin_url, urls = opened.admin_url, [one.url for one in wires] or [opened.url] * servers
        stage = await serving(
            stack, folder, urls, lambda: connect(admin_url, PATIENT), opened, process, **settings
        )
        stage.wires = wires
        yield stage


async def serving(
    stack: AsyncExitStack,
    folder: Path,
    urls: Sequence[str],
    admin: Callable[[], RedisClient],
    store: Any,
    process: type[ServerProcess] = ServerProcess,
    /,
    **settings: str,
) -> Stage:
    """A server for each URL of the store, as part of a stack that ends them."""
    add_signing_key(folder / "keys")
    processes = []
    for number, url in enumerate(urls, 1):
        made = await asyncio.to_thread(
            process, f"server-{number}", folder, url, folder / "keys", settings
        )
        stack.push_async_callback(asyncio.to_thread, made.kill)
        processes.append(made)
    stage = Stage(processes, admin, store)
    await stage.heal()
    return stage
