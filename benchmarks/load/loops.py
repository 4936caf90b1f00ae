"""Drives connections with closed and open loops.

A closed loop keeps a fixed number of calls under way. An open loop starts calls at a fixed rate,
however slow the server is. It measures from the time when a call was due. Therefore a server that
stalls can't hide the calls that it kept waiting (coordinated omission).
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
# How long a server may send nothing while calls are under way.
_SILENCE_SECONDS = 30.0
# Below the service's own limit for a connection. Above that limit, calls would wait in the client.
_MAX_STREAMS = 90


class Connection(Protocol):
    """The methods of a connection that a loop needs."""

    @property
    def in_flight(self) -> int:
        """The number of calls that are under way."""

    @property
    def wants_to_write(self) -> bool:
        """True if data waits for room in the socket."""

    def fileno(self) -> int:
        """Returns the socket's file descriptor, for a selector."""

    def start(self, tag: Tag, message: bytes) -> None:
        """Prepares a call. `flush` sends it."""

    def flush(self) -> None:
        """Sends as much data as the socket accepts."""

    def receive(self) -> list[tuple[Tag, bytes]]:
        """Returns the tag and the message of each call whose answer has arrived."""

    def close(self) -> None:
        """Closes the connection."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a turn: the answered units, the duration, and each call's latency."""

    units: int
    seconds: float
    latencies_us: list[float] = field(default_factory=list)


@contextmanager
def connected(
    port: int, questions: Questions, connections: int, tls: ssl.SSLContext | None = None
) -> Iterator[list[Connection]]:
    """Connects to a server on loopback, with HTTP/1.1 if the path names no gRPC method."""
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
    """Disables the garbage collector during a turn."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _ready(connections: Sequence[Connection], seconds: float) -> list[Connection]:
    """Waits for data, for a limited time. Returns the connections that can be read."""
    writing = [connection for connection in connections if connection.wants_to_write]
    readable, writable, _ = select.select(connections, writing, [], seconds)
    for connection in writable:
        connection.flush()
    return readable


class _Turn:
    """One turn of load. It chooses the next question and collects the latencies."""

    def __init__(self, questions: Questions, first: int) -> None:
        self._questions = questions
        self._next = count(first)
        self.latencies_us: list[float] = []

    def start(self, connection: Connection, due_seconds: float) -> None:
        payloads = self._questions.payloads
        number = next(self._next) % len(payloads)
        connection.start((number, due_seconds), payloads[number])

    def take(self, connection: Connection) -> int:
        """Reads and checks the answers on a connection. Returns how many calls have ended."""
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
    """Keeps `streams` calls under way on each connection, until time or calls run out."""
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
    """Starts `rate` calls a second, evenly spaced, on the connections in turn."""
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
                    break  # the next call will start late, and its latency will show the delay
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
