"""Drives connections: a closed loop keeps so many calls under way, an open loop starts calls at a
fixed rate whatever the server does.

An open loop measures from the moment when a call was due, so that a server that stalls can't hide
the calls that it kept waiting (coordinated omission).
"""

from __future__ import annotations

import gc
import select
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from benchmarks.load.answers import Questions, Tag, Unavailable
from benchmarks.load.http1 import HttpConnection
from benchmarks.load.http2 import GrpcConnection

_CONNECT_SECONDS = 10.0
# How long a server may say nothing at all while calls are under way.
_SILENCE_SECONDS = 30.0
# Below the service's own limit for a connection, beyond which calls would wait in the client.
_MAX_STREAMS = 90


class Connection(Protocol):
    """What a loop needs of a connection."""

    @property
    def in_flight(self) -> int:
        """How many calls are under way."""

    @property
    def wants_to_write(self) -> bool:
        """Whether something waits for room in the socket."""

    def fileno(self) -> int:
        """The socket's, for a selector."""

    def start(self, tag: Tag, message: bytes) -> None:
        """Begins a call."""

    def flush(self) -> None:
        """Sends what the socket takes."""

    def receive(self) -> list[tuple[Tag, bytes]]:
        """The tags and the messages of the calls that were answered by now."""

    def close(self) -> None:
        """Hangs up."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a turn of load brought: answered units, how long it took, and each call's latency."""

    units: int
    seconds: float
    latencies_us: list[float] = field(default_factory=list)


@contextmanager
def connected(
    port: int, questions: Questions, connections: int, tls: ssl.SSLContext | None = None
) -> Iterator[list[Connection]]:
    """So many connections to a server on loopback: over HTTP/1.1 if the path names no method."""
    opened: list[Connection] = []
    kind = GrpcConnection if questions.path.count("/") == 2 else HttpConnection
    try:
        for _ in range(connections):
            sock = socket.create_connection(("127.0.0.1", port), _CONNECT_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                sock = tls.wrap_socket(sock, server_hostname="localhost")
            sock.setblocking(False)
            opened.append(kind(sock, questions.path, f"localhost:{port}"))
            opened[-1].flush()
        yield opened
    finally:
        for connection in opened:
            connection.close()


@contextmanager
def _without_collections() -> Iterator[None]:
    """Keeps the garbage collector out of a turn."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _ready(connections: Sequence[Connection], seconds: float) -> list[Connection]:
    """The connections on which something came, once it did or the time is over."""
    writing = [connection for connection in connections if connection.wants_to_write]
    readable, writable, _ = select.select(connections, writing, [], seconds)
    for connection in writable:
        connection.flush()
    return readable


class _Turn:
    """One turn of load: which question is next, and what was answered."""

    def __init__(self, questions: Questions, first: int) -> None:
        self._questions = questions
        self._next = count(first)
        self.latencies_us: list[float] = []

    def start(self, connection: Connection, due_seconds: float) -> None:
        payloads = self._questions.payloads
        number = next(self._next) % len(payloads)
        connection.start((number, due_seconds), payloads[number])

    def take(self, connection: Connection) -> int:
        """Reads the answers on a connection; returns how many calls it ended."""
        answered = connection.receive()
        now = time.perf_counter()
        for tag, body in answered:
            number, due_seconds = tag
            self._questions.check(number, body)
            self.latencies_us.append((now - due_seconds) * 1e6)
        return len(answered)

    def outcome(self, seconds: float) -> Outcome:
        units = len(self.latencies_us) * self._questions.units
        return Outcome(units, seconds, self.latencies_us)


def closed_loop(
    connections: Sequence[Connection],
    questions: Questions,
    streams: int,
    seconds: float,
    *,
    calls: int | None = None,
    first: int = 0,
) -> Outcome:
    """Keeps `streams` calls under way on each connection, for so long or for so many calls."""
    turn = _Turn(questions, first)
    left = calls if calls is not None else 2**62
    with _without_collections():
        began = time.perf_counter()
        end = began + seconds

        def refill(connection: Connection, places: int) -> None:
            nonlocal left
            now = time.perf_counter()
            if now >= end:
                left = 0
            for _ in range(min(places, left)):
                turn.start(connection, now)
                left -= 1
            connection.flush()

        for connection in connections:
            refill(connection, streams)
        while any(connection.in_flight for connection in connections):
            ready = _ready(connections, _SILENCE_SECONDS)
            if not ready:
                raise Unavailable(f"the server said nothing for {_SILENCE_SECONDS:g} s")
            for connection in ready:
                refill(connection, turn.take(connection))
        return turn.outcome(time.perf_counter() - began)


def open_loop(
    connections: Sequence[Connection], questions: Questions, rate: float, seconds: float
) -> Outcome:
    """Starts `rate` calls a second, evenly spaced, in turns on the connections."""
    turn = _Turn(questions, 0)
    calls = max(1, round(rate * seconds))
    with _without_collections():
        began = time.perf_counter()
        started = 0
        last_news = began
        while started < calls or any(connection.in_flight for connection in connections):
            now = time.perf_counter()
            while started < calls and now >= (due := began + started / rate):
                connection = connections[started % len(connections)]
                if connection.in_flight >= _MAX_STREAMS:
                    break  # it is late from now on, and its latency tells
                turn.start(connection, due)
                connection.flush()
                started += 1
            due = began + started / rate if started < calls else now + _SILENCE_SECONDS
            for connection in _ready(connections, max(0.0, due - time.perf_counter())):
                turn.take(connection)
                last_news = now
                connection.flush()
            if now - last_news > _SILENCE_SECONDS + 1 / rate:
                raise Unavailable(f"the server said nothing for {_SILENCE_SECONDS:g} s")
        return turn.outcome(time.perf_counter() - began)
