"""Lets those who want the same thing at the same time ask for it once, for tasks and for threads.

Whoever comes while a question is under way shares the one that follows it, never that one itself:
its answer may be older than what the newcomer must not miss, such as a sign-out.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

_T = TypeVar("_T")


@dataclass
class _TaskLine:
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    next: asyncio.Task[Any] | None = None
    users: int = 0


class AsyncTurns:
    """For tasks. Those of different event loops have nothing to do with each other."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, _TaskLine] = {}

    @staticmethod
    def place() -> Hashable:
        """Where a client can be used that was made here: in this event loop."""
        return asyncio.get_running_loop()

    async def share(self, key: Hashable, ask: Callable[[], Awaitable[_T]]) -> _T:
        """What `ask` answers, or raises, to all who wait for this key. It goes on if one of them is
        cancelled.
        """
        key = (self.place(), key)
        line = self._lines.setdefault(key, _TaskLine())
        if line.next is None:
            line.next = asyncio.create_task(self._ask(key, line, ask))
        answer: _T = await asyncio.shield(line.next)
        return answer

    async def _ask(self, key: Hashable, line: _TaskLine, ask: Callable[[], Awaitable[_T]]) -> _T:
        line.users += 1
        try:
            async with line.busy:
                line.next = None
                return await ask()
        finally:
            line.users -= 1
            if line.users == 0 and line.next is None:
                del self._lines[key]


@dataclass
class _ThreadLine:
    busy: Lock = field(default_factory=Lock)
    next: Future[Any] | None = None
    users: int = 0


class Turns:
    """For threads."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, _ThreadLine] = {}
        self._lock = Lock()

    @staticmethod
    def place() -> Hashable:
        """Where a client can be used that was made here: in this process, and not in one that it
        forks.
        """
        return os.getpid()

    def share(self, key: Hashable, ask: Callable[[], _T]) -> _T:
        """What `ask` answers, or raises, to all who wait for this key. The first of them asks."""
        with self._lock:
            line = self._lines.setdefault(key, _ThreadLine())
            line.users += 1
            first = line.next is None
            shared: Future[_T] = line.next or Future()
            line.next = shared
        try:
            if first:
                self._ask(line, shared, ask)
            return shared.result()
        finally:
            with self._lock:
                line.users -= 1
                if line.users == 0:
                    del self._lines[key]

    def _ask(self, line: _ThreadLine, shared: Future[_T], ask: Callable[[], _T]) -> None:
        with line.busy:
            with self._lock:
                line.next = None
            try:
                shared.set_result(ask())
            except BaseException as error:  # noqa: BLE001 - whatever it is, all who wait get it
                shared.set_exception(error)
