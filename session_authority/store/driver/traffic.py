"""Counts the exchanges with the server: how long they take, how many reads each batch has, and how
many reads and commands wait.

The driver counts all the time, even if nobody requests the metrics. Each batch and each command
counts once.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from weakref import WeakKeyDictionary, WeakMethod

from session_authority.runtime.counters import Durations
from session_authority.store.driver.connection import RedisClient

# The bounds of the histograms, in seconds: from a usual time on loopback to the longest sensible
# `REDIS_TIMEOUT`.
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Traffic:
    """The numbers of one client's exchanges. Only the event loop's thread may count. Any thread may
    read.
    """

    def __init__(self) -> None:
        self.reads = Durations(SECONDS)
        """The durations from the sending of a batch of reads or marks to its last reply. A batch
        without a last reply is not counted here.
        """
        self.commands = Durations(SECONDS)
        """The durations of commands that are sent alone: writes and scripts. Commands that fail
        count, too. Outside of a cluster, marks do not count here, because they are sent in batches.
        The time to make a connection is included. While too many commands are under way, a command
        waits before it is sent. This wait is not included.
        """
        self.batch_sizes = Durations(BATCH_SIZES)
        self._queues: list[WeakMethod[Callable[[], int]]] = []

    def count_waiting_in(self, queue: Callable[[], int]) -> None:
        """Includes a queue in the number that `waiting` returns. `queue` is a method that returns
        the queue's length. The queue is included as long as the object of the method lives. Other
        threads call the method, too.
        """
        self._queues = [known for known in self._queues if known() is not None]
        self._queues.append(WeakMethod(queue))

    def waiting(self) -> int:
        """Returns how many reads and commands wait to be sent."""
        found = [queue() for queue in self._queues]
        return sum(length() for length in found if length is not None)

    def command_took(self, began_at: float) -> None:
        """Counts a command that was sent alone. `began_at` is its start, in seconds of
        `perf_counter`.
        """
        self.commands.add(perf_counter() - began_at)


_shared: WeakKeyDictionary[RedisClient, Traffic] = WeakKeyDictionary()


def traffic_of(client: RedisClient) -> Traffic:
    """Returns the traffic of a client. All parts of a process that share the client share its
    traffic.
    """
    traffic = _shared.get(client)
    if traffic is None:
        traffic = _shared[client] = Traffic()
    return traffic
