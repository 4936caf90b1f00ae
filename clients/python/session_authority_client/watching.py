"""Keeps a near cache told of what happens: watches, from now on, on a connection of its own, and
again whenever that ends.

A cache whose watch broke is empty, so there is nothing to resume: each watch starts now. One that
proves nothing for too long is given up like one that broke. Whatever goes wrong, the cache is off
until it goes right again, and the log says so.

`TaskWatch` is for asyncio and `ThreadWatch` for threads. A task's wait has a timeout; a thread that
waits for gRPC can only be woken by somebody who cancels the call, which a timer does.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any

import grpc

from session_authority_client._shared.transport import Transport
from session_authority_client.cache import NearCache
from session_authority_client.calls import watch_of
from session_authority_client.errors import (
    CallerNotAllowed,
    CallerUnknown,
    SessionAuthorityError,
    error_of,
)
from session_authority_client.wire import session_authority_pb2 as pb

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0
_CLOSE_SECONDS = 2.0

_log = logging.getLogger("session_authority_client")


class _Luck:
    """How long to wait before the next watch, and what to say of it: once when it goes wrong, once
    when it is mended.
    """

    def __init__(self) -> None:
        self._pause = _FIRST_PAUSE_SECONDS
        self._said = ""

    def good(self) -> None:
        """A watch has begun."""
        self._pause = _FIRST_PAUSE_SECONDS
        if self._said:
            self._said = ""
            _log.info("the near cache is on again")

    def bad(self, error: BaseException | None) -> float:
        """A watch has ended; how many seconds to wait. Those who lost it together don't come back
        together.
        """
        if error is None or isinstance(error, TimeoutError):
            why = "the watch proved nothing for too long" if error else "the watch was ended"
        elif isinstance(error, SessionAuthorityError):
            why = f"{type(error).__name__}: {error}"
        else:
            why = type(error).__name__
        if why != self._said:
            self._said = why
            unforeseen = (
                None
                if error is None or isinstance(error, SessionAuthorityError | TimeoutError)
                else error
            )
            _log.warning(
                "the near cache is off until it can watch again: %s", why, exc_info=unforeseen
            )
        if isinstance(error, CallerNotAllowed | CallerUnknown):
            self._pause = _LONGEST_PAUSE_SECONDS
        pause = self._pause * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
        return pause


class TaskWatch:
    """Watches in a task of the event loop in which it is first started."""

    def __init__(
        self, cache: NearCache, transport: Transport, open_channel: Callable[..., Any]
    ) -> None:
        self._cache = cache
        self._transport = transport
        self._open_channel = open_channel
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Watches from now on, if it does not yet, or if somebody cancelled all tasks that they
        found.
        """
        if (self._task is None or self._task.done()) and not self._closed:
            # It is for all, so it is no part of what the first who asks is in.
            self._task = asyncio.get_running_loop().create_task(
                self._keep_watching(), context=Context()
            )

    async def close(self) -> None:
        """Hangs up."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._cache.lost()

    async def _keep_watching(self) -> None:
        luck = _Luck()
        channel = self._open_channel()
        try:
            while True:
                error: BaseException | None = None
                try:
                    await self._watch(watch_of(channel), luck)
                except Exception as caught:  # noqa: BLE001 - it must go on
                    error = caught
                finally:
                    self._cache.lost()
                await asyncio.sleep(luck.bad(error))
        finally:
            await channel.close()

    async def _watch(self, method: Any, luck: _Luck) -> None:
        loop = asyncio.get_running_loop()
        metadata = self._transport.metadata()
        self._cache.begin()
        stream = method(pb.WatchEventsRequest(), metadata=metadata)
        try:
            async with asyncio.timeout(self._cache.seconds_left()) as patience:
                async for message in stream:
                    self._cache.tell(message)
                    patience.reschedule(loop.time() + self._cache.seconds_left())
                    luck.good()
        except grpc.RpcError as error:
            raise error_of(error) from None
        finally:
            stream.cancel()


class ThreadWatch:
    """Watches in a thread of its own, which keeps no program from ending."""

    def __init__(
        self, cache: NearCache, transport: Transport, open_channel: Callable[..., Any]
    ) -> None:
        self._cache = cache
        self._transport = transport
        self._open_channel = open_channel
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stream: Any = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Watches from now on, if it does not yet."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(
                    target=self._keep_watching, name="session-authority-watch", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """Hangs up."""
        with self._lock:
            self._closed.set()
            thread, stream = self._thread, self._stream
        if stream is not None:
            stream.cancel()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSE_SECONDS)
        self._cache.lost()

    def _keep_watching(self) -> None:
        luck = _Luck()
        channel = self._open_channel()
        try:
            while not self._closed.is_set():
                error: BaseException | None = None
                try:
                    self._watch(watch_of(channel), luck)
                except Exception as caught:  # noqa: BLE001 - it must go on
                    error = caught
                finally:
                    self._cache.lost()
                if not self._closed.is_set():
                    self._closed.wait(luck.bad(error))
        finally:
            channel.close()

    def _watch(self, method: Any, luck: _Luck) -> None:
        metadata = self._transport.metadata()
        self._cache.begin()
        stream = method(pb.WatchEventsRequest(), metadata=metadata)
        with self._lock:
            self._stream = stream
            if self._closed.is_set():  # before there was anything to cancel
                stream.cancel()
        silence = _Silence(stream, self._cache.seconds_left())
        try:
            for message in stream:
                self._cache.tell(message)
                if message.HasField("read_time"):
                    silence.ends_in(self._cache.seconds_left())
                luck.good()
        except grpc.RpcError as error:
            if silence.fell:
                raise TimeoutError from None
            raise error_of(error) from None
        finally:
            silence.stop()
            stream.cancel()


class _Silence:
    """Ends a call when it has been silent for too long."""

    def __init__(self, stream: Any, seconds: float) -> None:
        self.fell = False
        self._stream = stream
        self._timer: threading.Timer | None = None
        self.ends_in(seconds)

    def ends_in(self, seconds: float) -> None:
        """From now on."""
        self.stop()
        self._timer = threading.Timer(seconds, self._fall)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """It was not silent."""
        if self._timer is not None:
            self._timer.cancel()

    def _fall(self) -> None:
        self.fell = True
        with suppress(Exception):  # it is over already
            self._stream.cancel()
