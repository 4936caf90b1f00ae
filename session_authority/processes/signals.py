"""Notices what ends a process: a signal, or the end of its parent process."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal


def stop_on_signal() -> asyncio.Event:
    """Returns an event that is set when SIGTERM or SIGINT arrives."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def survive_hangup() -> None:
    """Makes this process ignore SIGHUP, which logrotate sends after it has moved a log file.

    The signal is not needed: the audit log notices by itself that its file was moved.
    """
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)


def stop_with_parent(stop: asyncio.Event) -> None:
    """Sets `stop` when the parent process of a worker has ended, because no worker may run longer
    than its supervisor. Does nothing in a process that is no worker.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def orphaned(sentinel: int) -> None:
        loop.remove_reader(sentinel)  # the sentinel stays readable for ever
        stop.set()

    loop.add_reader(parent.sentinel, orphaned, parent.sentinel)
