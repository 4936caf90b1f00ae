"""Passes the events of a watch to a near cache, in a thread. The watch has a connection of its own,
and starts anew whenever it ends.

`_async/watching.py` says when a watch ends, and why it starts anew. Both modules are written by
hand: the wait of a task has a timeout and can be cancelled. A thread that waits for gRPC wakes up
only if another thread cancels the call: the idle timer, or the thread that closes the client.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
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

_CLOSE_SECONDS = 2.0


class Watch:
    """The watch of a client, in a daemon thread, which keeps no program from ending."""

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
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stream: Any = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Starts the watch if there is none yet."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(
                    target=self._keep_watching, name="session-authority-watch", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """Ends the watch."""
        with self._lock:
            self._closed.set()
            thread, stream = self._thread, self._stream
        if stream is not None:
            stream.cancel()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSE_SECONDS)
        self._cache.lost()

    def _keep_watching(self) -> None:
        backoff = Backoff()
        channel = self._open_channel()
        try:
            while not self._closed.is_set():
                error: BaseException | None = None
                try:
                    self._watch(watch_of(channel), backoff)
                except Exception as caught:  # noqa: BLE001 - watching must go on
                    error = caught
                finally:
                    left = self._cache.seconds_left()
                    self._cache.lost(history_gone=isinstance(error, CursorExpired))
                    self._sessions.lost(left)
                if not self._closed.is_set():
                    self._closed.wait(backoff.next_seconds(error))
        finally:
            channel.close()

    def _watch(self, method: Any, backoff: Backoff) -> None:
        metadata = self._transport.metadata()
        self._cache.begin()
        stream = method(pb.WatchEventsRequest(), metadata=metadata)
        with self._lock:
            self._stream = stream
            if self._closed.is_set():  # `close` found no stream to cancel
                stream.cancel()
        idle = IdleTimer(stream, self._cache.seconds_left())
        try:
            for message in stream:
                self._cache.tell(message)
                self._sessions.tell(message)
                if message.HasField("read_time"):
                    idle.restart(self._cache.seconds_left())
                backoff.reset()
        except grpc.RpcError as error:
            if idle.expired:
                raise TimeoutError from None
            raise error_of(error) from None
        finally:
            idle.stop()
            stream.cancel()


class IdleTimer:
    """Cancels a call that has been idle for too long."""

    def __init__(self, stream: Any, seconds: float) -> None:
        self.expired = False
        self._stream = stream
        self._timer: threading.Timer | None = None
        self.restart(seconds)

    def restart(self, seconds: float) -> None:
        """Cancels the call `seconds` from now, and no earlier."""
        self.stop()
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """Stops the timer: it cancels the call no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        self.expired = True
        with suppress(Exception):  # the call is over already
            self._stream.cancel()
