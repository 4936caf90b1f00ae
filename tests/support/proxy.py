"""A wire between a client and a server, which a test can slow down, cut, and listen to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from urllib.parse import urlsplit

_CHUNK = 1 << 16
# While `on_request` or `on_reply` runs: the number of the connection.
CONNECTION: ContextVar[int] = ContextVar("CONNECTION")


async def _pass(_: bytes) -> None:
    """Passes the bytes on."""


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


class Proxy:
    """Passes bytes on between the clients that connect to `url` and the server at `target`.

    `on_request` and `on_reply` are awaited before bytes are passed on: they may wait, or raise
    `ConnectionError` to cut that one connection. `commands` counts the commands by name.
    """

    def __init__(self, target: str) -> None:
        self._user = urlsplit(target).netloc.rpartition("@")[0]
        self._target = _address(target)
        self.on_request: Callable[[bytes], Awaitable[None]] = _pass
        self.on_reply: Callable[[bytes], Awaitable[None]] = _pass
        self.commands: Counter[str] = Counter()
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._port = 0

    @property
    def url(self) -> str:
        """The proxy's address, with the user of the target. It stays the same after the proxy was
        closed and opened again.
        """
        return (
            f"redis://{self._user}@127.0.0.1:{self._port}"
            if self._user
            else f"redis://127.0.0.1:{self._port}"
        )

    async def open(self) -> None:
        """Starts to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stops to listen, so that connections are refused, and cuts all connections."""
        self._server.close()
        await self.cut()
        await self._server.wait_closed()

    async def lead_to(self, target: str) -> None:
        """Connects to another server from now on, and cuts all connections."""
        self._target = _address(target)
        await self.cut()

    def say(self, data: bytes) -> None:
        """Sends bytes that no client requested to all clients."""
        for writer in self._clients:
            writer.write(data)

    async def cut(self) -> None:
        """Cuts all connections, and lets clients in this event loop notice it."""
        for writer in self._writers:
            writer.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for _ in range(10):
            await asyncio.sleep(0)

    async def __aenter__(self) -> Proxy:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        CONNECTION.set(self.connections)
        self._writers.add(writer)
        self._clients.add(writer)
        up = None
        try:
            server_reader, up = await asyncio.open_connection(*self._target)
            self._writers.add(up)
            ways = [
                asyncio.create_task(self._carry(reader, up, requests=True)),
                asyncio.create_task(self._carry(server_reader, writer, requests=False)),
            ]
            for way in ways:
                self._tasks.add(way)
                way.add_done_callback(self._tasks.discard)
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
        except OSError:
            pass  # The server refuses, so the wire refuses too.
        finally:
            self._clients.discard(writer)
            for end in (writer, up):
                if end is not None:
                    self._writers.discard(end)
                    end.close()

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, requests: bool
    ) -> None:
        with suppress(ConnectionError):
            while data := await source.read(_CHUNK):
                if requests:
                    self._count(data)
                await (self.on_request if requests else self.on_reply)(data)
                sink.write(data)
                await sink.drain()

    def _count(self, data: bytes) -> None:
        """Counts commands by the first line of each piece that looks like a command. The count is
        right for commands smaller than a chunk.
        """
        for part in data.split(b"\r\n*")[0:]:
            lines = part.lstrip(b"*").split(b"\r\n", 3)
            if len(lines) >= 3 and lines[0].isdigit() and lines[1].startswith(b"$"):
                self.commands[lines[2].decode(errors="replace").upper()] += 1


def lose_one_reply(wires: Sequence[Proxy], how: str) -> None:
    """From now on, loses the first reply to a script, by a "cut" or by "silence", and no other
    reply.

    A second attempt of the client would therefore succeed, and be seen.
    """
    carriers: set[tuple[Proxy, int]] = set()
    lost = False

    async def note(wire: Proxy, request: bytes) -> None:
        if b"EVALSHA" in request:
            carriers.add((wire, CONNECTION.get()))

    async def lose(wire: Proxy, _: bytes) -> None:
        nonlocal lost
        # The next reply may be one to a client's greeting on another connection, which is not lost.
        if not lost and (wire, CONNECTION.get()) in carriers:
            lost = True
            if how == "cut":
                raise ConnectionError
            await asyncio.Event().wait()

    for wire in wires:
        wire.commands.clear()
        wire.on_request = partial(note, wire)
        wire.on_reply = partial(lose, wire)
