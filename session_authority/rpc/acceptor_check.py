"""Checks that standing tasks work with the installed release of grpc.

The check makes real calls over a socket in a temporary folder. First, many calls arrive at the same
time. Then one call fails, one call has no request, and one call is cancelled by its caller.
Finally, the check stops the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from session_authority.rpc import wakeups
from session_authority.rpc.acceptor import MIN_WAITING_TASKS, standing_server

_PATH = "/session_authority.Check/Echo"
_CHECK_SECONDS = 10.0
_FAILS, _HANGS = b"fails", b"hangs"
_DETAILS = (("reason-bin", b"\x00\xff"),)
# The number of calls that arrive at the same time. The number exceeds the number of tasks that wait
# for calls at the start.
_CALLS = 2 * MIN_WAITING_TASKS


class NotAsNeeded(Exception):
    """Standing tasks do not work with this release of grpc. The message gives the reason."""


class _Echo:
    """A test method that answers a call with the request of the call. If there is no request, or
    the request is `fails`, the call fails. If the request is `hangs`, the call gets no answer.
    """

    def __init__(self) -> None:
        self.answered = 0
        self.sent = 0
        self.given_up = False
        self.hanging = asyncio.Event()
        self.idle = asyncio.Event()

    async def answer(self, context: Any) -> bytes | grpc.Status:
        self.answered += 1
        self.idle.clear()
        message = await context.read()
        if message is grpc.aio.EOF or message == _FAILS:
            return _Failure()  # type: ignore[return-value]
        if message == _HANGS:
            self.hanging.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.given_up = True
                raise
        text: bytes = message
        return text

    def note_sent(self, _: object) -> None:
        self.sent += 1
        if self.sent == self.answered:
            self.idle.set()


class _Failure(NamedTuple):
    """The status with which a call fails."""

    code: grpc.StatusCode = grpc.StatusCode.NOT_FOUND
    details: str = "no"
    trailing_metadata: tuple[tuple[str, bytes], ...] = _DETAILS


async def check() -> None:
    """Tests standing tasks with the installed release of grpc. If the test fails, calls
    `wakeups.uninstall`, so that grpc.aio uses its own sockets again.

    Raises NotAsNeeded, or any other error that an unsuitable release raises.
    """
    try:
        await _check()
    except Exception:
        wakeups.uninstall()
        raise


async def _check() -> None:
    faults: list[Exception] = []
    echo = _Echo()
    with tempfile.TemporaryDirectory(prefix="session-authority-") as folder:
        address = f"unix:{Path(folder) / 's'}"
        server, core = standing_server((), (), faults.append)
        core.answer(_PATH, echo.answer, echo.note_sent)
        if server.add_insecure_port(address) == 0:
            raise NotAsNeeded("it listens on no socket")
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await _try(server, address, echo)
        except TimeoutError:
            raise NotAsNeeded("a call does not end") from None
        finally:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.stop(0), _CHECK_SECONDS)
    if faults:
        raise faults[0]
    _must(echo.sent == echo.answered == _CALLS + 3, "it loses count of calls")


async def _try(server: grpc.aio.Server, address: str, echo: _Echo) -> None:
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        method: Any = channel.unary_unary(_PATH)
        texts = [str(number).encode() for number in range(_CALLS)]
        _must(await asyncio.gather(*map(method, texts)) == texts, "a call gets a wrong answer")
        failed = method(_FAILS)
        _must(await failed.code() is grpc.StatusCode.NOT_FOUND, "a failure has another status")
        _must(tuple(await failed.trailing_metadata()) == _DETAILS, "a failure has other details")
        empty: Any = channel.stream_unary(_PATH)(iter(()))
        _must(await empty.code() is grpc.StatusCode.NOT_FOUND, "a missing request is answered")
        hanging = method(_HANGS)
        await echo.hanging.wait()
        hanging.cancel()
        await echo.idle.wait()
        _must(echo.given_up, "a call goes on when its caller gives up")


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NotAsNeeded(otherwise)
