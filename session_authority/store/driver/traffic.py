"""Counts the exchanges with Redis for the metrics: how long exchanges take, how many reads each
batch has, and how many reads and commands wait to be sent.

Exchanges are counted even if nobody requests the metrics. A batch counts as one exchange, and so
does a command that is sent alone.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from weakref import WeakKeyDictionary, WeakMethod

from session_authority.runtime.counters import Durations
from session_authority.store.driver.connection import RedisClient

# The bounds of the histograms of durations, in seconds. The lowest bound is a usual time on
# loopback. The highest bound is the longest sensible `REDIS_TIMEOUT`.
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Traffic:
    """The counters of one Redis client. Only the thread of the event loop may add to the counters.
    Any thread may read the counters.
    """

    def __init__(self) -> None:
        self.reads = Durations(SECONDS)
        """How long batches of reads or marks took, from the sending of a batch to its last reply. A
        batch whose last reply did not arrive is not counted here.
        """
        self.commands = Durations(SECONDS)
        """How long commands took that were sent alone: writes and scripts. Commands that failed are
        counted, too. Outside of a cluster, marks are not counted here, because marks are sent in
        batches. A duration includes the time to open a connection. A duration does not include the
        time during which a command waited because too many other commands were under way.
        """
        self.batch_sizes = Durations(BATCH_SIZES)
        self._queues: list[WeakMethod[Callable[[], int]]] = []

    def count_waiting_in(self, queue: Callable[[], int]) -> None:
        """Adds the length of a queue to the number that `waiting` returns. `queue` is a bound
        method that returns the length. Any thread may call `queue`. When the object of the bound
        method no longer exists, its queue is left out.
        """
        self._queues = [known for known in self._queues if known() is not None]
        self._queues.append(WeakMethod(queue))

    def waiting(self) -> int:
        """Returns how many reads and commands wait to be sent."""
        found = [queue() for queue in self._queues]
        return sum(length() for length in found if length is not None)

    def command_took(self, began_at: float) -> None:
        """Counts a command that was sent alone and has just ended. `began_at` is the time at which
        the command began, in seconds of `perf_counter`.
        """
        self.commands.add(perf_counter() - began_at)


_shared: WeakKeyDictionary[RedisClient, Traffic] = WeakKeyDictionary()


def traffic_of(client: RedisClient) -> Traffic:
    """Returns the counters of a client. All parts of a process that use the same client get the
    same counters.
    """
    traffic = _shared.get(client)
    if traffic is None:
        traffic = _shared[client] = Traffic()
    return traffic
