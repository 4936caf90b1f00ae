"""The reasons for a process to end: a signal, or the end of its parent."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal


def stop_on_signal() -> asyncio.Event:
    """An event that is set once SIGTERM or SIGINT comes."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def survive_hangup() -> None:
    """SIGHUP ends this process no more: logrotate sends it once it has moved a file. The audit log
    finds the new file by itself.
    """
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)


def stop_with_parent(stop: asyncio.Event) -> None:
    """Sets the event when the parent process has gone: a worker must not outlive the supervisor
    that restarts it.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def orphaned(sentinel: int) -> None:
        loop.remove_reader(sentinel)  # it stays readable: once is enough
        stop.set()

    loop.add_reader(parent.sentinel, orphaned, parent.sentinel)
