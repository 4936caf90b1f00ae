"""Passes the events of a watch to a near cache, in a task. The watch has a connection of its own.
When a watch ends, another watch is started.

A near cache is emptied when its watch breaks. So a new watch need not resume the old watch, and
starts at the present moment. A watch counts as broken if it sends no proof for too long. After a
failure of the watch, the near cache gives no answers until the next watch works. This module logs
the failure.

This module and `_sync/watching.py` are both written by hand, because tasks and threads wait in
different ways. A task can wait with a timeout, and can be cancelled. A thread that waits for gRPC
can be interrupted only by another thread that cancels the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any

import grpc

from session_authority_client._shared.calls import watch_of
from session_authority_client._shared.failures import error_of
from session_authority_client._shared.open_sessions import OpenSessions
from session_authority_client._shared.transport import Transport
from session_authority_client._shared.watching import Backoff
from session_authority_client.cache import NearCache
from session_authority_client.errors import CursorExpired
from session_authority_client.wire import session_authority_pb2 as pb


class AsyncWatch:
    """Runs the watch of a client's near cache, in a task of the event loop in which the watch is
    first started.
    """

    def __init__(
        self,
        cache: NearCache,
        sessions: OpenSessions,
        transport: Transport,
        open_channel: Callable[..., Any],
    ) -> None:
        self._cache = cache
        self._sessions = sessions
        self._transport = transport
        self._open_channel = open_channel
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Starts the watch if it does not run yet, or if another task has cancelled it."""
        if (self._task is None or self._task.done()) and not self._closed:
            # The watch serves many callers, so its task has a context of its own.
            self._task = asyncio.get_running_loop().create_task(
                self._keep_watching(), context=Context()
            )

    async def close(self) -> None:
        """Ends the watch."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._cache.lost()

    async def _keep_watching(self) -> None:
        backoff = Backoff()
        channel = self._open_channel()
        try:
            while True:
                error: BaseException | None = None
                try:
                    await self._watch(watch_of(channel), backoff)
                except Exception as caught:  # noqa: BLE001 - watching must go on
                    error = caught
                finally:
                    left = self._cache.seconds_left()
                    self._cache.lost(history_gone=isinstance(error, CursorExpired))
                    self._sessions.lost(left)
                await asyncio.sleep(backoff.next_seconds(error))
        finally:
            await channel.close()

    async def _watch(self, method: Any, backoff: Backoff) -> None:
        loop = asyncio.get_running_loop()
        metadata = self._transport.metadata()
        self._cache.begin()
        stream = method(pb.WatchEventsRequest(), metadata=metadata)
        try:
            async with asyncio.timeout(self._cache.seconds_left()) as idle:
                async for message in stream:
                    self._cache.tell(message)
                    self._sessions.tell(message)
                    idle.reschedule(loop.time() + self._cache.seconds_left())
                    backoff.reset()
        except grpc.RpcError as error:
            raise error_of(error) from None
        finally:
            stream.cancel()
