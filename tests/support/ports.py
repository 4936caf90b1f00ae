"""TCP ports for servers of tests: no two servers of a run get the same port."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from itertools import count

# Linux gives connections their ports from 32768 on.
_PORTS = range(10_000, 32_768)


def _own_ports() -> Iterator[int]:
    """The ports of this process, in a cycle. Each worker of pytest-xdist has its own range, and a
    random start separates runs that share a machine.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % workers
    share = len(_PORTS) // workers
    own = _PORTS[worker * share : (worker + 1) * share]
    return (own[number % share] for number in count(random.randrange(share)))


_ports = _own_ports()


def free_port() -> int:
    """A port on which no process listens."""
    return next(port for port in _ports if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
