"""Lets callers that need the same result at the same time share one call."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import Generic, TypeVar

from session_authority_client._async.primitives import (
    AsyncCall,
    AsyncFlight,
    AsyncGuard,
    async_home,
)

_T = TypeVar("_T")


class AsyncSingleFlight(Generic[_T]):
    """Keeps the shared calls of a client, by key.

    If `late` is True, a caller may join a call that is under way, and each call runs in a context
    of its own.

    If `late` is False, a caller joins only a call that has not begun, so the result is never older
    than the caller's request. If `late` is False, a call begins only after the previous call for
    the same key has ended, and runs in the context of its first caller.
    """

    def __init__(self, *, late: bool) -> None:
        self._late = late
        self._guard = AsyncGuard()
        self._open: dict[Hashable, AsyncFlight[_T]] = {}  # calls that callers may join
        self._begun: dict[Hashable, AsyncFlight[_T]] = {}  # calls that no caller may join

    async def share(self, key: Hashable, call: AsyncCall[_T]) -> _T:
        """Returns the result of the call for a key. If the call fails, raises the exception of the
        call.
        """
        flight, _ = await self.join(key, call)
        return await flight.result()

    async def join(self, key: Hashable, call: AsyncCall[_T]) -> tuple[AsyncFlight[_T], bool]:
        """Joins the call for a key if there is a call that callers may join, and starts a call if
        not. Returns the call, and True if this caller started the call.
        """
        key = (async_home(), key)
        with self._guard:
            flight = self._open.get(key)
            if flight is not None:
                return flight, False
            flight = self._open[key] = AsyncFlight()
            before = self._begun.get(key)
        work = partial(self._make, key, flight, before, call)
        await flight.run(work, own_context=self._late)
        return flight, True

    async def _make(
        self,
        key: Hashable,
        flight: AsyncFlight[_T],
        before: AsyncFlight[_T] | None,
        call: AsyncCall[_T],
    ) -> _T:
        try:
            if before is not None:
                await before.exception()
            if not self._late:
                with self._guard:
                    self._begun[key] = self._open.pop(key)
            return await call()
        finally:
            with self._guard:
                for flights in (self._open, self._begun):
                    if flights.get(key) is flight:
                        del flights[key]

    async def close(self) -> None:
        """Waits until no call is under way. Call this method after the client is closed, because a
        closed client fails all calls.
        """
        for flight in {*self._open.values(), *self._begun.values()}:
            await flight.close()
