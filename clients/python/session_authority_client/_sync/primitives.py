"""The parts of threading that the generated modules need. This module is written by hand. So is
`_async/primitives.py`, which has the same names with "Async" before them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Hashable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoResultYet
from threading import Event, Lock, Thread, current_thread
from typing import Generic, TypeVar

from session_authority_client._shared.failures import copy_of, too_late

_T = TypeVar("_T")
_CLOSE_SECONDS = 2.0

Call = Callable[[], _T]
Guard = Lock


def home() -> Hashable:
    """This process. A client that is made now can be used in this process, and in no fork of it."""
    return os.getpid()


Alarm = Event


class Cut:
    """Cuts a stream off, before its next item: nothing can interrupt a thread."""

    def __init__(self) -> None:
        self._is_cut = False

    def cut(self) -> None:
        """Ends the stream: it yields no more items."""
        self._is_cut = True

    def each(self, items: Iterable[_T]) -> Generator[_T, None, None]:
        """Yields the items until the end. Then the source of the items is closed."""
        source = iter(items)
        try:
            while not self._is_cut:
                try:
                    item = next(source)
                except StopIteration:
                    return
                if not self._is_cut:
                    yield item
        finally:
            if isinstance(source, Generator):
                source.close()


class Background:
    """Work for all callers, in one daemon thread, as long as there is work."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = Lock()
        self._thread: Thread | None = None
        self._started = 0
        self._closed = False

    def start(self, step: Call[bool]) -> None:
        """Starts to repeat a step until it returns False, if the work is not under way already."""
        with self._lock:
            self._started += 1
            if self._thread is None and not self._closed:
                self._thread = Thread(
                    target=self._repeat, args=(step,), name=self._name, daemon=True
                )
                self._thread.start()

    def _repeat(self, step: Call[bool]) -> None:
        while not self._closed:
            started = self._started
            if step():
                continue
            with self._lock:  # else work that came just now would wait for ever
                if started == self._started:
                    self._thread = None
                    return

    def close(self, alarm: Alarm) -> None:
        """Ends the work, even while it waits for the alarm."""
        with self._lock:
            self._closed = True
            thread = self._thread
        alarm.set()
        if thread is not None and thread is not current_thread():
            thread.join(_CLOSE_SECONDS)


class Flight(Generic[_T]):
    """One call that several threads wait for. The first of them makes it."""

    def __init__(self) -> None:
        self._future: Future[_T] = Future()

    def run(self, call: Call[_T], *, own_context: bool) -> None:
        """Makes the call, in this thread and its context."""
        del own_context
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - the callers get it, whatever it is
            self._future.set_exception(error)
        except BaseException:
            # An interrupted thread (KeyboardInterrupt) says nothing of the others.
            self._future.set_exception(too_late())
            raise
        else:
            self._future.set_result(result)

    def exception(self, seconds: float | None = None) -> BaseException | None:
        """Waits for the end. Returns the exception of the call, None if it has a result.

        Raises Unavailable if the call has not ended after `seconds`.
        """
        try:
            return self._future.exception(seconds)
        except NoResultYet:
            raise too_late() from None

    def result(self) -> _T:
        """Waits for the result. Raises the exception of the call: each caller gets its own copy."""
        error = self.exception()
        if error is not None:
            raise copy_of(error)
        return self._future.result()

    def close(self) -> None:
        """Does nothing: the thread that makes the call learns that the client is closed."""
