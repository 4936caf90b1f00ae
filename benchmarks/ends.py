"""Measures how soon a sign-out ends an open connection, and what open connections cost an app.

Starts a Valkey, a server, and apps behind the middleware, each in a process of its own.

  end    the time from the answer of RevokeDevice until the connection ends at the client, for a
         WebSocket and for an event stream. Other connections are open at the same time, and the
         sign-outs follow one another
  open   the memory and CPU of an app for each open and silent event stream, with and without a
         middleware that ends streams: once with a near cache, and once with polls

    make bench ARGS=ends
    .venv/bin/python -m benchmarks.ends open --connections 10000
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvicorn

from benchmarks.client import Server, _start, server
from session_authority_client import AsyncSessionAuthority, NearCache
from session_authority_client.asgi import SessionAuthorityMiddleware, visit_of
from session_authority_client.flow import Flow

_PATIENCE = timedelta(seconds=30)
_AT_ONCE = 64
_CLOSED = (4401).to_bytes(2)
_LAST_CHUNK = b"0\r\n\r\n"
_SOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
_SOCKET_KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
        return
    visit_of(scope).require()
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
    else:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
    while (await receive())["type"] not in ("websocket.disconnect", "http.disconnect"):
        pass


def _serve(address: str, cached: bool, ends: bool, pipe: Connection) -> None:
    async def main() -> None:
        cache = NearCache(max_entries=50_000) if cached else None
        client = AsyncSessionAuthority(address, timeout=_PATIENCE, cache=cache)
        app: Any = SessionAuthorityMiddleware(_app, client, Flow(end_connections=ends))
        config = uvicorn.Config(
            app, "127.0.0.1", 0, ws="wsproto", log_level="critical", backlog=4096
        )
        served = uvicorn.Server(config)
        serving = asyncio.create_task(served.serve())
        while not served.started:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        await client.validate_session("none", "")  # starts the watch
        while cache is not None and not cache.live:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        pipe.send(served.servers[0].sockets[0].getsockname()[1])
        await asyncio.to_thread(pipe.recv)
        served.should_exit = served.force_exit = True
        await serving

    asyncio.run(main())


class App(Server):
    """An app in a process of its own."""

    def resident_kib(self) -> int:
        """Returns the resident memory of the app."""
        status = Path(f"/proc/{self._process_id}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])


@contextmanager
def _running(at: Server, *, cached: bool, ends: bool) -> Iterator[App]:
    process, pipe = _start(_serve, at.address, cached, ends)
    assert process.pid is not None
    try:
        yield App(str(pipe.recv()), process.pid)
    finally:
        pipe.send("stop")
        process.join(5)
        process.kill()


Pair = tuple[str, str]
Open = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _sign_in(client: AsyncSessionAuthority, users: Sequence[str]) -> list[Pair]:
    pairs: list[Pair] = []
    for start in range(0, len(users), _AT_ONCE):
        some = users[start : start + _AT_ONCE]
        issued = await asyncio.gather(*(client.issue_device(user) for user in some))
        pairs += [(one.access_token, one.device.device_id) for one in issued]
    return pairs


async def _open(app: App, pair: Pair, *, socket: bool) -> Open:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(app.address))
    upgrade = _SOCKET + _SOCKET_KEY if socket else ""
    writer.write(
        f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {pair[0]}\r\n"
        f"X-Device-Id: {pair[1]}\r\n{upgrade}\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101" if socket else b"HTTP/1.1 200"), head
    return reader, writer


async def _until_ended(opened: Open, *, socket: bool) -> float:
    found = b""
    while (_CLOSED if socket else _LAST_CHUNK) not in found:
        more = await opened[0].read(4096)
        assert more, "it broke"
        found += more
    return time.perf_counter()


async def end(at: Server, connections: int, _: float) -> None:
    """Measures how long a sign-out takes to end a connection."""
    count = min(connections, 1000)
    async with AsyncSessionAuthority(at.address, timeout=_PATIENCE) as client:
        users = [f"user-{number}" for number in range(count)]
        with _running(at, cached=True, ends=True) as app:
            for socket, name in ((True, "WebSocket"), (False, "event stream")):
                pairs = await _sign_in(client, users)
                opened = [await _open(app, pair, socket=socket) for pair in pairs]
                took: list[float] = []
                for user, (_token, device), one in zip(users, pairs, opened, strict=True):
                    ending = asyncio.create_task(_until_ended(one, socket=socket))
                    await client.revoke_device(user, device)
                    answered = time.perf_counter()
                    took.append((await ending - answered) * 1e3)
                    one[1].close()
                p99 = statistics.quantiles(took, n=100)[98]
                _say(
                    f"{name:>12}: {count} sign-outs, median {statistics.median(took):.1f} ms, p99"
                    f" {p99:.1f} ms, max {max(took):.1f} ms"
                )


async def open_(at: Server, connections: int, seconds: float) -> None:
    """Measures the memory and CPU that open connections cost."""
    async with AsyncSessionAuthority(at.address, timeout=_PATIENCE) as client:
        pairs = await _sign_in(client, [f"user-{number}" for number in range(connections)])
        for cached in (True, False):
            for ends in (False, True):
                with _running(at, cached=cached, ends=ends) as app:
                    empty = app.resident_kib()
                    opened = [await _open(app, pair, socket=False) for pair in pairs]
                    await asyncio.sleep(2)  # until the new connections have been checked
                    memory, busy, served = app.resident_kib(), app.cpu_seconds(), at.cpu_seconds()
                    await asyncio.sleep(seconds)
                    _say(
                        f"{'near cache' if cached else 'polls':>10}, {'ends' if ends else 'stays'}:"
                        f" {(memory - empty) / connections:.2f} KiB each; of all"
                        f" {(app.cpu_seconds() - busy) / seconds:.2%} of a core, and"
                        f" {(at.cpu_seconds() - served) / seconds:.2%} of the server's"
                    )
                    for one in opened:
                        one[1].close()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the named measurements, or both if none is named."""
    what = {"end": end, "open": open_}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", choices=[*what, []], help="both, if none is named")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long they stay open")
    asked = parser.parse_args(arguments)
    for name in asked.what or what:
        with server() as at:
            asyncio.run(what[name](at, asked.connections, asked.seconds))


if __name__ == "__main__":
    main()
