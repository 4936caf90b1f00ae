"""Asks the service for what the near cache has no answer to, once for all who ask the same at the
same time.

Who joins a request that is under way is told what was so when it was sent. So they join only if
nothing was told since then, of anybody, and only while the cache is live: a request that was sent
before a revocation answers nobody who came after it.

`TaskMisses` is for asyncio and `ThreadMisses` for threads: a shared task has a life of its own
there, a thread has not, so here the first who asks does it for the others.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoResultYet
from contextvars import Context

import grpc

from session_authority_client._shared import convert
from session_authority_client.batching import TaskLine, ThreadLine
from session_authority_client.cache import NearCache, Ticket
from session_authority_client.errors import Unavailable, client_closed, copy_of, too_late
from session_authority_client.types import Validation
from session_authority_client.wire import session_authority_pb2 as pb

_Key = tuple[str, str, int, int]


def _key(request: pb.ValidateSessionRequest, ticket: Ticket) -> _Key:
    return request.access_token, request.device_id, ticket.watch, ticket.events


def _had_too_little_time(error: BaseException | None) -> bool:
    """It says nothing to those who have more. The service refuses what leaves it too little, as if
    it was away.
    """
    return isinstance(error, Unavailable) and (
        error.code is grpc.StatusCode.DEADLINE_EXCEEDED or error.reason == "DEADLINE_TOO_SHORT"
    )


def _heard(task: asyncio.Task[Validation]) -> None:
    """A failure is nobody's fault who left before it came: asyncio need not log it."""
    if not task.cancelled():
        task.exception()


class TaskMisses:
    """For the tasks of one event loop."""

    def __init__(self, cache: NearCache, line: TaskLine) -> None:
        self._cache = cache
        self._line = line
        self._under_way: dict[_Key, asyncio.Task[Validation]] = {}

    async def ask(self, request: pb.ValidateSessionRequest, seconds: float) -> Validation:
        """The service's answer, within so many seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            ticket = self._cache.ticket()
            if ticket is None:
                return convert.validation(await self._line.ask(request, deadline - loop.time()))
            key = _key(request, ticket)
            task = self._under_way.get(key)
            first = task is None
            if task is None:
                task = loop.create_task(
                    self._ask(key, ticket, request, deadline - loop.time()), context=Context()
                )
                task.add_done_callback(_heard)
                self._under_way[key] = task
            await asyncio.wait(
                [task], timeout=deadline - loop.time()
            )  # whoever is cancelled leaves it to the others
            if not task.done():
                raise too_late()
            if task.cancelled():
                raise client_closed()
            error = task.exception()
            if error is None:
                return task.result()
            if first or not _had_too_little_time(error) or loop.time() >= deadline:
                raise copy_of(error)

    async def _ask(
        self, key: _Key, ticket: Ticket, request: pb.ValidateSessionRequest, seconds: float
    ) -> Validation:
        try:
            answer = convert.validation(await self._line.ask(request, seconds))
            self._cache.store(ticket, request.access_token, request.device_id, answer)
            return answer
        finally:
            del self._under_way[key]

    async def close(self) -> None:
        """Once no call is under way any more, everybody has been told so."""
        if self._under_way:
            await asyncio.wait(list(self._under_way.values()))


class ThreadMisses:
    """For threads."""

    def __init__(self, cache: NearCache, line: ThreadLine) -> None:
        self._cache = cache
        self._line = line
        self._lock = threading.Lock()
        self._under_way: dict[_Key, Future[Validation]] = {}

    def ask(self, request: pb.ValidateSessionRequest, seconds: float) -> Validation:
        """The service's answer, within so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            ticket = self._cache.ticket()
            if ticket is None:
                return convert.validation(self._line.ask(request, deadline - time.monotonic()))
            key = _key(request, ticket)
            mine: Future[Validation] = Future()
            with self._lock:
                shared = self._under_way.setdefault(key, mine)
            if shared is mine:
                return self._ask(key, ticket, request, deadline - time.monotonic(), mine)
            try:
                error = shared.exception(deadline - time.monotonic())
            except NoResultYet:
                raise too_late() from None
            if error is None:
                return shared.result()
            if not _had_too_little_time(error) or time.monotonic() >= deadline:
                raise copy_of(error)

    def _ask(
        self,
        key: _Key,
        ticket: Ticket,
        request: pb.ValidateSessionRequest,
        seconds: float,
        shared: Future[Validation],
    ) -> Validation:
        try:
            answer = convert.validation(self._line.ask(request, seconds))
            self._cache.store(ticket, request.access_token, request.device_id, answer)
        except BaseException as error:
            self._done(key)
            # An interrupted thread (KeyboardInterrupt) says nothing of the others: they ask again.
            shared.set_exception(copy_of(error) if isinstance(error, Exception) else too_late())
            raise
        self._done(key)
        shared.set_result(answer)
        return answer

    def _done(self, key: _Key) -> None:
        with self._lock:
            del self._under_way[key]

    def close(self) -> None:
        """Once no call is under way any more, everybody is told so by whoever made it."""
