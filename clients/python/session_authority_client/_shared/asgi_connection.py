"""Wraps an ASGI connection, so that the middleware can end the connection while the app is running.
The middleware ends only WebSockets and event streams.

When the middleware ends a connection, the client is disconnected at once. The app receives the same
disconnect message as if the client had left. If the app sends a message after the end of the
connection, the message is dropped, or the app gets an exception. If the app still runs 10 seconds
after the end of a WebSocket, or 1 second after the end of an event stream, the app is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any

from session_authority_client._shared.refusals import find

_Message = MutableMapping[str, Any]

# WebSockets have private close codes from 4000 (RFC 6455, section 7.4.2). This code is 4000 plus
# 401, the HTTP status for a request without a session.
CLOSE_CODE = 4401
CLOSE_REASON = "session_ended"
# When the middleware ends a connection, the app may run for this many more seconds. After that
# time, the app is cancelled.
_WEBSOCKET_GRACE_SECONDS = 10.0
_STREAM_GRACE_SECONDS = 1.0
# Since this version of ASGI's specification for HTTP and WebSockets, a server raises an error if
# the app sends a message to a client that has left.
_RAISING_SPEC = (2, 4)


async def turn_of_others() -> None:
    """Lets other tasks run. Code that drops messages of an app awaits this function for each
    dropped message. Without this function, an app that only sends messages would block all other
    tasks, and could not be cancelled.
    """
    await asyncio.sleep(0)


class HungUp(ConnectionError):
    """The app sent a message after the app's connection was ended."""


class Connection:
    """Wraps one ASGI connection, which the method `hang_up` can end. Call the app within the
    context manager `async with connection`.
    """

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
        except Exception:  # noqa: BLE001 - a server may raise if the client has left
            return

    async def __aenter__(self) -> None:
        await self._life.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Suppresses HungUp, and the cancellation of an app that ran too long after `hang_up`.

        An exception that contains HungUp, for example as its cause, is also suppressed. An
        exception that does not contain HungUp is raised.
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
