"""An ASGI connection that the middleware can end while the app is running. The middleware ends only
WebSockets and event streams.

The client is disconnected at once. For the app it looks as if the client had left. The app receives
a disconnect message, and each message that the app sends raises an error or is dropped. If the app
still runs 10 seconds later, or 1 second later with an event stream, the app is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any

from session_authority_client._shared.refusals import find

_Message = MutableMapping[str, Any]

# Private codes of WebSockets begin at 4000 (RFC 6455, section 7.4.2). 401 is the HTTP status of a
# request without a session.
CLOSE_CODE = 4401
CLOSE_REASON = "session_ended"
# How long the app may go on after its client was disconnected. After that, the app is cancelled.
_WEBSOCKET_GRACE_SECONDS = 10.0
_STREAM_GRACE_SECONDS = 1.0
# With this version or a later version of ASGI's specification for HTTP and WebSockets, the server
# raises an error if the app sends a message to a client that has left.
_RAISING_SPEC = (2, 4)


async def turn_of_others() -> None:
    """Lets other tasks run. It is awaited for each message that is dropped. Otherwise an app that
    only sends messages would block all other tasks, and could not be cancelled.
    """
    await asyncio.sleep(0)


class HungUp(ConnectionError):
    """The app sent a message after its connection was ended."""


class Connection:
    """One ASGI connection. Use it as a context manager around the call of the app."""

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        self._is_websocket = scope["type"] == "websocket"
        version = scope.get("asgi", {}).get("spec_version", "2.0")
        self._raises = tuple(int(part) for part in version.split(".")) >= _RAISING_SPEC
        self._receive = receive
        self._send = send
        self._life = asyncio.timeout(None)
        self._waits: set[asyncio.Timeout] = set()
        self._hung_up = self._is_over = False
        self._goodbye: asyncio.Task[None] | None = None

    async def receive(self) -> _Message:
        """Receives a message from the client. After `hang_up`, returns a disconnect message. The
        app gets this method as its `receive`.
        """
        if not self._hung_up:
            wait = asyncio.timeout(None)
            try:
                async with wait:
                    self._waits.add(wait)
                    return await self._receive()
            except TimeoutError:
                if not wait.expired():
                    raise
            finally:
                self._waits.discard(wait)
        if self._is_websocket:
            return {"type": "websocket.disconnect", "code": CLOSE_CODE, "reason": CLOSE_REASON}
        return {"type": "http.disconnect"}

    async def send(self, message: _Message) -> None:
        """Sends a message of the app. After `hang_up`, drops the message, or raises HungUp if the
        ASGI version of the server is 2.4 or later. The app gets this method as its `send`.
        """
        if self._hung_up:
            if self._raises:
                raise HungUp(CLOSE_REASON)
            await turn_of_others()
            return
        kind = message["type"]
        if kind == "websocket.close" or (
            kind == "http.response.body" and not message.get("more_body")
        ):
            self._is_over = True
        await self._send(message)

    def hang_up(self) -> None:
        """Ends the connection. Does nothing if the connection has already ended."""
        if self._hung_up or self._is_over:
            return
        self._hung_up = True
        loop = asyncio.get_running_loop()
        self._goodbye = loop.create_task(self._say_goodbye())
        for wait in self._waits:
            wait.reschedule(loop.time())
        grace = _WEBSOCKET_GRACE_SECONDS if self._is_websocket else _STREAM_GRACE_SECONDS
        self._life.reschedule(loop.time() + grace)

    async def _say_goodbye(self) -> None:
        message: _Message = {"type": "http.response.body", "body": b"", "more_body": False}
        if self._is_websocket:
            message = {"type": "websocket.close", "code": CLOSE_CODE, "reason": CLOSE_REASON}
        try:
            await self._send(message)
        except Exception:  # noqa: BLE001 - a server may raise it if the client has left
            return

    async def __aenter__(self) -> None:
        await self._life.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Suppresses HungUp, and the cancellation of an app that went on too long after `hang_up`.

        An exception that contains HungUp, for example as its cause, is also suppressed. Every other
        exception is raised.
        """
        self._is_over = True
        try:
            await self._life.__aexit__(kind, error, trace)
        except TimeoutError:
            if not self._life.expired():
                raise
            error = None
        if self._goodbye is not None:  # a server drops messages after the app's end
            await asyncio.wait([self._goodbye], timeout=_STREAM_GRACE_SECONDS)
            self._goodbye.cancel()
        return self._hung_up and (error is None or find(error, HungUp) is not None)
