"""The port for metrics: few connections at once, and the newest is answered."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from functools import partial
from urllib.request import urlopen

from session_authority.runtime.metrics import Metrics
from session_authority.runtime.metrics_server import MAX_CONNECTIONS, serve_metrics
from tests.support.ports import free_port
from tests.support.waiting import wait_for


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side hung up."""
    connection.settimeout(0.05)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_the_longest_open_connections_make_room():
    port = free_port()
    serve_metrics(Metrics().registry, "127.0.0.1", port)
    with ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            for _ in range(2 * MAX_CONNECTIONS)
        ]
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            assert b"session_authority_" in answer.read()
        for connection in idle[:MAX_CONNECTIONS]:
            wait_for(partial(is_closed, connection), "the oldest to be hung up on")
