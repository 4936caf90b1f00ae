"""The machine's resources that processes use, from the kernel's accounts, and the cores they run
on.

Processor time is the steadiest figure on a busy machine: other work makes a request slower, but
hardly more expensive. The time is read from the process's own clock, which counts all of its
threads to the nanosecond.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

CORES = tuple(sorted(os.sched_getaffinity(0)))
# The server has a core of its own; the load and the store share the other core.
SERVER_CORES, OTHER_CORES = {CORES[0]}, {CORES[-1]}
# linux/posix-timers.h: the clock of a process, as the scheduler counts its time.
_SCHEDULER_CLOCK = 2


def processor_ns(process_ids: Iterable[int]) -> int:
    """Returns the processor time that the processes have used so far."""
    return sum(
        time.clock_gettime_ns((~process_id << 3) | _SCHEDULER_CLOCK) for process_id in process_ids
    )


def resident_bytes(process_ids: Iterable[int]) -> int:
    """Returns the memory of the processes. Memory that they share counts once."""
    rollups = (Path(f"/proc/{process_id}/smaps_rollup").read_text() for process_id in process_ids)
    return sum(int(text.partition("\nPss:")[2].split()[0]) * 1024 for text in rollups)


def family(process_id: int) -> list[int]:
    """Returns the IDs of a process and of all its descendants."""
    found = [process_id]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def place(process_ids: Iterable[int], cores: Iterable[int]) -> None:
    """Moves processes to these cores, with their present and future threads."""
    for process_id in process_ids:
        for task in Path(f"/proc/{process_id}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # a thread may end in between
                os.sched_setaffinity(int(task.name), cores)


@contextlib.contextmanager
def placed(server_ids: Iterable[int], other_ids: Iterable[int], *, pinned: bool) -> Iterator[None]:
    """Pins a server to its core and all else to the other core, or lets all run anywhere."""
    others = [*other_ids, os.getpid()]
    place(server_ids, SERVER_CORES if pinned else CORES)
    place(others, OTHER_CORES if pinned else CORES)
    try:
        yield
    finally:
        place(others, CORES)
