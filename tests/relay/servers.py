"""Servers on loopback that answer a request as a test says, however badly, and record what they
receive.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from tests.support.ca import CA

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
_DRIP_SECONDS = 0.02


@dataclass(frozen=True)
class Request:
    """A request as it arrived. The names of its headers are in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers each request by `answer`, which ends the connection by closing its writer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.port = 0
        self.connections = 0
        self.requests: list[Request] = []
        self.names: list[str | None] = []  # The name with which TLS was started.
        self._at_work: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Condition()

    def tell_name(self, _: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        """Records the name of the server that a client asks for."""
        self.names.append(name)

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handles a connection."""
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)

    async def asked(self, times: int) -> None:
        """Waits until this many requests arrived."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= times)

    async def left(self) -> None:
        """Waits until all clients have closed their connections."""
        await asyncio.gather(*self._at_work)

    async def close(self) -> None:
        """Closes all connections."""
        for task in self._at_work:
            task.cancel()
        await asyncio.gather(*self._at_work, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not writer.is_closing():
                request = await _read(reader)
                async with self._arrived:
                    self.requests.append(request)
                    self._arrived.notify_all()
                await self.answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client closed the connection.
        finally:
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()  # Nobody reads it.
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Request:
    line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    headers = {
        name.lower(): value for name, _, value in (field.partition(": ") for field in fields)
    }
    return Request(line, headers, await reader.readexactly(int(headers["content-length"])))


@asynccontextmanager
async def serving(
    answer: Answer, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Server]:
    """A listening server."""
    server = Server(answer)
    if tls is not None:
        tls.sni_callback = server.tell_name
    listening = await asyncio.start_server(server.take, host, port, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await server.close()
        await listening.wait_closed()


def says(answer: bytes, then_hangs_up: bool = False) -> Answer:
    """Sends these bytes."""

    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        if then_hangs_up:
            writer.close()

    return say


def status(line: str, *headers: str) -> Answer:
    """An answer without a body, with this status."""
    return says("\r\n".join((f"HTTP/1.1 {line}", *headers, "content-length: 0", "", "")).encode())


async def hangs(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Sends nothing until the client gives up."""
    await reader.read()


def drips(start: bytes) -> Answer:
    """Sends this, and then a byte now and then until the client closes the connection."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not reader.at_eof():
            writer.write(b".")
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DRIP_SECONDS):
                    await reader.read(1)

    return drip


def floods(start: bytes, more: bytes) -> Answer:
    """Sends `start`, and then `more` again and again, as fast as the client reads."""

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(more)
            await writer.drain()

    return flood


def trusting(authority: CA) -> ssl.SSLContext:
    """A client that trusts only this authority."""
    return ssl.create_default_context(cadata=authority.pem.decode())


def server_tls(
    authority: CA,
    *names: str,
    lasts: timedelta = timedelta(days=1),
    self_signed: bool = False,
) -> ssl.SSLContext:
    """A server with a certificate for these names and addresses. The certificate began a week ago,
    and ends this long from now.
    """
    addresses = [name for name in names if name[-1].isdigit()]
    pair = authority.sign(
        hosts=[name for name in names if name not in addresses],
        addresses=addresses,
        starts=-timedelta(days=7),
        ends=lasts,
        self_signed=self_signed,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    return context
